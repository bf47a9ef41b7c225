"""Text to pictures with a diffusers folder's networks, under a plan: what the studio paints styles and canvases with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lib_refonly.conditioning.plan import Plan
from lib_refonly.models.weights import read_json
from lib_refonly.refonly.sampling import Guidance, denoise
from lib_refonly.refonly.schedulers import make_scheduler

_DOWN = 8


class TextToImage:
    """Reads UNet, VAE, text encoder and tokenizer of `folder` (the layout of StableDiffusionPipeline)."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        self.folder, self.device, self.dtype = folder, device, dtype
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        text: Any = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=dtype)
        unet: Any = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=dtype)
        vae: Any = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=dtype)
        self.text, self.unet, self.vae = (network.to(device).eval().requires_grad_(False) for network in (text, unet, vae))
        self.scheduler_config = read_json(folder / "scheduler" / "scheduler_config.json")

    def contexts(self, texts: Sequence[str]) -> Tensor:
        """[len(texts), 77, width]."""
        length = self.text.config.max_position_embeddings
        ids: Any = self.tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        with torch.no_grad():
            return self.text(ids.input_ids.to(self.device)).last_hidden_state

    def paint(
        self,
        prompts: Sequence[str],
        plan: Plan,
        negative: str = "",
        size: tuple[int, int] = (256, 256),
        steps: int = 20,
        cfg: float = 4.0,
        seed: int = 0,
        sampler: str = "UniPC",
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> list[Image.Image]:
        """One picture for each prompt, as one batch; picture i has the seed `seed` + i. size: width and height, multiples of 8."""
        count = len(prompts)
        texts = list(prompts) if cfg == 1 else [negative] * count + list(prompts)
        dice = [torch.Generator().manual_seed(seed + i) for i in range(count)]
        noise = [torch.randn(1, 4, size[1] // _DOWN, size[0] // _DOWN, generator=own) for own in dice]
        latents = torch.cat(noise).to(self.device, self.dtype)
        scheduler = make_scheduler(sampler, self.scheduler_config)
        latents = denoise(self.unet, plan, scheduler, latents, steps, Guidance(cfg), dice, on_step, self.contexts(texts))
        return self.decode(latents)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """[n, 3, H, W] in [-1, 1] -> scaled latents [n, 4, H/8, W/8]."""
        return self.vae.encode(pixels.to(self.device, self.dtype)).latent_dist.mode() * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[Image.Image]:
        """Scaled latents [n, 4, H/8, W/8] -> n pictures."""
        pixels = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        arrays = ((pixels.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(np.ascontiguousarray(array)) for array in arrays]
