"""What do ONE-PIC's LoRAs learn? On held-out characters: `studio.py evaluate PANELS -o OUT.md --model FOLDER --base BASE`, FOLDER holding the LoRAs.

What is painted is compared with the true target panel.

- **Whole**: CIE76 distance of the mean colours, figure and ground apart. **In place**: the same in each cell of a grid of 8 by 8: a colour counts where it
  belongs.
- **Shape**: how far the figure covers the true one (intersection over union). A figure is what is not the ground's colour.
- **With the LoRA** and **without** it; **another's panels**: the LoRA, shown the panels of another character (what it paints anyway); **stock inpainting**: the
  LoRA, and the context given the noise of each step instead of being clean, which is what a WebUI's own inpainting does.

Where the panels say all that is to be painted (`TOLD`), there is no prompt; elsewhere it is the true caption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lib_refonly.conditioning.canvas import CleanContext
from lib_refonly.conditioning.plan import Plan
from lib_refonly.errors import BadSettings
from lib_refonly.onepic.lora import Low, merged, read
from lib_refonly.onepic.shelf import told
from lib_refonly.refonly.sampling import Guidance, denoise
from lib_refonly.refonly.schedulers import make_scheduler
from lib_refonly.refonly.text_to_image import TextToImage
from lib_refonly.training.evaluate import lab
from lib_refonly.training.latents import LatentSet, shrink
from lib_refonly.training.panels import KINDS, panel_latents
from lib_refonly.training.sheets import sheet

WAYS = ("with the LoRA", "without", "another's panels", "stock inpainting")
TOLD = ("colorize", "try-on", "frames", "new-pose", "fashion-extraction", "segmentation")
"""Tasks without a prompt."""
_BATCH, _STEPS = 16, 20
_GRID, _APART = 8, 16.0
"""Cells across, and the CIE76 distance from which on a pixel is not the ground's."""
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Trained:
    """A LoRA that says of itself what its panels are."""

    name: str
    task: str
    panels: tuple[tuple[str, ...], ...]
    size: int
    lows: Mapping[str, Low]
    target: str = "target"

    @classmethod
    def read(cls, path: Path) -> Trained:
        """Raises: BadSettings: it does not say which panels it was trained on."""
        lows, metadata = read(path)
        about = told(metadata)
        panels = tuple(tuple(row) for row in about.get("panels", ()))
        if not panels or "size" not in about or any(kind not in KINDS for row in panels for kind in row):
            raise BadSettings(f"{path.name} does not say which panels it was trained on.")
        return cls(path.stem, str(about.get("task", "")), panels, int(about["size"]), lows, str(about.get("target", "target")))


@dataclass(frozen=True)
class Score:
    lora: str
    way: str
    pictures: int
    whole: float
    in_place: float
    shape: float


class _Stock(CleanContext):
    """What a host's own inpainting does: the UNet sees the context as noisy as the rest."""

    def clean(self, noisy: Tensor) -> Tensor:
        return noisy


def evaluate(
    base: TextToImage, loras: Sequence[Trained], data: Path, limit: int = 0, seed: int = 0, on_way: Callable[[str], None] | None = None
) -> tuple[list[Score], Image.Image]:
    """Scores of each LoRA in each way, and a sheet: for each LoRA some canvases as they were given, what was painted, and what is true."""
    scores, rows = list[Score](), list[list[Picture]]()
    for lora in loras:
        shown = panel_latents(data, lora.size)
        count = min(limit or len(shown), len(shown))
        truth = [_view(shown, i, lora.target) for i in range(count)]
        for way in WAYS:
            painted = [picture for batch in _batches(count) for picture in _painted(base, lora, way, shown, batch, seed)]
            scores.append(_score(lora.name, way, painted, truth))
            if way == WAYS[0]:
                for i in range(0, count, max(1, count // 4)):
                    given = [_view(shown, i, kind) for row in lora.panels for kind in row if kind != lora.target]
                    rows.append([*given, *[np.full_like(truth[0], 255)] * (3 - len(given)), painted[i], truth[i]])
            if on_way:
                on_way(f"{lora.name}, {way}")
    return scores, sheet(rows, cell=128)


def _view(shown: LatentSet, record: int, kind: str) -> Picture:
    return shrink(shown.drawings.pictures[record, KINDS.index(kind)], shown.size)


def _batches(count: int) -> Iterator[list[int]]:
    return (list(range(begin, min(begin + _BATCH, count))) for begin in range(0, count, _BATCH))


@torch.no_grad()
def _painted(base: TextToImage, lora: Trained, way: str, shown: LatentSet, records: Sequence[int], seed: int) -> list[Picture]:
    """The target panel of each record's canvas."""
    others = [(i + 1) % len(shown) if way == "another's panels" else i for i in records]
    latents = torch.stack([_canvas(lora, shown.latents[i]) for i in others])
    height, width = shown.latents.shape[-2:]
    row, column = next((r, c) for r, kinds in enumerate(lora.panels) for c, kind in enumerate(kinds) if kind == lora.target)
    target = torch.zeros(latents.shape[-2:], dtype=torch.bool)
    target[row * height : (row + 1) * height, column * width : (column + 1) * width] = True
    canvas = (_Stock if way == "stock inpainting" else CleanContext)(latents, target)
    texts = ["" if lora.task in TOLD else shown.drawings.meta[i]["captions"][0] for i in records]
    noise = torch.stack([torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(seed + i)) for i in records])
    scheduler = make_scheduler("UniPC", base.scheduler_config)
    with nullcontext() if way == "without" else merged(base.unet, lora.lows):
        done = denoise(base.unet, Plan(canvas=canvas), scheduler, noise, _STEPS, Guidance(1.0), text=base.contexts(texts))
    return [np.asarray(picture) for picture in base.decode(canvas.place().cut(done).contiguous())]


def _canvas(lora: Trained, views: NDArray[np.float16]) -> Tensor:
    """Latents of a record's panels [kinds, 4, h, w] -> [4, rows * h, columns * w]."""
    cells = torch.from_numpy(views.astype(np.float32))
    return torch.cat([torch.cat([cells[KINDS.index(kind)] for kind in row], -1) for row in lora.panels], -2)


def _score(lora: str, way: str, painted: Sequence[Picture], truth: Sequence[Picture]) -> Score:
    rows = np.array([_compared(one, true) for one, true in zip(painted, truth, strict=True)])
    return Score(lora, way, len(rows), *(float(mean) for mean in rows.mean(0)))


def _compared(painted: Picture, true: Picture) -> tuple[float, float, float]:
    """Whole, in place and shape, as in this module's text."""
    here, there = lab(painted), lab(true)
    figure, own = _figure(there), _figure(here)
    parts = [part for part in (figure, ~figure) if part.any()]
    whole = np.mean([np.linalg.norm(here[part].mean(0) - there[part].mean(0)) for part in parts])
    place = np.linalg.norm(_cells(here) - _cells(there), axis=-1).mean()
    return float(whole), float(place), float((figure & own).sum() / max(1, (figure | own).sum()))


def _figure(of: NDArray[np.float32]) -> NDArray[np.bool_]:
    """What is not the colour of the picture's two upper corners."""
    ground = np.median(np.concatenate([of[:8, :8].reshape(-1, 3), of[:8, -8:].reshape(-1, 3)]), 0)
    return np.linalg.norm(of - ground, axis=-1) > _APART


def _cells(of: NDArray[np.float32]) -> NDArray[np.float32]:
    side = of.shape[0] // _GRID
    return of.reshape(_GRID, side, _GRID, side, 3).mean((1, 3))


def report(base: str, scores: Sequence[Score], command: str) -> str:
    """The scores as Markdown."""
    lines = [f"# Held-out scores of ONE-PIC on {base}", "", f"Made by `{command}`.", *(__doc__ or "").split("\n")[2:], ""]
    lines += ["| LoRA | painted | pictures | whole | in place | shape |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [f"| {s.lora} | {s.way} | {s.pictures} | {s.whole:.1f} | {s.in_place:.1f} | {s.shape:.2f} |" for s in scores]
    return "\n".join(lines) + "\n"
