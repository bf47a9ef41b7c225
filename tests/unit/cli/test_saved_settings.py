"""`studio.py train` and `studio.py jobs start` with settings that the Train page saved for sd-scripts. The trainer only pretends to learn."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lib_refonly.errors import BadSettings
from lib_refonly.studio.commands import jobs as command
from lib_refonly.training.jobs import events
from lib_refonly.training.jobs.house import JobHouse
from lib_refonly.training.kohya import config, foreground, installed, launch, options, presets, saved
from lib_refonly.training.kohya.saved import Saved
from tests.unit.cli.conftest import Run

ROOT = Path(__file__).resolve().parents[3]
TRAINER = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from lib_refonly.training.jobs import events
from lib_refonly.training.jobs.asks import Asks
folder, most = Path(os.environ["REFONLY_JOB"]), int(os.environ["MOST"])
mark = folder / "out" / "saved"
step = int(mark.read_text()) if mark.exists() else 0
def tell(event, **more): events.append(folder / "events.jsonl", {{"event": event, "step": step, **more}})
tell("resume" if step else "start", steps=most)
while step < most:
    step += 1
    tell("step", loss=1 / step, seconds=0.01)
    if (folder / "burst").exists():
        print("RuntimeError: CUDA out of memory", flush=True)
        sys.exit(1)
    asked = set() if "DEAF" in os.environ else Asks(folder).take_all()
    if asked:
        mark.parent.mkdir(exist_ok=True)
        mark.write_text(str(step))
        tell("save")
        tell("stopped", why="stop")
        sys.exit()
    time.sleep(0.01)
tell("done")
"""


@pytest.fixture(autouse=True)
def _trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sd-scripts", "trainers"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("REFONLY_TRAINERS_DIR", str(tmp_path / "trainers"))
    installed.remember(installed.Installed("sd-scripts", str(tmp_path / "sd-scripts"), sys.executable, "v0", "0", "2", str(options.RECORDED)))
    monkeypatch.setattr(launch, "argv", lambda *_: [sys.executable, "-c", TRAINER])
    monkeypatch.setenv("MOST", "30")


@pytest.fixture
def mine(run: Run) -> Path:
    """mine.toml, with pictures and a checkpoint beside it."""
    Path("girl").mkdir()
    Image.new("RGB", (8, 8)).save("girl/a.png")
    Path("base.safetensors").write_bytes(b"x")
    changed = {"pretrained_model_name_or_path": "base.safetensors", "sample_prompts": "a girl\na hat", "network_dim": 7}
    settings = replace(presets.preset("character", "lora-sd1", 8), **changed)
    path = Path("mine.toml").absolute()
    path.write_text(saved.written(Saved("character", "lora-sd1", settings, "girl", "mihoxyz")), encoding="utf-8")
    return path


def told(folder: Path = Path("mine")) -> list[str]:
    return [event["event"] for event in events.read_all(folder / "events.jsonl").events if event["event"] != "step"]


def test_what_is_saved_is_read_back(mine: Path) -> None:
    read = saved.read(mine)
    assert (read.goal, read.task, read.pictures, read.word, read.left_out) == ("lora-sd1", "character", "girl", "mihoxyz", ())
    assert (read.settings.network_dim, read.settings.sample_prompts) == (7, "a girl\na hat")
    assert config.read_toml(mine)["network_dim"] == 7


def test_it_runs_as_it_stands_beside_the_file(run: Run, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    ran = run("train", mine)
    folder = mine.with_suffix("")
    assert (ran.code, told(folder)) == (0, ["start", "done"])
    assert f"Pictures: {mine.parent / 'girl'} (trigger word: mihoxyz)" in ran.out
    assert f"Checkpoint: {mine.parent / 'base.safetensors'}" in ran.out
    assert f"Everything is written to: {folder}" in ran.out
    assert ran.out.splitlines()[-1] == "lora-sd1: step 30 of 1600."
    values, data = config.read_toml(folder / config.CONFIG), config.read_toml(folder / config.DATASET)
    assert (values["output_dir"], values["network_dim"]) == (str(folder / "out"), 7)
    assert Path(values["sample_prompts"]).read_text() == "a girl\na hat\n"
    (subset,) = data["datasets"][0]["subsets"]
    assert (subset["image_dir"], subset["class_tokens"]) == (str(mine.parent / "girl"), "mihoxyz")
    assert list((tmp_path / "other").iterdir()) == []


def test_other_folders_and_files_by_the_command_line(run: Run, mine: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures" / "b.png")
    (tmp_path / "other.safetensors").write_bytes(b"x")
    Path("base.safetensors").unlink()
    more = ("--pictures", tmp_path / "pictures", "--checkpoint", tmp_path / "other.safetensors", "--folder", tmp_path / "there", "--steps", "9")
    assert run("train", mine, *more).code == 0
    values = config.read_toml(tmp_path / "there" / config.CONFIG)
    assert (values["pretrained_model_name_or_path"], values["max_train_steps"]) == (str(tmp_path / "other.safetensors"), 9)
    assert not mine.with_suffix("").exists()


def test_accelerate_s_own_file_for_several_cards(run: Run, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def argv(*given: Any) -> list[str]:
        asked.append(given[3])
        return [sys.executable, "-c", TRAINER]

    monkeypatch.setattr(launch, "argv", argv)
    assert_found("two.yaml is no file. Make one with accelerate config", run("train", mine, "--accelerate", "two.yaml").err)
    assert not mine.with_suffix("").exists()
    Path("two.yaml").write_text("num_processes: 2\n")
    assert run("train", mine, "--accelerate", "two.yaml").code == 0
    assert run("train", mine).code == 0
    assert asked == [Path("two.yaml").absolute(), None]


def press(at: Callable[[], bool], times: int = 1) -> threading.Thread:
    """Ctrl-C, as soon as `at` holds."""

    def wait() -> None:
        for _ in range(times):
            until = time.monotonic() + 60
            while not at() and time.monotonic() < until:
                time.sleep(0.02)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.skipif(os.name == "nt", reason="os.kill ends the process itself on Windows")
def test_ctrl_c_saves_and_the_same_command_goes_on(run: Run, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOST", "3000")
    pressed = press(lambda: Path("mine/events.jsonl").exists())
    ran = run("train", mine)
    pressed.join()
    assert ran.code == 130
    step = int(Path("mine/out/saved").read_text())
    assert f"Stopped and saved at step {step}. The same command goes on" in ran.err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.setenv("MOST", str(step + 5))
    assert run("train", mine).code == 0
    assert told() == ["start", "save", "stopped", "resume", "done"]


@pytest.mark.skipif(os.name == "nt", reason="os.kill ends the process itself on Windows")
def test_a_second_ctrl_c_ends_what_does_not_hear(run: Run, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOST", "100000")
    monkeypatch.setenv("DEAF", "1")
    pressed = press(lambda: Path("mine/events.jsonl").exists(), times=2)
    ran = run("train", mine)
    pressed.join()
    assert (ran.code, "Ended at once" in ran.err) == (130, True)


def test_minutes(run: Run, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOST", "100000")
    ran = run("train", mine, "--minutes", "0.02")
    assert (ran.code, told()) == (0, ["start", "save", "stopped"])
    assert "The same command goes on from there." in ran.out


def test_a_failure_is_explained_and_its_log_named(run: Run, mine: Path) -> None:
    Path("mine/out").mkdir(parents=True)
    Path("mine/burst").touch()
    ran = run("train", mine)
    assert ran.code == 1
    assert "The graphics card's memory is full. Lower the batch size" in ran.err
    assert str(mine.with_suffix("") / "log") in ran.err


def test_two_at_a_time_are_refused(run: Run, mine: Path) -> None:
    with foreground.working_in(Path("mine").absolute()):
        ran = run("train", mine)
        assert (ran.code, "runs in" in ran.err) == (2, True)
    Path("mine/notes.txt").touch()
    assert run("train", mine).code == 0


def _changed(path: Path, **values: object) -> None:
    head, _, rest = path.read_text().partition("\n")
    names = {name: f'{name} = "{value}"' for name, value in values.items()}
    kept = [line for line in rest.splitlines() if line.partition(" = ")[0] not in names]
    path.write_text("\n".join([head, *names.values(), *kept]) + "\n")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"pretrained_model_name_or_path": "gone.safetensors"}, "gone.safetensors is not on this machine.*--checkpoint FILE"),
        ({"pretrained_model_name_or_path": "stabilityai/sd-turbo"}, "not on this machine"),
        ({"pretrained_model_name_or_path": "//host/share/base.safetensors"}, "on another machine"),
        ({"pretrained_model_name_or_path": "\\\\\\\\host\\\\share\\\\b.safetensors"}, "on another machine"),
        ({"vae": "gone.safetensors"}, r"\(vae\). Correct vae"),
        ({"tokenizer_cache_dir": "/nowhere/at/all"}, "tokenizer_cache_dir"),
        ({"network_module": "os"}, "network_module"),
        ({"wandb_api_key": "x"}, "secret"),
        ({"config_file": "/etc/x"}, "config_file"),
        ({"output_name": "../../x"}, "file's name"),
        ({"network_dimm": "3"}, "network_dim"),
    ],
)
def test_files_that_are_refused_before_anything_is_written(run: Run, mine: Path, values: dict[str, str], why: str) -> None:
    _changed(mine, **values)
    for words in (("train",), ("jobs", "--folder", "house", "start")):
        ran = run(*words, mine)
        assert (ran.code, ran.out) == (2, "")
        assert_found(why, ran.err)
    assert not any(Path("mine").glob("*.toml"))
    assert JobHouse(Path("house")).list() == ((), {})


def assert_found(pattern: str, text: str) -> None:
    with pytest.raises(BadSettings, match=pattern):
        raise BadSettings(text)


def test_where_results_go_is_not_the_files_to_say(run: Run, mine: Path, tmp_path: Path) -> None:
    _changed(mine, output_dir=tmp_path / "elsewhere", train_data_dir=tmp_path / "theirs")
    ran = run("train", mine)
    assert ran.code == 0
    assert config.read_toml(Path("mine/config.toml"))["output_dir"] == str(mine.with_suffix("") / "out")
    assert "Not used, since it is no setting here: train_data_dir" in ran.out
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_missing_is_told(run: Run, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("girl").rename("boy")
    assert_found("girl is not on this machine. Name yours with --pictures FOLDER", run("train", mine).err)
    Path("empty").mkdir()
    assert_found("no pictures in", run("train", mine, "--pictures", "empty").err)
    assert_found("holds other things", run("train", mine, "--pictures", "boy", "--folder", "boy").err)
    assert_found("--export is for recipes", run("train", mine, "--export").err)
    mine.write_text('# refonly: {"task": "x"}\nnetwork_dim = 4\n')
    assert_found("does not say what is to be trained", run("train", mine).err)
    recipe = ROOT / "lib_refonly" / "training" / "recipes" / "tiny-vae.toml"
    assert_found("--pictures: only for settings", run("train", recipe, "--pictures", "boy").err)
    monkeypatch.setenv("REFONLY_TRAINERS_DIR", str(tmp_path / "none"))
    ran = run("train", mine)
    assert (ran.code, "studio.py trainers install sd-scripts --from v0.10.1" in ran.err) == (2, True)


def test_it_is_queued_as_the_page_does_it(run: Run, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobHouse, "_see_to_a_worker", lambda _: None)
    monkeypatch.setattr(command, "HOUSE", Path("house").absolute())
    ran = run("jobs", "start", mine, "--title", "Miho", "--json")
    assert (ran.code, len(ran.rows)) == (0, 1)
    assert "Pictures: " in ran.err
    (job,) = JobHouse(Path("house")).list().jobs
    assert (job.title, job.kind, job.argv[:2]) == ("Miho", "lora-sd1", (sys.executable, "-c"))
    assert config.read_toml(Path("house") / job.id / config.CONFIG)["network_dim"] == 7
    assert str(ROOT) in job.env["PYTHONPATH"]
