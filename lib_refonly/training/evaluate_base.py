"""Does tiny-base read its prompt? Measured, not asserted: `studio.py evaluate DATA -o OUT.md --model BASE`.

A colour's share is the part of the coloured pixels (CIE chroma of 10 or more) whose hue lies within 30 degrees of the colour word's own. It is
taken for "COLOUR hair" against the other colours' prompts, at rising CFG, and with the words in the negative prompt against an empty one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from lib_refonly.conditioning.plan import Plan
from lib_refonly.refonly.sampling import Guidance, denoise
from lib_refonly.refonly.schedulers import make_scheduler
from lib_refonly.training.evaluate import CHROMA, lab
from lib_refonly.training.shapes import SCHEDULE
from lib_refonly.training.sheets import sheet
from lib_refonly.training.vae import to_bytes

COLOURS = {"red": (220, 40, 40), "orange": (240, 140, 30), "green": (50, 180, 60), "blue": (50, 80, 220), "purple": (140, 50, 200), "pink": (240, 130, 190)}
GUIDANCE = (1.0, 2.0, 4.0, 7.0)
REACH = 30.0


@dataclass(frozen=True)
class Response:
    """Shares (0..1) of one colour in pictures for its own prompt at each of GUIDANCE, for the other colours' prompts, for the empty prompt and
    for the empty prompt with the colour as the negative one."""

    colour: str
    own: tuple[float, ...]
    others: float
    empty: float
    negative: float


class Painter:
    """Paints prompts with a StableDiffusionPipeline folder's networks."""

    def __init__(self, folder: Path) -> None:
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.text: Any = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
        self.unet: Any = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32).eval()
        self.vae: Any = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval()
        self.size = 8 * self.unet.config["sample_size"]

    @torch.no_grad()
    def paint(self, prompt: str, negative: str, guidance: float, count: int, seed: int) -> NDArray[np.uint8]:
        """uint8 [count, S, S, 3], UniPC, 20 steps."""
        texts = [prompt] * count if guidance == 1 else [negative] * count + [prompt] * count
        ids = self.tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        noise = torch.randn(count, 4, self.size // 8, self.size // 8, generator=torch.Generator().manual_seed(seed))
        scheduler = make_scheduler("UniPC", SCHEDULE)
        latents = denoise(self.unet, Plan(), scheduler, noise, 20, Guidance(guidance), text=self.text(ids).last_hidden_state)
        return to_bytes(self.vae.decode(latents / self.vae.config["scaling_factor"]).sample)


def share(pictures: NDArray[np.uint8], colour: tuple[int, int, int]) -> float:
    """The colour's share of the coloured pixels, averaged over pictures [n, S, S, 3]."""
    target = lab(np.array([[colour]], np.uint8))[0, 0]
    shares = []
    for picture in pictures:
        values = lab(picture)
        coloured = values[np.linalg.norm(values[..., 1:], axis=-1) >= CHROMA]
        if len(coloured):
            off = np.degrees(np.arctan2(coloured[:, 2], coloured[:, 1]) - np.arctan2(target[2], target[1]))
            shares.append((np.abs((off + 180) % 360 - 180) <= REACH).mean())
    return float(np.mean(shares)) if shares else 0.0


def evaluate_base(folder: Path, count: int = 8, seed: int = 0) -> tuple[list[Response], Image.Image]:
    """Responses colour by colour, and a sheet: a row for each colour, a column for each guidance scale, the empty and the negative prompt."""
    painter = Painter(folder)
    empty = painter.paint("", "", 1.0, count, seed)
    own = {c: [painter.paint(f"{c} hair", "", g, count, seed) for g in GUIDANCE] for c in COLOURS}
    responses, rows = [], []
    for name, rgb in COLOURS.items():
        negative = painter.paint("", f"{name} hair", 4.0, count, seed)
        others = [share(own[c][2], rgb) for c in COLOURS if c != name]
        responses.append(Response(name, tuple(share(p, rgb) for p in own[name]), float(np.mean(others)), share(empty, rgb), share(negative, rgb)))
        rows.append([p[0] for p in (*own[name], empty, negative)])
    return responses, sheet(rows, cell=128)


def report_base(name: str, responses: Sequence[Response], command: str) -> str:
    """The responses as Markdown."""
    lines = [f"# How {name} reads its prompt", "", f"Made by `{command}`.", *(__doc__ or "").split("\n")[2:], ""]
    lines += ["| colour | " + " | ".join(f"CFG {g:g}" for g in GUIDANCE) + " | other colours' prompts | empty prompt | as negative prompt |"]
    lines += ["| --- " * (len(GUIDANCE) + 4) + "|"]
    for r in responses:
        cells = [*r.own, r.others, r.empty, r.negative]
        lines.append(f"| {r.colour} | " + " | ".join(f"{100 * value:.0f} %" for value in cells) + " |")
    return "\n".join(lines) + "\n"


def holds(responses: Sequence[Response]) -> bool:
    """The words work: every colour is far more frequent when asked for, CFG adds to it, and a negative prompt takes from it on the whole."""
    asked = all(r.own[2] > 2 * r.others for r in responses)
    cfg = np.mean([r.own[2] - r.own[0] for r in responses]) > 0
    negative = np.mean([r.empty - r.negative for r in responses]) > 0
    return bool(asked and cfg and negative)
