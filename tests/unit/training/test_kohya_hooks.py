"""What a job asks of sd-scripts and hears from it, on loops that call as sd-scripts' do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from lib_refonly.errors import BadSettings
from lib_refonly.training.jobs import asks, events
from lib_refonly.training.kohya import hooks, shim, states, toml_text
from tests.unit.test_layers import ROOT, imports, top
from tests.unit.training.fake_sd_scripts import Fake

GOALS = ("lora-sd1", "embedding-sd1", "full-sd1")
"""A trainer that can go on counting, one that can't, and functions."""


class Job:
    """A folder with a config.toml. `run` is one sitting of the shim."""

    def __init__(self, folder: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.fake, self.out, self._monkeypatch = folder, fake, folder / "out", monkeypatch
        self.values: dict[str, Any] = {"output_dir": str(self.out), "save_state": True, "save_every_n_steps": 100, "max_train_steps": 6}

    def run(self, goal: str, ask: str = "", before: int = 1, **values: Any) -> list[dict[str, Any]]:
        """The events of this sitting, without times. `ask` is asked before the loop's own step `before`."""
        (self.folder / "config.toml").write_text(toml_text.written(self.values | values), encoding="utf-8")
        if ask:
            self.fake.at[before] = lambda: asks.ask(self.folder, ask)
        self.fake.util = type(self.fake)().util  # as in a new process: nothing is wrapped yet
        self.fake.install(self._monkeypatch)
        offset = (self.folder / "events.jsonl").stat().st_size if (self.folder / "events.jsonl").exists() else 0
        self._monkeypatch.setattr(sys, "argv", ["shim.py", "--goal", goal, "--job", str(self.folder), "--config_file", str(self.folder / "config.toml")])
        shim.main()
        return events.read_all(self.folder / "events.jsonl", offset).events


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr(hooks, "_SHORTEST", 0.0)
    monkeypatch.setattr(shim.signal, "signal", lambda *_: None)
    monkeypatch.syspath_prepend(str(tmp_path))
    return Job(tmp_path, Fake(), monkeypatch)


def kinds(told: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(event["event"], event["step"]) for event in told]


@pytest.mark.parametrize("goal", GOALS)
def test_a_training_tells_its_steps_and_its_result(job: Job, goal: str) -> None:
    told = job.run(goal, max_train_steps=3, save_every_n_steps=2)
    steps = [event for event in told if event["event"] == "step"]
    assert [event["step"] for event in steps] == [1, 2, 3]
    assert [event["loss"] for event in steps] == [1.0, 4.0, 9.0]
    assert all(event["lr"] == 1e-4 and event["seconds"] >= 0 and event["memory"] > 1e7 for event in steps)
    assert kinds(told)[0] == ("start", 0)
    assert told[0]["steps"] == 3
    assert [event["files"] for event in told if event["event"] == "save"] == [
        ["out/mine-step00000002-state", "out/mine-step00000002.safetensors"],
        ["out/mine-state", "out/mine.safetensors"],
    ]
    assert [(event["event"], event.get("file")) for event in told[-2:]] == [("result", "out/mine.safetensors"), ("done", None)]


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("ask", ["stop", "pause"])
def test_stop_saves_all_and_the_same_command_goes_on(job: Job, goal: str, ask: str) -> None:
    told = job.run(goal, ask)
    assert kinds(told)[-2:] == [("result", 2), ("stopped", 2)]
    assert told[-1]["why"] == ask
    assert states.whole(job.out)[0] == (2, job.out / "mine-step00000002-state")
    assert (job.out / "mine-step00000002.safetensors").is_file()
    assert asks.Asks(job.folder).waiting() == set()
    told = job.run(goal)
    assert kinds(told)[0] == ("resume", 2)
    assert told[0]["steps"] == 6
    assert [event["step"] for event in told if event["event"] == "step"] == [3, 4, 5, 6]
    assert kinds(told)[-1] == ("done", 6)
    assert job.fake.args.resume == str(job.out / "mine-step00000002-state")


@pytest.mark.parametrize("goal", GOALS)
def test_saved_files_have_the_true_step_s_number_after_a_resume(job: Job, goal: str) -> None:
    job.run(goal, "stop", before=3)
    job.run(goal, "save", before=1)
    assert (job.out / "mine-step00000006.safetensors").is_file()
    assert [step for step, _ in states.whole(job.out)][0] == 6


def test_save_now_saves_once_and_goes_on(job: Job) -> None:
    told = job.run("lora-sd1", "save")
    assert kinds(told)[-1] == ("done", 6)
    assert [event["files"] for event in told if event["event"] == "save"][0] == ["out/mine-step00000002-state", "out/mine-step00000002.safetensors"]
    assert not (job.out / "mine-step00000003.safetensors").exists()
    assert job.fake.args.save_every_n_steps == 100


def test_sample_now(job: Job) -> None:
    told = job.run("lora-sd1", "sample", sample_prompts="prompts.txt")
    assert [(event["step"], event["files"]) for event in told if event["event"] == "sample"] == [(2, ["out/sample/002.png"])]
    assert job.fake.args.sample_every_n_steps is None


def test_sample_now_without_prompts_says_why_not(job: Job) -> None:
    told = job.run("lora-sd1", "sample")
    assert [event["why"] for event in told if event["event"] == "sample-failed"] == ["There are no sample prompts. Write some, then start anew."]
    assert kinds(told)[-1] == ("done", 6)


def test_several_batches_a_step_are_one_step_also_after_a_resume(job: Job) -> None:
    job.run("lora-sd1", "stop", gradient_accumulation_steps=2)
    told = job.run("lora-sd1", gradient_accumulation_steps=2)
    assert [event["step"] for event in told if event["event"] == "step"] == [3, 4, 5, 6]
    assert job.fake.args.initial_step == 0  # else sd-scripts would take the state's number, and count batches for steps


def test_a_state_that_was_cut_off_is_not_gone_on_from(job: Job) -> None:
    job.run("lora-sd1", "stop")
    cut = job.out / "mine-step00000004-state"
    cut.mkdir()
    (cut / "random_states_0.pkl").write_bytes(b"x")
    (job.out / "mine-step00000005-state.part").mkdir()
    told = job.run("lora-sd1")
    assert kinds(told)[0] == ("resume", 2)
    assert not list(job.out.glob("*.part"))


@pytest.mark.parametrize("goal", GOALS)
def test_a_state_of_the_last_step_without_the_model_is_not_gone_on_from(job: Job, goal: str) -> None:
    """A kill between the last state and the model: there would be no step left to train."""
    job.run(goal, save_every_n_steps=3)
    (job.out / "mine.safetensors").unlink()
    told = job.run(goal, save_every_n_steps=3)
    assert kinds(told)[0] == ("resume", 3)
    assert kinds(told)[-1] == ("done", 6)
    assert (job.out / "mine.safetensors").is_file()


def test_what_is_finished_is_not_trained_again_but_more_steps_go_on(job: Job) -> None:
    job.run("lora-sd1")
    written = (job.out / "mine.safetensors").stat().st_mtime_ns
    assert kinds(job.run("lora-sd1")) == [("result", 6), ("done", 6)]
    assert (job.out / "mine.safetensors").stat().st_mtime_ns == written
    told = job.run("lora-sd1", max_train_steps=8)
    assert (kinds(told)[0], kinds(told)[-1]) == (("resume", 6), ("done", 8))


def test_a_stop_that_comes_with_the_last_step_is_the_end(job: Job) -> None:
    told = job.run("lora-sd1", "stop", before=5)
    assert kinds(told)[-1] == ("done", 6)


def test_the_states_of_the_last_two_steps_are_kept(job: Job) -> None:
    job.run("lora-sd1", save_every_n_steps=1)
    assert states.whole(job.out) == [(6, job.out / "mine-state"), (5, job.out / "mine-step00000005-state")]
    assert not list(job.out.glob("*.part"))


def test_a_killed_save_leaves_the_state_before(tmp_path: Path) -> None:
    """The folder has its name only when everything is in it."""
    accelerator, place = Fake().util.prepare_accelerator(type("A", (), {"gradient_accumulation_steps": 1})), tmp_path / "mine-state"
    place.mkdir()
    (place / "old").touch()

    def broken(folder: str) -> None:
        Path(folder).mkdir()
        raise OSError(28, "No space left on device")

    accelerator.save_state = broken
    watch = hooks.Watch(None)
    watch.begin(accelerator, type("Args", (), {"output_dir": str(tmp_path)}))
    with pytest.raises(OSError, match="No space left"):
        accelerator.save_state(str(place))
    assert (place / "old").exists()


def test_sigterm_stops_after_the_step_and_a_file_says_more(job: Job) -> None:
    watch = hooks.Watch(job.folder)
    watch.ask("signal")
    asks.ask(job.folder, "stop")
    assert watch._asked() == ["signal", "stop"]
    watch.ask("signal")
    assert watch._asked() == ["signal"]
    assert watch._asked() == []


def test_no_pictures_is_no_success(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        job.run("lora-sd1", no_pictures=True)
    assert left.value.code == BadSettings.exit_code
    assert capsys.readouterr().err.startswith("studio.py: No step was trained")


def test_without_a_job_it_trains_and_tells_nobody(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    (job.folder / "config.toml").write_text(toml_text.written(job.values), encoding="utf-8")
    job.fake.install(monkeypatch)
    monkeypatch.delenv(shim.JOB_FOLDER, raising=False)
    monkeypatch.setattr(sys, "argv", ["shim.py", "--goal", "lora-sd1", "--config_file", str(job.folder / "config.toml")])
    shim.main()
    assert (job.out / "mine.safetensors").is_file()
    assert not (job.folder / "events.jsonl").exists()


def test_the_job_s_folder_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(shim.JOB_FOLDER, "/jobs/one")
    ours, theirs = shim.own_arguments(["--goal", "lora-sd1", "--config_file", "c.toml", "--jobs", "x"])
    assert (ours.job, theirs) == (Path("/jobs/one"), ["--config_file", "c.toml", "--jobs", "x"])
    from lib_refonly.training.jobs import process

    assert process.JOB_FOLDER == shim.JOB_FOLDER


def test_a_loss_that_is_none_is_told_as_none(job: Job) -> None:
    hooks.Watch(job.folder)._tell("step", loss=float("nan"))
    assert json.loads((job.folder / "events.jsonl").read_text())["loss"] is None


def test_the_shim_needs_none_of_the_studio_s_packages() -> None:
    """It runs in sd-scripts' environment. Read from the sources, through all that they import."""
    todo, seen, foreign = [f"lib_refonly.training.kohya.{name}" for name in ("shim", "record", "chosen_network")], set[str](), set[str]()
    while todo:
        module = todo.pop()
        path = ROOT / module.replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if module in seen or not file.exists():
            continue
        seen.add(module)
        parents = {module.rsplit(".", number)[0] for number in range(1, module.count(".") + 1)}
        todo += [name for name in {*imports(file), *parents} if top(name) == "lib_refonly"]
        foreign |= {top(name) for name in imports(file)}
    assert "lib_refonly.training.jobs.asks" in seen
    assert foreign - set(sys.stdlib_module_names) == {"lib_refonly", "torch", "safetensors", "PIL", "numpy"}
