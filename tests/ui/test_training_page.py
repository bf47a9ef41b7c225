"""The Train page, as a painter uses it: a real browser, real jobs, and a trainer that only pretends to learn."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lib_refonly.stylecode.library import Library
from lib_refonly.training import cli
from lib_refonly.training.builtin_settings import TASKS
from lib_refonly.training.jobs import process
from lib_refonly.training.jobs.house import JobHouse
from lib_refonly.training.kohya import installed, launch, options
from lib_refonly.training.kohya.saved import is_saved
from tests.ui.conftest import Studio
from tests.ui.fakes import FakeStore, FlatEngine, SquarePainter, character
from tests.ui.test_page import downloaded

ROOT = Path(__file__).resolve().parents[2]
TRAINER = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from lib_refonly.training.jobs import events
from lib_refonly.training.jobs.asks import Asks
folder, most = Path(os.environ["REFONLY_JOB"]), 1600
mark = folder / "saved"
step = int(mark.read_text()) if mark.exists() else 0
def tell(event, **more): events.append(folder / "events.jsonl", {{"event": event, "step": step, "time": time.time(), **more}})
tell("resume" if step else "start", steps=most)
print("begun <img src=x onerror=alert(1)>", flush=True)
while step < most:
    step += 1
    tell("step", loss=1 / step ** 0.3 + 0.1 * (step * 7919 % 13) / 13, lr=1e-4, seconds=0.02, memory=3_000_000_000, memory_gpu=7_000_000_000)
    asked = Asks(folder).take_all()
    if "sample" in asked:
        (folder / "sample.png").write_bytes((folder / "given.png").read_bytes())
        tell("sample", file="sample.png")
    if asked - {{"sample"}}:
        mark.write_text(str(step))
        tell("save")
    if asked & {{"stop", "pause"}}:
        tell("stopped", why="pause" if "pause" in asked else "stop")
        sys.exit()
    if (folder / "burst").exists():
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    time.sleep(0.02)
tell("done")
"""
"""As sd-scripts is seen from outside. It bursts when a file of that name lies in its folder."""


def fake_trainer(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """sd-scripts seems to be installed; what is started in its place only tells what it would do."""
    for name in ("sd-scripts", "trainers"):
        (folder / name).mkdir()
    patch.setenv("REFONLY_TRAINERS_DIR", str(folder / "trainers"))
    installed.remember(installed.Installed("sd-scripts", str(folder / "sd-scripts"), sys.executable, "v0", "0", "2", str(options.RECORDED)))

    def argv(trainer: Any, goal: str, job: Path, *rest: Any) -> list[str]:
        character(False, 96).save(job / "given.png")
        return [sys.executable, "-c", TRAINER]

    patch.setattr(launch, "argv", argv)


@dataclass
class TrainingStudio(Studio):
    jobs: JobHouse


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingStudio]:
    """In the place of the other tests' studio: one with a house of its own."""
    pytest.importorskip("gradio", reason="page tests need gradio")
    from lib_refonly.studio import app

    folder = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", "")  # so that it is as it was afterwards
        fake_trainer(folder, patch)
        yield from _served(app, folder / "jobs")


def _served(app: Any, jobs: Path) -> Iterator[TrainingStudio]:
    home, steps, store = app._quiet_environment(), threading.Event(), FakeStore()
    engine, painter, library = FlatEngine(steps), SquarePainter(steps), home / "styles" / "styles.sqlite"
    port = app._free_port(0, app.LOCAL)
    assert port is not None
    page = app.build(engine, store, styles=painter, library=lambda: Library(library), jobs=jobs)
    page.launch(**app.launch_options(app.LOCAL, port))
    yield TrainingStudio(f"http://{app.LOCAL}:{port}/", engine, store, steps, painter, library, JobHouse(jobs))
    page.close(verbose=False)
    for folder in jobs.iterdir() if jobs.exists() else ():
        process.clear_away(folder)
    shutil.rmtree(home, ignore_errors=True)


_ALERTED = "void (window.alert = () => { window.hurt = window.event?.target?.parentElement?.outerHTML ?? 'somewhere' })"


@pytest.fixture
def train(open_page: Callable[..., Any]) -> Callable[[], Any]:
    """A page, with Train in front. `window.hurt` tells which text of somebody was run."""

    def open_() -> Any:
        page = open_page()
        page.add_init_script(_ALERTED)
        page.evaluate(_ALERTED)
        show(page)
        return page

    return open_


def show(page: Any) -> None:
    page.get_by_role("tab", name="Train", exact=True).click()
    page.wait_for_selector(box("folder"))
    page.wait_for_selector("#refonly-train-jobs p, #refonly-train-jobs li")


def box(name: str) -> str:
    return f"#refonly-train-{name} :is(textarea, input:not([type=range], [type=radio]))"


def caption(name: str) -> str:
    return f".refonly-train-caption[data-name='{name}']"


def edit(page: Any, name: str, text: str) -> None:
    page.fill(caption(name), text)
    page.locator(caption(name)).blur()


def look(page: Any, folder: Path) -> None:
    page.fill(box("folder"), str(folder))
    page.click("#refonly-train-look")
    page.wait_for_selector(".refonly-train-facts, #refonly-train-pictures-message [role]")


def last_step(page: Any) -> int:
    return int(page.get_attribute(".refonly-train-curve svg", "data-last") or 0)


def wait_step(page: Any, step: int) -> None:
    page.wait_for_function("(step) => Number(document.querySelector('.refonly-train-curve svg')?.dataset.last) > step", arg=step)


@pytest.fixture
def miho(tmp_path: Path) -> Path:
    """Pictures with names and captions of the worst kind."""
    folder = tmp_path / "miho"
    folder.mkdir()
    character(False, 300).save(folder / "a.png")
    shutil.copy(folder / "a.png", folder / "b.png")
    character(True, 100).save(folder / "c.png")
    (folder / "d.png").write_bytes(b"no picture")
    (folder / "a.txt").write_text("red hair, </textarea><img src=x onerror=alert(1)>, ${alert(1)}, {{name}}")
    if os.name != "nt":
        character(False, 256).save(folder / "<img src=x onerror=alert(1)>'\".png")
    return folder


def test_a_folder_is_looked_at_and_its_captions_are_edited(train: Callable[[], Any], miho: Path) -> None:
    page = train()
    page.click("#refonly-train-look")
    page.wait_for_selector("#refonly-train-pictures-message [role=alert]:has-text('whole path')")
    look(page, miho)
    page.wait_for_selector(".refonly-train-facts:has-text('1 too small, 1 broken')")
    page.wait_for_selector(".refonly-train-facts:has-text('1 twice')")
    assert page.input_value(caption("a.png")) == (miho / "a.txt").read_text()
    page.wait_for_selector("#refonly-train-facts .refonly-tags li:has-text('red hair 1')")

    edit(page, "b.png", "blue hair\nred hair")
    edit(page, "c.png", "hat")
    page.wait_for_selector("#refonly-train-pictures-message:has-text('Saved')")
    page.wait_for_selector(".refonly-train-facts:not(:has-text('4 without a caption'), :has-text('3 without a caption'))")
    assert [(miho / f"{name}.txt").read_text() for name in "bc"] == ["blue hair red hair\n", "hat\n"]

    page.fill(box("word"), "mihoxyz")
    page.click("#refonly-train-add-word")
    page.wait_for_function("(one) => document.querySelector(one)?.value === 'mihoxyz, hat'", arg=caption("c.png"))
    edit(page, "c.png", "mihoxyz, cap")  # edits before the word must not come back with this one
    page.wait_for_selector("#refonly-train-pictures-message:has-text('Saved: c.png')")
    assert [(miho / f"{name}.txt").read_text() for name in "bc"] == ["mihoxyz, blue hair red hair\n", "mihoxyz, cap\n"]
    page.click("#refonly-train-look")
    page.wait_for_function("(one) => document.querySelector(one)?.value === 'mihoxyz, cap'", arg=caption("c.png"))
    assert page.evaluate("window.hurt") is None


def test_a_goal_fills_the_settings_and_keeps_what_was_changed(train: Callable[[], Any], tmp_path: Path) -> None:
    page = train()
    page.fill(box("pretrained-model-name-or-path"), "/models/base.safetensors")
    page.fill(box("sample-prompts"), "a girl\na hat")
    page.fill(box("max-train-steps"), "77")
    page.locator(box("max-train-steps")).blur()
    page.click("#refonly-train-family label:has-text('SDXL')")
    page.click("#refonly-train-advanced > button")
    page.wait_for_function("(one) => document.querySelector(one)?.value === '1024,1024'", arg=box("resolution"))
    assert page.input_value(box("max-train-steps")) == "77"
    page.click("#refonly-train-save")
    page.wait_for_selector("#refonly-train-file")
    saved = downloaded(page, "refonly-train-file", tmp_path)
    assert "max_train_steps = 77" in saved.read_text()

    page.click("#refonly-train-task label:has-text('A word')")
    page.wait_for_selector(box("token-string"))
    page.click("#refonly-train-card label:has-text('6 GB')")
    page.click("#refonly-train-family label:has-text('SDXL')")
    page.wait_for_selector("#refonly-train-goal-message [role=alert]:has-text('at least 8 GB')")
    other = train()
    with other.expect_file_chooser() as choosing:
        other.click("#refonly-train-load")
    choosing.value.set_files(str(saved))
    other.wait_for_function("(one) => document.querySelector(one)?.value === '77'", arg=box("max-train-steps"))
    assert other.input_value(box("sample-prompts")) == "a girl\na hat"
    assert other.is_checked("#refonly-train-family label:has-text('SDXL') input")


def test_a_job_from_start_to_its_failure(train: Callable[[], Any], studio: TrainingStudio, miho: Path) -> None:
    page = train()
    title = "Miho <img src=x onerror=alert(1)>"
    page.fill(box("title"), title)
    page.click("#refonly-train-start")
    page.wait_for_selector("#refonly-train-start-message [role=alert]:has-text('whole path')")
    page.fill(box("folder"), str(miho))
    page.click("#refonly-train-start")
    page.wait_for_selector("#refonly-train-start-message [role=alert]:has-text('needs a checkpoint')")
    page.fill(box("pretrained-model-name-or-path"), "/models/base.safetensors")
    page.click("#refonly-train-start")
    page.wait_for_selector("#refonly-train-start-message:has-text('is in the queue')")
    assert page.input_value(box("title")) == title
    wait_step(page, 1)
    wait_step(page, last_step(page))
    page.wait_for_selector("#refonly-train-job-card:has-text('graphics card 7.0 GB')")
    (job,) = studio.jobs.list().jobs
    assert (job.title, job.kind) == (title, "lora-sd1")

    page.click("#refonly-train-ask-sample")
    page.wait_for_selector("#refonly-train-job-card img[src^='data:image/jpeg']")
    page.click("#refonly-train-ask-pause")
    page.wait_for_selector("#refonly-train-job-card .refonly-train-state[data-state=paused]")
    step = last_step(page)

    page.reload()
    show(page)
    page.wait_for_selector("#refonly-train-job-card .refonly-train-state[data-state=paused]")
    assert last_step(page) == step
    page.wait_for_selector("#refonly-train-ask-pause[disabled]")
    page.click("#refonly-train-resume")
    wait_step(page, step)
    (studio.jobs.folder_of(job.id) / "burst").touch()
    page.wait_for_selector("#refonly-train-job-card [role=alert]:has-text('Lower the batch size')")
    page.wait_for_selector("#refonly-train-job-card pre:has-text('CUDA out of memory')")
    page.click("#refonly-train-log-box > button")
    page.wait_for_selector("#refonly-train-log:has-text('begun <img src=x')")

    page.click("#refonly-train-remove")
    page.wait_for_selector("#refonly-train-remove:has-text('Really')")
    page.click("#refonly-train-remove")
    page.wait_for_selector("#refonly-train-jobs:has-text('no jobs yet')")
    assert studio.jobs.list().jobs == ()
    assert page.evaluate("window.hurt") is None


def test_without_sd_scripts_the_page_says_how_to_get_it(train: Callable[[], Any], miho: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFONLY_TRAINERS_DIR", str(tmp_path / "none"))
    page = train()
    page.wait_for_selector("#refonly-train-missing:has-text('studio.py trainers install sd-scripts --from v0.10.1')")
    page.click("#refonly-train-task label:has-text('recipe')")
    page.wait_for_selector(box("recipe"))
    page.wait_for_selector("#refonly-train-missing", state="hidden")
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(json.dumps("no recipe"))
    page.fill(box("recipe"), str(wrong))
    page.click("#refonly-train-start")
    page.wait_for_selector("#refonly-train-start-message [role=alert]:has-text('no valid TOML')")


def test_the_built_in_small_model_is_taught(train: Callable[[], Any], studio: TrainingStudio, miho: Path, tmp_path: Path) -> None:
    """Its fields come and go, its settings are saved and loaded, and what is started is a file of `studio.py train` that says what the page said."""
    page = train()
    small = "refonly-train-small"
    page.click("#refonly-train-family label:has-text('built-in')")
    page.wait_for_selector(f"#{small}-rank")
    page.wait_for_selector("#refonly-train-card", state="hidden")
    page.wait_for_selector(box("pretrained-model-name-or-path"), state="hidden")
    page.click("#refonly-train-task label:has-text('A word')")
    page.wait_for_selector(box("small-begin"))
    page.wait_for_selector(f"#{small}-rank", state="hidden")
    page.click("#refonly-train-task label:has-text('A style')")
    page.wait_for_selector(f"#{small}-rank")
    page.fill(box("small-steps"), "7")
    page.locator(box("small-steps")).blur()
    page.fill(box("small-name"), "../away")
    page.fill(box("folder"), str(miho))
    page.fill(box("word"), "mihoxyz")
    page.click("#refonly-train-start")
    page.wait_for_selector("#refonly-train-start-message [role=alert]:has-text('no name for the file')")
    page.fill(box("small-name"), "miho")
    page.click("#refonly-train-save")
    page.wait_for_selector("#refonly-train-file")
    saved = downloaded(page, "refonly-train-file", tmp_path)
    tables = cli.read(saved)
    assert not is_saved(saved)
    assert tables["run"]["data"] == str(miho)
    assert (tables["lora"]["word"], tables["lora"]["rank"], tables["loop"]["steps"]) == ("mihoxyz", TASKS["style"][1].rank, 7)

    other = train()
    with other.expect_file_chooser() as choosing:
        other.click("#refonly-train-load")
    choosing.value.set_files(str(saved))
    other.wait_for_selector(f"#{small}-rank")
    assert other.is_checked("#refonly-train-task label:has-text('A style') input")
    assert [other.input_value(box(name)) for name in ("small-steps", "small-name", "folder", "word")] == ["7", "miho", str(miho), "mihoxyz"]
    other.click("#refonly-train-start")
    other.wait_for_selector("#refonly-train-start-message:has-text('is in the queue')")
    job = studio.jobs.list().jobs[-1]
    assert (job.title, job.kind) == ("miho", "lora")
    assert job.argv[2:] == ("train", str(studio.jobs.folder_of(job.id) / "config.toml"), "--folder", str(studio.jobs.folder_of(job.id)))
    assert cli.read(studio.jobs.folder_of(job.id) / "config.toml") == tables
    other.click("#refonly-train-task label:has-text('ONE-PIC')")  # which it can't be trained for
    other.wait_for_selector(box("pretrained-model-name-or-path"))
    assert other.is_checked("#refonly-train-family label:has-text('SD 1.5') input")
