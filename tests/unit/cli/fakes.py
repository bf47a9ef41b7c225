"""An engine that paints at once, and pictures to paint."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from lib_refonly.studio.requests import ColorRequest, ColorResult, OnProgress, Prepared, Progress

NOTE = "Dark lines on a light ground."


@dataclass
class FakeEngine:
    """Fills the drawing with the mean colour of the first reference. `failing`: width of a drawing -> what happens to it.

    `requests` are those that were begun, `groups` how many were handed over at a time.
    """

    failing: dict[int, BaseException] = field(default_factory=dict)
    seconds_a_step: float = 0.0
    requests: list[ColorRequest] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)

    def color_all(self, requests: Sequence[ColorRequest], on_progress: OnProgress | None) -> Iterator[ColorResult]:
        self.groups.append(len(requests))
        for index, request in enumerate(requests):
            yield self._color(request, index, len(requests), on_progress)

    def _color(self, request: ColorRequest, index: int, count: int, on_progress: OnProgress | None) -> ColorResult:
        self.requests.append(request)
        settings = request.settings
        assert (settings.count, settings.seed >= 0) == (1, True)
        for step in range(settings.steps):
            if on_progress is not None:
                on_progress(Progress(step, settings.steps, index, count))
            time.sleep(self.seconds_a_step)
        if request.lines.width in self.failing:
            raise self.failing[request.lines.width]
        colour = request.references[0].picture.convert("RGB").resize((1, 1)).getpixel((0, 0))
        picture = Image.new("RGB", request.lines.size, colour)  # type: ignore[arg-type]
        infotext = f"Steps: {settings.steps}, Sampler: {settings.sampler}, Seed: {settings.seed}, Model: {request.model}"
        return ColorResult(picture, picture, picture.convert("RGBA"), Prepared((), picture, (NOTE,)), settings.seed, infotext)


def draw(path: Path, width: int = 16, colour: str = "white") -> Path:
    """A plain picture, 24 pixels high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, 24), colour).save(path)
    return path
