"""Between panels and a latent canvas. Each panel goes through the VAE on its own, both ways: its receptive field would else carry one panel's colours over
the seam into the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib_refonly.conditioning.canvas import CleanContext
from lib_refonly.onepic.compose import Composed
from lib_refonly.onepic.layout import Layout

Encode = Callable[[Tensor], Tensor]
"""Pixels [1, 3, H, W] in [-1, 1] -> scaled latents [1, C, H/8, W/8]."""


def clean_context(composed: Composed, layout: Layout, encode: Encode, reuse: int = 1) -> CleanContext:
    """The canvas that the UNet works on. Panels with the same picture are encoded once.

    Raises:
        BadSettings: nothing is to be painted.
    """
    known: dict[bytes, Tensor] = {}
    cells = []
    for panel in composed.panels:
        key = panel.tobytes()
        if key not in known:
            known[key] = encode(_signed(panel))
        cells.append(known[key])
    return CleanContext(joined(cells, layout), torch.from_numpy(composed.target.copy()), reuse)


def joined(cells: Sequence[Tensor], layout: Layout) -> Tensor:
    """Panels' latents [n, C, h, w], row by row -> the canvas' [n, C, rows * h, columns * w]."""
    rows = [torch.cat(tuple(cells[row * layout.columns : (row + 1) * layout.columns]), -1) for row in range(layout.rows)]
    return torch.cat(rows, -2)


def cell(canvas: Tensor, layout: Layout, number: int) -> Tensor:
    """One panel's latents out of a canvas [..., H, W]."""
    height, width = canvas.shape[-2] // layout.rows, canvas.shape[-1] // layout.columns
    row, column = layout.place(number)
    return canvas[..., row * height : (row + 1) * height, column * width : (column + 1) * width]


def _signed(panel: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(panel)).permute(2, 0, 1)[None].float() / 127.5 - 1
