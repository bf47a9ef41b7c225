"""What the page and the command line ask of the engine, and what they get back. No torch, no gradio."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from PIL import Image

from lib_refonly.refonly.settings import RefOnlySettings

_SEEDS = 2**32


@dataclass(frozen=True)
class Reference:
    """One reference picture (RGB or RGBA). `mask`, mode L and of the line art's aspect, says where on the drawing it acts (white = here)."""

    picture: Image.Image
    weight: float = 1.0
    mask: Image.Image | None = None


@dataclass(frozen=True)
class ColorRequest:
    """Colour `lines` (a line drawing, or a colour picture whose lines are found) like `references`, with the model called `model`."""

    references: tuple[Reference, ...]
    lines: Image.Image
    settings: RefOnlySettings = field(default_factory=RefOnlySettings)
    model: str = "tiny-refonly"


def variations(request: ColorRequest) -> list[ColorRequest]:
    """One request a picture: count 1, and seeds that follow each other. A seed of -1 is drawn now."""
    settings = request.settings
    first = settings.seed if settings.seed >= 0 else random.randrange(_SEEDS)
    return [replace(request, settings=replace(settings, seed=(first + i) % _SEEDS, count=1)) for i in range(settings.count)]


@dataclass(frozen=True)
class Progress:
    """`step` of `steps` done in picture `index` of `count` (all from 0). `preview` is a rough RGB picture, or None when none is due."""

    step: int
    steps: int
    index: int
    count: int
    preview: Image.Image | None = None


@dataclass(frozen=True)
class Prepared:
    """What the model will see: RGB references on the wanted background, and the blueprint (white on black) at the painting size.

    `notes` are sentences for the painter: what was found by itself (polarity, background) and what was changed.
    """

    references: tuple[Image.Image, ...]
    blueprint: Image.Image
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ColorResult:
    """One finished picture, at the line art's own size.

    picture: RGB(A), with the lines laid back as the settings say. painting: RGB, the model's own. colour_layer: RGBA, colours without lines,
    transparent around the character. infotext: A1111's parameters text, to be written into the PNG.
    """

    picture: Image.Image
    painting: Image.Image
    colour_layer: Image.Image
    prepared: Prepared
    seed: int
    infotext: str


OnProgress = Callable[[Progress], None]
"""Called after every step. It may raise `Interrupted` to stop the run; everything is then given back."""
