"""Styles being painted, and codes being made: one job at a time on the device, each picture handed out when it is done. No gradio here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from lib_refonly.errors import Interrupted
from lib_refonly.studio.desk import Desk
from lib_refonly.studio.jobs import Waiting, stream
from lib_refonly.studio.style_engine import StylePaintSettings
from lib_refonly.stylecode.codes import Code, CodeModel


class StylePainter(Protocol):
    """What the page needs: the studio's `StyleEngine`, or a WebUI."""

    def code_of(self, pictures: Sequence[Image.Image]) -> Code: ...

    def paint_all(
        self,
        latents: Sequence[Sequence[float]],
        prompt: str,
        settings: StylePaintSettings,
        model: CodeModel | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Image.Image]: ...


@dataclass(frozen=True)
class Wish:
    """What is to be painted: one prompt and one seed in each of several styles of a model."""

    latents: tuple[tuple[float, ...], ...]
    model: CodeModel
    prompt: str
    settings: StylePaintSettings


@dataclass(frozen=True)
class Step:
    """Picture `number` (from 0) of `count` is being painted. `done`: 0 to 1, of all."""

    number: int
    count: int
    done: float


@dataclass(frozen=True)
class Painted:
    """The picture in the style `number` of the wish."""

    number: int
    picture: Image.Image


Event = Waiting | Step | Painted | Code


def paint_job(painter: StylePainter, wish: Wish, desk: Desk, stop: threading.Event) -> Generator[Event, None, None]:
    """Paint in the order of the latents. What was finished before a stop has been handed out.

    Raises:
        Interrupted: `stop` was set. PainterError: whatever the painter found wrong.
    """

    def work(put: Callable[[Event], None], stopped: Callable[[], bool]) -> None:
        count = len(wish.latents)
        for number, latent in enumerate(wish.latents):

            def on_step(done: int, steps: int, number: int = number) -> None:
                _leave_if(stopped())
                put(Step(number, count, (number + done / max(1, steps)) / count))

            _leave_if(stopped())
            put(Step(number, count, number / count))
            (picture,) = painter.paint_all([latent], wish.prompt, wish.settings, wish.model, on_step)
            put(Painted(number, picture))

    return _at_desk(work, desk, stop)


def code_job(painter: StylePainter, pictures: Sequence[Image.Image], desk: Desk, stop: threading.Event) -> Generator[Event, None, None]:
    """Make one code of the pictures; it is the last event.

    Raises:
        Interrupted: `stop` was set. PainterError: whatever the painter found wrong.
    """

    def work(put: Callable[[Event], None], stopped: Callable[[], bool]) -> None:
        put(Step(0, 1, 0))
        code = painter.code_of(pictures)
        _leave_if(stopped())
        put(code)

    return _at_desk(work, desk, stop)


def _at_desk(work: Callable[[Callable[[Event], None], Callable[[], bool]], None], desk: Desk, stop: threading.Event) -> Generator[Event, None, None]:
    left = threading.Event()  # the reader has gone: its tab was closed, or it failed

    def stopped() -> bool:
        return stop.is_set() or left.is_set()

    def turn(put: Callable[[Event], None]) -> None:
        with desk.turn(stopped, lambda ahead: put(Waiting(ahead))):
            work(put, stopped)

    return stream(turn, left, skippable=lambda event: isinstance(event, Step))


def _leave_if(stopped: bool) -> None:
    if stopped:
        raise Interrupted("Stopped.")
