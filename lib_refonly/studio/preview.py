"""Rough pictures of latents, cheap enough for every step: a linear map from latent channels to RGB."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from lib_refonly.refonly.model import RefOnlyModel

_MAPS: weakref.WeakKeyDictionary[torch.nn.Module, Tensor] = weakref.WeakKeyDictionary()


class Preview:
    """The map is fitted once to the model's own VAE: plain colours are encoded, and least squares finds the way back."""

    def __init__(self, model: RefOnlyModel) -> None:
        if model.vae not in _MAPS:
            _MAPS[model.vae] = _fit(model)
        self._map = _MAPS[model.vae]

    def of(self, latents: Tensor) -> Image.Image:
        """Latents [1, C, h, w] -> RGB at 8 times the size."""
        flat = latents[0].float().cpu().permute(1, 2, 0)
        rgb = torch.cat([flat, torch.ones_like(flat[..., :1])], -1) @ self._map
        small = Image.fromarray((rgb.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
        return small.resize((small.width * 8, small.height * 8), Image.Resampling.BICUBIC)


@torch.no_grad()
def _fit(model: RefOnlyModel, side: int = 32) -> Tensor:
    """[C + 1, 3]: latents and a one -> RGB in [0, 1]."""
    levels = torch.tensor([0.0, 0.5, 1.0])
    colours = torch.cartesian_prod(levels, levels, levels)
    pixels = (colours * 2 - 1)[:, :, None, None].expand(-1, -1, side, side).to(model.device, model.vae.dtype)
    vae: Any = model.vae
    codes = vae.encode(pixels).latent_dist.mode()[:, :, side // 16, side // 16].float().cpu() * model.vae_scale
    return torch.linalg.lstsq(torch.cat([codes, torch.ones(len(codes), 1)], 1), colours).solution
