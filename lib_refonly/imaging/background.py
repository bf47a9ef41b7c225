"""What lies around a character: finding it, cutting it away, and laying the character on another ground without a fringe."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.regions import Mask, border_sides, closed_regions, default_gap, from_nearest, line_mask, nearest_label, pieces_of

Rgb = tuple[int, int, int]

_NEAR = 9.0
"""Lab distance (CIE76) within which a colour is the background's: JPEG and scans vary that much, the palest skin on white is at 13."""
_SMALL = 256
_GAPS = (0.01, 0.04, 0.1, 0.2)
"""Gaps that are tried, as shares of the longer side: a slip of the pen, an open stroke, a sketchy outline, a neck that is left open."""
_COLOURS = {"black": (0, 0, 0), "white": (255, 255, 255)}


@dataclass(frozen=True)
class Background:
    """kind: "white", "black", "plain" (another single colour), "transparent" or "scene". colour: RGB of a plain one, else that of most of the edge."""

    kind: str
    colour: Rgb


def find_background(picture: Image.Image) -> Background:
    """Judge by a narrow frame along the picture's edges; a figure may cover up to half of it."""
    rgb, alpha = _split(picture)
    frame = _frame(rgb.shape[:2])
    if alpha is not None and float((alpha[frame] < 128).mean()) >= 0.25:
        return Background("transparent", (0, 0, 0))
    colours = rgb[frame]
    lab = _lab(colours[None])[0]
    bins = np.floor(lab / 8).astype(np.int64) + 64
    keys, counts = np.unique(bins @ np.array([1 << 20, 1 << 10, 1]), return_counts=True)
    common = lab[bins @ np.array([1 << 20, 1 << 10, 1]) == keys[counts.argmax()]].mean(axis=0)
    near = np.linalg.norm(lab - common, axis=1) < _NEAR
    colour = tuple(int(value) for value in np.rint(np.median(colours[near], axis=0)))
    return Background(_kind(common, float(near.mean())), (colour[0], colour[1], colour[2]))


def _kind(lab: NDArray, share: float) -> str:
    if share < 0.5:
        return "scene"
    coloured = float(np.hypot(lab[1], lab[2])) > 8
    return "white" if lab[0] > 94 and not coloured else "black" if lab[0] < 8 and not coloured else "plain"


def cut_out(picture: Image.Image, *, how: str = "auto", gap: int | None = None) -> Image.Image:
    """Alpha of the character, mode L: 255 on it, 0 around it, in between along its anti-aliased edge.

    Areas of the background's colour that an outline encloses (a white shirt on white paper) stay, even where the outline has gaps of up to
    `gap` px (default: 1 % of the longer side, more when too little would be left of the character) or the picture's edge cuts it off.

    Args:
        how: "alpha" takes the picture's own, "flood" fills from the edges, "auto" does what fits (nothing in front of a scene: all 255).

    Raises:
        BadSettings: an unknown `how`.
    """
    if how not in ("auto", "alpha", "flood"):
        raise BadSettings(f"Cutting out: {how!r} is none of auto, alpha, flood.")
    rgb, alpha = _split(picture)
    background = find_background(picture)
    if how == "alpha" or (how == "auto" and background.kind == "transparent"):
        return Image.fromarray(alpha if alpha is not None else np.full(rgb.shape[:2], 255, np.uint8))
    if how == "auto" and background.kind == "scene":
        return Image.new("L", picture.size, 255)
    cut = _flood(rgb, background.colour, gap)
    return Image.fromarray(cut if alpha is None else np.minimum(cut, alpha))


def on_background(picture: Image.Image, to: str = "black", alpha: Image.Image | None = None) -> Image.Image:
    """The character on a black or white ground, mode RGB, its edge free of the old ground's colour.

    Args:
        to: "black", "white"; "keep" leaves the picture (nothing is black); "auto" is black, but a scene is left alone.
        alpha: the character, mode L, from a segmentation. Without it `cut_out` decides; it leaves scenes as they are.

    Raises:
        BadSettings: an unknown `to`.
    """
    if to not in ("black", "white", "keep", "auto"):
        raise BadSettings(f"Background: {to!r} is none of auto, white, black, keep.")
    rgb, own = _split(picture)
    ground = _COLOURS.get(to, (0, 0, 0))
    if alpha is not None and to != "keep":
        cover = np.asarray(alpha.convert("L").resize(picture.size, Image.Resampling.BILINEAR))
        cover = cover if own is None else np.minimum(cover, own)
        return _lay(_grown_from_solid(rgb, cover), cover, ground)
    background = find_background(picture)
    if background.kind == "transparent" or to == "keep":
        return _lay(rgb, own, ground)
    if background.kind == "scene" and to == "auto":
        return _lay(rgb, own, ground)
    cover = np.asarray(cut_out(picture))
    if background.kind == "scene":
        return _lay(rgb, cover if own is None else own, ground)
    share = 1 - cover[..., None].astype(np.float32) / 255
    # What the old ground gave to a pixel is known, so it is exchanged for the new one; no colour has to be guessed.
    exchanged = rgb + share * (np.array(ground, np.float32) - np.array(background.colour, np.float32))
    return Image.fromarray(np.where(share == 1, ground, np.rint(exchanged).clip(0, 255)).astype(np.uint8))


def outside_of_lines(blueprint: Image.Image, gap: int | None = None, painting: Image.Image | None = None) -> Image.Image:
    """What lies around a line drawing, mode L: 255 outside, 0 on and within the outlines; the lines' outer rim has the ink's complement.

    255 minus it is the alpha of the finished character, lines included. Gaps of up to `gap` px (default: as for `cut_out`) don't let the outside
    in. Areas that the picture's edge cuts off belong to the character, unless they reach the upper edge and another one.

    painting: RGB on black, of the same size, where there is one. What it paints widely belongs to the character however open the lines are.
    """
    ink = np.asarray(blueprint.convert("L"))
    lines = line_mask(ink)
    outside = _outer(closed_regions(lines, _fitting_gap(lines) if gap is None else gap))
    if painting is not None:
        outside &= ~_painted(painting, outside & ~lines)
    nearest, _ = nearest_label(np.where(lines, 0, outside + 1).astype(np.int32))
    return Image.fromarray(np.where(nearest == 2, 255 - ink, 0).astype(np.uint8))


def _outer(labels: NDArray[np.int32]) -> Mask:
    """The regions around a figure: those that reach the upper edge and another. A bust's body reaches the lower edge, a cut-off arm one side."""
    sides = border_sides(labels)
    return (sides[:, 0] & (sides.sum(axis=1) > 1))[labels]


def _fitting_gap(lines: Mask) -> int:
    """The smallest gap that keeps the character whole: a larger one that keeps half as much again tells that the outside leaked in.

    Tried on a small copy, where it takes milliseconds.
    """
    scale = min(1.0, _SMALL / max(lines.shape))
    size = (max(1, round(lines.shape[1] * scale)), max(1, round(lines.shape[0] * scale)))
    small = cv2.resize(lines.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.15
    best, kept = default_gap(lines.shape), 0.0
    for share in _GAPS:
        keeps = 1 - float(_outer(closed_regions(small, max(3, round(share * max(size))))).mean())
        if kept == 0 or keeps > 1.5 * kept:
            best, kept = max(default_gap(lines.shape), round(share * max(lines.shape))), keeps
    return best


def _painted(painting: Image.Image, where: Mask) -> Mask:
    """Areas within `where` that are no longer black and wider than paint that spilled over a line, with the slits they enclose."""
    lit = (np.asarray(painting.convert("RGB")).max(axis=2) > 48) & where
    width = 2 * round(max(where.shape) / 64) + 1
    ball = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    painted = cv2.morphologyEx(lit.astype(np.uint8), cv2.MORPH_OPEN, ball) > 0
    rest, area = pieces_of(where & ~painted, connectivity=4)
    slit = (area < where.size / 200) & ~border_sides(rest).any(axis=1)
    return painted | (slit[rest] & (rest > 0))


def _flood(rgb: NDArray[np.uint8], colour: Rgb, gap: int | None) -> NDArray[np.uint8]:
    lab = _lab(rgb)
    away = np.linalg.norm(lab - _lab(np.array([[colour]], np.uint8))[0, 0], axis=2).astype(np.float32)
    other = away >= _NEAR
    outside = _swallow_specks(_outer(closed_regions(other, _fitting_gap(other) if gap is None else gap)))
    # Along the edge a pixel is a mixture of ground and character; the character's pure colour is the one near it that differs most.
    pure = cv2.dilate(away, np.ones((5, 5), np.uint8))
    mixed = np.clip(away / np.maximum(pure, _NEAR), 0, 1) * 255
    cross = np.ones((3, 3), np.uint8)
    rim = cv2.dilate(outside.astype(np.uint8), cross, iterations=2) > 0
    inner = cv2.erode(outside.astype(np.uint8), cross) > 0
    return np.where(inner, 0, np.where(rim, np.rint(mixed), 255)).astype(np.uint8)


def _swallow_specks(outside: Mask) -> Mask:
    """JPEG leaves blots of odd colour beside outlines; islands that small are no part of a character."""
    pieces, area = pieces_of(~outside, connectivity=8)
    speck = area < max(24, (max(outside.shape) / 128) ** 2)
    return outside | speck[pieces]


def _grown_from_solid(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Replace the colours of half-transparent pixels, which hold some of the old ground, by those of the nearest solid ones."""
    solid = alpha >= 243
    if not solid.any():
        return rgb
    return from_nearest(rgb, solid)[0]


def _lay(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8] | None, ground: Rgb) -> Image.Image:
    if alpha is None:
        return Image.fromarray(rgb)
    return Image.composite(Image.fromarray(rgb), Image.new("RGB", (rgb.shape[1], rgb.shape[0]), ground), Image.fromarray(alpha))


def _split(picture: Image.Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """RGB uint8 [H, W, 3] and alpha uint8 [H, W], None when nothing is transparent."""
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return np.asarray(picture.convert("RGB")), None
    rgba = np.asarray(picture.convert("RGBA"))
    alpha = np.ascontiguousarray(rgba[..., 3])
    return np.ascontiguousarray(rgba[..., :3]), None if alpha.min() == 255 else alpha


def _frame(shape: tuple[int, ...]) -> Mask:
    width = max(1, round(min(shape) / 50))
    frame = np.ones(shape, bool)
    frame[width:-width, width:-width] = False
    return frame


def _lab(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """L 0..100, a and b about -127..127."""
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
