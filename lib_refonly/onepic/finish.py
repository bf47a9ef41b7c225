"""The drawing's own lines over the colours: a panel is painted small, the drawing has every stroke."""

from __future__ import annotations

import numpy as np
from PIL import Image

from lib_refonly.imaging.decode import decode
from lib_refonly.imaging.layers import even_regions, lines_on_top
from lib_refonly.imaging.lineart import find_blueprint
from lib_refonly.onepic.compose import laid
from lib_refonly.onepic.project import Panel, Project
from lib_refonly.onepic.settings import OnePicPaintSettings
from lib_refonly.onepic.tasks import task_or_none

LARGEST = 4096
"""Pixels of the longer side that a picture gets at the most by its lines."""


def lines_of(project: Project, settings: OnePicPaintSettings) -> dict[int, Panel]:
    """The panel (from 0) that gets lines, with the panel that has them. Nothing where they are not wanted, or the task has none or is laid out otherwise."""
    task = task_or_none(project.task)
    if task is None or task.lines is None or project.layout != task.layout or settings.lines_back == settings.flats == 0:
        return {}
    lines = project.panels[task.lines]
    return {number: lines for number, spec in enumerate(task.panels) if spec.role == "target" and lines.picture is not None}


def with_lines(painting: Image.Image, lines: Panel, project: Project, settings: OnePicPaintSettings) -> Image.Image:
    """The target panel as large as the drawing in the panel `lines` is there, with its colours kept inside the lines, and the lines on top. RGB.

    Raises:
        BadPicture: the drawing can't be opened.
    """
    assert lines.picture is not None, "a panel of `lines_of`"
    drawing = decode(lines.picture)
    left, _, right, _ = lines.placed(drawing.size, project.width, project.height)
    scale = min(max(1.0, drawing.width / (right - left)), max(1.0, LARGEST / max(project.width, project.height)))
    width, height = round(project.width * scale), round(project.height * scale)
    found = find_blueprint(drawing)
    layer = Image.fromarray(laid(np.asarray(found.blueprint), lines, width, height, 0))
    even = even_regions(painting.resize((width, height), Image.Resampling.LANCZOS), layer, settings.flats)
    return lines_on_top(even, layer, settings.lines_back, found.polarity)
