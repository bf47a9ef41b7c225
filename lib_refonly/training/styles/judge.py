"""Two small networks that say how alike two pictures' styles are, and how alike what they show is. Trained apart from every stylecode model.

They learn from drawings painted on the fly: two drawings in one style belong together for the one, one drawing in two styles for the other (InfoNCE).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lib_refonly.training.drawings.dataset import DrawingSet
from lib_refonly.training.latents import shrink
from lib_refonly.training.styles.paint import paint
from lib_refonly.training.styles.style import random_style

SIZE = 64
STEPS = 600
_PAIRS, _WIDTH, _TEMPERATURE = 24, 32, 0.1
Picture = NDArray[np.uint8]


class Eye(nn.Module):
    """uint8 pictures [n, SIZE, SIZE, 3] -> unit vectors [n, 64]."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, _WIDTH, 2 * _WIDTH, 4 * _WIDTH, 4 * _WIDTH)
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(8, after), nn.SiLU(), nn.Conv2d(after, after, 3, 2, 1), nn.SiLU()]
        self.layers, self.out = nn.Sequential(*layers), nn.Linear(8 * _WIDTH, 64)

    def forward(self, pictures: Tensor) -> Tensor:
        maps = self.layers(pictures.permute(0, 3, 1, 2).float() / 127.5 - 1)
        return F.normalize(self.out(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)), dim=1)


class Judge(nn.Module):
    """`style` and `content`: each an `Eye`."""

    def __init__(self) -> None:
        super().__init__()
        self.style, self.content = Eye(), Eye()

    @torch.no_grad()
    def look(self, eye: str, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """Unit vectors [n, 64] of pictures of any size that halves to SIZE."""
        small = torch.from_numpy(np.stack([shrink(picture, SIZE) for picture in pictures]))
        return getattr(self, eye)(small).numpy()


def trained(drawings: Path, keep: Path, seed: int = 0, on_step: Callable[[int, int], None] | None = None) -> Judge:
    """A judge taught on a drawing set's training split; kept in the folder `keep` for the next time."""
    from safetensors.torch import load_file, save_file

    judge = Judge()
    name = hashlib.sha256(f"{DrawingSet(drawings).description.get('content')} {seed} {STEPS} {_PAIRS}".encode()).hexdigest()[:12]
    path = keep / f"judge-{name}.safetensors"
    if path.exists():
        judge.load_state_dict(load_file(path))
        return judge.eval()
    torch.manual_seed(seed)
    judge = Judge()
    _teach(judge, DrawingSet(drawings), np.random.default_rng(seed), on_step)
    save_file(judge.state_dict(), path)
    return judge.eval()


def _teach(judge: Judge, drawings: DrawingSet, rng: np.random.Generator, on_step: Callable[[int, int], None] | None) -> None:
    optimiser = torch.optim.AdamW(judge.parameters(), lr=1e-3)
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = 1e-3 * (1 - step / STEPS)
        first, same_style, same_content = _triple(drawings, rng)
        loss = _apart(judge.style(first), judge.style(same_style)) + _apart(judge.content(first), judge.content(same_content))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if on_step:
            on_step(step + 1, STEPS)


def _triple(drawings: DrawingSet, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Drawings in styles; other drawings in those styles; the drawings in other styles."""
    chosen = rng.choice(len(drawings), 2 * _PAIRS, replace=False)
    styles = [random_style(rng, heldout=False) for _ in range(2 * _PAIRS)]
    pairs = [(range(_PAIRS), range(_PAIRS)), (range(_PAIRS, 2 * _PAIRS), range(_PAIRS)), (range(_PAIRS), range(_PAIRS, 2 * _PAIRS))]

    def painted(drawing: int, style: int) -> Picture:
        i = chosen[drawing]
        layers = (shrink(array[i, 0], 2 * SIZE) for array in (drawings.pictures, drawings.alpha, drawings.blueprints))
        return shrink(paint(styles[style], *layers, seed=int(rng.integers(1000))), SIZE)

    first, second, third = (torch.from_numpy(np.stack([painted(d, s) for d, s in zip(ds, ss, strict=True)])) for ds, ss in pairs)
    return first, second, third


def _apart(one: Tensor, other: Tensor) -> Tensor:
    alike, own = one @ other.T / _TEMPERATURE, torch.arange(len(one))
    return (F.cross_entropy(alike, own) + F.cross_entropy(alike.T, own)) / 2
