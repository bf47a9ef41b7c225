"""ONE-PIC canvases being painted: one job at a time on the device; and what a painted picture says of itself. Neither gradio nor torch here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from lib_refonly import __version__
from lib_refonly.errors import Interrupted
from lib_refonly.imaging.infotext import write_infotext
from lib_refonly.onepic.finish import lines_of, with_lines
from lib_refonly.onepic.project import FORMAT, VERSION, Project
from lib_refonly.onepic.settings import OnePicPaintSettings
from lib_refonly.studio.desk import Desk
from lib_refonly.studio.jobs import Waiting, stream

FIELD = "ONE-PIC"
"""Of a picture's parameters: the project it was painted from, as `told` writes it."""


class Pictures(Protocol):
    """What was painted: targets by their panel's number (from 0), and the whole canvas."""

    @property
    def targets(self) -> Mapping[int, Image.Image]: ...
    @property
    def canvas(self) -> Image.Image: ...


class Result(Protocol):
    """`lora`: the name of the one that was used, or "". `text`: what the pictures say of themselves, where it is not for `infotext` to say."""

    @property
    def painted(self) -> Pictures: ...
    @property
    def lora(self) -> str: ...
    @property
    def text(self) -> str: ...


class CanvasPainter(Protocol):
    """What page and command need: the studio's `OnePicEngine`, or a WebUI. `on_step(done, steps)` may raise to stop."""

    def paint(self, project: Project, settings: OnePicPaintSettings, on_step: Callable[[int, int], None] | None = None) -> Result: ...


class Later:
    """A painter that is made when it is first needed: the real one imports torch. Thread-safe."""

    def __init__(self, make: Callable[[], CanvasPainter]) -> None:
        self._make, self._made, self._lock = make, None, threading.Lock()

    def paint(self, project: Project, settings: OnePicPaintSettings, on_step: Callable[[int, int], None] | None = None) -> Result:
        with self._lock:
            self._made = made = self._made or self._make()
        return made.paint(project, settings, on_step)


@dataclass(frozen=True)
class Step:
    """`done` of `steps` steps are behind us."""

    done: int
    steps: int


@dataclass(frozen=True)
class Finished:
    """The last event. targets: panel number (from 0) -> its picture. `lora`, `text`: as `Result`'s. `seconds`: without the waiting."""

    targets: dict[int, Image.Image]
    canvas: Image.Image
    lora: str
    seconds: float
    text: str = ""


Event = Waiting | Step | Finished


def canvas_job(painter: CanvasPainter, project: Project, settings: OnePicPaintSettings, desk: Desk, stop: threading.Event) -> Generator[Event, None, None]:
    """Wait for a turn at the desk, paint, and yield every event. Closing the iterator, or setting `stop`, ends the job at its next step.

    Steps that the reader was too slow for are skipped.

    Raises:
        Interrupted: `stop` was set. PainterError: whatever the painter found wrong.
    """
    left = threading.Event()  # the reader has gone: its tab was closed, or it failed

    def stopped() -> bool:
        return stop.is_set() or left.is_set()

    def work(put: Callable[[Event], None]) -> None:
        def on_step(done: int, steps: int) -> None:
            if stopped():
                raise Interrupted("Stopped.")
            put(Step(done, steps))

        with desk.turn(stopped, lambda ahead: put(Waiting(ahead))):
            on_step(0, settings.steps)
            put(finished(painter, project, settings, on_step))

    return stream(work, left, skippable=lambda event: isinstance(event, Step))


def finished(painter: CanvasPainter, project: Project, settings: OnePicPaintSettings, on_step: Callable[[int, int], None] | None = None) -> Finished:
    """Paint here and now. Raises: whatever the painter finds wrong."""
    begun = time.monotonic()
    result = painter.paint(project, settings, on_step)
    targets = dict(sorted(result.painted.targets.items()))
    for number, lines in lines_of(project, settings).items():
        if number in targets:
            targets[number] = with_lines(targets[number], lines, project, settings)
    return Finished(targets, result.painted.canvas, result.lora, time.monotonic() - begun, result.text)


def told(project: Project) -> dict[str, Any]:
    """The project as its own JSON has it, but each picture and mask by its hash, "sha256:...", and without the prompts, which have their own place."""
    panels = [dataclasses.asdict(panel) | {"picture": _hash(panel.picture), "mask": _hash(panel.mask)} for panel in project.panels]
    return {
        "format": FORMAT,
        "version": VERSION,
        "task": project.task,
        "layout": {"rows": project.layout.rows, "columns": project.layout.columns},
        "panel": {"width": project.width, "height": project.height},
        "panels": panels,
        "reuse": project.reuse,
        "alone": project.alone,
    }


def infotext(project: Project, settings: OnePicPaintSettings, lora: str, panel: int | None = None, text: str = "") -> str:
    """A1111's parameters text of a painted panel (from 0), or of the whole canvas. `lora`: the name of the one that was used, or "". `text`: what a WebUI
    has to say of it, which then only gets what was done afterwards.
    """
    lines = {f"{FIELD} lines on top": f"{settings.lines_back:g}", f"{FIELD} flats": f"{settings.flats:g}"} if panel in lines_of(project, settings) else {}
    if text:
        return ", ".join([text, *(f"{name}: {value}" for name, value in lines.items())])
    width, height = project.size if panel is None else (project.width, project.height)
    fields: dict[str, object] = {
        "Steps": settings.steps,
        "Sampler": settings.sampler,
        "CFG scale": f"{settings.cfg:g}",
        "Seed": settings.seed,
        "Size": f"{width}x{height}",
        "Model": settings.model or None,
        "RefOnly version": __version__,
        f"{FIELD} LoRA": lora or None,
        f"{FIELD} LoRA strength": f"{settings.lora_strength:g}" if lora else None,
        **lines,
        f"{FIELD} panel": None if panel is None else panel + 1,
        FIELD: json.dumps(told(project), ensure_ascii=False, separators=(",", ":")),
    }
    return write_infotext(project.prompt, project.negative, fields)


def _hash(data: bytes | None) -> str | None:
    return None if data is None else f"sha256:{hashlib.sha256(data).hexdigest()}"
