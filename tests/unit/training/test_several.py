"""Training by two processes of accelerate: the same as by one with the same rows, and what one hears or suffers ends or goes on in both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lib_refonly.training.jobs.events import read_all
from lib_refonly.training.loop import Run
from tests.unit.training.several import CONFIG, Line

ROOT = Path(__file__).resolve().parents[3]
LAUNCH = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
"""What `accelerate launch` starts for graphics cards. For processors it starts several by MPI alone."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="torch has no gloo launcher for this there")


def launched(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.run([*LAUNCH, *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """What both processes came to."""
    folder = tmp_path_factory.mktemp("two")
    ran = launched("-m", "tests.unit.training.several", str(folder))
    assert ran.returncode == 0, ran.stderr[-3000:]
    return folder, [json.loads((folder / f"{rank}.json").read_text("utf-8")) for rank in (0, 1)]


Two = tuple[Path, list[dict[str, Any]]]


def events(folder: Path, *names: str) -> list[dict[str, Any]]:
    return [event for event in read_all(folder / "events.jsonl").events if event["event"] in names]


def test_two_processes_learn_what_one_learns_from_the_same_rows(two: Two, tmp_path: Path) -> None:
    folder, (first, second) = two
    task = Line(ranks=2)
    run = Run(task, replace(CONFIG, batch=8), tmp_path)
    run.train(export=True)
    one = torch.cat([weight.detach().flatten() for weight in task.parameters()])
    assert first["whole"]["weights"] == second["whole"]["weights"]
    torch.testing.assert_close(torch.tensor(first["whole"]["weights"]), one, rtol=0, atol=1e-6)
    courses = [[(event["step"], event["loss"], event["least"]) for event in events(place, "step")] for place in (folder / "whole", tmp_path)]
    assert len(courses[0]) == 6
    assert courses[0][0][1] > courses[0][-1][1]
    for ours, theirs in zip(*courses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    averaged = [torch.load(place / "export" / "weight.pt", weights_only=True) for place in (folder / "whole", tmp_path)]
    torch.testing.assert_close(averaged[0], averaged[1], rtol=0, atol=1e-6)


def test_only_the_first_process_writes(two: Two) -> None:
    folder, _ = two
    names = [(event["event"], event["step"]) for event in read_all(folder / "whole" / "events.jsonl").events if event["event"] != "step"]
    assert names == [("start", 0), ("save", 5), ("save", 10), ("save", 12), ("sample", 12), ("result", 12), ("done", 12)]


def test_processes_have_noise_of_their_own(two: Two) -> None:
    _, (first, second) = two
    assert first["whole"]["noise"] != second["whole"]["noise"]


def test_asked_to_stop_both_end_at_the_same_step_and_go_on_as_if_not(two: Two) -> None:
    folder, told = two
    assert [one["asked"]["step"] for one in told] in ([4, 4], [5, 5])
    assert [event["why"] for event in events(folder / "asked", "stopped")] == ["stop"]
    for one in told:
        assert one["again"]["step"] == 12
        assert one["again"]["weights"] == one["whole"]["weights"]


def test_a_signal_to_one_ends_both(two: Two) -> None:
    folder, told = two
    assert [one["signal"]["step"] for one in told] == [3, 3]
    assert [event["why"] for event in events(folder / "signal", "stopped")] == ["signal"]


def test_no_number_in_one_is_said_by_both(two: Two) -> None:
    _, told = two
    for one in told:
        assert one["nan"]["step"] == 2
        assert "no number any more at step 2" in one["nan"]["said"]


def test_a_save_that_fails_in_one_fails_in_both(two: Two) -> None:
    folder, (first, second) = two
    assert "Another process could not save" in first["full"]["said"]
    assert "the disk is full" in second["full"]["said"]
    assert not (folder / "full" / "checkpoint").exists()
    assert not (folder / "full" / "checkpoint.new").exists()


def test_machines_that_do_not_see_the_same_folder_are_refused(two: Two) -> None:
    _, told = two
    for one in told:
        assert one["apart"]["step"] == 0
        assert "do not see the same folder" in one["apart"]["said"]
