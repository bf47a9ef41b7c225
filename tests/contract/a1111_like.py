"""A small stand-in for AUTOMATIC1111's side, written from what was observed on a running one: the module that holds the UNet, how a step's rows come,
and the hooks' order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

SCHEDULE = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
ALPHAS_CUMPROD = (1 - SCHEDULE).cumprod(0).float()


class Wrapper(nn.Module):
    """LatentDiffusion's `model`: conditions come as lists."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.diffusion_model = unet
        self.conditioning_key = "crossattn"

    def forward(self, x: Tensor, t: Tensor, c_concat: Any = None, c_crossattn: Any = None, c_adm: Any = None) -> Tensor:
        if self.conditioning_key == "hybrid":  # an inpainting checkpoint
            x = torch.cat([x, *c_concat], 1)
        return self.diffusion_model(x, t, context=torch.cat(c_crossattn, 1))
