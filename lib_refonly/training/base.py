"""Train tiny-base: captions to pictures, text encoder and UNet together."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel

from lib_refonly.conditioning.plan import Plan
from lib_refonly.errors import BadSettings
from lib_refonly.refonly.sampling import Guidance, denoise
from lib_refonly.refonly.schedulers import make_scheduler
from lib_refonly.training import timesteps, vocabulary
from lib_refonly.training.canvases import NO_TEXT, Canvases
from lib_refonly.training.latents import LatentSet
from lib_refonly.training.shapes import SCHEDULE, TextShape, UNetShape, quick_to_train
from lib_refonly.training.sheets import sheet
from lib_refonly.training.vae import to_bytes

PROMPTS = (
    "storybook character, long wavy green hair, dark skin, smiling", "portrait with bold lines, afro blue hair, tan skin, red clothes",
    "portrait with thin lines, mohawk pink hair, light skin, navy clothes", "flat cartoon, long wavy red hair, light skin, green clothes",
    "flat portrait, extra long navy hair, tan skin, sunglasses", "pig face emoji", "orange hair, blue skin", "white hair, brown skin",
)  # fmt: skip

_NOISY = 0.5
"""Share of the canvases that are nearly all noise."""


@dataclass(frozen=True)
class BaseConfig:
    """`drop`: share of rows that see the empty prompt, so that CFG and negative prompts work. `thin`: share of rows that see some of the caption's
    tags alone, in any order: what painters type ("green hair") is never a whole caption. `canvases`: share of the batches that are canvases of panels, of
    half this size each, all clean but one. `train_text`: false leaves the text encoder as it is.
    """

    size: int = 128
    drop: float = 0.1
    thin: float = 0.3
    canvases: float = 0.0
    train_text: bool = True
    widths: tuple[int, ...] = (64, 128, 128, 128)
    layers: int = 1
    context: int = 128
    text_layers: int = 4


class BaseTask(nn.Module):
    """`panels`: a set of panels, for the canvases. Raises: BadSettings: there are to be canvases, and no panels are named."""

    def __init__(self, config: BaseConfig, data: Path, vae: Path, start: Path | None = None, panels: Path | None = None) -> None:
        super().__init__()
        if config.canvases and panels is None:
            raise BadSettings("[base] canvases asks for a set of panels. Name its folder as `panels` in [run].")
        self.canvases = Canvases(panels, config.size // 2) if panels else None
        self.config, self.data = config, LatentSet(data, config.size)
        meta = self.data.drawings.meta
        self.captions = [(m["caption"], m["captionB"]) for m in meta]
        if start:
            self.tokenizer = vocabulary.load(start / "tokenizer")
            self.unet = UNet2DConditionModel.from_pretrained(start / "unet", torch_dtype=torch.float32)
            self.text_encoder = CLIPTextModel.from_pretrained(start / "text_encoder", dtype=torch.float32)
        else:
            self.tokenizer = vocabulary.learn(c for pair in self.captions for c in pair)
            self.unet = UNetShape(config.widths, config.layers, config.context).build()
            shape = TextShape(config.context, config.text_layers)
            self.text_encoder = shape.build(len(self.tokenizer), self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)
        self.text_encoder.requires_grad_(config.train_text)
        quick_to_train(self.unet, self.text_encoder)
        self.vae: Any = AutoencoderKL.from_pretrained(vae, torch_dtype=torch.float32).requires_grad_(False)
        self.noise: Any = DDIMScheduler.from_config(SCHEDULE)

    def draw(self, rng: np.random.Generator, size: int) -> dict[str, Tensor]:
        if self.canvases and rng.random() < self.config.canvases:
            return self._draw_canvases(self.canvases, rng, size)
        rows, views = rng.integers(len(self.data), size=size), rng.integers(2, size=size)
        texts = [vocabulary.said(self.captions[i][v], self.config.drop, self.config.thin, rng) for i, v in zip(rows, views, strict=True)]
        latents = np.stack([self.data.latents[i, v] for i, v in zip(rows, views, strict=True)]).astype(np.float32)
        return {
            "latents": torch.from_numpy(latents),
            "ids": self.ids(texts),
            "t": torch.from_numpy(rng.integers(0, self.noise.config["num_train_timesteps"], size)),
            "noise": torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32)),
        }

    def _draw_canvases(self, canvases: Canvases, rng: np.random.Generator, size: int) -> dict[str, Tensor]:
        captions, latents, target = canvases.draw(rng, size)
        t = timesteps.draw(rng, size, self.noise.config["num_train_timesteps"], _NOISY)
        return {
            "latents": latents,
            "ids": self.ids([vocabulary.said(text, NO_TEXT, self.config.thin, rng) for text in captions]),
            "t": t,
            "noise": torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32)),
            "target": target,
        }

    def ids(self, texts: list[str]) -> Tensor:
        return vocabulary.ids(self.tokenizer, texts)

    def forward(self, latents: Tensor, ids: Tensor, t: Tensor, noise: Tensor, target: Tensor | None = None) -> dict[str, Tensor]:
        """target: bool [H, W], where there is noise; everywhere if not said."""
        given, wanted = self.noise.add_noise(latents, noise, t), self.noise.get_velocity(latents, noise, t)
        if target is not None:
            given = torch.where(target, given, latents)
        out = self.unet(given, t, self.text_encoder(ids).last_hidden_state, return_dict=False)[0].float()
        return {"loss": F.mse_loss(out, wanted) if target is None else F.mse_loss(out[..., target], wanted[..., target])}

    @torch.no_grad()
    def sample(self, steps: int = 20, guidance: float = 3.0) -> Image.Image:
        device = next(self.unet.parameters()).device
        texts = self.text_encoder(self.ids([*[""] * len(PROMPTS), *PROMPTS]).to(device)).last_hidden_state
        noise = torch.randn(len(PROMPTS), *self.data.latents.shape[2:], generator=torch.Generator().manual_seed(0)).to(device)
        latents = denoise(self.unet, Plan(), make_scheduler("UniPC", SCHEDULE), noise, steps, Guidance(guidance), text=texts)
        painted = to_bytes(self.vae.decode(latents / self.vae.config["scaling_factor"]).sample)
        return sheet([list(painted[:4]), list(painted[4:])], cell=192)

    def export(self, folder: Path) -> None:
        """The diffusers folder layout of StableDiffusionPipeline, fp16; the tokenizer also in the files of older transformers (A1111)."""
        networks = {"unet": self.unet, "text_encoder": self.text_encoder, "vae": self.vae}
        pipeline = StableDiffusionPipeline(
            **{name: copy.deepcopy(network).to(torch.float16) for name, network in networks.items()},  # pyright: ignore[reportArgumentType]
            tokenizer=self.tokenizer,
            scheduler=self.noise,
            safety_checker=None,  # pyright: ignore[reportArgumentType]
            feature_extractor=None,  # pyright: ignore[reportArgumentType]
            requires_safety_checker=False,
        )
        fresh = folder.with_name(folder.name + ".new")
        pipeline.save_pretrained(fresh)
        vocabulary.save_plain(self.tokenizer, fresh / "tokenizer")
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
