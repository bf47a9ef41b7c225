"""Sample pictures to click: every folder under `assets/samples` that holds a reference and a drawing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

_CARD = 220  # pixels, each half of a card


@dataclass(frozen=True)
class Sample:
    """One reference and one drawing that go well together."""

    name: str
    reference: Path
    lines: Path


def find_samples(folder: Path) -> list[Sample]:
    """Folders `NAME/reference.png` + `NAME/lines.png`, by name. A missing or empty folder gives an empty list."""
    if not folder.is_dir():
        return []
    found = [Sample(one.name, one / "reference.png", one / "lines.png") for one in sorted(folder.iterdir())]
    return [sample for sample in found if sample.reference.is_file() and sample.lines.is_file()]


def card(sample: Sample) -> Image.Image:
    """Reference and drawing side by side on white, `2 * 220` x 220, RGB."""
    picture = Image.new("RGB", (2 * _CARD, _CARD), "white")
    for column, path in enumerate((sample.reference, sample.lines)):
        with Image.open(path) as half:
            fitted = ImageOps.pad(half.convert("RGBA"), (_CARD, _CARD), color=(255, 255, 255, 0))
        picture.paste(fitted, (column * _CARD, 0), fitted)
    return picture
