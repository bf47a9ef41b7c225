"""Canvases among a base's pictures. Large text-to-image models have seen sheets, strips and pictures before and after, and take from one panel what another
needs; that is what ONE-PIC's LoRAs call up (paper, section 3.1). A small one that only ever saw single pictures has nothing to call up.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib_refonly.training.panels import KINDS, panel_latents

LAYOUTS = ((1, 2), (2, 1), (1, 3), (2, 2), (2, 2), (2, 2))
"""Rows and columns, each as likely as another; the square one thrice."""
BESIDE = ("lines",) * 5 + ("reference",) * 4 + ("recoloured",) * 2 + ("mirrored", "close", "masked", "garment", "hidden")
"""What stands beside the target, each as likely as another."""
_ALIKE, _ANYWHERE = 0.4, 0.4
"""Share of the canvases with the same panel all around the target, and of those whose target is not the last panel."""
NO_TEXT = 0.4
"""Share of the canvases without a caption: there the panels have to say everything."""
TARGET = KINDS.index("target")


class Canvases:
    def __init__(self, data: Path, size: int) -> None:
        """data: a set of panels with latents at `size` px a panel. Raises: BadSettings: it is none."""
        self.panels = panel_latents(data, size)

    def draw(self, rng: np.random.Generator, count: int) -> tuple[list[str], Tensor, Tensor]:
        """Captions; latents [count, 4, H, W] of canvases of one layout; and where their target is, bool [H, W]."""
        rows, columns = LAYOUTS[rng.integers(len(LAYOUTS))]
        at = rows * columns - 1 if rng.random() >= _ANYWHERE else int(rng.integers(rows * columns))
        records = [int(i) for i in rng.integers(len(self.panels), size=count)]
        latents = np.stack([self._canvas(record, rows, columns, at, rng) for record in records]).astype(np.float32)
        target = np.zeros((rows, columns), bool)
        target.flat[at] = True
        side = self.panels.latents.shape[-1]
        captions = [self.panels.drawings.meta[record]["captions"][0] for record in records]
        return captions, torch.from_numpy(latents), torch.from_numpy(np.kron(target, np.ones((side, side), bool)))

    def _canvas(self, record: int, rows: int, columns: int, at: int, rng: np.random.Generator) -> np.ndarray:
        kinds = [KINDS.index(BESIDE[i]) for i in rng.integers(len(BESIDE), size=rows * columns)]
        if rng.random() < _ALIKE:
            kinds = kinds[:1] * len(kinds)
        kinds[at] = TARGET
        cells = self.panels.latents[record][kinds]
        return np.concatenate([np.concatenate(list(cells[row * columns : (row + 1) * columns]), -1) for row in range(rows)], -2)
