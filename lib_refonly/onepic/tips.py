"""What is worth knowing of a canvas before it is painted: the paper's section 4.6, what it costs, and what was forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lib_refonly.errors import BadPicture
from lib_refonly.imaging.decode import DECODER_ERRORS, open_header
from lib_refonly.onepic.project import Panel, Project
from lib_refonly.onepic.tasks import TASKS

_REUSE_GRID = 64
"""Pixels: 8 of a latent cell, times the 8 cells that a UNet's three halvings make one of."""
_MUCH = 1.2
"""How much longer one side may get than the other, against the picture's own, before it is worth a word."""
_AWAY = 1.8
"""How many times a LoRA's own size a panel may be, or the other way round, before it is worth a word."""
_EXIF_ORIENTATION, _LYING = 0x0112, (5, 6, 7, 8)


def tips(project: Project) -> list[str]:
    """Sentences for the painter; none of them stands in the way of painting. Panels are numbered from 1 in them."""
    return [*_of_layout(project), *_of_cost(project), *_of_panels(project)]


def of_lora(project: Project, name: str, side: int) -> list[str]:
    """`side`: px of the panels that the LoRA was trained with, or 0."""
    away = max(project.width, project.height) / side if side else 1.0
    if 1 / _AWAY < away < _AWAY:
        return []
    return [f"{name} was trained with panels of {side} px; these have {project.width} x {project.height}. It paints best at its own size."]


def _of_layout(project: Project) -> Iterator[str]:
    needs = next((task.needs for task in TASKS if task.name == project.task), "")
    if project.layout.name in ("1x2", "2x1") and needs == "position":
        yield "In the layouts 1x2 and 2x1 the result comes out a little distorted. Take 2x2, with the condition beside the target and above it."
    filled = [panel for panel in project.panels if panel.role == "context" and panel.picture is not None]
    different = min(len({panel.picture for panel in filled}), len({panel.label for panel in filled})) > 1
    middle = project.layout.middle
    if different and middle is not None and project.panels[middle].role != "target":
        yield f"With several different conditions the target is best in the middle, in panel {middle + 1}: the model takes most care there."
    if needs == "source" and project.layout.panels > 2:
        yield "When time matters, try the layout 1x2: the source on the left says nearly everything, and there is less to compute."


def _of_cost(project: Project) -> Iterator[str]:
    fits = not any(side % _REUSE_GRID for side in project.size)
    if project.layout.panels > 1 and project.reuse == 1:
        times = f"Every step computes {project.layout.panels} times the area of a single picture of this size."
        yield times + (" Reuse 2 or more is quicker, and changes the picture a little." if fits else "")
    if not fits:
        width, height = project.size
        yield (
            f"The canvas is {width} x {height} px. Reuse works only where both sides are multiples of {_REUSE_GRID}: with panels of "
            f"{_near(project.width)} x {_near(project.height)} px, for example."
        )


def _near(side: int) -> int:
    return max(_REUSE_GRID, round(side / _REUSE_GRID) * _REUSE_GRID)


def in_words(numbers: Sequence[str]) -> str:
    """1, 2 and 3."""
    return " and ".join([*([", ".join(numbers[:-1])] if numbers[1:] else []), *numbers[-1:]])


def _of_panels(project: Project) -> Iterator[str]:
    empty = [str(number) for number, panel in enumerate(project.panels, 1) if panel.role == "context" and panel.picture is None]
    if empty:
        one = len(empty) == 1
        yield f"Panel{'' if one else 's'} {in_words(empty)} {'is' if one else 'are'} empty: the model sees grey there. Put a picture in."
    for number, panel in enumerate(project.panels):
        partly = panel.picture is not None and panel.mask is not None and panel.mask_use == "paint"
        around = project.layout.beside(number)
        if panel.role == "target" and not partly and all(project.panels[other].role == "target" for other in around):
            yield f"Panel {number + 1} is a target with no context beside it, so it follows the others less."
        if panel.picture is not None:
            yield from _of_shape(number, panel, panel.picture, project)


def _of_shape(number: int, panel: Panel, picture: bytes, project: Project) -> Iterator[str]:
    try:
        width, height = _upright_size(picture)
    except BadPicture as error:
        yield f"Panel {number + 1}: {error}"
        return
    wider = width * project.height / (height * project.width)
    much = max(wider, 1 / wider)
    if much < _MUCH or panel.fit == "pad":
        return
    if panel.fit == "crop":
        sides = "left and right" if wider > 1 else "top and bottom"
        yield f"Panel {number + 1}: {1 - 1 / much:.0%} of the picture is cut off at {sides}. Fit 'pad' shows all of it."
    else:
        yield f"Panel {number + 1}: the picture gets {much:.1f} times too {'high' if wider > 1 else 'wide'} by 'stretch'. Take 'crop' or 'pad'."


def _upright_size(picture: bytes) -> tuple[int, int]:
    """(width, height) px, of the header alone. Raises: BadPicture: it is none."""
    header = open_header(picture)
    try:
        lying = header.getexif().get(_EXIF_ORIENTATION) in _LYING
    except DECODER_ERRORS:  # as in decoding: a broken EXIF turns nothing
        lying = False
    return (header.height, header.width) if lying else header.size
