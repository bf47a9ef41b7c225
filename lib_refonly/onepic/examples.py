"""A canvas to try each task with, of the built-in sample drawings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image, ImageOps

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.decode import open_picture
from lib_refonly.imaging.infotext import png_bytes
from lib_refonly.models.registry import EMBEDDED
from lib_refonly.onepic.project import Project
from lib_refonly.onepic.tasks import Task, filled, project_of

_CURLS, _BUNS, _COLLAR, _TURBAN, _BOB = "1 Curls", "2 Buns", "3 Collar", "4 Turban", "5 Bob"
_MASK_SIDE = 256
Box = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of a side."""


@dataclass(frozen=True)
class _Shown:
    """A sample's picture, or a part of it, perhaps as in a mirror. `brushed`: an oval over the panel that is hidden."""

    sample: str
    file: str = "reference.png"
    part: Box = (0.0, 0.0, 1.0, 1.0)
    mirrored: bool = False
    brushed: Box | None = None

    def picture(self) -> bytes:
        whole = open_picture(EMBEDDED / "samples" / self.sample / self.file).convert("RGB")
        left, top, right, bottom = self.part
        cut = whole.crop((round(left * whole.width), round(top * whole.height), round(right * whole.width), round(bottom * whole.height)))
        side = max(cut.size)
        cut = ImageOps.pad(cut, (side, side), color="white")
        return png_bytes(ImageOps.mirror(cut) if self.mirrored else cut)

    def mask(self) -> bytes | None:
        if self.brushed is None:
            return None
        y, x = (np.mgrid[:_MASK_SIDE, :_MASK_SIDE] + 0.5) / _MASK_SIDE
        left, top, right, bottom = self.brushed
        away = ((2 * x - left - right) / (right - left)) ** 2 + ((2 * y - top - bottom) / (bottom - top)) ** 2
        return png_bytes(Image.fromarray(np.where(away < 1, 255, 0).astype(np.uint8)))


@dataclass(frozen=True)
class _Example:
    """`shown`: what panels (from 0) show that do not repeat another one's."""

    prompt: str = ""
    shown: Mapping[int, _Shown] = field(default_factory=dict[int, _Shown])


def _lines(sample: str) -> _Shown:
    return _Shown(sample, "lines.png")


def _of_one(sample: str, head: Box) -> dict[int, _Shown]:
    return {0: _Shown(sample), 1: _Shown(sample, mirrored=True), 2: _Shown(sample, part=head)}


_CLOTHES, _HAIR = (-0.2, 0.72, 1.2, 1.4), (0.1, 0.1, 0.9, 0.5)
_EXAMPLES: Mapping[str, _Example] = {
    "spatial-control": _Example("storybook character, short curly green hair, light skin, surprised", {0: _lines(_CURLS)}),
    "subject": _Example("storybook character, smiling", _of_one(_BUNS, (0.1, 0.05, 0.9, 0.85))),
    "edit": _Example("storybook character, blue hair", {0: _Shown(_BOB)}),
    "edit-masked": _Example("storybook character, curly pink hair", {0: _Shown(_CURLS, brushed=_HAIR)}),
    "try-on": _Example("", {0: _Shown(_COLLAR, part=(0.08, 0.7, 0.85, 1.0)), 2: _Shown(_TURBAN, brushed=_CLOTHES)}),
    "colorize": _Example("", {0: _Shown(_BUNS), 1: _lines(_BUNS)}),
    "fashion-extraction": _Example("", {0: _Shown(_TURBAN)}),
    "segmentation": _Example("hair", {0: _Shown(_BOB)}),
    "portrait": _Example("storybook character, smiling", _of_one(_COLLAR, (0.15, 0.05, 0.85, 0.75))),
    "new-pose": _Example("", {0: _Shown(_TURBAN), 1: _lines(_TURBAN), 2: _Shown(_TURBAN, mirrored=True)}),
    "frames": _Example("", {0: _Shown(_CURLS), 2: _lines(_CURLS)}),
}


def example(task: Task, width: int | None = None, height: int | None = None) -> Project:
    """The task's panels, filled, with a prompt. `width`, `height`: as for `project_of`. Raises: BadSettings: there is none for this task."""
    if task.name not in _EXAMPLES:
        raise BadSettings(f"There is no example for {task.title!r}.")
    project, chosen = project_of(task, width, height), _EXAMPLES[task.name]
    for number, shown in chosen.shown.items():
        project = filled(project, task, number, shown.picture())
        panels = list(project.panels)
        panels[number] = replace(panels[number], mask=shown.mask())
        project = replace(project, panels=tuple(panels))
    return replace(project, prompt=chosen.prompt)
