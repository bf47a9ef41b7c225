"""Finished files on the Train page, and a WebUI's checkpoints on it: the handlers without a browser."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

gr = pytest.importorskip("gradio")

from lib_refonly.errors import BadModel, BadSettings  # noqa: E402
from lib_refonly.studio.training_host import StudioTraining  # noqa: E402
from lib_refonly.training import finished as made  # noqa: E402
from lib_refonly.training.finished import Finished  # noqa: E402
from lib_refonly.training.jobs import events, record  # noqa: E402
from lib_refonly.training.jobs.house import JobHouse  # noqa: E402
from lib_refonly.training.jobs.record import Job  # noqa: E402
from lib_refonly.ui.training_checkpoints import FIELD, family_of  # noqa: E402
from lib_refonly.ui.training_events import TrainingEvents  # noqa: E402
from lib_refonly.ui.training_host import Place, TrainingHost  # noqa: E402
from lib_refonly.ui.training_panel import build_training_panel  # noqa: E402
from lib_refonly.ui.training_result_events import ResultEvents  # noqa: E402
from lib_refonly.ui.training_results import results_list  # noqa: E402
from lib_refonly.ui.training_session import TrainingSession  # noqa: E402


class FakeWebui(TrainingHost):
    """With a folder for LoRAs, and none for anything else."""

    has_checkpoints, busy = True, "A training runs."

    def __init__(self, folder: Path) -> None:
        self.folder, self.listed = folder, list[Path]()
        self.known: list[tuple[str, str]] = []

    def checkpoints(self) -> list[tuple[str, str]]:
        return self.known

    def notes(self) -> tuple[str, ...]:
        return ("Something <b>is</b> missing.",)

    def make_room(self) -> str:
        self.room = "4 GB are free."
        return self.room

    def place(self, found: Finished) -> Place | None:
        return Place(self.folder, "the WebUI's LoRAs", "in txt2img") if found.kind == made.LORA else None

    def list_anew(self, found: Finished, placed: Path) -> None:
        self.listed.append(placed)

    def trial(self, found: Finished, placed: Path) -> dict[str, Any]:
        return {"tab": "txt2img", "prompt": f"<lora:{placed.stem}:1> {found.word}"}


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobHouse:
    monkeypatch.setattr(JobHouse, "_see_to_a_worker", lambda _: None)
    return JobHouse(tmp_path / "jobs")


@pytest.fixture
def host(tmp_path: Path) -> FakeWebui:
    return FakeWebui(tmp_path / "Lora")


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with gr.Blocks():
        yield build_training_panel(True, FakeWebui(tmp_path_factory.mktemp("none")))


@pytest.fixture
def page(panel: Any, house: JobHouse, host: FakeWebui) -> TrainingEvents:
    return TrainingEvents(panel, house, host=host)


@pytest.fixture
def results(page: TrainingEvents) -> ResultEvents:
    return page.jobs.results


@pytest.fixture
def job(house: JobHouse) -> Job:
    """One that made a LoRA and one in between."""
    job = house.submit("Miho <b>", "lora-sd1", ["x"])
    folder = house.folder_of(job.id)
    (folder / "out").mkdir()
    (folder / "dataset.toml").write_text('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "/x"\nclass_tokens = "mihoxyz"\n')
    for name, number in (("miho", 2.0), ("miho-step00000100", 1.0)):
        weights = {"lora_unet_a.lora_down.weight": torch.full((64, 64), number), "lora_unet_a.lora_up.weight": torch.zeros(64, 64)}
        save_file(weights, folder / "out" / f"{name}.safetensors", {"ss_steps": "300"})
    Image.new("RGB", (8, 8), "teal").save(folder / "sample.png")
    events.append(folder / events.FILE, {"event": "sample", "step": 100, "file": "sample.png", "time": 0})
    record.save(replace(job, state="done"), folder)
    return job


LAST, BEFORE = "out/miho.safetensors", "out/miho-step00000100.safetensors"


def test_a_look_at_a_job_shows_its_files(page: TrainingEvents, job: Job) -> None:
    r, session = page.panel.results, TrainingSession()
    shown = page.jobs.open(session, job.id)
    assert shown[r.box]["visible"]
    assert shown[r.which]["value"] == LAST
    assert [value for _, value in shown[r.which]["choices"]] == [LAST, BEFORE]
    assert "the last one, step 300, 33 kB" in shown[r.listed]
    assert shown[r.listed].count("data:image") == 2
    assert (shown[r.put]["value"], shown[r.trial]["value"]) == ("Put it into the WebUI's LoRAs", "Try it in txt2img")
    assert (shown[r.name]["value"], shown[r.fetch]["visible"]) == ("miho", False)
    assert list(page.jobs.refresh(session, job.id)) == [page.panel.jobs.said], "what is the same is not sent again"
    assert page.jobs.results.choose(session, job.id, BEFORE)[r.name]["value"] == "miho-step00000100"
    assert r.which not in page.jobs.refresh(session, job.id), "a look does not choose another file"


def test_a_file_is_put_in_once_and_tried(page: TrainingEvents, results: ResultEvents, host: FakeWebui, job: Job) -> None:
    r, session = page.panel.results, TrainingSession()
    put = results.put_in(False, session, job.id, LAST, "miho")
    assert "It is in the WebUI&#x27;s LoRAs, as miho.safetensors. The job keeps its own." in put[r.said]
    assert "tab" not in json.loads(put[r.parcel])
    first, second = (results.put_in(True, session, job.id, LAST, " miho ") for _ in range(2))
    assert json.loads(first[r.parcel]) == {"number": 2, "tab": "txt2img", "prompt": "<lora:miho:1> mihoxyz"}
    assert first[r.parcel] != second[r.parcel], "gradio would take the same text for no change"
    assert sorted(os.listdir(host.folder)) == ["miho.preview.png", "miho.safetensors"]
    results.put_in(False, session, job.id, BEFORE, "miho")
    assert sorted(os.listdir(host.folder)) == ["miho-2.preview.png", "miho-2.safetensors", "miho.preview.png", "miho.safetensors"]
    assert host.listed[-1] == host.folder / "miho-2.safetensors"


def test_what_can_not_be_put_in_is_told(results: ResultEvents, host: FakeWebui, house: JobHouse, job: Job) -> None:
    session = TrainingSession()
    for which, name, told in (("", "x", "Choose a finished file"), ("out/../job.json", "x", "not there any more"), (LAST, "../x", "can't be a file's name")):
        with pytest.raises(BadSettings, match=told):
            results.put_in(False, session, job.id, which, name)
    assert not host.folder.exists() or os.listdir(host.folder) == []
    folder = house.folder_of(job.id)
    save_file({"emb_params": torch.zeros(1, 768)}, folder / "out" / "word.safetensors")
    with pytest.raises(BadModel, match="Download it"):
        results.put_in(False, session, job.id, "out/word.safetensors", "")
    got = results.fetch(session, job.id, "out/word.safetensors")[results.part.file]
    assert Path(got["value"]).read_bytes() == (folder / "out" / "word.safetensors").read_bytes()
    (folder / "sample.png").write_bytes(b"no picture")
    assert "without a picture" in results.put_in(False, session, job.id, LAST, "bare")[results.part.said]
    assert sorted(os.listdir(host.folder)) == ["bare.safetensors"]


def test_names_are_harmless_in_the_list(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>.safetensors"
    shown = results_list([Finished(tmp_path / evil, made.LORA)])
    assert "<img src=x" not in shown
    assert "&lt;img" in shown


def test_the_host_has_its_say(page: TrainingEvents, host: FakeWebui, house: JobHouse, job: Job) -> None:
    p, session = page.panel, TrainingSession()
    shown = page.jobs.open(session, job.id)
    assert "Something &lt;b&gt;is" in shown[p.notice]
    assert not shown[p.free]["visible"]
    running = house.get(job.id)
    record.save(replace(running, state="running", worker=_me()), house.folder_of(job.id))
    shown = page.jobs.refresh(session, job.id)
    assert "A training runs." in shown[p.notice]
    assert shown[p.free]["visible"]
    assert "4 GB are free." in page.jobs.free()[p.notice]
    assert "4 GB are free." in page.jobs.refresh(session, job.id)[p.jobs.room]


def _me() -> Any:
    from lib_refonly.training.jobs.process import Identity

    return Identity.of(os.getpid())


@pytest.mark.parametrize(("kind", "folder"), [(made.ONEPIC, "onepic"), (made.STYLECODE, "stylecodes"), (made.REFONLY, "."), (made.ADAPTER, "adapters")])
def test_the_studio_has_places_for_what_it_can_use(kind: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFONLY_MODELS_DIR", str(tmp_path))
    found = Finished(Path("/x"), kind)
    place = StudioTraining().place(found)
    assert place is not None
    assert place.folder == tmp_path / folder
    assert bool(place.there) == (kind in (made.ONEPIC, made.STYLECODE))
    if place.there:
        assert StudioTraining().trial(found, Path("/y"))["page"] in place.there


def test_what_the_studio_has_no_use_for_is_downloaded() -> None:
    assert [StudioTraining().place(Finished(Path("/x"), kind)) for kind in (made.LORA, made.EMBEDDING, made.CHECKPOINT, made.OTHER)] == [None] * 4


# --- a WebUI's checkpoints ----------------------------------------------------------------------------------------------------------------------------


def checkpoint(path: Path, width: int, xl: bool = False) -> Path:
    names = {"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(2, width)}
    save_file(names | ({"conditioner.x": torch.zeros(1)} if xl else {}), path)
    return path


def test_a_checkpoint_tells_its_family(tmp_path: Path) -> None:
    assert family_of(checkpoint(tmp_path / "a.safetensors", 768)) == "sd1"
    assert family_of(checkpoint(tmp_path / "b.safetensors", 1024)) == "sd2"
    assert family_of(checkpoint(tmp_path / "c.safetensors", 2048, True)) == "sdxl"
    save_file({"double_blocks.0.x": torch.zeros(1)}, tmp_path / "f.safetensors")
    assert family_of(tmp_path / "f.safetensors") == "flux"
    for wrong, told in ((checkpoint(tmp_path / "d.safetensors", 128), "unusual size"), (tmp_path / "old.ckpt", "its family yourself")):
        with pytest.raises(BadModel, match=told):
            family_of(wrong)


def taken(page: TrainingEvents, path: Path, *chosen: Any) -> dict[Any, Any]:
    from lib_refonly.ui.training_checkpoints import CheckpointEvents

    g = page.panel.goal
    values = [*chosen, *(one.value for one in g.form.inputs)]
    needs = [page.panel.session, *g.chosen, *g.form.inputs]
    return CheckpointEvents(page.panel, page.host, page.choose, needs, []).take(TrainingSession(), str(path), *values)


def test_a_chosen_checkpoint_fills_the_form(page: TrainingEvents, tmp_path: Path) -> None:
    g, xl = page.panel.goal, checkpoint(tmp_path / "c.safetensors", 2048, True)
    made_ = taken(page, xl, "A character", "SD 1.5", "12 GB", False, False)
    assert (made_[g.form[FIELD]]["value"], made_[g.family]["value"]) == (str(xl), "SDXL")
    assert made_[g.form["resolution"]]["value"] == "1024,1024"
    small = taken(page, checkpoint(tmp_path / "d.safetensors", 128), "A character", "SD 1.5", "12 GB", False, False)
    assert set(small) == {g.form[FIELD], g.message}
    assert "unusual size" in small[g.message]
    flux = tmp_path / "f.safetensors"
    save_file({"double_blocks.0.x": torch.zeros(1)}, flux)
    word = next(title for title in g.task.choices if "word" in str(title))
    wrong = taken(page, flux, word[1] if isinstance(word, tuple) else word, "SD 1.5", "12 GB", False, False)
    assert "checkpoint of FLUX, which the task above" in wrong[g.message]


def test_the_list_is_the_webuis_as_it_is_now(page: TrainingEvents, host: FakeWebui) -> None:
    from lib_refonly.ui.training_checkpoints import CheckpointEvents

    events_ = CheckpointEvents(page.panel, host, page.choose, [None], [])
    host.known = [("base", "/a/base.safetensors")]
    assert events_.list()[page.panel.checkpoint]["choices"] == [("base", "/a/base.safetensors")]
