"""Many drawings in groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from PIL import Image

from lib_refonly.errors import BadModel, BadSettings, CannotWrite, Interrupted, Offline, OutOfMemory
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.studio.groups import GROUP, Failure, color_each, in_groups
from lib_refonly.studio.requests import ColorRequest, ColorResult, OnProgress, Prepared, Progress

PICTURE = Image.new("RGB", (8, 8))


def request(seed: int = 0, size: tuple[int, int] = (8, 8)) -> ColorRequest:
    return ColorRequest((), Image.new("1", size), RefOnlySettings(seed=seed, steps=2))


class Engine:
    """Gives results at once; `bad`: seed -> what happens to it. `asked` are the seeds that were handed over."""

    def __init__(self, **bad: Exception) -> None:
        self.bad = {int(name.removeprefix("seed")): error for name, error in bad.items()}
        self.asked: list[list[int]] = []

    def color_all(self, requests: Sequence[ColorRequest], on_progress: OnProgress | None) -> Iterator[ColorResult]:
        self.asked.append([one.settings.seed for one in requests])
        for index, one in enumerate(requests):
            for step in range(2):
                if on_progress:
                    on_progress(Progress(step, 2, index, len(requests)))
            if one.settings.seed in self.bad:
                raise self.bad[one.settings.seed]
            yield ColorResult(PICTURE, PICTURE, PICTURE, Prepared((), PICTURE), one.settings.seed, "")


def seeds(outcomes: Iterator[ColorResult | Failure]) -> list[int | Exception]:
    return [one.error if isinstance(one, Failure) else one.seed for one in outcomes]


@pytest.mark.parametrize(("each", "sizes"), [(1, [8, 8, 3]), (3, [2, 2, 2, 2, 2, 2, 2, 2, 2, 1]), (8, [1] * 19), (16, [1] * 19)])
def test_groups_are_full_and_never_split_a_drawing(each: int, sizes: list[int]) -> None:
    assert GROUP == 8
    drawings = [[request()] * each for _ in range(19)]
    groups = list(in_groups(drawings, lambda one: one))
    assert [len(group) for group in groups] == sizes
    assert [one for group in groups for one in group] == drawings


def test_large_drawings_are_not_held_in_memory_together() -> None:
    drawings = [[request(size=(4000, 5000))], [request(size=(4000, 2000))], [request(size=(4000, 3000))], [request(size=(9000, 9000))] * 2, [request()]]
    assert [len(group) for group in in_groups(drawings, lambda one: one)] == [2, 1, 1, 1]


def test_what_needs_no_painting_waits_for_nothing() -> None:
    taken: list[int] = []

    def drawings() -> Iterator[list[ColorRequest]]:
        for number in range(20):
            taken.append(number)
            yield [] if number < 5 or number == 7 else [request()]

    groups = in_groups(drawings(), lambda one: one)
    for number in range(5):
        assert next(groups) == [[]]
        assert taken[-1] == number
    assert [len(group) for group in groups] == [9, 6]


def test_all_good_is_painted_at_once() -> None:
    engine = Engine()
    assert seeds(color_each(engine, [request(seed) for seed in (3, 1, 2)])) == [3, 1, 2]
    assert engine.asked == [[3, 1, 2]]


@pytest.mark.parametrize("error", [OutOfMemory("no"), BadSettings("no"), ZeroDivisionError("no")], ids=lambda error: type(error).__name__)
def test_only_the_bad_one_is_lost(error: Exception) -> None:
    engine, told = Engine(seed2=error), []
    outcomes = color_each(engine, [request(seed) for seed in range(5)], told.append)
    assert seeds(outcomes) == [0, 1, error, 3, 4]
    assert engine.asked == [[0, 1, 2, 3, 4], [2], [3], [4]], "what was finished is not painted again"
    assert [progress.index for progress in told] == [0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4]
    assert {progress.count for progress in told} == {5}


def test_a_single_one_is_not_tried_twice() -> None:
    error = OutOfMemory("no")
    engine = Engine(seed0=error)
    assert seeds(color_each(engine, [request()])) == [error]
    assert engine.asked == [[0]]


@pytest.mark.parametrize("error", [BadModel("no"), CannotWrite("no"), Interrupted("no"), Offline("no")], ids=lambda error: type(error).__name__)
def test_what_would_befall_all_ends_all(error: Exception) -> None:
    engine, outcomes = Engine(seed1=error), []
    with pytest.raises(type(error)):
        outcomes.extend(color_each(engine, [request(seed) for seed in range(3)]))
    assert engine.asked == [[0, 1, 2]]


def test_stopping_while_they_are_painted_one_by_one() -> None:
    engine = Engine(seed0=OutOfMemory("no"))

    def stop(progress: Progress) -> None:
        if progress.index == 1:
            raise Interrupted("Stopped.")

    with pytest.raises(Interrupted):
        list(color_each(engine, [request(seed) for seed in range(3)], stop))
    assert engine.asked == [[0, 1, 2], [0], [1]]
