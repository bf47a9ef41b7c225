"""Drawings (SVG) to arrays: colour on black, alpha and the blueprint."""

from __future__ import annotations

import io
from dataclasses import dataclass

import cv2
import numpy as np
import resvg_py
from numpy.typing import NDArray
from PIL import Image

from .lines import line_drawing

# Styles drawn with black outlines, and flat ones whose outlines are the edges of their shapes. All others (emoji, which mix both with
# gradients) get the adaptive threshold that the method's authors use on finished drawings.
OUTLINED = frozenset({"adventurer", "micah", "open-peeps", "lorelei", "notionists", "croodles"})
FLAT = frozenset({"personas", "toon-head", "big-smile", "miniavs", "dylan", "big-ears"})
THRESHOLD_SIZE = 512
THRESHOLD_BLOCK = 5
THRESHOLD_C = 7

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Rendered:
    """One drawing, all uint8: picture [S,S,3] on black, alpha [S,S], blueprint [S,S] (white lines on black)."""

    picture: Bytes
    alpha: Bytes
    blueprint: Bytes


def render(svg: str, style: str, size: int, line_svg: str | None = None) -> Rendered:
    """Render a drawing and its blueprint.

    Args:
        svg: the colour drawing.
        style: decides how the lines are found.
        size: side in pixels.
        line_svg: the artist's own line drawing of it, where there is one.
    Raises:
        ValueError: the SVG cannot be rendered.
    """
    rgba = rasterise(svg, size)
    if line_svg is not None:
        lines = _inverted(rasterise(line_svg, size))
    elif style in OUTLINED or style in FLAT:
        lines = _inverted(rasterise(line_drawing(svg, outline=style in FLAT), size))
    else:
        lines = threshold_lines(svg, size)
    return Rendered(_over(rgba, 0), rgba[..., 3].copy(), lines)


def rasterise(svg: str, size: int) -> Bytes:
    """RGBA [size,size,4], straight alpha; a drawing that is not square is centred."""
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True))
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    if pixels.shape[:2] == (size, size):
        return pixels
    square = np.zeros((size, size, 4), np.uint8)
    height, width = min(size, pixels.shape[0]), min(size, pixels.shape[1])
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = pixels[:height, :width]
    return square


def threshold_lines(svg: str, size: int) -> Bytes:
    """Lines by the adaptive threshold of the published method (block 5, C 7), found at 512 px and reduced by area.

    Lines of one pixel would fade in the reduction; a gain keeps them white.
    """
    grey = cv2.cvtColor(_over(rasterise(svg, THRESHOLD_SIZE), 255), cv2.COLOR_RGB2GRAY)
    lines = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY_INV, THRESHOLD_BLOCK, THRESHOLD_C)
    reduced = np.asarray(cv2.resize(lines, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
    gain = max(1, THRESHOLD_SIZE // size)
    return np.minimum(reduced.astype(np.uint16) * gain, 255).astype(np.uint8)


def _over(rgba: Bytes, ground: int) -> Bytes:
    alpha = rgba[..., 3:].astype(np.uint16)
    mixed = rgba[..., :3] * alpha + np.uint16(ground) * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def _inverted(rgba: Bytes) -> Bytes:
    return 255 - _over(rgba, 255)[..., 0]
