"""A small honest engine for page tests: it fills the drawing's regions with the reference's mean colour. And pictures to give it."""

from __future__ import annotations

import colorsys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from lib_refonly.imaging.lineart import find_blueprint
from lib_refonly.models.offers import SEGMENTER
from lib_refonly.models.registry import ModelEntry, ModelStore
from lib_refonly.studio.engine import infotext
from lib_refonly.studio.requests import ColorRequest, ColorResult, OnProgress, Prepared, Progress
from lib_refonly.studio.style_engine import StylePaintSettings
from lib_refonly.stylecode.codes import TINY, Code, CodeModel
from lib_refonly.stylecode.codes.blend import random_style

HELD = 0.6
"""Seconds that a step takes at the most while a test looks at a job in progress."""
SKIN, HAIR, SHIRT = (242, 200, 170), (70, 150, 110), (210, 90, 70)


class FlatEngine:
    """`pace` (an Event) holds every step back until it is set: tests that look at a job in progress use it."""

    def __init__(self, steps_wait: threading.Event | None = None) -> None:
        self._wait = steps_wait
        self.requests: list[ColorRequest] = []
        self.groups: list[int] = []
        self.ended = threading.Event()

    def prepare(self, request: ColorRequest) -> Prepared:
        s = request.settings
        found = find_blueprint(request.lines, lines=s.lines, polarity=s.polarity, block=s.line_block, c=s.line_c)
        references = tuple(ImageOps.pad(one.picture.convert("RGB"), (256, 256)) for one in request.references)
        return Prepared(references, found.blueprint.convert("RGB"), found.notes)

    def color(self, request: ColorRequest, on_progress: OnProgress) -> Iterator[ColorResult]:
        self.requests.append(request)
        self.ended.clear()
        try:
            seed = request.settings.seed if request.settings.seed >= 0 else 4242
            for index in range(request.settings.count):
                yield self._one(request, index, seed + index, on_progress)
        finally:
            self.ended.set()

    def color_all(self, requests: Sequence[ColorRequest], on_progress: OnProgress | None) -> Iterator[ColorResult]:
        self.groups.append(len(requests))
        tell = on_progress or (lambda _: None)
        for place, request in enumerate(requests):
            yield from self.color(request, lambda progress, place=place: tell(replace(progress, index=place, count=len(requests))))

    def _one(self, request: ColorRequest, index: int, seed: int, on_progress: OnProgress) -> ColorResult:
        prepared = self.prepare(request)
        painting = _flat(request, seed)
        for step in range(request.settings.steps):
            if self._wait is not None:
                self._wait.wait(HELD)
            on_progress(Progress(step, request.settings.steps, index, request.settings.count, painting if step % 4 == 3 else None))
        lines = request.lines.convert("L")
        picture = Image.composite(painting, Image.new("RGB", painting.size), lines)
        layer = painting.copy()
        layer.putalpha(_inside(request.lines))
        text = infotext(replace(request.settings, seed=seed), request.model, painting.size, 1.0, [one.weight for one in request.references])
        return ColorResult(picture, painting, layer, prepared, seed, text)


def _flat(request: ColorRequest, seed: int) -> Image.Image:
    colours = np.asarray(request.references[0].picture.convert("RGB")).reshape(-1, 3)
    coloured = colours[colours.min(1) < 235]
    mean = coloured.mean(0) if len(coloured) else colours.mean(0)
    flat = Image.new("RGB", request.lines.size, tuple(int(v) for v in np.clip(mean + seed % 7, 0, 255)))
    return Image.composite(flat, Image.new("RGB", flat.size, "white"), _inside(request.lines))


def _inside(lines: Image.Image) -> Image.Image:
    flooded = lines.convert("L").point([0] * 128 + [255] * 128)
    ImageDraw.floodfill(flooded, (0, 0), 7)
    return flooded.point([0 if level == 7 else 255 for level in range(256)])


class SquarePainter:
    """Paints a style's 20 numbers as coloured squares, and makes a picture's mean colour a style. `steps_wait` as for `FlatEngine`."""

    def __init__(self, steps_wait: threading.Event) -> None:
        self._wait = steps_wait
        self.wishes: list[tuple[tuple[float, ...], str, StylePaintSettings]] = []

    def code_of(self, pictures: Sequence[Image.Image]) -> Code:
        colour = sum(sum(picture.convert("RGB").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))) for picture in pictures)  # type: ignore[arg-type]
        return Code(random_style(colour), TINY, "long")

    def paint_all(
        self,
        latents: Sequence[Sequence[float]],
        prompt: str,
        settings: StylePaintSettings,
        model: CodeModel | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Image.Image]:
        for latent in latents:
            for step in range(settings.steps):
                self._wait.wait(HELD)
                if on_step is not None:
                    on_step(step + 1, settings.steps)
            self.wishes.append((tuple(latent), prompt, settings))
        return [squares(latent, (settings.width, settings.height)) for latent in latents]


def squares(latent: Sequence[float], size: tuple[int, int]) -> Image.Image:
    """5 by 4 of them; the same for the same style."""
    small = Image.new("RGB", (5, 4))
    for i, x in enumerate(latent):
        small.putpixel((i % 5, i // 5), tuple(int(255 * part) for part in colorsys.hsv_to_rgb((0.35 + 0.13 * x) % 1, 0.45, 0.85)))
    return small.resize(size, Image.Resampling.NEAREST)


class FakeStore(ModelStore):
    """The embedded model, and a large one that is not there."""

    def __init__(self) -> None:
        super().__init__(())
        self._segmenter: Path | None = None
        self._entries = [
            ModelEntry("tiny-refonly", "Built in: tiny-refonly", Path("."), 256, 400_000_000),
            ModelEntry("big", "Reference Only 0.1.2 (the authors', 512 px, about 5 GB)", None, 512, 6_000_000_000, download=True),
        ]

    def entries(self) -> list[ModelEntry]:
        return self._entries

    def point_to(self, path: Path) -> ModelEntry:
        entry = ModelEntry(path.name, path.name, path, 512, 3_000_000_000)
        self._entries.insert(1, entry)
        return entry

    def segmenter(self) -> Path | None:
        return self._segmenter

    def install(self, name: str) -> None:
        """What a download brings."""
        if name == SEGMENTER.name:
            self._segmenter = Path("isnetis.onnx")
        self._entries = [replace(one, path=Path("."), download=False) if one.name == name else one for one in self._entries]


def character(lines_only: bool, size: int = 384) -> Image.Image:
    """A simple character: in colour, or as line art (black on white)."""
    big = 2 * size
    picture = Image.new("RGB", (big, big), "white")
    draw, unit, width = ImageDraw.Draw(picture), big / 16, max(4, big // 110)

    def fill(colour: tuple[int, int, int]) -> tuple[int, int, int]:
        return (255, 255, 255) if lines_only else colour

    def box(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        return (x0 * unit, y0 * unit, x1 * unit, y1 * unit)

    draw.rounded_rectangle(box(4, 11, 12, 17), 2 * unit, fill=fill(SHIRT), outline="black", width=width)
    draw.ellipse(box(3.2, 1.2, 12.8, 11.6), fill=fill(HAIR), outline="black", width=width)
    draw.ellipse(box(4.6, 3.6, 11.4, 11.8), fill=fill(SKIN), outline="black", width=width)
    draw.pieslice(box(4.4, 1.8, 11.6, 8.4), 180, 360, fill=fill(HAIR), outline="black", width=width)
    for x in (6.3, 9.1):
        draw.ellipse(box(x, 7, x + 0.7, 8), fill="black")
    draw.arc(box(6.8, 8.2, 9.2, 10), 20, 160, fill="black", width=width)
    return picture.resize((size, size), Image.Resampling.LANCZOS)
