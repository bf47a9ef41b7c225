"""What the studio's benchmark runs in a process of its own, so that its memory and its first picture are its own. Prints JSON.

`python -m benchmarks.worker WHAT MODEL SIZE STEPS ROUNDS DEVICE`, where WHAT is picture or batch.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from benchmarks.measure import Clock, Step, run_rounds
from benchmarks.pictures import frame, reference
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.studio.requests import ColorRequest, ColorResult, Reference

FRAMES = 16
TOGETHER, ONE_BY_ONE = "batch", "single runs"


class Painter(Protocol):
    """The engine, as far as it is needed here."""

    def color(self, request: ColorRequest) -> Iterable[ColorResult]: ...

    def color_all(self, requests: Sequence[ColorRequest]) -> Iterable[ColorResult]: ...


def requests(model: str, size: int, steps: int) -> list[ColorRequest]:
    """The frames of one animation, with one reference and seeds of their own."""
    shown = (Reference(reference()),)
    return [ColorRequest(shown, frame(i), RefOnlySettings(seed=i, steps=steps, size=size), model) for i in range(FRAMES)]


def picture(engine: Painter, request: ColorRequest, rounds: int) -> dict[str, Any]:
    """Wall and processor seconds of the first picture (which loads everything) and of `rounds` further ones, and the peak memory."""
    return {"first": _seconds(engine, request), "later": [_seconds(engine, request) for _ in range(rounds)], "peak": peak_memory()}


def _seconds(engine: Painter, request: ColorRequest) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    list(engine.color(request))
    return time.perf_counter() - wall, time.process_time() - processor


def batch(engine: Painter, frames: Sequence[ColorRequest], rounds: int, clock: Clock) -> dict[str, list[float]]:
    """Seconds for all frames: as single runs, and handed over together. The model is loaded and the reference read before."""

    def one_by_one() -> None:
        for request in frames:
            list(engine.color(request))

    @contextmanager
    def contender(name: str, step: Step) -> Iterator[Mapping[str, Step]]:
        yield {name: step}

    list(engine.color(frames[0]))
    both = [partial(contender, ONE_BY_ONE, one_by_one), partial(contender, TOGETHER, lambda: list(engine.color_all(frames)))]
    return run_rounds(both, rounds, clock)


def peak_memory() -> int:
    """The most bytes that this process ever had resident.

    Linux: VmHWM, since getrusage's ru_maxrss starts with what the parent process had. macOS: ru_maxrss, in bytes there. Windows: the peak
    working set.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(argv: Sequence[str]) -> None:
    what, model, size, steps, rounds, device = argv
    from lib_refonly.models.registry import ModelStore
    from lib_refonly.studio.engine import Engine

    store = ModelStore()
    entry = store.point_to(Path(model)) if Path(model).exists() else store.get(model)
    engine, frames = Engine(store, device), requests(entry.name, int(size), int(steps))
    if what == "picture":
        found = picture(engine, frames[0], int(rounds))
    else:
        import torch

        found = batch(engine, frames, int(rounds), Clock.fitting(device, torch.get_num_threads()))
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
