"""Run a colouring job on its own thread and hand out what happens, as it happens. No gradio here."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from lib_refonly.errors import Interrupted
from lib_refonly.studio.desk import Desk
from lib_refonly.studio.requests import ColorRequest, ColorResult, OnProgress, Prepared, Progress


class Colourer(Protocol):
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


def colour_job(engine: Colourer, request: ColorRequest, desk: Desk, stop: threading.Event) -> Iterator[Event]:
    """Wait for a turn at the desk, colour, and yield every event. Closing the iterator, or setting `stop`, ends the job at its next step.

    Progress that the reader was too slow for is skipped; results never are.

    Raises:
        Interrupted: `stop` was set.
        PainterError: whatever the engine found wrong.
    """

    def work(put: Callable[[Event], None]) -> None:
        def on_progress(progress: Progress) -> None:
            if stop.is_set():
                raise Interrupted("Stopped.")
            put(progress)

        with desk.turn(stop.is_set, lambda ahead: put(Waiting(ahead))):
            for result in engine.color(request, on_progress):
                put(result)

    return _stream(work, stop)


def _stream(work: Callable[[Callable[[Event], None]], None], stop: threading.Event) -> Iterator[Event]:
    events: queue.SimpleQueue[Event | _End] = queue.SimpleQueue()

    def run() -> None:
        try:
            work(events.put)
        except BaseException as error:  # carried over to the reader's thread and raised there
            events.put(_End(error))
        else:
            events.put(_End(None))

    threading.Thread(target=run, name="colour-job", daemon=True).start()
    try:
        yield from _until_end(events)
    finally:
        stop.set()


def _until_end(events: queue.SimpleQueue[Event | _End]) -> Iterator[Event]:
    while True:
        event = events.get()
        if isinstance(event, _End):
            if event.error is not None:
                raise event.error
            return
        if isinstance(event, Progress) and not events.empty():
            continue  # something newer is there
        yield event
