"""From the painter's pictures to what the model sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from lib_refonly.errors import PainterError
from lib_refonly.imaging.background import find_background, on_background
from lib_refonly.imaging.fit import Letterbox
from lib_refonly.imaging.lineart import find_blueprint
from lib_refonly.refonly.settings import RefOnlySettings

_SOMEBODY = 0.01
"""Share of a picture from which what was found is a character and no speck."""


@dataclass(frozen=True)
class PreparedLines:
    """A drawing made ready. `full`: the blueprint at the drawing's own size; `canvas`: what the model sees, letterboxed on black. Mode L."""

    full: Image.Image
    canvas: Image.Image
    box: Letterbox
    polarity: str
    notes: tuple[str, ...]


def prepare_lines(picture: Image.Image, settings: RefOnlySettings, native_size: int) -> PreparedLines:
    """Find the blueprint of a drawing and lay it on a canvas whose longer side is `settings.size` (or the model's own)."""
    art = find_blueprint(picture, lines=settings.lines, polarity=settings.polarity, block=settings.line_block, c=settings.line_c)
    box = Letterbox.of(art.blueprint.size, settings.size or native_size)
    return PreparedLines(art.blueprint, box.apply(keep_thin_lines(art.blueprint, box)), box, art.polarity, art.notes)


def keep_thin_lines(blueprint: Image.Image, box: Letterbox) -> Image.Image:
    """Thicken lines that the coming reduction would grey out: one pixel of a scan at 4000 px would be 6 % of a pixel at 256."""
    shrink = max(box.source) / max(box.inner)
    width = int(shrink * 0.7)
    if width < 2:
        return blueprint
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    return Image.fromarray(cv2.dilate(np.asarray(blueprint), kernel))


def prepare_mask(mask: Image.Image, box: Letterbox) -> Image.Image:
    """Where a reference acts, on the canvas of a drawing that lies in `box`: mode L. Beside the drawing it goes on as at its edge."""
    (x, y), (width, height) = box.offset, box.inner
    inner = np.asarray(mask.convert("L").resize(box.inner, Image.Resampling.BILINEAR))
    return Image.fromarray(np.pad(inner, ((y, box.canvas[1] - height - y), (x, box.canvas[0] - width - x)), mode="edge"))


FindCharacter = Callable[[Image.Image], "Image.Image | None"]
"""A picture's character: mode L of its size, or None where there is no means to find it. It may raise a PainterError."""


def prepare_reference(picture: Image.Image, settings: RefOnlySettings, find_character: FindCharacter | None = None) -> tuple[Image.Image, str]:
    """The reference, RGB, on the ground that the settings ask for ("auto": black, what the models know), and a sentence on what was found.

    find_character: asked about scenes only, since a plain or a transparent ground is told from the character exactly. What it can't find, or
    its failure, leaves the scene as it is and is said.
    """
    found = find_background(picture)
    kind = "on a scene" if found.kind == "scene" else "without a ground" if found.kind == "transparent" else f"on a {found.kind} ground"
    if settings.background == "keep":
        return on_background(picture, "keep"), f"Reference {kind}, left as it is."
    to = "white" if settings.background == "white" else "black"
    if found.kind != "scene":
        return on_background(picture, to), f"Reference {kind}, set on {to}."
    try:
        alpha = find_character(picture) if find_character else None
    except PainterError as error:
        return on_background(picture, "keep"), f"The reference shows a scene, which was left as it is: {error}"
    if alpha is None:
        advice = "Cut it out, or install the segmentation model."
        return on_background(picture, "keep"), f"The reference shows a scene, and its character can't be told from it. {advice}"
    if np.asarray(alpha).mean() < 255 * _SOMEBODY:
        return on_background(picture, "keep"), "The reference shows a scene in which no character was found. It was left as it is."
    return on_background(picture, to, alpha), f"The reference's character was cut out of its scene and set on {to}."
