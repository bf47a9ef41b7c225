"""A drawn character and frames of it in motion: what the studio's benchmark colours. Made here, so that nothing has to be downloaded."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

_SKIN, _HAIR, _COAT, _EYE = "#f2c9a4", "#3b6fb5", "#c0392b", "#2d2d2d"
_LINE = 0.008  # of the side


def reference(side: int = 512) -> Image.Image:
    """The character in colour on white, RGB [side, side]."""
    return _draw(side, 0.0, coloured=True)


def frame(number: int, side: int = 512) -> Image.Image:
    """Frame `number` (from 0) as black lines on white, RGB [side, side]. The character sways; 16 frames are one swing."""
    return _draw(side, 0.06 * math.sin(number * math.tau / 16), coloured=False)


def _draw(side: int, lean: float, coloured: bool) -> Image.Image:
    picture = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(picture)
    width = max(1, round(_LINE * side))

    def shape(kind: str, box: tuple[float, float, float, float], fill: str) -> None:
        x0, y0, x1, y1 = (round(side * value) for value in (box[0] + lean, box[1], box[2] + lean, box[3]))
        getattr(pen, kind)((x0, y0, x1, y1), fill=fill if coloured else "white", outline="black", width=width)

    shape("ellipse", (0.24, 0.06, 0.76, 0.62), _HAIR)
    shape("rectangle", (0.30, 0.58, 0.70, 0.94), _COAT)
    shape("ellipse", (0.32, 0.18, 0.68, 0.60), _SKIN)
    shape("ellipse", (0.40, 0.34, 0.45, 0.41), _EYE)
    shape("ellipse", (0.55, 0.34, 0.60, 0.41), _EYE)
    return picture
