"""Rounds, ratios, clocks and spreads, on a clock that the test winds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import pytest

from benchmarks.measure import Clock, Spread, Step, ratios, run_rounds


class Hand:
    """A clock that moves only when a step says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.clock = Clock("hand", lambda: self.now)

    def takes(self, seconds: float) -> Callable[[], None]:
        def step() -> None:
            self.now += seconds

        return step


@contextmanager
def contender(hand: Hand, log: list[str], steps: Mapping[str, Step]) -> Iterator[Mapping[str, Step]]:
    hand.now += 100  # setting up is not timed
    log.extend(steps)
    yield steps
    hand.now += 100


def test_rounds_take_turns_and_every_other_goes_backwards() -> None:
    hand, log = Hand(), []
    some = [partial(contender, hand, log, {"a": hand.takes(2), "b": hand.takes(3)}), partial(contender, hand, log, {"c": hand.takes(5)})]
    assert run_rounds(some, 3, hand.clock) == {"a": [2, 2, 2], "b": [3, 3, 3], "c": [5, 5, 5]}
    assert log == ["a", "b", "c", "c", "a", "b", "a", "b", "c"]


def test_what_fails_leaves_its_contender() -> None:
    left = []

    @contextmanager
    def failing() -> Iterator[Mapping[str, Step]]:
        try:
            yield {"a": lambda: 1 / 0}
        finally:
            left.append(True)

    with pytest.raises(ZeroDivisionError):
        run_rounds([failing], 1, Clock("wall", time.perf_counter))
    assert left == [True]


def test_ratios_compare_within_a_round_only() -> None:
    """A machine that is three times slower in the second round changes nothing."""
    seconds = {"bare": [1.0, 3.0], "again": [3.0, 9.0], "ours": [2.5, 7.5]}
    assert ratios(seconds, ["bare", "again"]) == {"bare": [0.5, 0.5], "again": [1.5, 1.5], "ours": [1.25, 1.25]}


def test_ratios_want_whole_rounds() -> None:
    with pytest.raises(ValueError, match="longer"):
        ratios({"bare": [1.0, 2.0], "ours": [1.0]}, ["bare"])


def test_spread() -> None:
    spread = Spread.of([3.0, 1.0, 2.0, 10.0])
    assert (spread.median, spread.lowest, spread.highest) == (2.5, 1.0, 10.0)
    assert spread.text(1) == ("2.5", "1.0 to 10.0")


def test_one_thread_is_measured_by_processor_time() -> None:
    assert Clock.fitting("cpu", 1).read is time.process_time
    assert Clock.fitting("cpu", 2).read is time.perf_counter
    assert "GPU" in Clock.fitting("cuda", 1).name
