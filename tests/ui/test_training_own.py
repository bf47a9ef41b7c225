"""The painter's own models on the Train page: the fields, the set alone as a real job, and what a start hands over."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lib_refonly.training import cli
from lib_refonly.training.own.pairs import is_set
from lib_refonly.ui import training_own_start
from tests.ui.test_training_page import ROOT, TrainingStudio, _served, box, train  # noqa: F401
from tests.unit.training.test_dataset_build import COLOURS, character

MAIN = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from lib_refonly.studio.cli import main; sys.exit(main(sys.argv[1:]))"
PRETENDS = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from lib_refonly.training.jobs import events
folder = Path(os.environ["REFONLY_JOB"])
def tell(event, **more): events.append(folder / "events.jsonl", {{"event": event, "step": 0, "time": time.time(), **more}})
tell("stage", stage="set", what="embedding", done=0.25)
while not (folder / "go").exists(): time.sleep(0.05)
tell("report", lines=["<img src=x onerror=alert(1)> 12 pictures"])
tell("stopped", why="pause", what="embedding")
"""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingStudio]:
    pytest.importorskip("gradio", reason="page tests need gradio")
    from lib_refonly.studio import app

    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", "")  # so that it is as it was afterwards
        patch.setenv("REFONLY_TRAINERS_DIR", str(folder / "trainers"))
        patch.setenv("REFONLY_MODELS_DIR", str(folder / "models"))
        yield from _served(app, folder / "jobs")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:  # type: ignore[override]
    """Four characters, three times each, and a picture that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, colour in enumerate(COLOURS):
        for lean in (-9, 0, 12):
            character(colour, lean, 144).save(folder / f"{number}{lean:+}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def choose(page: Any, title: str) -> None:
    page.click(f"#refonly-train-task label:has-text('{title}')")


def field(task: str, name: str) -> str:
    return box(f"own-{task}-{name}")


def test_the_set_alone_is_a_job_with_a_report(train: Callable[[], Any], studio: TrainingStudio, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    pytest.importorskip("faiss", reason="sets need faiss-cpu")
    monkeypatch.setattr(training_own_start, "PROGRAM", (sys.executable, "-c", MAIN))
    before = {job.id for job in studio.jobs.list().jobs}  # of a first try that failed
    page = train()
    choose(page, "My RefOnly model")
    page.click("#refonly-train-only")
    page.wait_for_selector("#refonly-train-goal-message [role=alert]:has-text('whole path')")
    page.fill(box("folder"), str(pictures))
    page.click("#refonly-train-own-refonly-advanced > button")
    page.wait_for_selector(field("refonly", "low"))
    page.fill(field("refonly", "low"), "0.5")
    page.fill(field("refonly", "high"), "0.99")
    page.locator(field("refonly", "high")).blur()
    page.click("#refonly-train-only")
    page.wait_for_selector("#refonly-train-goal-message:has-text('is in the queue')")
    page.wait_for_selector("#refonly-train-job-card .refonly-train-state[data-state=done]")
    page.wait_for_selector(".refonly-train-report:has-text('12 of 13 pictures are kept.')")
    page.wait_for_selector(".refonly-train-report:has-text('1 went: broken.')")
    page.wait_for_selector("#refonly-train-job-card img[src^='data:image/jpeg']")
    (job,) = (job for job in studio.jobs.list().jobs if job.id not in before)
    assert job.kind == "set"
    assert job.results == ("set",)
    assert is_set(studio.jobs.folder_of(job.id) / "set")
    tables = cli.read(studio.jobs.folder_of(job.id) / "config.toml")
    assert (tables["prepare"]["low"], tables["prepare"]["high"], tables["prepare"]["only"]) == (0.5, 0.99, True)


def test_what_is_filled_in_is_what_is_trained(train: Callable[[], Any], studio: TrainingStudio, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(training_own_start, "PROGRAM", (sys.executable, "-c", PRETENDS))
    page = train()
    choose(page, "My RefOnly model")
    page.fill(box("folder"), str(pictures))
    page.fill(field("refonly", "steps"), "77")
    page.fill(field("refonly", "title"), "Hats <b>")
    page.locator(field("refonly", "title")).blur()
    page.click("#refonly-train-own-refonly-form label:has-text('An adapter')")
    page.click("#refonly-train-start")
    page.wait_for_selector("#refonly-train-start-message:has-text('is in the queue')")
    page.wait_for_selector("#refonly-train-job-card:has-text('Getting ready: embedding, 25%')")
    job = studio.jobs.list().jobs[-1]
    folder = studio.jobs.folder_of(job.id)
    tables = cli.read(folder / "config.toml")
    assert (job.kind, tables["run"]["kind"], tables["loop"]["steps"], tables["adapter"]["title"]) == ("adapter", "adapter", 77, "Hats <b>")
    assert tables["prepare"]["pictures"] == str(pictures)
    assert list(job.argv[-5:]) == ["dataset", "train", str(folder / "config.toml"), "--folder", str(folder)]
    (folder / "go").touch()
    page.wait_for_selector("#refonly-train-job-card .refonly-train-state[data-state=paused]")
    page.wait_for_selector("#refonly-train-job-card:has-text('while the pictures were prepared (embedding)')")
    page.wait_for_selector(".refonly-train-report:has-text('<img src=x')")
    assert page.evaluate("window.hurt") is None


def test_a_stylecode_model_needs_a_subfolder_for_each_style(
    train: Callable[[], Any],  # noqa: F811
    studio: TrainingStudio,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training_own_start, "PROGRAM", (sys.executable, "-c", PRETENDS))
    page = train()
    choose(page, "My stylecode model")
    page.wait_for_selector(field("stylecode", "steps"))
    assert not page.is_visible(field("refonly", "steps"))
    page.fill(box("folder"), str(pictures))
    page.click("#refonly-train-start")
    page.wait_for_selector("#refonly-train-start-message [role=alert]:has-text('one subfolder for each style')")
    for number in range(4):
        (tmp_path / "styles" / str(number)).mkdir(parents=True)
        for view in range(2):
            Image.new("RGB", (140, 140), COLOURS[number]).save(tmp_path / "styles" / str(number) / f"{view}.png")
    page.fill(box("folder"), str(tmp_path / "styles"))
    page.click("#refonly-train-start")
    page.wait_for_selector("#refonly-train-start-message:has-text('is in the queue')")
    job = studio.jobs.list().jobs[-1]
    assert job.kind == "stylecode"
    (studio.jobs.folder_of(job.id) / "go").touch()
    choose(page, "A recipe of this project")
    page.wait_for_selector(box("recipe"))
    assert not page.is_visible(field("stylecode", "steps"))
