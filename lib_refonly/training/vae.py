"""Train the small VAE: AutoencoderKL in ldm's anatomy, on crops of the open drawings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

from lib_refonly.training.drawings.dataset import DrawingSet
from lib_refonly.training.sheets import sheet
from lib_refonly.training.vae_shape import fold, identity_start, normalise_latents, soften


@dataclass(frozen=True)
class VaeConfig:
    """`noise` is the fixed standard deviation added to the latents while training, `spread` the weight of their mean square."""

    widths: tuple[int, ...] = (64, 64, 128, 128)
    layers: int = 1
    crop: int = 64
    noise: float = 0.05
    spread: float = 1e-3
    coarse: float = 1.0


class VaeTask(nn.Module):
    """L1 on pixels, L1 on 4x4 means (`coarse`: colours before shapes), a small pull of the latents towards nought."""

    def __init__(self, config: VaeConfig, data: Path) -> None:
        super().__init__()
        self.config, self.data = config, DrawingSet(data)
        levels = len(config.widths)
        self.vae: Any = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * levels,  # pyright: ignore[reportArgumentType]
            up_block_types=("UpDecoderBlock2D",) * levels,  # pyright: ignore[reportArgumentType]
            block_out_channels=config.widths,  # pyright: ignore[reportArgumentType]
            layers_per_block=config.layers,
            latent_channels=4,
            norm_num_groups=32,
            sample_size=256,
        )
        soften(self.vae)
        identity_start(self.vae)

    def draw(self, rng: np.random.Generator, size: int) -> dict[str, Tensor]:
        crops = [self._crop(rng) for _ in range(size)]
        return {"pixels": to_signed(np.stack(crops))}

    def _crop(self, rng: np.random.Generator) -> np.ndarray:
        """One crop, uint8 [C,C,3]: from the native size or half of it, on black or another ground, channels permuted, mirrored."""
        i, view = rng.integers(len(self.data)), rng.integers(self.data.pictures.shape[1])
        picture, alpha = self.data.pictures[i, view], self.data.alpha[i, view]
        c, half = self.config.crop, rng.random() < 0.5
        side = 2 * c if half else c
        y, x = (rng.integers(0, n - side + 1) for n in picture.shape[:2])
        part, a = picture[y : y + side, x : x + side], alpha[y : y + side, x : x + side]
        if half:
            part = halve(part)
            a = halve(a[..., None])[..., 0]
        if rng.random() < 0.35:
            ground = np.full(3, 255) if rng.random() < 0.5 else rng.integers(0, 256, 3)
            part = (part + ground * (1 - a[..., None] / 255)).round().clip(0, 255).astype(np.uint8)
        return part[:, :: rng.choice((-1, 1)), rng.permutation(3)]

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        z = self.vae.encode(pixels).latent_dist.mode()
        out = self.vae.decode(z + self.config.noise * torch.randn_like(z)).sample.float()
        fine, coarse = F.l1_loss(out, pixels), F.l1_loss(F.avg_pool2d(out, 4), F.avg_pool2d(pixels, 4))
        spread = z.float().square().mean()
        return {"loss": fine + self.config.coarse * coarse + self.config.spread * spread, "l1": fine, "coarse": coarse, "spread": spread}

    @torch.no_grad()
    def sample(self) -> Image.Image:
        pictures = np.stack([self.data.pictures[i, 0] for i in range(6)])
        small = np.stack([halve(p) for p in pictures])
        rows = [[p, to_bytes(self.vae(to_signed(p[None])).sample)[0]] for p in [*pictures[:4], *small[4:]]]
        return sheet([[*a, *b] for a, b in zip(rows[::2], rows[1::2], strict=True)])

    @torch.no_grad()
    def export(self, folder: Path) -> None:
        """The finished VAE: ldm's own eps, latents of unit size times 1/scaling_factor on this data."""
        vae: Any = AutoencoderKL.from_config(self.vae.config)
        vae.load_state_dict(self.vae.state_dict())
        soften(vae)
        fold(vae)
        mean, std = latent_statistics(vae, self.data)
        normalise_latents(vae, mean, std)
        vae.save_pretrained(folder / "vae")


@torch.no_grad()
def latent_statistics(vae: Any, data: DrawingSet, count: int = 256) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each latent channel over half-size and full-size pictures, [C] each."""
    codes = []
    for i in range(min(count, len(data))):
        picture = data.pictures[i, 0]
        code = vae.encode(to_signed((picture if i % 2 else halve(picture))[None])).latent_dist.mode()
        codes.append(code.flatten(2)[0])
    flat = torch.cat(codes, 1)
    return flat.mean(1), flat.std(1)


def halve(picture: np.ndarray) -> np.ndarray:
    """uint8 [H,W,C] -> [H/2,W/2,C], means of 2x2."""
    h, w, c = picture.shape
    return (picture.reshape(h // 2, 2, w // 2, 2, c).astype(np.uint16).sum((1, 3)) + 2 >> 2).astype(np.uint8)


def to_signed(pictures: np.ndarray) -> Tensor:
    """uint8 [B,H,W,3] -> float32 [B,3,H,W] in [-1,1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))).float() / 127.5 - 1


def to_bytes(pixels: Tensor) -> np.ndarray:
    """float [B,3,H,W] in [-1,1] -> uint8 [B,H,W,3]."""
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
