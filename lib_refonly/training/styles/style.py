"""A procedural style: what is the same in every picture of a series, whatever it shows."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

RGB = tuple[int, int, int]

GROUNDS = ("plain", "gradient", "dots", "stripes", "frame", "checks")
PALETTES = ("own", "own", "duotone", "tritone", "pastel", "tinted", "poster")
SHADINGS = ("flat", "side", "round", "rim")
TEXTURES = ("none", "none", "halftone", "hatch", "grain", "cross")
NEVER_TRAINED = {"ground": "checks", "texture": "cross"}
"""Kinds that are drawn for the held-out styles alone."""


@dataclass(frozen=True)
class Style:
    """ground, palette, shading, texture: kinds. Colours are RGB, 0 to 255. `scale`: of patterns, in shares of the side; `angle` in degrees;
    `line_width` in shares of the side, `line` the colour of lines. `family`: whose drawings are taken, "" for anybody's."""

    ground: str
    ground_colours: tuple[RGB, RGB]
    palette: str
    colours: tuple[RGB, RGB, RGB]
    shading: str
    texture: str
    scale: float
    angle: float
    depth: float
    line: RGB
    line_width: float
    family: str = ""


def random_style(rng: np.random.Generator, heldout: bool, families: tuple[str, ...] = ("",)) -> Style:
    """One of the styles. Those of the training split never have a kind in NEVER_TRAINED; half of the held-out ones may have."""
    banned = set() if heldout and rng.random() < 0.5 else set(NEVER_TRAINED.values())

    def choose(kinds: tuple[str, ...]) -> str:
        return str(rng.choice([kind for kind in kinds if kind not in banned]))

    light = _colour(rng, (0.0, 0.6), (0.75, 1.0))
    grounds = (light, _colour(rng, (0.2, 0.9), (0.35, 1.0))) if rng.random() < 0.75 else (_colour(rng, (0.3, 1), (0.08, 0.35)), light)
    ramp = (_colour(rng, (0.4, 1), (0.1, 0.4)), _colour(rng, (0.4, 1), (0.5, 0.85)), _colour(rng, (0.0, 0.5), (0.85, 1)))
    return Style(
        ground=choose(GROUNDS),
        ground_colours=grounds,
        palette=choose(PALETTES),
        colours=ramp,
        shading=choose(SHADINGS),
        texture=choose(TEXTURES),
        scale=float(rng.uniform(0.03, 0.09)),
        angle=float(rng.uniform(0, 180)),
        depth=float(rng.uniform(0.25, 0.6)),
        line=(0, 0, 0) if rng.random() < 0.35 else _colour(rng, (0.3, 1), (0.1, 0.95)),
        line_width=float(rng.choice([0.0, 0.004, 0.008, 0.014])),
        family=str(rng.choice(families)),
    )


def _colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> RGB:
    r, g, b = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(*value))
    return round(255 * r), round(255 * g), round(255 * b)
