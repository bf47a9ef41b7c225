"""From a project to what the model sees: the panels' pixels, and which latent cells are painted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.decode import decode, open_header
from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.project import CELL, Panel, Project, naming

Pixels = NDArray[np.uint8]
Bits = NDArray[np.bool_]
Kind = TypeVar("Kind", bound=np.generic)

GROUND = (255, 255, 255)
"""What lies behind a transparent picture."""
GREY = 127
"""What the model sees where there is nothing: an empty panel, and what is hidden."""
_STRIPES, _STRIPE = (64, 192), 8
"""Two greys that are mixed half and half into the target of a preview, and how many pixels wide each is."""


@dataclass(frozen=True)
class Painted:
    """targets: panel number -> its picture. canvas: all panels, the painted ones among them."""

    targets: dict[int, Image.Image]
    canvas: Image.Image


@dataclass(frozen=True, eq=False)
class Composed:
    """panels: each [height, width, 3], as the model sees it. target: latent cells of 8 px, [rows * height / 8, columns * width / 8], True where
    it is painted. It may be nowhere True.
    """

    layout: Layout
    panels: tuple[Pixels, ...]
    target: Bits

    @property
    def canvas(self) -> Image.Image:
        """All panels together, RGB."""
        return Image.fromarray(_joined(self.layout, self.panels))

    def preview(self) -> Image.Image:
        """The canvas, with stripes over the target and a line of two pixels, one dark and one light, wherever two panels meet. RGB."""
        shown = _joined(self.layout, self.panels)
        target = self.target.repeat(CELL, 0).repeat(CELL, 1)
        slope = np.add.outer(*(np.arange(side, dtype=np.uint16) for side in target.shape))[target]
        stripes = np.where(slope // _STRIPE % 2, *_STRIPES).astype(np.uint16)[:, None]
        shown[target] = ((shown[target] + stripes) // 2).astype(np.uint8)
        height, width = self.panels[0].shape[:2]
        for edge in range(height, shown.shape[0], height):
            shown[edge - 1], shown[edge] = 0, 255
        for edge in range(width, shown.shape[1], width):
            shown[:, edge - 1], shown[:, edge] = 0, 255
        return Image.fromarray(shown)


def composed(project: Project) -> Composed:
    """Lay every picture into its panel and find the target. The same project always gives the same.

    A target panel with a picture and a "paint" mask is painted where it is brushed only; a mask without a stroke counts as none.

    Raises:
        BadPicture: a picture or a mask can't be opened; the text names the panel.
    """
    panels, cells = [], []
    for number, panel in enumerate(project.panels):
        with naming(number):
            pixels = _pixels(panel, project.width, project.height)
            brushed = _brushed(panel, project.width, project.height)
        if brushed is not None and panel.mask_use == "hide":
            pixels[brushed] = GREY
        panels.append(pixels)
        cells.append(_cells(panel, brushed, project.width // CELL, project.height // CELL))
    return Composed(project.layout, tuple(panels), _joined(project.layout, cells))


@overload
def cropped(whole: Image.Image, project: Project, number: int) -> Image.Image: ...
@overload
def cropped(whole: NDArray[Kind], project: Project, number: int) -> NDArray[Kind]: ...
def cropped(whole: Image.Image | NDArray[Kind], project: Project, number: int) -> Image.Image | NDArray[Kind]:
    """One panel (from 0) out of a picture, or an array [H, W, ...], of the whole canvas. An enlarged canvas is cut in proportion.

    Raises:
        BadSettings: no such panel, or the sides are not in the canvas' proportion.
    """
    width, height = whole.size if isinstance(whole, Image.Image) else whole.shape[1::-1]
    full_width, full_height = project.size
    if width * full_height != height * full_width:
        raise BadSettings(f"This picture is {width} x {height} px and no canvas of {full_width} x {full_height} px.")
    box = project.layout.box(number, project.width, project.height)
    left, top, right, bottom = (side * width // full_width for side in box)
    return whole.crop((left, top, right, bottom)) if isinstance(whole, Image.Image) else whole[top:bottom, left:right].copy()


def _joined(layout: Layout, parts: Sequence[NDArray[Kind]]) -> NDArray[Kind]:
    """Equal parts [h, w, ...], row by row -> [rows * h, columns * w, ...]."""
    rows = [np.concatenate(parts[start : start + layout.columns], axis=1) for start in range(0, layout.panels, layout.columns)]
    return np.concatenate(rows, axis=0)


def _pixels(panel: Panel, width: int, height: int) -> Pixels:
    """[height, width, 3]."""
    if panel.picture is None:
        return np.full((height, width, 3), GREY, np.uint8)
    colours = np.asarray(_laid_on(GROUND, decode(panel.picture)))
    return laid(colours, panel, width, height, _border_colour(colours))


def laid(colours: Pixels, panel: Panel, width: int, height: int, around: Pixels | int) -> Pixels:
    """A picture [h, w, ...] as it lies in a panel of `width` x `height` px, with `around` where it does not reach: [height, width, ...]."""
    out = np.empty((height, width, *colours.shape[2:]), np.uint8)
    out[:] = around
    left, top, right, bottom = panel.placed((colours.shape[1], colours.shape[0]), width, height)
    inside = slice(max(0, top), min(height, bottom)), slice(max(0, left), min(width, right))
    out[inside] = _scaled(colours, (left, top, right, bottom), width, height)[inside]
    return out


def _laid_on(ground: tuple[int, int, int], picture: Image.Image) -> Image.Image:
    """RGB. What is transparent shows the ground, before anything is scaled: colours under transparency say nothing."""
    if picture.mode != "RGBA":
        return picture
    return Image.alpha_composite(Image.new("RGBA", picture.size, (*ground, 255)), picture).convert("RGB")


def _border_colour(colours: Pixels) -> Pixels:
    """[h, w, 3] -> the mean of the outermost pixels, each counted once, [3]."""
    border = np.ones(colours.shape[:2], bool)
    border[1:-1, 1:-1] = False
    return np.floor(colours[border].mean(axis=0) + 0.5).astype(np.uint8)


def _scaled(colours: Pixels, box: tuple[int, int, int, int], width: int, height: int) -> Pixels:
    """The picture [h, w, ...] filling `box`, of which the panel's [height, width, ...] are computed; outside the box the border goes on.

    First whatever gets smaller, by areas; then whatever gets larger, only as far as it is seen: a picture zoomed tenfold is never made whole.
    """
    left, top, right, bottom = box
    small = _shrunk(colours, right - left, bottom - top)
    across, down = small.shape[1] / (right - left), small.shape[0] / (bottom - top)
    # Of pixels' middles: x + 0.5 of the panel is (x + 0.5 - left) * across of the picture.
    back = np.array([[across, 0, (0.5 - left) * across - 0.5], [0, down, (0.5 - top) * down - 0.5]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(small, back, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)


def _shrunk(array: Pixels, width: int, height: int) -> Pixels:
    """[h, w, ...] -> at most `width` wide and `height` high, each side by itself."""
    size = (min(array.shape[1], width), min(array.shape[0], height))
    return cv2.resize(array, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _brushed(panel: Panel, width: int, height: int) -> Bits | None:
    """[height, width]; None where nothing is brushed."""
    if panel.mask is None:
        return None
    grey = np.asarray(_laid_on((0, 0, 0), decode(panel.mask)).convert("L"))
    header = open_header(panel.mask)
    if "A" in header.getbands() and header.getchannel("A").getextrema() == (0, 0):
        return None  # decode() drops a transparency that is the same everywhere, and what lies under it may be white
    grown = cv2.resize(_shrunk(grey, width, height), (width, height), interpolation=cv2.INTER_LINEAR)
    bits = np.greater(grown, 127)
    return bits if bits.any() else None


def _cells(panel: Panel, brushed: Bits | None, width: int, height: int) -> Bits:
    """Which of a panel's cells are painted, [height, width] cells."""
    if panel.mask_use == "paint" and brushed is not None and (panel.role == "context" or panel.picture is not None):
        return np.asarray(brushed.reshape(height, CELL, width, CELL).any(axis=(1, 3)))
    return np.full((height, width), panel.role == "target")
