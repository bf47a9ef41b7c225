"""`studio.py jobs`: what each action says, as text and as JSON, and how it fails."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from lib_refonly.studio import cli
from lib_refonly.studio.commands import jobs as command
from lib_refonly.training import cli as training
from lib_refonly.training.jobs import asks, events, record
from lib_refonly.training.jobs.house import JobHouse
from lib_refonly.training.jobs.process import JOB_FOLDER
from lib_refonly.training.jobs.worker import Worker
from tests.unit.cli.conftest import Run

CONFIG = '[run]\nkind = "vae"\nfolder = "elsewhere"\ndata = "data"\n[loop]\nsteps = 3\nbatch = 2\nlr = 1e-3\nprecision = "no"\nlog_every = 1\n'


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobHouse, "_see_to_a_worker", lambda _: None)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobHouse:
    monkeypatch.setattr(command, "HOUSE", tmp_path / "house")
    return JobHouse(tmp_path / "house")


@pytest.fixture
def config(house: JobHouse, run: Run) -> Path:
    path = Path("mine.toml")
    path.write_text(CONFIG, encoding="utf-8")
    return path


def test_nothing_there(run: Run, house: JobHouse) -> None:
    ran = run("jobs")
    assert (ran.code, ran.err, "no jobs" in ran.out) == (0, "", True)
    assert run("jobs", "--json").rows == [{"jobs": [], "problems": {}}]
    assert not house.folder.exists()


def test_start_queues_what_train_does_in_the_job_s_folder(run: Run, house: JobHouse, config: Path) -> None:
    ran = run("jobs", "start", config, "--title", "My VAE")
    assert (ran.code, ran.err) == (0, "")
    (job,) = house.list().jobs
    assert ran.out == f"{job.id} is queued.\n"
    folder = house.folder / job.id
    assert job.argv == (sys.executable, str(command.ROOT / "studio.py"), "train", str(folder / "config.toml"), "--folder", str(folder))
    assert (folder / "config.toml").read_text(encoding="utf-8") == CONFIG
    assert (job.title, job.kind, job.cwd, job.state) == ("My VAE", "vae", str(Path.cwd()), "waiting")
    assert run("jobs").out == f"{job.id}  waiting\n    My VAE (vae)\n"
    (row,) = run("jobs", "--json").rows[0]["jobs"]
    assert (row["id"], row["state"], row["results"]) == (job.id, "waiting", [])


def test_a_configuration_that_is_wrong_queues_nothing(run: Run, house: JobHouse) -> None:
    Path("bad.toml").write_text("[run]\nkind = 'vae'\n", encoding="utf-8")
    for name, word in (("bad.toml", "lacks folder, data"), ("gone.toml", "cannot be read")):
        ran = run("jobs", "start", name)
        assert (ran.code, ran.out, word in ran.err) == (2, "", True)
    assert house.list() == ((), {})


def test_the_whole_course(run: Run, house: JobHouse, config: Path) -> None:
    name = run("jobs", "start", config, "--json").rows[0]["id"]
    assert run("jobs", "stop", name).out == f"{name} is paused.\n"
    assert run("jobs", "resume", name[:10]).out == f"{name} is queued.\n"
    ran = run("jobs", "save", name)
    assert (ran.code, "is waiting" in ran.err) == (2, True)
    shown = run("jobs", "show", name, "--json").rows[0]
    assert (shown["state"], shown["progress"]["step"], shown["log"]) == ("waiting", 0, [])
    assert run("jobs", "remove", name).out == f"{name} is removed.\n"
    ran = run("jobs", "show", name)
    assert (ran.code, "no job" in ran.err) == (2, True)


@pytest.mark.parametrize("name", ["../x", "/etc", "a b", "", "--", "20260101"])
@pytest.mark.parametrize("action", ["show", "stop", "resume", "remove"])
def test_ids_that_are_none(run: Run, house: JobHouse, action: str, name: str) -> None:
    ran = run("jobs", action, "--", name)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("studio.py: ")
    assert len(ran.err.splitlines()) == 1


def test_show_tells_how_far_it_is_and_why_it_ended(run: Run, house: JobHouse, config: Path) -> None:
    job = house.submit("Bad", "fake", [sys.executable, "-c", "raise RuntimeError('CUDA out of memory')"])
    Worker(house.folder).run()
    for number in range(1, 5):
        event = {"event": "step", "step": number, "steps": 100, "loss": 0.5, "lr": 0.1, "seconds": 60.0, "memory": 2_000_000_000, "memory_gpu": 3e9}
        events.append(house.folder / job.id / "events.jsonl", event)
    shown = run("jobs", "show", job.id).out
    assert "failed" in shown
    assert "step 4 of 100, 60 s a step, 1:36:00 left, loss 0.5, memory 2.0 GB, graphics card 3.0 GB" in shown
    assert "The graphics card's memory is full. Lower the batch size" in shown
    assert "    RuntimeError: CUDA out of memory" in shown
    told = run("jobs", "show", job.id, "--json").rows[0]
    assert told["progress"]["curves"]["loss"] == [[number, 0.5] for number in range(1, 5)]


def test_a_damaged_job_is_told_beside_the_others(run: Run, house: JobHouse, config: Path) -> None:
    good, bad = (run("jobs", "start", config, "--json").rows[0]["id"] for _ in range(2))
    (house.folder / bad / record.FILE).write_text("{", encoding="utf-8")
    ran = run("jobs")
    assert (ran.code, good in ran.out, bad in ran.out, bad in ran.err) == (0, True, False, True)
    assert list(run("jobs", "--json").rows[0]["problems"]) == [bad]


def test_another_house(run: Run, house: JobHouse, config: Path, tmp_path: Path) -> None:
    run("jobs", "start", config, "--folder", tmp_path / "other")
    assert house.list() == ((), {})
    assert len(JobHouse(tmp_path / "other").list().jobs) == 1
    assert len(run("jobs", "--folder", tmp_path / "other", "--json").rows[0]["jobs"]) == 1
    assert len(run("jobs", "--folder", tmp_path / "other", "list", "--json").rows[0]["jobs"]) == 1


class Line(nn.Module):
    """Learns y = 3x; asks its own run to stop where it is told to."""

    def __init__(self, stop_in: Path | None) -> None:
        super().__init__()
        self.layer, self.stop_in = nn.Linear(1, 1), stop_in

    def draw(self, rng: np.random.Generator, size: int) -> dict[str, Tensor]:
        return {"x": torch.from_numpy(rng.standard_normal((size, 1), dtype=np.float32))}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        if self.stop_in:
            asks.ask(self.stop_in, "stop")
        return {"loss": (self.layer(x) - 3 * x).square().mean()}

    def sample(self) -> Image.Image:
        return Image.new("RGB", (4, 4))

    def export(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)


def test_train_in_another_folder(run: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "make_task", lambda *_: Line(Path("there")))
    ran = run("train", config, "--folder", "there")
    assert (ran.code, ran.out.strip()) == (0, f"vae: step 1 of 3; averaged weights in {Path('there') / 'export'}")
    assert [event["event"] for event in events.read_all(Path("there/events.jsonl")).events][-2:] == ["result", "stopped"]
    monkeypatch.setattr(training, "make_task", lambda *_: Line(None))
    before = events.read_all(Path("there/events.jsonl")).events
    assert "step 1 of 3" in run("train", config, "--folder", "there", "--export").out
    after = events.read_all(Path("there/events.jsonl")).events
    assert [event["event"] for event in after[len(before) :]] == ["result"]
    assert "step 3 of 3" in run("train", config, "--folder", "there").out
    assert not Path("elsewhere").exists()


@pytest.mark.parametrize("in_job", [False, True])
def test_a_fault_of_the_program_has_its_traceback_in_a_job_s_log(run: Run, config: Path, monkeypatch: pytest.MonkeyPatch, in_job: bool) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(training, "make_task", broken)
    monkeypatch.setenv(JOB_FOLDER, "there" if in_job else "")
    ran = run("train", config, "--folder", "there")
    assert ran.code == 70
    assert ("RuntimeError: CUDA out of memory" in ran.err) == in_job


def test_the_examples_in_the_help_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    examples = [line.strip() for line in command._EPILOG.splitlines() if line.strip().startswith("studio.py")]
    assert len(examples) == 5
    for example in examples:
        cli.build_parser().parse_args(shlex.split(example.split("     ")[0])[1:])
    with pytest.raises(SystemExit) as left:
        cli.main(["jobs", "--help"])
    assert left.value.code == 0
