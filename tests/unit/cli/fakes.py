"""An engine that paints at once, and pictures to paint."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from lib_refonly.studio.requests import ColorRequest, ColorResult, OnProgress, Prepared, Progress

NOTE = "Dark lines on a light ground."


@dataclass
class FakeEngine:
    """Fills the drawing with the mean colour of the first reference. `failing`: width of a drawing -> what happens to it."""

    failing: dict[int, BaseException] = field(default_factory=dict)
    seconds_a_step: float = 0.0
    requests: list[ColorRequest] = field(default_factory=list)

    def color(self, request: ColorRequest, on_progress: OnProgress | None) -> Iterator[ColorResult]:
        self.requests.append(request)
        settings = request.settings
        for index in range(settings.count):
            for step in range(settings.steps):
                if on_progress is not None:
                    on_progress(Progress(step, settings.steps, index, settings.count))
                time.sleep(self.seconds_a_step)
            if request.lines.width in self.failing:
                raise self.failing[request.lines.width]
            colour = request.references[0].picture.convert("RGB").resize((1, 1)).getpixel((0, 0))
            picture = Image.new("RGB", request.lines.size, colour)  # type: ignore[arg-type]
            seed = max(settings.seed, 0) + index
            infotext = f"Steps: {settings.steps}, Sampler: {settings.sampler}, Seed: {seed}, Model: {request.model}"
            yield ColorResult(picture, picture, picture.convert("RGBA"), Prepared((), picture, (NOTE,)), seed, infotext)


def draw(path: Path, width: int = 16, colour: str = "white") -> Path:
    """A plain picture, 24 pixels high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, 24), colour).save(path)
    return path
