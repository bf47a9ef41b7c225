"""Sample sheets: pictures of any size in a grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image


def sheet(rows: Sequence[Sequence[np.ndarray]], cell: int = 256, gap: int = 4) -> Image.Image:
    """Rows of uint8 [H,W,3] or [H,W] arrays -> one RGB picture, every cell scaled to `cell` pixels (nearest, so that pixels stay visible)."""
    columns = max(len(row) for row in rows)
    out = Image.new("RGB", (columns * (cell + gap) - gap, len(rows) * (cell + gap) - gap), (128, 128, 128))
    for y, row in enumerate(rows):
        for x, array in enumerate(row):
            out.paste(Image.fromarray(array).convert("RGB").resize((cell, cell), Image.Resampling.NEAREST), (x * (cell + gap), y * (cell + gap)))
    return out
