"""Trains one tiny model again and again, killing it at random moments: a program of its own, whose children need not import torch once more.

`python -m tests.unit.training.killed FOLDER KILLS SEED SAVE_EVERY` prints one JSON object.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lib_refonly.training.jobs import events, swap
from lib_refonly.training.loop import LoopConfig, Run

STEPS = 600


class Line(nn.Module):
    """Learns y = 3x. Wide enough for saving to take longer than a step, so that most kills hit it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(64, 64)

    def draw(self, rng: np.random.Generator, size: int) -> dict[str, Tensor]:
        return {"x": torch.from_numpy(rng.standard_normal((size, 64), dtype=np.float32))}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.layer(x) - 3 * x).square().mean()}

    def sample(self) -> Image.Image:
        return Image.new("RGB", (4, 4))

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.layer.state_dict(), folder / "weights.pt")


def train(folder: Path, save_every: int) -> int:
    """The number of a child that trains in `folder`; it is 0 when it ends well. What it prints of errors is in error.txt."""
    child = os.fork()
    if not child:
        _train_and_leave(folder, save_every)
    return child


def _train_and_leave(folder: Path, save_every: int) -> NoReturn:
    code = 1
    try:
        torch.set_num_threads(1)
        config = LoopConfig(steps=STEPS, batch=4, lr=1e-2, precision="no", log_every=1, save_every=save_every, sample_every=10**6, warmup=2)
        Run(Line(), config, folder).train(export=True)
        code = 0
    except BaseException:
        (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
    finally:
        os._exit(code)


def told(folder: Path, offset: int) -> list[events.Event]:
    return events.read_all(folder / events.FILE, offset).events


def kill_once(folder: Path, save_every: int, rng: random.Random, offset: int) -> dict[str, Any]:
    """One start, and a kill at a random moment: some steps after its first line, and some milliseconds. What the disk holds then."""
    child = train(folder, save_every)
    begun, lines, delay = time.monotonic(), rng.randint(1, 20), rng.uniform(0, 0.02)
    since: float | None = None
    while since is None or time.monotonic() - since < delay:
        ended, _ = os.waitpid(child, os.WNOHANG)
        if ended or time.monotonic() - begun > 60:
            error = folder / "error.txt"
            raise RuntimeError(error.read_text(encoding="utf-8") if error.exists() else "the child ended by itself, or hangs")
        if since is None and len(told(folder, offset)) >= lines:
            since = time.monotonic()
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    names = sorted(path.name for path in folder.iterdir() if path.name.startswith(swap.KEPT))
    newest = swap.newest(folder)
    steps = [event["step"] for event in told(folder, 0) if event["event"] == "step"]
    return {"reached": max(steps, default=0), "saved": swap.step_of(newest) if newest else 0, "folders": names}


def main() -> None:
    folder, kills, rng, save_every = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3])), int(sys.argv[4])
    for name in ("whole", "killed"):
        (folder / name).mkdir()
    rounds, offset = [], 0
    for _ in range(kills):
        rounds.append(kill_once(folder / "killed", save_every, rng, offset))
        offset = (folder / "killed" / events.FILE).stat().st_size
    codes = [os.waitpid(train(folder / name, save_every), 0)[1] for name in ("killed", "whole")]
    print(json.dumps({"rounds": rounds, "codes": codes}))


if __name__ == "__main__":
    main()
