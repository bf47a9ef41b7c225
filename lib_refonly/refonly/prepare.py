"""From the painter's pictures to what the model sees."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from lib_refonly.imaging.background import find_background, on_background
from lib_refonly.imaging.fit import Letterbox
from lib_refonly.imaging.lineart import find_blueprint
from lib_refonly.refonly.settings import RefOnlySettings


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


def prepare_reference(picture: Image.Image, settings: RefOnlySettings, alpha: Image.Image | None = None) -> tuple[Image.Image, str]:
    """The reference, RGB, on the ground that the settings ask for ("auto": black, what the models know), and a sentence on what was found.

    alpha: the character, mode L, from a segmentation model; without it a plain ground is filled from the edges.
    """
    found = find_background(picture)
    kind = "on a scene" if found.kind == "scene" else "without a ground" if found.kind == "transparent" else f"on a {found.kind} ground"
    if settings.background == "keep":
        return on_background(picture, "keep"), f"Reference {kind}, left as it is."
    to = "white" if settings.background == "white" else "auto" if settings.background == "auto" else "black"
    ready = on_background(picture, "black" if alpha is not None and to == "auto" else to, alpha)
    if found.kind == "scene" and alpha is None:
        return ready, "The reference shows a scene, and its character can't be told from it. Cut it out, or install the segmentation model."
    return ready, f"Reference {kind}, set on {'white' if to == 'white' else 'black'}."
