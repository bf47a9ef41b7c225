"""Test drawings: a cartoon face whose line art, colours and regions are known exactly, and what scanners and pencils do to one."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SKIN, HAIR, EYE, SHIRT = (250, 215, 190), (90, 60, 160), (40, 140, 90), (255, 255, 255)
OVER = 4


@dataclass(frozen=True)
class Drawing:
    """`lines`: L, black on white. `colour`: RGB on white, with the lines. `flat`: RGB on white, without. `inside`: bool, the character."""

    lines: Image.Image
    colour: Image.Image
    flat: Image.Image
    inside: NDArray[np.bool_]

    @property
    def blueprint(self) -> Image.Image:
        return Image.fromarray(255 - np.asarray(self.lines))


def face(width: int = 512, height: int = 512, pen: float = 0.008, gap: float = 0.0) -> Drawing:
    """A bust with a white shirt that the lower edge cuts off. `pen`: line width, `gap`: break in the outlines, both as shares of the height."""
    size = (width * OVER, height * OVER)
    lines, flat = Image.new("L", size, 255), Image.new("RGB", size, (255, 255, 255))
    inside = Image.new("L", size, 0)
    ink, paint, mask = ImageDraw.Draw(lines), ImageDraw.Draw(flat), ImageDraw.Draw(inside)
    unit, cx = size[1], size[0] / 2
    stroke = max(OVER, round(pen * unit))

    def oval(x: float, y: float, w: float, h: float, colour: tuple[int, int, int], broken: bool = False) -> None:
        box = (cx + (x - w) * unit, (y - h) * unit, cx + (x + w) * unit, (y + h) * unit)
        paint.ellipse(box, fill=colour)
        mask.ellipse(box, fill=255)
        ink.ellipse(box, fill=255)
        angle = np.degrees(gap / max(w, h)) if broken else 0
        ink.arc(box, 20 + angle, 380, fill=0, width=stroke)

    oval(0, 0.42, 0.34, 0.36, HAIR, broken=True)
    points = [(cx - 0.34 * unit, 1.01 * unit), (cx - 0.2 * unit, 0.72 * unit), (cx + 0.2 * unit, 0.72 * unit), (cx + 0.34 * unit, 1.01 * unit)]
    for draw, fill in ((paint, SHIRT), (mask, 255), (ink, 255)):
        draw.polygon(points, fill=fill)
    ink.line(points, fill=0, width=stroke, joint="curve")
    oval(0, 0.48, 0.24, 0.28, SKIN, broken=True)
    for side in (-1, 1):
        oval(side * 0.1, 0.45, 0.05, 0.06, (255, 255, 255))
        oval(side * 0.1, 0.46, 0.028, 0.038, EYE)
    ink.arc((cx - 0.09 * unit, 0.52 * unit, cx + 0.09 * unit, 0.66 * unit), 20, 160, fill=0, width=stroke)
    ink.line([(cx, 0.5 * unit), (cx - 0.02 * unit, 0.56 * unit), (cx + 0.01 * unit, 0.56 * unit)], fill=0, width=stroke)
    small = (width, height)
    drawn, colours = lines.resize(small, Image.Resampling.BOX), flat.resize(small, Image.Resampling.BOX)
    dark = np.asarray(drawn, np.float32)[..., None] / 255
    colour = Image.fromarray(np.rint(np.asarray(colours) * dark).astype(np.uint8))
    return Drawing(drawn, colour, colours, np.asarray(inside.resize(small, Image.Resampling.BOX)) > 127)


def scan(lines: Image.Image, *, ink: tuple[int, int, int] = (70, 70, 74), shadow: float = 0.35, noise: float = 4.0, seed: int = 0) -> Image.Image:
    """The drawing in pencil, photographed: yellowish paper, light falling off to one corner, grain and sensor noise."""
    rng = np.random.default_rng(seed)
    cover = 1 - np.asarray(lines, np.float32) / 255
    height, width = cover.shape
    grain = cv2.GaussianBlur(rng.standard_normal(cover.shape).astype(np.float32), (0, 0), 0.8)
    cover *= np.clip(0.85 + 0.25 * grain, 0, 1)
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    light = (1 - shadow * (0.6 * x + 0.4 * y) ** 1.5)[..., None]
    paper = np.array((250, 247, 236), np.float32)
    rgb = (paper + cover[..., None] * (np.array(ink, np.float32) - paper)) * light
    rgb += noise * rng.standard_normal(rgb.shape)
    return Image.fromarray(rgb.clip(0, 255).astype(np.uint8))


def on_nothing(lines: Image.Image, ink: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    """RGBA: strokes of `ink`, transparent everywhere else."""
    picture = Image.new("RGBA", lines.size, (*ink, 0))
    picture.putalpha(Image.fromarray(255 - np.asarray(lines)))
    return picture
