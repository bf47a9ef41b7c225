"""A painter's folder of pictures as latents, and what both kinds that learn from it have in common: the frozen base, the rows, the sample sheet."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image, ImageOps
from torch import Tensor, nn
from transformers import CLIPTextModel

from lib_refonly.conditioning.plan import Plan
from lib_refonly.errors import BadPicture, BadSettings
from lib_refonly.imaging.background import on_background
from lib_refonly.imaging.decode import open_picture
from lib_refonly.refonly.sampling import Guidance, denoise
from lib_refonly.refonly.schedulers import make_scheduler
from lib_refonly.training import timesteps, vocabulary
from lib_refonly.training.builtin_settings import PictureSettings
from lib_refonly.training.pictures import PictureFolder
from lib_refonly.training.shapes import SCHEDULE, quick_to_train
from lib_refonly.training.sheets import sheet
from lib_refonly.training.vae import to_bytes, to_signed

_SHOWN, _MOST = 4, 8
"""Pictures on a sheet: of the captions, of prompts."""
_CFG, _STEPS = 3.0, 12


class OwnPictures:
    """The pictures of a folder, encoded once. latents: [pictures, 1 or 2, 4, size/8, size/8], the second one of the mirrored picture.

    Raises:
        BadSettings: no folder, no pictures, or a caption that can't be read. BadPicture: a file that is no picture.
    """

    def __init__(self, data: Path, vae: Any, size: int, whole: bool, mirror: bool) -> None:
        folder = PictureFolder(data.absolute())
        names = folder.names()
        if not names:
            raise BadSettings(f"There are no pictures in {folder.path}. Add some (PNG, JPEG, WebP), then start again.")
        self.captions = [folder.caption(name) for name in names]
        self.pictures = [_square(folder.path / name, size, whole) for name in names]
        self.latents = torch.stack([_encoded(vae, picture, mirror) for picture in self.pictures])

    def __len__(self) -> int:
        return len(self.captions)


class FromPictures(nn.Module):
    """Something small that is learnt beside a frozen base. A kind says what. done: steps so far, kept by the loop's checkpoints."""

    done: Tensor

    def __init__(self, config: PictureSettings, data: Path, base: Path) -> None:
        super().__init__()
        self.tokenizer = vocabulary.load(base / "tokenizer")
        self.text_encoder: Any = CLIPTextModel.from_pretrained(base / "text_encoder", dtype=torch.float32).requires_grad_(False)
        self.unet: Any = UNet2DConditionModel.from_pretrained(base / "unet", torch_dtype=torch.float32).requires_grad_(False)
        self.vae: Any = AutoencoderKL.from_pretrained(base / "vae", torch_dtype=torch.float32).requires_grad_(False)
        self.noise: Any = DDIMScheduler.from_config(SCHEDULE)
        self.shape, self.data = config, OwnPictures(data, self.vae, config.size, config.whole, config.mirror)
        self.register_buffer("done", torch.zeros((), dtype=torch.long))
        quick_to_train(self.unet, self.text_encoder)

    @property
    @abstractmethod
    def word(self) -> str:
        """What every caption begins with; "" is nothing."""

    @abstractmethod
    def without(self, prompts: Sequence[str], noise: Tensor) -> np.ndarray:
        """`paint`, as the base alone would."""

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write the one file."""

    def caption(self, number: int) -> str:
        """A picture's caption with the word before it."""
        return worded(self.data.captions[number], self.word)

    def draw(self, rng: np.random.Generator, size: int) -> dict[str, Any]:
        c, count = self.shape, self.noise.config["num_train_timesteps"]
        rows, views = rng.integers(len(self.data), size=size), rng.integers(self.data.latents.shape[1], size=size)
        t = timesteps.draw(rng, size, count, c.noisy)
        noise = rng.standard_normal((size, *self.data.latents.shape[2:]), dtype=np.float32)
        noise += c.offset * rng.standard_normal((*noise.shape[:2], 1, 1), dtype=np.float32)
        return {
            "latents": self.data.latents[torch.from_numpy(rows), torch.from_numpy(views)],
            "ids": self.ids([self._said(int(row), rng) for row in rows]),
            "t": t,
            "noise": torch.from_numpy(noise),
        }

    def ids(self, texts: Sequence[str]) -> Tensor:
        """Token ids [texts, 77]."""
        return vocabulary.ids(self.tokenizer, list(texts))

    def _said(self, row: int, rng: np.random.Generator) -> str:
        """As `vocabulary.said`, but that the word stays where anything is said."""
        if rng.random() < self.shape.drop_text:
            return ""
        return worded(vocabulary.said(self.data.captions[row], 0.0, self.shape.thin, rng), self.word)

    def forward(self, latents: Tensor, ids: Tensor, t: Tensor, noise: Tensor) -> dict[str, Tensor]:
        if self.training:
            self.done += 1
        noisy, target = self.noise.add_noise(latents, noise, t), self.noise.get_velocity(latents, noise, t)
        out = self.unet(noisy, t, self.text_encoder(ids).last_hidden_state, return_dict=False)[0]
        return {"loss": F.mse_loss(out.float(), target)}

    @torch.no_grad()
    def paint(self, prompts: Sequence[str], noise: Tensor) -> np.ndarray:
        """uint8 [n, size, size, 3], UniPC, with guidance."""
        text = self.text_encoder(self.ids([*[""] * len(prompts), *prompts]).to(noise.device)).last_hidden_state
        latents = denoise(self.unet, Plan(), make_scheduler("UniPC", SCHEDULE), noise, _STEPS, Guidance(_CFG), text=text)
        return to_bytes(self.vae.decode(latents / self.vae.config["scaling_factor"]).sample)

    def sample(self) -> Image.Image:
        """Above pictures whose captions are painted (none where the painter gave prompts), then what the base alone paints, then with what is learnt."""
        prompts, shown = self._prompts
        noise = torch.randn(len(prompts), *self.data.latents.shape[2:], generator=torch.Generator().manual_seed(0)).to(self.done.device)
        if self._before is None:
            self._before = self.without(prompts, noise)
        return sheet([*([shown] if shown else []), list(self._before), list(self.paint(prompts, noise))], cell=192)

    @property
    def sample_shows(self) -> str:
        where, said = ("At the top pictures of yours; below", "their captions") if self._prompts[1] else ("Above", "your prompts")
        return f"{where} what the model paints from {said} without what was learnt, at the bottom with it."

    _before: np.ndarray | None = None

    @cached_property
    def _prompts(self) -> tuple[list[str], list[np.ndarray]]:
        own = [line.strip() for line in self.shape.prompts.splitlines() if line.strip()]
        if own:
            return own[:_MOST], []
        first = {self.caption(number): number for number in reversed(range(len(self.data)))}  # a caption's first picture
        numbers = sorted(first.values())[:_SHOWN]
        return [self.caption(number) for number in numbers], [self.data.pictures[number] for number in numbers]


def worded(caption: str, word: str) -> str:
    """A caption that begins with the word, unless it holds it."""
    has = not word or re.search(rf"(?<!\w){re.escape(word)}(?!\w)", caption, re.IGNORECASE)
    return caption if has else f"{word}, {caption}" if caption else word


def _square(path: Path, size: int, whole: bool) -> np.ndarray:
    """uint8 [size, size, 3], black where nothing is: the ground of the drawings that the base was taught."""
    try:
        picture = on_background(open_picture(path), "keep")
    except BadPicture as error:
        raise BadPicture(f"{path.name} can't be trained on: {error} Mend it, or take it out of the folder.") from error
    return np.asarray((ImageOps.pad if whole else ImageOps.fit)(picture, (size, size), Image.Resampling.LANCZOS))


@torch.no_grad()
def _encoded(vae: Any, picture: np.ndarray, mirror: bool) -> Tensor:
    """Scaled latents [1 or 2, 4, size/8, size/8]."""
    pixels = to_signed(np.stack([picture, picture[:, ::-1]] if mirror else [picture]))
    return vae.encode(pixels).latent_dist.mode() * vae.config["scaling_factor"]
