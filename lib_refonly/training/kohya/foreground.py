"""A training by sd-scripts that a terminal waits for. It is told of and asked like a job's, through the files of its folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadSettings, CannotWrite, Interrupted, PainterError
from lib_refonly.locks import held
from lib_refonly.training.jobs import asks, events, log, process
from lib_refonly.training.jobs.explain import explain
from lib_refonly.training.jobs.progress import Progress
from lib_refonly.training.kohya.config import CONFIG, DATASET, OUT

_LOCK = ".training.lock"
_TICK = 0.2
_OURS = {_LOCK, CONFIG, DATASET, OUT}
Tell = Callable[[Progress, str], None]
"""Told often: how far it is, and "" or what is being waited for."""


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Be the only one that trains there, from making its files to its end. The folder is made.

    Raises:
        BadSettings: it holds something else, or is being trained in. CannotWrite: it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise CannotWrite(f"{folder} can't be used: {error.strerror or error}. Choose another one with --folder.") from error
    if there and not there & _OURS:
        raise BadSettings(f"{folder} holds other things. Choose another folder with --folder.")
    with held(folder / _LOCK, 0) as mine:
        left = process.family(None, folder) if mine else []
        if not mine or left:
            number = f" (process {left[0].pid})" if left else ""
            raise BadSettings(f"A training runs in {folder} already{number}. Wait for its end, or choose another folder with --folder.")
        yield


def train(folder: Path, argv: Sequence[str], environment: Mapping[str, str], tell: Tell, minutes: float | None = None) -> Progress:
    """Train until the end, or until `minutes` are over. The first Ctrl-C asks it to save and stop, another one ends it at once. Inside `working_in`.

    Raises:
        Interrupted: it was stopped so; the text says at which step. PainterError: it failed; the text says why and where its log is.
    """
    asks.Asks(folder).clear()
    course = _Course(folder, minutes)
    try:
        child = process.start(argv, folder, {**environment, process.JOB_FOLDER: str(folder)}, folder / log.FILE)
    except OSError as error:
        raise PainterError(
            f"sd-scripts can't be started: {error.strerror or error}. Install it again: python3 studio.py trainers install sd-scripts"
        ) from error
    with _signals(course.interrupt):
        while child.poll() is None:
            course.look(child, tell)
            time.sleep(_TICK)
    course.look(child, tell)
    process.clear_away(folder)
    return course.ended(child.returncode)


class _Course:
    """How it stands, and what was asked of it."""

    def __init__(self, folder: Path, minutes: float | None) -> None:
        self._folder, self._path = folder, folder / events.FILE
        self._until = None if minutes is None else time.monotonic() + 60 * minutes
        self._progress = Progress()
        self._progress.add(events.read_all(self._path).events)
        self._progress.ended = ""
        self._offset = self._path.stat().st_size if self._path.exists() else 0
        self._pressed, self._asked = 0, ""

    def interrupt(self) -> None:
        """Ctrl-C, or the terminal is closed."""
        self._pressed += 1

    def look(self, child: subprocess.Popen[bytes], tell: Tell) -> None:
        """Read what it told, ask what is to be asked."""
        while (batch := events.read(self._path, self._offset)).offset != self._offset:
            self._progress.add(batch.events)
            self._offset = batch.offset
        over = self._until is not None and time.monotonic() > self._until
        if (self._pressed or over) and not self._asked:
            self._asked = "stop" if self._pressed else "pause"
            asks.ask(self._folder, self._asked)
        if self._pressed > 1:
            process.end(process.Identity.of(child.pid), self._folder, at_once=True)
        tell(self._progress, "It saves and stops. Ctrl-C again ends it at once, without saving." if self._asked else "")

    def ended(self, code: int) -> Progress:
        """See `train`."""
        if not self._progress.ended:
            saved = f" What was saved at step {self._progress.saved} is kept." if self._progress.saved else ""
            if self._pressed > 1:
                raise Interrupted(f"Ended at once.{saved} The same command goes on from there, or begins anew.")
            raise PainterError(f"{explain(log.tail(self._folder), code)}{saved} Its log: {self._folder / log.FILE}")
        if self._progress.ended == "stopped" and self._pressed:
            raise Interrupted(f"Stopped and saved at step {self._progress.step}. The same command goes on from there.")
        return self._progress


@contextlib.contextmanager
def _signals(interrupt: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and what else ends a program call `interrupt` meanwhile; the training itself, which stands apart, hears nothing of them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = ("SIGINT", "SIGTERM", "SIGHUP") if os.name != "nt" else ("SIGINT", "SIGBREAK")
    before: dict[Any, Any] = {number: signal.signal(number, lambda *_: interrupt()) for name in names if (number := getattr(signal, name, None))}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
