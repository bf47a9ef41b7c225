"""One job at a time, first come first served, and everybody else knows how many are before them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lib_refonly.errors import Interrupted

_LOOK_AGAIN = 0.2  # seconds between two looks at `stopped` while waiting


class Desk:
    """The queue in front of one device. Shared by every tab of the page; safe to use from any thread."""

    def __init__(self) -> None:
        self._line: deque[object] = deque()
        self._moved = threading.Condition()

    @contextmanager
    def turn(self, stopped: Callable[[], bool], waiting: Callable[[int], None]) -> Iterator[None]:
        """Hold the desk for the length of the `with` block.

        Args:
            stopped: asked while waiting; true leaves the queue.
            waiting: told how many are before us, each time that changes.

        Raises:
            Interrupted: `stopped` became true before our turn came.
        """
        ticket = object()
        with self._moved:
            self._line.append(ticket)
        try:
            self._wait(ticket, stopped, waiting)
            yield
        finally:
            with self._moved:
                self._line.remove(ticket)
                self._moved.notify_all()

    def _wait(self, ticket: object, stopped: Callable[[], bool], waiting: Callable[[int], None]) -> None:
        told = 0
        with self._moved:
            while ahead := self._line.index(ticket):
                if stopped():
                    raise Interrupted("Stopped before it began.")
                if ahead != told:
                    waiting(ahead)
                    told = ahead
                self._moved.wait(_LOOK_AGAIN)
