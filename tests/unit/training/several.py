"""What several processes do together, each of them this program: `accelerate launch ... -m tests.unit.training.several FOLDER`.

Each writes FOLDER/RANK.json: what it reached, what it was told, its weights.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lib_refonly.errors import BadSettings, CannotWrite
from lib_refonly.training import loop
from lib_refonly.training.jobs.asks import ask
from lib_refonly.training.loop import LoopConfig, Run

CONFIG = LoopConfig(steps=12, batch=4, lr=1e-2, precision="no", log_every=2, save_every=5, sample_every=100, warmup=2)


class Line(nn.Module):
    """Learns y = 3x, with weights that its loss does not reach. `ranks`: whose rows it draws: with several, the rows that so many processes draw together."""

    def __init__(self, ranks: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.spare = nn.Linear(8, 8), nn.Linear(8, 8)
        self.ranks, self.step = ranks, 0
        self.before: Callable[[int], object] = lambda step: None

    def draw(self, rng: np.random.Generator, size: int) -> dict[str, Tensor]:
        own = [np.random.default_rng([CONFIG.seed, self.step, rank]) for rank in range(self.ranks)] or [rng]
        return {"x": torch.from_numpy(np.concatenate([one.standard_normal((size // len(own), 8), dtype=np.float32) for one in own]))}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.step += 1
        self.before(self.step)
        loss = (self.layer(x) - 3 * x).square()
        return {"loss": loss.mean(), "least": loss.mean(1).mean()}

    def sample(self) -> Image.Image:
        return Image.new("RGB", (4, 4))

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        torch.save(self.layer.weight, folder / "weight.pt")


def ended(task: Line, folder: Path, config: LoopConfig = CONFIG, **options: Any) -> dict[str, Any]:
    """What came of a run."""
    run = Run(task, config, folder)
    try:
        run.train(**options)
        said = ""
    except (BadSettings, CannotWrite) as error:
        said = str(error)
    weights = torch.cat([weight.detach().flatten() for weight in task.parameters()]).tolist()
    return {"step": run.step, "said": said, "weights": weights, "noise": torch.rand(1).item()}


def main(folder: Path) -> None:
    rank = int(os.environ.get("RANK", 0))
    told: dict[str, Any] = {"whole": ended(Line(), folder / "whole", export=True)}

    def at(step: int, what: Callable[[], Any], only: int) -> Line:
        task = Line()
        task.before = lambda now: what() if now == step and rank == only else None
        return task

    told["asked"] = ended(at(4, lambda: ask(folder / "asked", "stop"), 1), folder / "asked")
    told["again"] = ended(Line(), folder / "asked")
    told["signal"] = ended(at(3, lambda: os.kill(os.getpid(), signal.SIGTERM), 1), folder / "signal")

    wrong = Line()
    wrong.before = lambda now: wrong.layer.weight.data.fill_(torch.nan) if now == 3 and rank == 1 else None
    told["nan"] = ended(wrong, folder / "nan")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    disk = Line()
    disk.before = lambda now: setattr(loop.Accelerator, "save_state", full) if rank == 1 else None
    saving, told["full"] = loop.Accelerator.save_state, ended(disk, folder / "full", replace(CONFIG, steps=3))
    loop.Accelerator.save_state = saving

    told["apart"] = ended(Line(), folder / f"own-{rank}")
    (folder / f"{rank}.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
