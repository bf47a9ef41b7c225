"""Timing on machines that do other things too.

Contenders take turns, round after round, and only ratios within a round are compared: load that comes and goes falls on all of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

Step = Callable[[], object]
Contender = Callable[[], AbstractContextManager[Mapping[str, Step]]]
"""Called once a round: sets itself up (not timed) and gives the steps to time, by name, in order."""


@dataclass(frozen=True)
class Clock:
    """`read()` in seconds. `name` is printed with the numbers."""

    name: str
    read: Callable[[], float]

    @classmethod
    def fitting(cls, device: str, threads: int) -> Clock:
        """The processor time of this process where one thread does everything (other load does not count), else the wall clock."""
        if device.startswith("cuda"):
            return cls("wall clock, the GPU's work waited for", _cuda_seconds)
        if threads == 1:
            return cls("processor time of one thread", time.process_time)
        return cls("wall clock", time.perf_counter)


def _cuda_seconds() -> float:
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class Spread:
    """The middle of several measurements, and how far apart they lie."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        kept = sorted(values)
        return cls(statistics.median(kept), kept[0], kept[-1])

    def text(self, digits: int) -> tuple[str, str]:
        """The median, and "lowest to highest"."""
        return f"{self.median:.{digits}f}", f"{self.lowest:.{digits}f} to {self.highest:.{digits}f}"


def run_rounds(contenders: Sequence[Contender], rounds: int, clock: Clock) -> dict[str, list[float]]:
    """Seconds of every step, one entry a round. Every other round goes backwards, so that a drift favours nobody."""
    seconds: dict[str, list[float]] = {}
    for number in range(rounds):
        for contender in contenders if number % 2 == 0 else contenders[::-1]:
            with contender() as steps:
                for name, step in steps.items():
                    begun = clock.read()
                    step()
                    seconds.setdefault(name, []).append(clock.read() - begun)
    return seconds


def ratios(seconds: Mapping[str, Sequence[float]], bases: Sequence[str]) -> dict[str, list[float]]:
    """Every measurement divided by the mean of the `bases` of its own round."""
    base = [statistics.fmean(values) for values in zip(*(seconds[name] for name in bases), strict=True)]
    return {name: [value / unit for value, unit in zip(values, base, strict=True)] for name, values in seconds.items()}
