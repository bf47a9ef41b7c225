"""Run a colouring job on its own thread and hand out what happens, as it happens. No gradio here."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from lib_refonly.errors import Interrupted
from lib_refonly.studio.desk import Desk
from lib_refonly.studio.groups import Failure, Painter, color_each
from lib_refonly.studio.requests import ColorRequest, ColorResult, OnProgress, Prepared, Progress

T = TypeVar("T")


class Colourer(Painter, Protocol):
    """What the page needs of an engine."""

    def color(self, request: ColorRequest, on_progress: OnProgress) -> Iterator[ColorResult]: ...

    def prepare(self, request: ColorRequest) -> Prepared: ...


@dataclass(frozen=True)
class Waiting:
    """`ahead` other jobs come first."""

    ahead: int


@dataclass(frozen=True)
class _End:
    error: BaseException | None


Event = Waiting | Progress | ColorResult


def colour_job(engine: Colourer, request: ColorRequest, desk: Desk, stop: threading.Event) -> Generator[Event, None, None]:
    """Wait for a turn at the desk, colour, and yield every event. Closing the iterator, or setting `stop`, ends the job at its next step.

    Progress that the reader was too slow for is skipped; results never are.

    Raises:
        Interrupted: `stop` was set.
        PainterError: whatever the engine found wrong.
    """
    return _job(lambda on_progress: engine.color(request, on_progress), desk, stop)


def group_job(engine: Colourer, requests: Sequence[ColorRequest], desk: Desk, stop: threading.Event) -> Generator[Event | Failure, None, None]:
    """Like `colour_job`, for a group in one turn: one ColorResult or Failure for each request, in order.

    Raises:
        Interrupted: `stop` was set. BadModel, CannotWrite, Offline: what would befall every other drawing too.
    """
    return _job(lambda on_progress: color_each(engine, requests, on_progress), desk, stop)


def _job(colour: Callable[[OnProgress], Iterator[T]], desk: Desk, stop: threading.Event) -> Generator[Waiting | Progress | T, None, None]:
    left = threading.Event()  # the reader has gone: its tab was closed, or it failed

    def stopped() -> bool:
        return stop.is_set() or left.is_set()

    def work(put: Callable[[Waiting | Progress | T], None]) -> None:
        def on_progress(progress: Progress) -> None:
            if stopped():
                raise Interrupted("Stopped.")
            put(progress)

        with desk.turn(stopped, lambda ahead: put(Waiting(ahead))):
            for result in colour(on_progress):
                put(result)

    return stream(work, left, skippable=lambda event: isinstance(event, Progress))


def stream(work: Callable[[Callable[[T], None]], None], left: threading.Event, skippable: Callable[[T], bool]) -> Generator[T, None, None]:
    """Run `work(put)` on its own thread and yield what it puts. What it raises is raised here.

    Args:
        left: set when the reader closes this iterator; `work` should look at it and end.
        skippable: such an event is left out when a newer one is waiting already.
    """
    events: queue.SimpleQueue[T | _End] = queue.SimpleQueue()

    def run() -> None:
        try:
            work(events.put)
        except BaseException as error:  # carried over to the reader's thread and raised there
            events.put(_End(error))
        else:
            events.put(_End(None))

    threading.Thread(target=run, name="studio-job", daemon=True).start()
    try:
        yield from _until_end(events, skippable)
    finally:
        left.set()


def _until_end(events: queue.SimpleQueue[T | _End], skippable: Callable[[T], bool]) -> Iterator[T]:
    while True:
        event = events.get()
        if isinstance(event, _End):
            if event.error is not None:
                raise event.error
            return
        if not skippable(event) or events.empty():
            yield event
