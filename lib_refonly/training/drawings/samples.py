"""The sample pictures of the studio: held-out characters, which no shipped model has seen.

`python -m lib_refonly.training.drawings.samples DATA OUT`, where DATA was made by
`studio.py data build --out DATA --count 352 --seed 1 --split heldout --size 768`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from lib_refonly.training.drawings.dataset import DrawingSet

PICKS = {
    "1 Curls": "heldout-1-000000",
    "2 Buns": "heldout-1-000011",
    "3 Collar": "heldout-1-000023",
    "4 Turban": "heldout-1-000008",
    "5 Bob": "heldout-1-000027",
    "6 Big ears": "heldout-1-000025",
}
"""Name of the sample -> id of the record. The reference is its drawing B, the lines are those of its drawing A."""


def write_samples(data: Path, out: Path) -> list[Path]:
    """Write NAME/reference.png (on white) and NAME/lines.png (black on white) for every pick; returns the folders."""
    drawings, folders = DrawingSet(data), []
    places = {meta["id"]: i for i, meta in enumerate(drawings.meta)}
    for name, record in PICKS.items():
        i, folder = places[record], out / name
        folder.mkdir(parents=True, exist_ok=True)
        ground = 255 - drawings.alpha[i, 1].astype(np.uint16)
        on_white = (drawings.pictures[i, 1] + ground[..., None]).clip(0, 255).astype(np.uint8)
        Image.fromarray(on_white).save(folder / "reference.png", optimize=True)
        Image.fromarray(255 - drawings.blueprints[i, 0]).save(folder / "lines.png", optimize=True)
        folders.append(folder)
    return folders


if __name__ == "__main__":
    for written in write_samples(Path(sys.argv[1]), Path(sys.argv[2])):
        print(written)
