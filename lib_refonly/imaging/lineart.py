"""The blueprint: white lines on black, from a line drawing of any kind or from a colour picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.regions import pieces_of

Rgb = NDArray[np.uint8]
Grey = NDArray[np.uint8]
Unit = NDArray[np.float32]

LINE_ART, COLOUR_PICTURE = "line art", "colour picture"
DARK, LIGHT = "dark on light", "light on dark"

_LOOK = 512
"""Longer side at which a picture is looked at to find out what it is."""
_TILES = 24
"""Paper is measured in about this many tiles a side."""
_WIDEST = 1 / 56
"""Width of the widest stroke, as a share of the longer side. What is wider is an area."""
_PAINT = 0.06
"""Ink (0..1) from which a wide area is paint, not paper."""
_SOLID = 0.6
"""Ink in every channel from which a wide area is a spotted black, as in comics, not a colour."""
_PAINT_SHARE = 0.01
"""Share of painted areas from which a drawing is a colour picture."""
_FAINT = 0.25
"""Ink below which a pixel may be noise of the paper."""


@dataclass(frozen=True)
class LineArt:
    """What was made of a drawing.

    blueprint: mode L, white lines (255) on black (0), the picture's size. kind: "line art" or "colour picture". polarity: that of the drawing,
    "dark on light" or "light on dark". notes: sentences for the painter on what was found by itself.
    """

    blueprint: Image.Image
    kind: str
    polarity: str
    notes: tuple[str, ...] = ()


def grey(rgb: Rgb) -> Grey:
    """uint8 [H, W, 3] -> uint8 [H, W]: OpenCV 4's RGB2GRAY in integers, the same in every build (15-bit fixed point)."""
    red, green, blue = (rgb[..., channel].astype(np.uint32) for channel in range(3))
    return ((9798 * red + 19235 * green + 3735 * blue + 16384) >> 15).astype(np.uint8)


def adaptive_lines(rgb: Rgb, block: int = 5, c: int = 7) -> Grey:
    """The paper's lines: uint8 [H, W, 3] -> uint8 [H, W], black lines (0) on white (255).

    A pixel is a line where it is at least `c` levels darker than the mean of the `block` x `block` window around it, edges replicated.

    Raises:
        BadSettings: `block` is not odd or below 3.
    """
    if block < 3 or block % 2 == 0:
        raise BadSettings(f"The line window is an odd number from 3; {block} is not.")
    return np.asarray(cv2.adaptiveThreshold(grey(rgb), 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, block, c), np.uint8)


def find_blueprint(picture: Image.Image, *, lines: str = "auto", polarity: str = "auto", block: int = 5, c: int = 7) -> LineArt:
    """Make the blueprint of a drawing. Line art is used as drawn, its paper cleaned; of a colour picture the lines are found (`adaptive_lines`).

    Args:
        picture: any mode; transparency is paper.
        lines: "auto", "line art" or "colour picture".
        polarity: "auto", "dark on light" or "light on dark".
        block, c: for colour pictures, see `adaptive_lines`.
    """
    rgb, notes = _on_paper(picture)
    found = _find_polarity(rgb) if polarity == "auto" else polarity
    light = rgb if found == DARK else 255 - rgb
    paper = _paper_of(light)
    kind = lines if lines != "auto" else COLOUR_PICTURE if paper is None or _is_painted(light, paper) else LINE_ART
    if kind == LINE_ART:
        ink = _ink(light, paper if paper is not None else np.full((1, 1, 3), 255, np.float32))
    else:
        if polarity == "auto":
            found, light = DARK, rgb  # a dark ground behind a painting says nothing about its outlines
        ink = 255 - adaptive_lines(light, block, c)
    return LineArt(Image.fromarray(ink), kind, found, (*notes, *_notes(ink, kind, found, lines == "auto", polarity == "auto")))


def _notes(ink: Grey, kind: str, polarity: str, kind_found: bool, polarity_found: bool) -> list[str]:
    notes = []
    if kind_found:
        notes.append("Taken for line art: used as drawn." if kind == LINE_ART else "Taken for a colour picture: its lines were found.")
    if polarity_found and polarity == LIGHT:
        notes.append("The lines are light on a dark ground.")
    if int(np.count_nonzero(ink > 127)) * 20_000 < ink.size:
        notes.append("Hardly any lines were found. Check the preview, or choose what the drawing is by hand.")
    return notes


def _on_paper(picture: Image.Image) -> tuple[Rgb, tuple[str, ...]]:
    """Lay a transparent drawing on paper: white, or black when everything drawn on it is light."""
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return np.asarray(picture.convert("RGB")), ()
    rgba = picture.convert("RGBA")
    alpha = np.asarray(rgba.getchannel("A"))
    if alpha.min() == 255:
        return np.asarray(rgba.convert("RGB")), ()
    drawn = alpha > 127
    dark = grey(np.asarray(rgba)[..., :3])[drawn] < 128
    only_light = bool(drawn.any()) and float(dark.mean()) < 0.02 and float(drawn.mean()) < 0.4
    paper = Image.new("RGBA", rgba.size, "black" if only_light else "white")
    paper.alpha_composite(rgba)
    return np.asarray(paper.convert("RGB")), (f"Transparent: laid on {'black' if only_light else 'white'}.",)


def _look(rgb: Rgb) -> Rgb:
    """At most `_LOOK` px on the longer side."""
    height, width = rgb.shape[:2]
    scale = min(1.0, _LOOK / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _find_polarity(rgb: Rgb) -> str:
    """A median wipes thin strokes out; what it took away is dark where the drawing is dark on light. Uneven paper and fills don't matter."""
    look = grey(_look(rgb))
    taken = look.astype(np.int32) - cv2.medianBlur(look, max(3, max(look.shape) // 24 | 1))
    taken[np.abs(taken) < 16] = 0
    light, dark = (int(np.square(part).sum()) for part in (taken.clip(min=0), taken.clip(max=0)))
    return LIGHT if light > dark or (light == dark and np.median(look) < 128) else DARK


def _paper_of(rgb: Rgb) -> Unit | None:
    """Colour of the bare paper, float32 [rows, columns, 3] in 1..255, coarse; None when no paper is to be seen.

    Paper is the largest area of tiles in which neighbours differ little: shadows of a page or a photo are smooth like that, the areas of a
    painting are not. Tiles that are full of ink get their neighbours' paper.
    """
    tiles = _tiles(_look(rgb))
    paper = _smooth_area(tiles)
    if paper.mean() < 0.3:
        return None
    level = np.median(tiles[paper], axis=0)
    if np.abs(tiles[paper] - level).max() <= 3:
        return level.astype(np.float32).clip(1, 255).reshape(1, 1, 3)
    known = paper.astype(np.float32)
    filled = np.where(paper[..., None], tiles, 0)
    for sigma in (1, 2, 4, 8, 16, 32):
        weight = cv2.GaussianBlur(known, (0, 0), sigma)
        spread = cv2.GaussianBlur(np.where(paper[..., None], tiles, 0), (0, 0), sigma)
        reached = (weight > 0.02) & (filled.max(axis=2) == 0)
        filled[reached] = (spread / np.maximum(weight, 1e-6)[..., None])[reached]
    return cv2.GaussianBlur(filled, (0, 0), 0.7).clip(1, 255)


def _tiles(look: Rgb) -> Unit:
    """The upper quartile of every tile, channel by channel: lines fill less than that, so it is the paper between them."""
    height, width = look.shape[:2]
    side = max(1, round(max(height, width) / _TILES))
    rows, columns = max(1, round(height / side)), max(1, round(width / side))
    whole = cv2.resize(look, (columns * side, rows * side), interpolation=cv2.INTER_LINEAR)
    split = whole.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(rows, columns, side * side, 3)
    return np.percentile(split, 75, axis=2).astype(np.float32)


def _smooth_area(tiles: Unit, step: float = 15.0) -> NDArray[np.bool_]:
    """The largest connected area in which no two neighbouring tiles differ by more than `step` levels in a channel."""
    rows, columns = tiles.shape[:2]
    left = np.ones((rows, columns), bool)
    best = np.zeros_like(left)
    for row, column in np.argwhere(left):
        if not left[row, column]:
            continue
        mask = np.zeros((rows + 2, columns + 2), np.uint8)
        flags = 4 | cv2.FLOODFILL_MASK_ONLY | (1 << 8)
        cv2.floodFill(tiles, mask, (int(column), int(row)), (0, 0, 0), (step,) * 3, (step,) * 3, flags)
        area = mask[1:-1, 1:-1] > 0
        left &= ~area
        left[row, column] = False
        best = area if area.sum() > best.sum() else best
    return best


def _is_painted(rgb: Rgb, paper: Unit) -> bool:
    """Are there areas, wider than any stroke, of something that is neither paper nor solid black? Lighter than paper is paint too."""
    look = _look(rgb)
    ink = 1 - cv2.medianBlur(look, 5) / _stretch(paper, look.shape)
    widest = max(5, round(max(look.shape) * _WIDEST))
    solid = cv2.dilate((ink.min(axis=2) > _SOLID).astype(np.uint8), np.ones((5, 5), np.uint8))
    paint = (((ink.max(axis=2) > _PAINT) | (ink.min(axis=2) < -2 * _PAINT)) & (solid == 0)).astype(np.uint8)
    areas = cv2.morphologyEx(paint, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (widest, widest)))
    return float(areas.mean()) > _PAINT_SHARE


def _stretch(paper: Unit, shape: tuple[int, ...]) -> Unit:
    if paper.shape[:2] == (1, 1):
        return paper
    return np.asarray(cv2.resize(paper, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def _ink(rgb: Rgb, paper: Unit) -> Grey:
    """How much ink lies on the paper, uint8 [H, W]: 0 on paper, 255 in a full stroke. The channel that the ink darkens most counts, so a
    light blue pencil is as good as a black one. A clean digital drawing comes out exactly inverted.
    """
    ink = np.clip((1 - rgb / _stretch(paper, rgb.shape)).max(axis=2), 0, 1).astype(np.float32)
    noise = _noise_of(ink)
    full = _full_stroke(ink, noise)
    if noise == 0 and full == 1:
        return np.rint(ink * 255).astype(np.uint8)
    clean = np.rint(np.clip((ink - noise) / (full - noise), 0, 1) * 255).astype(np.uint8)
    return _without_specks(clean) if noise else clean


def _noise_of(ink: Unit) -> float:
    """Ink up to which it is paper grain, a scanner's noise or JPEG's ripples around strokes; 0 for a clean digital drawing."""
    size = max(1, round(max(ink.shape) / 256))
    strokes = (ink > _FAINT).astype(np.uint8)
    rim = cv2.dilate(strokes, np.ones((2 * size + 3,) * 2, np.uint8))
    ground = ink[(rim == 0) & (ink < _FAINT)]
    if not ground.size or float(np.count_nonzero(ground > 1.5 / 255)) < 0.002 * ground.size:
        return 0.0
    middle = float(np.median(ground))
    spread = 1.4826 * float(np.median(np.abs(ground - middle)))
    ripples = ink[(cv2.dilate(rim, np.ones((2 * size + 7,) * 2, np.uint8)) > 0) & (rim == 0) & (ink < _FAINT)]
    near = float(np.percentile(ripples, 90)) if ripples.size else 0.0
    return min(max(middle + 4 * spread, near, 0.03), 0.18)


def _full_stroke(ink: Unit, noise: float) -> float:
    """Ink in the middle of an ordinary stroke: its ridge, at the median in a scan; a digital drawing keeps its fainter strokes faint."""
    ridge = ink[(ink >= cv2.dilate(ink, np.ones((3, 3), np.uint8))) & (ink > max(2 * noise, 0.1))]
    if not ridge.size:
        return 1.0
    full = float(np.percentile(ridge, 50 if noise else 75))
    return 1.0 if full > 0.9 else max(full, noise + 0.1)


def _without_specks(ink: Grey, strong: int = 90) -> Grey:
    """Keep what hangs together with something that is surely a stroke (hysteresis)."""
    pieces, area = pieces_of(ink > 0, connectivity=8)
    keep = (np.bincount(pieces[ink >= strong], minlength=len(area)) > 0) & (area >= 4)
    keep[0] = False
    return np.where(keep[pieces], ink, 0).astype(np.uint8)
