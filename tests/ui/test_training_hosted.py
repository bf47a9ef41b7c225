"""The Train page as a WebUI has it, in a real browser, under the gradio of AUTOMATIC1111 and of Forge: jobs that run, finished files, checkpoints."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lib_refonly.training.jobs import events, record
from lib_refonly.training.jobs.house import JobHouse
from lib_refonly.training.jobs.process import Identity
from lib_refonly.training.jobs.record import Job
from tests.ui.host_venvs import NotHere, page_of, python_with_gradio

_PAGE = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.ui import host_page
import gradio as gr
from pathlib import Path
from lib_refonly.training.jobs.house import JobHouse
from lib_refonly.ui.training_events import TrainingEvents
from lib_refonly.ui.training_host import Place, TrainingHost
from lib_refonly.ui.training_panel import build_training_panel
if "--wrapped-events" in sys.argv:
    host_page._wrap_events()
home = Path(sys.argv[3])
class Webui(TrainingHost):
    has_checkpoints, busy = True, "A training runs here."
    def checkpoints(self): return [("Base", str(home / "base.safetensors")), ("Large <img src=x onerror=window.hurt=1>", str(home / "xl.safetensors"))]
    def make_room(self): return "4 GB are free."
    def place(self, found): return Place(home / "Lora", "the WebUI's LoRAs", "in txt2img")
    def list_anew(self, found, placed): print("listed|" + placed.name, flush=True)
    def trial(self, found, placed): return {"tab": "txt2img", "prompt": f"<lora:{placed.stem}:1> {found.word}"}
with gr.Blocks(analytics_enabled=False) as page:
    with gr.Tabs(elem_id="tabs"):
        with gr.Tab("txt2img"):
            gr.Textbox("a cat", elem_id="txt2img_prompt")
        with gr.Tab("RefOnly Train"):
            host = Webui()
            panel = build_training_panel(True, host)
            TrainingEvents(panel, JobHouse(home / "jobs"), host=host).wire(page.load)
host_page._add_to_head(host_page.looks_and_scripts("refonly.js", "refonly_send.js", "refonly_train.js"))
page.queue()
page.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), prevent_thread_lock=True, quiet=True, share=False)
print("ready", flush=True)
sys.stdin.read()
"""


def make_job(tmp_path: Path) -> Job:
    """One that runs, as far as can be seen, and has made two LoRAs so far."""
    house = JobHouse(tmp_path / "jobs")
    job = house.submit("Miho", "lora-sd1", ["x"])
    folder = house.folder_of(job.id)
    (folder / "out").mkdir()
    (folder / "dataset.toml").write_text('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "/x"\nclass_tokens = "mihoxyz"\n')
    for number in (100, 200):
        weights = {"lora_unet_a.lora_down.weight": torch.full((4, 4), float(number)), "lora_unet_a.lora_up.weight": torch.zeros(4, 4)}
        save_file(weights, folder / "out" / f"miho-step{number:08}.safetensors")
    Image.new("RGB", (8, 8), "teal").save(folder / "sample.png")
    events.append(folder / events.FILE, {"event": "sample", "step": 1, "file": "sample.png", "time": 0})
    record.save(replace(job, state="running", process=Identity.of(os.getpid())), folder)
    save_file({"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(2, 768)}, tmp_path / "base.safetensors")
    save_file({"model.diffusion_model.label_emb.x": torch.zeros(1)}, tmp_path / "xl.safetensors")
    return job


@pytest.fixture(params=["A1111: 3.41.2", "4.40.0", "Forge: 4.40.0", "here"])
def hosted(request: pytest.FixtureRequest, browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any, Job]]:
    """The page, the lines that it prints, and a job that was begun elsewhere when the page was there already."""
    monkeypatch.setattr(JobHouse, "_see_to_a_worker", lambda _: None)
    version = request.param.rpartition(" ")[2]
    try:
        python = Path(sys.executable) if version == "here" else python_with_gradio(version)
    except NotHere as why:
        pytest.skip(str(why))
    words = [str(tmp_path), *(["--wrapped-events"] if "Forge" in request.param else [])]
    with page_of(python, _PAGE, tmp_path / "log.txt", *words) as (address, lines):
        page = browser.new_page()
        page.set_viewport_size({"width": 1100, "height": 1000})
        hurt: list[str] = []
        page.on("pageerror", lambda error: None if str(error).startswith("AbortError") else hurt.append(str(error)))  # gradio 4 ends its stream so
        page.goto(address)
        page.wait_for_selector("#txt2img_prompt" if version == "here" else "#refonly-train-jobs p", state="attached")  # gradio 6 makes tabs late
        job = make_job(tmp_path)
        page.locator("#tabs button:text-is('RefOnly Train') >> visible=true").last.click()  # gradio 6 has them twice, first to measure them
        page.wait_for_selector("#refonly-train-jobs li")
        yield page, lines, job
        page.close()
    assert hurt == []


_HOST_LISTS = """() => {
  window.did = [];
  window.selectCheckpoint = (name) => window.did.push(name);
  document.body.insertAdjacentHTML("beforeend", `<button id="refresh_sd_model_checkpoint" onclick="did.push('listed')">`);
}"""


def box(name: str) -> str:
    return f"#refonly-train-{name} :is(textarea, input:not([type=range], [type=radio]))"


def tell(tmp_path: Path, job: Job, step: int) -> None:
    events.append(tmp_path / "jobs" / job.id / events.FILE, {"event": "step", "step": step, "steps": 500, "loss": 1 / step, "time": 0})


def choose(page: Any, name: str, title: str) -> None:
    page.click(f"#refonly-train-{name} input")
    page.locator(f"#refonly-train-{name} [role=option], #refonly-train-{name} ul li").filter(has_text=title).first.click()


def test_jobs_results_and_checkpoints(hosted: tuple[Any, Any, Job], tmp_path: Path) -> None:
    page, lines, job = hosted
    page.wait_for_selector("#refonly-train-notice:has-text('A training runs here.')")
    for step in (7, 8):  # the page looks by itself, with a timer or without
        tell(tmp_path, job, step)
        page.wait_for_selector(f"#refonly-train-job-card:has-text('step {step} of 500')")
    page.click("#refonly-train-free")
    page.wait_for_selector("#refonly-train-notice:has-text('4 GB are free.')")

    page.wait_for_selector("#refonly-train-results li:has-text('miho-step00000200.safetensors') >> nth=0")
    assert page.locator("#refonly-train-results li img").count() == 2
    choose(page, "which", "miho-step00000100")
    page.wait_for_function("(one) => document.querySelector(one)?.value === 'miho-step00000100'", arg=box("name"))
    page.fill(box("name"), "my miho")
    tell(tmp_path, job, 9)
    page.wait_for_selector("#refonly-train-job-card:has-text('step 9 of 500')")
    assert page.input_value(box("name")) == "my miho", "a look takes nothing from under the painter's hands"
    page.click("#refonly-train-put")
    page.wait_for_selector("#refonly-train-result-message:has-text('as my miho.safetensors')")
    assert next(lines) == "listed|my miho.safetensors\n"
    assert sorted(os.listdir(tmp_path / "Lora")) == ["my miho.preview.png", "my miho.safetensors"]

    page.click("#refonly-train-try")
    page.wait_for_function("document.querySelector('#txt2img_prompt textarea, #txt2img_prompt input').value === '<lora:my miho:1> mihoxyz, a cat'")
    page.fill(box("name"), "other")
    page.locator(box("name")).blur()
    page.click("#refonly-train-try")
    page.wait_for_function("document.querySelector('#txt2img_prompt textarea, #txt2img_prompt input').value === '<lora:other:1> mihoxyz, a cat'")

    page.evaluate(_HOST_LISTS)
    page.evaluate("window.refonlyTry(JSON.stringify({tab: 'txt2img', prompt: 'a hat', checkpoint: 'miho.safetensors'}))")
    page.wait_for_function("window.did.join() === 'miho.safetensors,listed'")
    page.evaluate("window.refonlyTry(JSON.stringify({listed: true}))")
    assert page.evaluate("window.did[2]") == "listed", "where none is loaded, at once"

    choose(page, "checkpoint", "Large")
    page.wait_for_function("(one) => document.querySelector(one)?.value.endsWith('xl.safetensors')", arg=box("pretrained-model-name-or-path"))
    page.wait_for_selector("#refonly-train-family label:has-text('SDXL') input:checked", state="attached")
    choose(page, "checkpoint", "Base")
    page.wait_for_selector("#refonly-train-family label:has-text('SD 1.5') input:checked", state="attached")
    assert page.evaluate("window.hurt") is None
