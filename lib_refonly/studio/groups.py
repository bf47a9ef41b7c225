"""Many drawings in groups: painted together for speed, and each with its own good or bad end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from lib_refonly.errors import BadModel, CannotWrite, Interrupted, Offline
from lib_refonly.studio.requests import ColorRequest, ColorResult, OnProgress, Progress

T = TypeVar("T")

ENDS_ALL = (BadModel, CannotWrite, Interrupted, Offline)
"""What would befall every further drawing too."""
GROUP = 8
"""Pictures of a group: as many as the engine paints at once on a CPU at the small model's size. A stop or a fault costs no more than these."""
_PIXELS = 32_000_000
"""Pixels of a group's drawings: they are all in memory at a time."""


class Painter(Protocol):
    """What is needed of an engine."""

    def color_all(self, requests: Sequence[ColorRequest], on_progress: OnProgress | None) -> Iterator[ColorResult]: ...


@dataclass(frozen=True)
class Failure:
    """A picture that came to nothing. An `error` that is no PainterError is a fault of ours."""

    error: Exception


def in_groups(items: Iterable[T], requests_of: Callable[[T], Sequence[ColorRequest]]) -> Iterator[list[T]]:
    """The items in order, in groups whose requests may be handed over together. Items are taken one by one, when they are needed; those without
    requests come at once, or with the group that they stand in."""
    group: list[T] = []
    pictures = pixels = 0
    for item in items:
        requests = requests_of(item)
        more = sum(one.lines.width * one.lines.height for one in requests[:1])
        if group and requests and (pictures + len(requests) > GROUP or pixels + more > _PIXELS):
            yield group
            group, pictures, pixels = [], 0, 0
        group.append(item)
        pictures, pixels = pictures + len(requests), pixels + more
        if not pictures:
            yield group
            group = []
    if group:
        yield group


def color_each(engine: Painter, requests: Sequence[ColorRequest], on_progress: OnProgress | None = None) -> Iterator[ColorResult | Failure]:
    """One outcome for each of `requests` (one picture each, as `variations` makes them), in order.

    They are painted together. When that fails, those that are left are painted one by one, so that only the bad ones are lost.

    Raises:
        One of ENDS_ALL.
    """
    finished = 0
    try:
        for result in engine.color_all(requests, on_progress):
            yield result
            finished += 1
    except ENDS_ALL:
        raise
    except Exception as error:
        if len(requests) == 1:
            yield Failure(error)
            return
    for place in range(finished, len(requests)):
        yield from color_each(engine, requests[place : place + 1], _of_all(on_progress, place, len(requests)))


def _of_all(on_progress: OnProgress | None, place: int, count: int) -> OnProgress | None:
    """Tells of the picture at `place` as one of `count`."""
    if on_progress is None:
        return None

    def tell(progress: Progress) -> None:
        on_progress(replace(progress, index=place, count=count))

    return tell
