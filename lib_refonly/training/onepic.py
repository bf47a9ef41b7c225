"""Train a ONE-PIC LoRA on a frozen base: noise in the target panel alone, and the loss over it alone (paper, section 3.3, equations 2 and 3)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel

from lib_refonly.conditioning.canvas import CleanContext
from lib_refonly.conditioning.plan import Plan
from lib_refonly.errors import BadSettings
from lib_refonly.onepic import lora
from lib_refonly.refonly.sampling import Guidance, denoise
from lib_refonly.refonly.schedulers import make_scheduler
from lib_refonly.training import timesteps, vocabulary
from lib_refonly.training.latents import LatentSet
from lib_refonly.training.panels import KINDS, panel_latents
from lib_refonly.training.shapes import SCHEDULE, quick_to_train
from lib_refonly.training.sheets import sheet
from lib_refonly.training.vae import to_bytes


@dataclass(frozen=True)
class OnePicConfig:
    """panels: rows of kinds (`panels.KINDS`). target: the one of them that is painted. only: what a caption has to hold for its record to be used.

    `drop_text`, `thin`, `noisy`: as for the base. The defaults of rank and alpha are the paper's.
    """

    panels: tuple[tuple[str, ...], ...]
    name: str
    task: str = ""
    title: str = ""
    target: str = "target"
    only: str = ""
    size: int = 128
    rank: int = lora.RANK
    alpha: int = lora.ALPHA
    drop_text: float = 0.3
    thin: float = 0.3
    noisy: float = 0.5

    def __post_init__(self) -> None:
        kinds = [kind for row in self.panels for kind in row]
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or len({len(row) for row in self.panels}) != 1 or kinds.count(self.target) != 1:
            raise BadSettings(f"[onepic] panels are rows of equal length of {', '.join(KINDS)}, with one {self.target}; not {self.panels}.")


class OnePicTask(nn.Module):
    """`start`: a LoRA of ours to go on from, a file.

    Raises:
        BadSettings: a set with other panels; no caption fits. BadModel: `start` is no LoRA for this base, or of another rank.
    """

    def __init__(self, config: OnePicConfig, data: Path, base: Path, heldout: Path | None = None, start: Path | None = None) -> None:
        from peft import LoraConfig

        super().__init__()
        self.config, self.data = config, panel_latents(data, config.size)
        self.shown = panel_latents(heldout, config.size) if heldout else self.data
        self.rows = _matching(self.data, config.only)
        self.tokenizer = vocabulary.load(base / "tokenizer")
        self.text_encoder: Any = CLIPTextModel.from_pretrained(base / "text_encoder", dtype=torch.float32).requires_grad_(False)
        self.unet: Any = UNet2DConditionModel.from_pretrained(base / "unet", torch_dtype=torch.float32).requires_grad_(False)
        self.vae: Any = AutoencoderKL.from_pretrained(base / "vae", torch_dtype=torch.float32).requires_grad_(False)
        self.names = lora.names(self.unet)
        self.unet.add_adapter(LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=lora.TARGETS))
        if start:
            lora.begin_from(self.unet, self.names, lora.read(start)[0], config.alpha)
        self.noise: Any = DDIMScheduler.from_config(SCHEDULE)
        quick_to_train(self.unet, self.text_encoder)
        self.target = self._grid(lambda kind, cells: torch.full(cells.shape[-2:], kind == config.target), self.shown.latents[0])

    def _grid(self, made: Any, views: np.ndarray) -> Tensor:
        """The panels put together. `made(kind, its latents)` [..., h, w]."""
        return torch.cat([torch.cat([made(kind, views[KINDS.index(kind)]) for kind in row], -1) for row in self.config.panels], -2)

    def canvas(self, views: np.ndarray) -> Tensor:
        """Latents of a record's panels [kinds, 4, h, w] -> [4, rows * h, columns * w]."""
        return self._grid(lambda _, cells: torch.from_numpy(cells.astype(np.float32)), views)

    def draw(self, rng: np.random.Generator, size: int) -> dict[str, Tensor]:
        chosen = [self.rows[int(i)] for i in rng.integers(len(self.rows), size=size)]
        captions = [self.data.drawings.meta[i]["captions"][0] for i in chosen]
        t = timesteps.draw(rng, size, self.noise.config["num_train_timesteps"], self.config.noisy)
        latents = torch.stack([self.canvas(self.data.latents[i]) for i in chosen])
        return {
            "latents": latents,
            "ids": vocabulary.ids(self.tokenizer, [vocabulary.said(text, self.config.drop_text, self.config.thin, rng) for text in captions]),
            "t": t,
            "noise": torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32)),
        }

    def forward(self, latents: Tensor, ids: Tensor, t: Tensor, noise: Tensor) -> dict[str, Tensor]:
        target = self.target.to(latents.device)
        given = CleanContext(latents, target).clean(self.noise.add_noise(latents, noise, t))
        out = self.unet(given, t, self.text_encoder(ids).last_hidden_state, return_dict=False)[0]
        return {"loss": F.mse_loss(out.float()[..., target], self.noise.get_velocity(latents, noise, t)[..., target])}

    @torch.no_grad()
    def sample(self, count: int = 6, steps: int = 20, guidance: float = 1.0) -> Image.Image:
        """A row for each of some held-out records: the canvas with its target empty, what is painted there, and what should have been."""
        device, rows = self.target.device, _matching(self.shown, self.config.only)
        picks = [rows[int(i)] for i in np.linspace(0, len(rows) - 1, count)]
        latents = torch.stack([self.canvas(self.shown.latents[i]) for i in picks]).to(device)
        texts = [self.shown.drawings.meta[i]["captions"][0] for i in picks]
        context = self.text_encoder(vocabulary.ids(self.tokenizer, ([""] * count if guidance != 1 else []) + texts).to(device)).last_hidden_state
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(device)
        plan = Plan(canvas=CleanContext(latents, self.target.to(device)))
        painted = denoise(self.unet, plan, make_scheduler("UniPC", SCHEDULE), noise, steps, Guidance(guidance), text=context)
        painted = torch.where(self.target.to(device), painted, latents)
        pictures = to_bytes(self.vae.decode(painted / self.vae.config["scaling_factor"]).sample)
        truth = (Image.fromarray(self.shown.drawings.pictures[i, KINDS.index(self.config.target)]) for i in picks)
        own = [np.asarray(picture.resize((self.config.size, self.config.size))) for picture in truth]
        return sheet([[picture, truth] for picture, truth in zip(pictures, own, strict=True)], cell=256)

    def lows(self) -> dict[str, lora.Low]:
        """The trained matrices by kohya's name."""
        return lora.trained(self.unet, self.names, self.config.alpha)

    def export(self, folder: Path) -> None:
        c = self.config
        layout = f"{len(c.panels)}x{len(c.panels[0])}"
        about = {"task": c.task, "layout": layout, "panels": c.panels, "target": c.target, "title": c.title, "size": c.size}
        folder.mkdir(parents=True, exist_ok=True)
        lora.save(folder / f"{self.config.name}.safetensors", self.lows(), {"refonly_onepic": json.dumps(about)})


def _matching(data: LatentSet, word: str) -> list[int]:
    rows = [i for i, meta in enumerate(data.drawings.meta[: len(data)]) if word in meta["captions"][0]]
    if not rows:
        raise BadSettings(f"No caption of {data.drawings.folder} holds {word!r}.")
    return rows
