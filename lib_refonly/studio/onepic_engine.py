"""Canvases painted outside a WebUI. Models are read when they are first needed; the last one is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lib_refonly.errors import BadModel
from lib_refonly.onepic.project import Project
from lib_refonly.onepic.settings import OnePicPaintSettings
from lib_refonly.onepic.shelf import bases, choose, loras
from lib_refonly.studio.memory import memory_errors

if TYPE_CHECKING:
    from lib_refonly.onepic.compose import Painted
    from lib_refonly.refonly.text_to_image import TextToImage


@dataclass(frozen=True)
class Result:
    """See `onepic_jobs.Result`."""

    painted: Painted
    lora: str
    text: str = ""


class OnePicEngine:
    """Thread-safe: one job at a time. `device`: auto, cpu, cuda or mps. `lora`: a file that is taken instead of an installed one."""

    def __init__(self, device: str = "auto", lora: Path | None = None) -> None:
        self._wanted, self._lora, self._lock = device, lora, threading.RLock()
        self._base: TextToImage | None = None

    def paint(self, project: Project, settings: OnePicPaintSettings, on_step: Callable[[int, int], None] | None = None) -> Result:
        """`on_step(done, steps)` may raise to stop.

        Raises:
            BadSettings: the project has no target. BadModel: model or LoRA is not installed, or they don't go together. OutOfMemory.
        """
        from lib_refonly.onepic.lora import read
        from lib_refonly.onepic.painter import paint

        project.check_ready()
        with self._lock, memory_errors("smaller panels, or fewer"):
            file = self._lora or _installed(project, settings.lora)
            base = self._loaded(settings.model)
            lows = read(file)[0] if file else None
            tell = None if on_step is None else lambda step, _: on_step(step, settings.steps)
            return Result(paint(base, project, settings, lows, on_step=tell), file.stem if file else "")

    def _loaded(self, name: str) -> TextToImage:
        there = bases()
        if name not in there:
            raise BadModel(f"The model {name} is not installed. There is: {', '.join(there)}.")
        if self._base is None or self._base.folder != there[name]:
            from lib_refonly.refonly.text_to_image import TextToImage
            from lib_refonly.studio.devices import pick

            self._base = None
            self._base = TextToImage(there[name], *pick(self._wanted))
        return self._base


def _installed(project: Project, wanted: str) -> Path | None:
    found = choose(project.task, project.layout.name, wanted, loras())
    return found.path if found else None
