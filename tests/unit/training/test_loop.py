from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from lib_refonly.errors import BadSettings
from lib_refonly.training.loop import LoopConfig, Run

CONFIG = LoopConfig(steps=8, batch=4, lr=1e-2, precision="no", log_every=2, save_every=3, sample_every=100, warmup=2)


class Line(nn.Module):
    """Learns y = 3x."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(1, 1)
        self.drawn: list[float] = []

    def draw(self, rng: np.random.Generator, size: int) -> dict[str, Tensor]:
        x = torch.from_numpy(rng.standard_normal((size, 1), dtype=np.float32))
        self.drawn.append(float(x.sum()))
        return {"x": x}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.layer(x) - 3 * x).square().mean()}

    def sample(self) -> Image.Image:
        return Image.new("RGB", (4, 4))

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        torch.save(self.layer.weight, folder / "weight.pt")


def weights(task: Line) -> list[Tensor]:
    return [p.detach().clone() for p in task.parameters()]


def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(tmp_path: Path) -> None:
    whole = Line()
    Run(whole, CONFIG, tmp_path / "whole").train()
    first = Line()
    run = Run(first, replace(CONFIG, steps=8), tmp_path / "parts")
    original = run._one_step

    def stop_after_five() -> dict[str, float]:
        result = original()
        run._stop = run.step == 5
        return result

    run._one_step = stop_after_five
    assert run.train() == 5
    second = Line()
    again = Run(second, CONFIG, tmp_path / "parts")
    assert again.train() == 8
    assert first.drawn + second.drawn == whole.drawn
    for a, b in zip(weights(whole), weights(second), strict=True):
        assert torch.equal(a, b)


def test_a_kill_while_saving_leaves_a_checkpoint(tmp_path: Path) -> None:
    Run(Line(), replace(CONFIG, steps=3), tmp_path).train()
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")  # killed between the two renames
    (tmp_path / "checkpoint.new").mkdir()
    assert Run(Line(), CONFIG, tmp_path).train() == 8


def test_it_learns_and_says_so(tmp_path: Path) -> None:
    task = Line()
    run = Run(task, replace(CONFIG, steps=400, lr=0.05, log_every=100), tmp_path)
    run.train()
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    losses = [e["loss"] for e in events if e["event"] == "step"]
    assert losses[-1] < 0.01 < losses[0]
    assert (tmp_path / "samples" / "0000400.png").exists()
    before = weights(task)
    averaged = torch.load(run.export() / "weight.pt", weights_only=True)
    assert not torch.equal(averaged, before[0])
    assert torch.equal(before[0], weights(task)[0])


def test_no_number_any_more_is_said(tmp_path: Path) -> None:
    class Broken(Line):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"loss": self.layer(x).mean() * float("nan")}

    with pytest.raises(BadSettings, match="learning rate"):
        Run(Broken(), CONFIG, tmp_path).train()
    assert not (tmp_path / "checkpoint").exists()


def test_the_time_limit_ends_a_sitting(tmp_path: Path) -> None:
    assert Run(Line(), replace(CONFIG, steps=10**6, minutes=1e-3), tmp_path).train() < 10**6
    assert (tmp_path / "checkpoint" / "step.json").exists()
