"""The Train tab of a real WebUI in a real browser."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lib_refonly.training.jobs import events, record
from lib_refonly.training.jobs.house import JobHouse
from lib_refonly.training.jobs.process import Identity
from lib_refonly.training.jobs.record import Job
from tests.webui.test_api import CHANGED, apart
from tests.webui.test_page import SLOW, number, page
from tests.webui.webui import WebUI

__all__ = ["page"]
WORD = "mihoxyz"


@contextmanager
def over(webui: WebUI, monkeypatch: pytest.MonkeyPatch, kind: str, out: Callable[[Path], Any]) -> Iterator[Job]:
    """A training that is over, as it lies on the disk. `out` writes what it made."""
    monkeypatch.setattr(JobHouse, "_see_to_a_worker", lambda _: None)
    house = JobHouse(webui.jobs)
    job = house.submit("Miho", kind, ["x"])
    folder = house.folder_of(job.id)
    (folder / "out").mkdir()
    out(folder / "out")
    (folder / "dataset.toml").write_text(f'[[datasets]]\n[[datasets.subsets]]\nimage_dir = "/x"\nclass_tokens = "{WORD}"\n')
    Image.new("RGB", (64, 64), "teal").save(folder / "sample.png")
    events.append(folder / events.FILE, {"event": "sample", "step": 1, "file": "sample.png", "time": 0})
    record.save(replace(job, state="done"), folder)
    yield house.get(job.id)
    record.save(replace(job, state="done"), folder)
    house.remove(job.id)


@pytest.fixture
def job(webui: WebUI, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    """What it learnt is the random LoRA, twice as strong."""

    def out(folder: Path) -> None:
        weights = {name: 2 * weight if "lora_up" in name else weight for name, weight in load_file(webui.loras / "random.safetensors").items()}
        save_file(weights, folder / "miho.safetensors", {"ss_output_name": "miho"})

    with over(webui, monkeypatch, "lora-sd1", out) as job:
        yield job


def opened(page: Any) -> None:
    page.get_by_role("tab", name="RefOnly Train").or_(page.locator("#tabs > .tab-nav button:text-is('RefOnly Train')")).first.click()
    page.wait_for_selector("#refonly-train-jobs li:has-text('Miho')")


def prompt(page: Any) -> str:
    return page.locator("#txt2img_prompt textarea").first.input_value()


def test_a_finished_lora_is_put_in_and_tried(webui: WebUI, page: Any, job: Job) -> None:
    """Train tab: a finished LoRA goes into the WebUI's folder with its picture, stands in its list, and "Try it" fills txt2img, which paints with it"""
    opened(page)
    page.click("#refonly-train-refresh")
    page.wait_for_selector("#refonly-train-results li:has-text('miho.safetensors')")
    page.click("#refonly-train-put")
    page.wait_for_selector("#refonly-train-result-message:has-text('as miho.safetensors')")
    assert (webui.loras / "miho.preview.png").is_file()
    listed = {one["name"]: one["path"] for one in webui.ask("/sdapi/v1/loras")}
    assert Path(listed["miho"]).resolve() == (webui.loras / "miho.safetensors").resolve()

    page.click("#refonly-train-try")
    page.wait_for_function("document.querySelector('#txt2img_prompt textarea').value.includes('<lora:miho:1>')")
    assert prompt(page) == f"<lora:miho:1> {WORD}"
    page.wait_for_selector("#txt2img_generate", state="visible")
    for name, value in (("steps", 3), ("width", 128), ("height", 128)):
        number(page, name, value)
    page.click("#txt2img_generate")
    page.wait_for_function("document.querySelector('#html_info_txt2img')?.innerText.includes('<lora:miho:1>')")
    assert page.locator("#txt2img_gallery img").count()
    assert apart(webui.paint(prompt=prompt(page)), webui.paint(prompt=WORD)) > CHANGED
    assert sorted(path.name for path in webui.loras.iterdir()) == ["miho.preview.png", "miho.safetensors", "random.safetensors"], "tried, not copied again"


def put_in_and_tried(page: Any, file: str) -> None:
    opened(page)
    page.click("#refonly-train-refresh")
    page.wait_for_selector(f"#refonly-train-results li:has-text('{file}')")
    page.click("#refonly-train-try")
    page.wait_for_selector("#txt2img_generate", state="visible")


def test_an_embedding_is_put_in_and_tried(webui: WebUI, page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train tab: a finished embedding goes into the WebUI's folder and list, and "Try it" fills txt2img, which paints with it"""

    def out(folder: Path) -> None:
        save_file({"emb_params": 0.3 * torch.randn(2, 768, generator=torch.Generator().manual_seed(5))}, folder / "mihoemb.safetensors")

    plain = webui.paint(prompt="mihoemb")
    with over(webui, monkeypatch, "embedding-sd1", out):
        put_in_and_tried(page, "mihoemb.safetensors")
    page.wait_for_function("document.querySelector('#txt2img_prompt textarea').value === 'mihoemb'")
    if not webui.is_forge:  # whose API keeps a list of its own, from the start
        assert "mihoemb" in webui.ask("/sdapi/v1/embeddings")["loaded"]
    assert apart(webui.paint(prompt="mihoemb"), plain) > CHANGED


def test_what_sd_scripts_trained_is_put_in_and_tried(webui: WebUI, page: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Train tab: a LoRA and a whole checkpoint that sd-scripts itself made go in and paint"""
    if not (given := request.config.getoption("--trained")):
        pytest.skip("needs --trained FOLDER, what sd-scripts made")
    lora, checkpoint = sorted(Path(given).glob("*.safetensors"), key=lambda path: path.stat().st_size)
    with over(webui, monkeypatch, "full-sd1", lambda out: (out / checkpoint.name).hardlink_to(checkpoint)):
        put_in_and_tried(page, checkpoint.name)
    until = time.monotonic() + SLOW / 1000
    while not str(webui.ask("/sdapi/v1/options")["sd_model_checkpoint"]).startswith(checkpoint.stem):
        assert time.monotonic() < until, "the page has not chosen it"
        time.sleep(1)
    small = {"checkpoint": checkpoint.stem, "width": 64, "height": 64, "steps": 2}
    plain = webui.paint(prompt=WORD, **small)
    with over(webui, monkeypatch, "lora-sd1", lambda out: shutil.copy(lora, out)):
        put_in_and_tried(page, lora.name)
    assert f"<lora:{lora.stem}:1>" in prompt(page)
    assert apart(webui.paint(prompt=f"<lora:{lora.stem}:1> {WORD}", **small), plain) > 0
    assert lora.stem in {one["name"] for one in webui.ask("/sdapi/v1/loras")}
    webui.paint()  # back to the others' checkpoint


def test_who_paints_beside_a_training_is_told(webui: WebUI, page: Any, job: Job) -> None:
    """Train tab: while a training runs, the tab says so, and so does the first picture that is painted beside it"""
    record.save(replace(job, state="running", process=Identity.of(os.getpid())), webui.jobs / job.id)
    opened(page)
    page.click("#refonly-train-refresh")
    page.wait_for_selector("#refonly-train-notice:has-text('A training runs.')")
    page.evaluate("switch_to_txt2img()")
    for name, value in (("steps", 1), ("width", 64), ("height", 64)):
        number(page, name, value)
    page.click("#txt2img_generate")
    page.wait_for_function("document.querySelector('#tab_txt2img')?.innerText.includes('A training runs (Miho)')")
