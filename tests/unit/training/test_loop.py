from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from lib_refonly.errors import BadSettings, CannotWrite
from lib_refonly.training.jobs import events
from lib_refonly.training.jobs.asks import ask
from lib_refonly.training.jobs.events import read_all
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


def test_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    class Wider(Line):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 2)

    Run(Line(), replace(CONFIG, steps=3), tmp_path).train()
    with pytest.raises(BadSettings, match=r"is another training: .*size mismatch.* Choose another folder"):
        Run(Wider(), CONFIG, tmp_path).train()
    assert Run(Line(), CONFIG, tmp_path).train() == 8


def test_no_memory_is_no_other_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Run(Line(), replace(CONFIG, steps=3), tmp_path).train()
    run = Run(Line(), CONFIG, tmp_path)

    def full(_: str) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(run.accelerator, "load_state", full)
    with pytest.raises(torch.OutOfMemoryError):
        run.train()


def test_the_last_sheet_is_painted_once(tmp_path: Path) -> None:
    Run(Line(), replace(CONFIG, steps=4, sample_every=2), tmp_path).train()
    assert [event["step"] for event in read_all(tmp_path / "events.jsonl").events if event["event"] == "sample"] == [2, 4]


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


class Asked(Line):
    """Asks its own run at a step, as a page would."""

    def __init__(self, folder: Path, at: int, *what: str) -> None:
        super().__init__()
        self.folder, self.at, self.what = folder, at, what

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.at -= 1
        if not self.at:
            for one in self.what:
                ask(self.folder, one)
        return super().forward(x)


def told(folder: Path) -> list[dict[str, Any]]:
    return read_all(folder / "events.jsonl").events


@pytest.mark.parametrize("what", ["stop", "pause"])
def test_asked_to_end_it_saves_and_ends_and_goes_on_later(tmp_path: Path, what: str) -> None:
    first = Asked(tmp_path, 2, what)
    assert Run(first, CONFIG, tmp_path).train(export=True) == 2
    tail = [(event["event"], event["step"], event.get("why"), event.get("file")) for event in told(tmp_path)[-4:]]
    wanted = [("save", 2, None, None), ("sample", 2, None, "samples/0000002.png"), ("result", 2, None, "export"), ("stopped", 2, what, None)]
    assert tail == wanted
    second = Line()
    assert Run(second, CONFIG, tmp_path).train() == 8  # what was asked is not asked again
    whole = Line()
    Run(whole, CONFIG, tmp_path / "whole").train()
    for a, b in zip(weights(whole), weights(second), strict=True):
        assert torch.equal(a, b)


def test_asked_to_save_and_to_sample_it_does_and_goes_on(tmp_path: Path) -> None:
    assert Run(Asked(tmp_path, 2, "save", "sample"), CONFIG, tmp_path).train() == 8
    steps = {name: [event["step"] for event in told(tmp_path) if event["event"] == name] for name in ("save", "sample", "done")}
    assert steps == {"save": [2, 3, 6, 8], "sample": [2, 8], "done": [8]}


def test_what_it_tells(tmp_path: Path) -> None:
    Run(Line(), CONFIG, tmp_path).train(export=True)
    found = told(tmp_path)
    assert (found[0]["event"], found[0]["steps"]) == ("start", 8)
    assert [event["event"] for event in found[-2:]] == ["result", "done"]
    steps = [event for event in found if event["event"] == "step"]
    assert [event["step"] for event in steps] == [2, 4, 6, 8]
    assert all(event["memory"] > 10e6 and event["seconds"] > 0 and event["lr"] >= 0 for event in steps)


def test_the_time_limit_and_a_signal_say_why(tmp_path: Path) -> None:
    Run(Line(), replace(CONFIG, steps=10**6, minutes=1e-3), tmp_path / "a").train()
    assert told(tmp_path / "a")[-1]["why"] == "minutes"
    task = Line()
    task.layer.register_forward_hook(lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert Run(task, CONFIG, tmp_path / "b").train() == 1
    assert told(tmp_path / "b")[-1]["why"] == "signal"


class Wide(Line):
    """Its checkpoint is larger than the files that a test allows: weights of 0.6 MB, and the optimiser's state of 1.3 MB."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(400, 400)

    def draw(self, rng: np.random.Generator, size: int) -> dict[str, Tensor]:
        return {"x": torch.from_numpy(rng.standard_normal((size, 400), dtype=np.float32))}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit on a file's size")
@pytest.mark.parametrize("room", [300_000, 1_000_000], ids=["safetensors", "torch"])
@pytest.mark.parametrize("for_ever", [False, True])
def test_a_disk_without_room_costs_no_checkpoint(tmp_path: Path, room: int, for_ever: bool) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    task, size = Wide(), before[0]
    run = Run(task, replace(CONFIG, log_every=100), tmp_path)

    def limited(*_: object) -> None:
        full = run.step >= 4 and (for_ever or run.step < 7)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room if full else size, before[1]))

    task.layer.register_forward_hook(limited)
    try:
        if for_ever:
            with pytest.raises(CannotWrite, match="Make room on the disk"):
                run.train()
        else:
            assert run.train() == 8
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    names = [(event["event"], event["step"]) for event in told(tmp_path) if "save" in event["event"] or event["event"] in ("done", "stopped")]
    ending = [("save-failed", 8)] if for_ever else [("save", 8), ("done", 8)]
    assert names == [("save", 3), ("save-failed", 6), *ending]
    failed = next(event for event in told(tmp_path) if event["event"] == "save-failed")
    assert "could not be saved" in failed["why"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("checkpoint")) == ["checkpoint"]
    again = Run(Wide(), CONFIG, tmp_path)
    assert again.load()
    assert again.step == (3 if for_ever else 8)


def test_samples_and_events_that_cannot_be_written_stop_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "samples").write_text("no folder", encoding="utf-8")
    Run(Line(), CONFIG, tmp_path).train()
    assert any(event["event"] == "sample-failed" and event["why"] for event in told(tmp_path))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(events, "append", full)
    assert Run(Line(), replace(CONFIG, steps=9), tmp_path).train() == 9
    assert "No space left on device" in capsys.readouterr().err


def test_who_only_looks_changes_nothing(tmp_path: Path) -> None:
    Run(Line(), replace(CONFIG, steps=3), tmp_path).train()
    (tmp_path / "checkpoint.new").mkdir()  # another process is saving
    (tmp_path / "checkpoint.new" / "model.safetensors").write_bytes(b"half")
    before = (told(tmp_path), sorted(str(path) for path in tmp_path.rglob("*")))
    looks = Run(Line(), CONFIG, tmp_path)
    assert looks.load()
    assert looks.step == 3
    assert (told(tmp_path), sorted(str(path) for path in tmp_path.rglob("*"))) == before


def test_a_whole_checkpoint_beside_its_place_is_taken(tmp_path: Path) -> None:
    Run(Line(), replace(CONFIG, steps=6), tmp_path).train()
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.new")  # killed before it was put into its place
    run = Run(Line(), CONFIG, tmp_path)
    run.resume()
    assert run.step == 6
    assert (tmp_path / "checkpoint" / "step.json").exists()
