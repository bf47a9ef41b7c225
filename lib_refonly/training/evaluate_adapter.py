"""A RefOnly adapter on its base, painting without words: what `studio.py evaluate ADAPTER --base FOLDER` scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lib_refonly.adapters.prompt import image_prompts
from lib_refonly.adapters.refonly_adapter import read_adapter
from lib_refonly.conditioning.plan import InputFeature, Plan
from lib_refonly.hosts.diffusers import anatomy
from lib_refonly.refonly.blueprint import blueprint_tensor
from lib_refonly.refonly.image_encoder import encode, preprocess
from lib_refonly.refonly.sampling import denoise
from lib_refonly.refonly.schedulers import make_scheduler
from lib_refonly.training.evaluate import Picture
from lib_refonly.training.shapes import SCHEDULE
from lib_refonly.training.vae import to_bytes

_STEPS = 20


class AdapterPainter:
    def __init__(self, path: Path, base: Path, device: torch.device | str = "cpu") -> None:
        """Raises: BadModel: the adapter does not fit the base."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        self.found, self.device = read_adapter(path, device=device), device
        self.unet: Any = UNet2DConditionModel.from_pretrained(base / "unet", torch_dtype=torch.float32)
        self.vae: Any = AutoencoderKL.from_pretrained(base / "vae", torch_dtype=torch.float32)
        for network in (self.unet, self.vae):
            network.eval().to(device)
        self.found.check(anatomy(self.unet))
        self.size, self.prompt_size = self.found.native_size, self.found.prompt_spec.size
        ids = CLIPTokenizer.from_pretrained(base / "tokenizer")([""], padding="max_length", max_length=77, return_tensors="pt").input_ids
        with torch.no_grad():
            self.no_words = CLIPTextModel.from_pretrained(base / "text_encoder", dtype=torch.float32)(ids).last_hidden_state.to(device)

    @torch.no_grad()
    def paint(self, references: Sequence[Picture], blueprints: Sequence[Picture], seeds: Sequence[int], strength: float) -> list[Picture]:
        pixels = torch.cat([preprocess(Image.fromarray(one), self.found.prompt_spec) for one in references])
        adapter = self.found.adapter
        tokens = adapter.to_tokens(encode(self.found.image_encoder, pixels.to(self.device)))
        prompts = image_prompts(adapter, [(tokens, None)], torch.zeros_like(tokens), strength)
        assert adapter.blueprint is not None
        feature = adapter.blueprint(torch.cat([blueprint_tensor(Image.fromarray(one)) for one in blueprints]).to(self.device))
        shape = (4, self.size // 8, self.size // 8)
        noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]).to(self.device)
        scheduler, text = make_scheduler("UniPC", SCHEDULE), self.no_words.expand(len(references), -1, -1)
        latents = denoise(self.unet, Plan(prompts, (InputFeature(feature),)), scheduler, noise, _STEPS, text=text)
        return [np.asarray(row) for row in to_bytes(self.vae.decode(latents / self.vae.config["scaling_factor"]).sample)]
