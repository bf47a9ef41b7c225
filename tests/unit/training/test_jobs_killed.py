"""A training that is killed at any moment goes on: whole checkpoints, few steps lost, the same weights in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from lib_refonly.training.jobs import events
from lib_refonly.training.jobs.progress import Progress
from tests.unit.test_layers import ROOT
from tests.unit.training.killed import STEPS

KILLS, SAVE_EVERY = 20, 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork; what is tested is the same code")
def test_twenty_kills_at_random_moments_lose_little_and_break_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.unit.training.killed", str(tmp_path), str(KILLS), "7", str(SAVE_EVERY)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)
    assert ran.returncode == 0, ran.stderr[-4000:]
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["codes"] == [0, 0]
    assert len(told["rounds"]) == KILLS
    for one in told["rounds"]:
        assert 0 <= one["reached"] - one["saved"] <= SAVE_EVERY, one
    for before, after in pairwise(told["rounds"]):
        assert after["saved"] >= before["saved"]
    assert 0 < told["rounds"][-1]["saved"] < STEPS  # the kills fell into the training, not after it
    _same_curve(tmp_path)
    weights = [torch.load(tmp_path / name / "export" / "weights.pt", weights_only=True) for name in ("killed", "whole")]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name])


def _same_curve(folder: Path) -> None:
    """Each step once, with the loss that the uninterrupted run had there."""
    killed, whole = Progress(), Progress()
    for progress, name in ((killed, "killed"), (whole, "whole")):
        batch = events.read_all(folder / name / events.FILE)
        assert batch.skipped <= KILLS
        progress.add(batch.events)
    assert (killed.ended, killed.step, killed.left) == ("done", STEPS, 0)
    lost = set(range(1, STEPS + 1)) - {step for step, _ in killed.curves["loss"]}
    assert len(lost) <= KILLS  # a kill may fall between a step and its line
    assert set(killed.curves["loss"]) <= set(whole.curves["loss"])
