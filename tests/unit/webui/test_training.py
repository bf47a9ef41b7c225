"""The Train page in a WebUI: what it asks of the host, without one."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

pytest.importorskip("gradio")

from lib_refonly.errors import BadSettings
from lib_refonly.training import finished as made
from lib_refonly.training.finished import Finished
from lib_refonly.training.jobs.record import Job
from tests.unit.webui.fake_modules import fake_modules

GIGA = 1_000_000_000


PROCESSINGS = ("StableDiffusionProcessing", "StableDiffusionProcessingTxt2Img")


class FakeCard:
    """A graphics card that tells how much is free."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.free, self.total = 2 * GIGA, 8 * GIGA
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (self.free, self.total))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A1111 with its lists, on the processor until a `card` is there. `did`: what it was asked to do."""
    monkeypatch.setenv("REFONLY_MODELS_DIR", str(tmp_path / "own"))
    did: list[str] = []
    with fake_modules(tmp_path) as modules:
        flags = modules.shared.cmd_opts
        flags.lora_dir, flags.embeddings_dir, flags.ckpt_dir = (str(tmp_path / name) for name in ("Lora", "embeddings", "Stable-diffusion"))
        modules.shared.opts.data = {"sd_model_checkpoint": "chosen"}
        model = SimpleNamespace(name="loaded")
        info = SimpleNamespace(name_for_extra="base", title="base.safetensors [0]", filename=str(tmp_path / "Stable-diffusion" / "base.safetensors"))

        def list_models() -> None:
            did.append("list checkpoints")
            modules.shared.opts.data["sd_model_checkpoint"] = "of the command line"

        vars(modules.sd_models).update(
            model_data=SimpleNamespace(sd_model=model, loaded_sd_models=[model]),
            checkpoints_list={"base": info},
            list_models=list_models,
            model_path=str(tmp_path / "default"),
            send_model_to_cpu=lambda one: did.append(f"{one.name} away"),
            send_model_to_device=lambda one: did.append(f"{one.name} back"),
        )
        modules.devices.torch_gc = lambda: did.append("collected")
        database = SimpleNamespace(load_textual_inversion_embeddings=lambda force_reload: did.append(f"read embeddings {force_reload}"))
        for name, content in (
            ("processing", {name: type(name, (), {"cached_c": ["old", "old"]}) for name in PROCESSINGS}),
            ("call_queue", {"queue_lock": threading.Lock()}),
            ("sd_hijack", {"model_hijack": SimpleNamespace(embedding_db=database)}),
        ):
            module = types.ModuleType(f"modules.{name}")
            vars(module).update(content)
            monkeypatch.setitem(sys.modules, module.__name__, module)
            setattr(sys.modules["modules"], name, module)
        monkeypatch.setitem(sys.modules, "networks", SimpleNamespace(list_available_networks=lambda: did.append("list LoRAs")))
        modules.did, modules.model = did, model
        yield modules


@pytest.fixture
def card(host: Any, monkeypatch: pytest.MonkeyPatch) -> FakeCard:
    host.devices.device = torch.device("cuda")
    fake = FakeCard(monkeypatch)
    away = host.sd_models.send_model_to_cpu

    def send(one: Any) -> None:
        away(one)
        fake.free = 6 * GIGA

    host.sd_models.send_model_to_cpu = send
    return fake


def one(kind: str, word: str = "") -> Finished:
    return Finished(Path("/job/out/miho.safetensors"), kind, word=word)


# --- the graphics card --------------------------------------------------------------------------------------------------------------------------------


def test_the_checkpoint_leaves_the_card_and_comes_back_with_the_next_picture(host: Any, card: FakeCard) -> None:
    from lib_refonly.webui import graphics

    graphics.take_back()
    assert host.did == [], "it was never away"
    assert graphics.make_room().startswith("4.0 GB of the graphics card's memory were given free: 6.0 of 8.0 GB")
    assert host.did == ["loaded away", "collected"]
    graphics.take_back()
    graphics.take_back()
    assert host.did[2:] == ["loaded back"]
    assert "Nothing could be given free" in graphics.make_room(), "the card says as much as before"


def test_room_is_not_made_in_the_middle_of_a_picture(host: Any, card: FakeCard) -> None:
    from lib_refonly.webui import graphics

    with sys.modules["modules.call_queue"].queue_lock:
        assert "is painting" in graphics.make_room()
    assert host.did == []


def test_without_a_card_nothing_is_moved(host: Any) -> None:
    from lib_refonly.webui import graphics

    assert graphics.make_room() == ""
    assert host.did == []


def test_forge_unloads_by_its_own_memory_management(host: Any, card: FakeCard, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib_refonly.webui import graphics

    def unload() -> None:
        host.did.append("unload")
        card.free = 7 * GIGA

    manager: Any = types.ModuleType("backend.memory_management")
    manager.unload_all_models, manager.soft_empty_cache = unload, lambda: host.did.append("empty")
    for name, module in (("modules_forge", types.ModuleType("x")), ("backend", types.ModuleType("backend")), (manager.__name__, manager)):
        monkeypatch.setitem(sys.modules, name, module)
    assert graphics.make_room().startswith("5.0 GB")
    graphics.take_back()
    assert host.did == ["unload", "empty"], "Forge's own patchers bring the models back"


# --- where finished files go --------------------------------------------------------------------------------------------------------------------------


def test_every_kind_has_its_folder(host: Any, tmp_path: Path) -> None:
    from lib_refonly.webui.training import WebuiTraining

    places = {kind: WebuiTraining().place(one(kind)) for kind in made.TITLES}
    folders = {kind: place.folder.relative_to(tmp_path).as_posix() for kind, place in places.items() if place}
    assert folders == {
        made.LORA: "Lora",
        made.ONEPIC: "Lora",
        made.EMBEDDING: "embeddings",
        made.CHECKPOINT: "Stable-diffusion",
        made.STYLECODE: "own/stylecodes",
        made.ADAPTER: "own/adapters",
        made.REFONLY: "own",
    }
    assert all(WebuiTraining().trial(one(kind), Path("x")) for kind, place in places.items() if place and place.there)


def test_other_flags_and_none(host: Any, tmp_path: Path) -> None:
    from lib_refonly.webui.training import WebuiTraining

    flags = host.shared.cmd_opts
    flags.lora_dir, flags.lora_dirs, flags.ckpt_dir = None, [str(tmp_path / "first"), str(tmp_path / "second")], None
    place = WebuiTraining().place(one(made.LORA))
    assert place is not None
    assert place.folder == tmp_path / "first"
    checkpoints = WebuiTraining().place(one(made.CHECKPOINT))
    assert checkpoints is not None
    assert checkpoints.folder == tmp_path / "default"
    flags.lora_dirs = flags.embeddings_dir = None
    assert WebuiTraining().place(one(made.LORA)) is WebuiTraining().place(one(made.EMBEDDING)) is None


def test_lists_are_read_anew(host: Any) -> None:
    from lib_refonly.webui.training import WebuiTraining

    for kind, did in ((made.LORA, "list LoRAs"), (made.ONEPIC, "list LoRAs"), (made.EMBEDDING, "read embeddings True"), (made.CHECKPOINT, "list checkpoints")):
        WebuiTraining().list_anew(one(kind), Path("x"))
        assert host.did[-1] == did
    assert host.shared.opts.data["sd_model_checkpoint"] == "chosen"
    assert [getattr(sys.modules["modules.processing"], name).cached_c for name in PROCESSINGS] == [[None, None]] * 2, (
        "the same prompt reads its embeddings anew"
    )
    with sys.modules["modules.call_queue"].queue_lock:
        WebuiTraining().list_anew(one(made.EMBEDDING), Path("x"))
    assert host.did[-1] == "list checkpoints", "not while a picture is painted; the host reads them itself before the next"


def test_what_is_tried_and_how(host: Any, tmp_path: Path) -> None:
    from lib_refonly.webui.training import WebuiTraining

    page = WebuiTraining()
    assert page.trial(one(made.LORA, "mihoxyz"), Path("a/miho-2.safetensors")) == {"tab": "txt2img", "prompt": "<lora:miho-2:1> mihoxyz"}
    assert page.trial(one(made.LORA), Path("a/miho.safetensors"))["prompt"] == "<lora:miho:1>"
    assert page.trial(one(made.EMBEDDING, "x"), Path("a/word.safetensors"))["prompt"] == "word"
    placed = tmp_path / "Stable-diffusion" / "base.safetensors"
    assert page.trial(one(made.CHECKPOINT), placed) == {"tab": "txt2img", "prompt": "", "checkpoint": "base.safetensors [0]"}
    assert page.trial(one(made.ONEPIC), placed) == {"page": "ONE-PIC"}
    assert page.checkpoints() == [("base", str(placed))]


# --- jobs ---------------------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_environment(host: Any, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    from lib_refonly.webui import training

    there = [True]
    monkeypatch.setattr(training, "has_own_environment", lambda: there[0])
    monkeypatch.setattr(training.WebuiHouse, "_see_to_a_worker", lambda _: None)
    return there


def test_room_is_made_before_a_job_begins_and_before_it_goes_on(host: Any, own_environment: list[bool], tmp_path: Path) -> None:
    from lib_refonly.webui.training import WebuiHouse

    made_room: list[str] = []
    house = WebuiHouse(tmp_path / "jobs", lambda: made_room.append("room"))
    job = house.submit("a", "lora-sd1", lambda folder: ["trainer", str(folder)])
    assert made_room == ["room"]
    assert job.argv == ("trainer", str(house.folder_of(job.id)))
    house.ask(job.id, "pause")
    house.resume(job.id)
    assert made_room == ["room"] * 2

    def refuses(_: Path) -> list[str]:
        raise BadSettings("No pictures.")

    with pytest.raises(BadSettings, match="No pictures"):
        house.submit("b", "lora-sd1", refuses)
    assert made_room == ["room"] * 2, "for nothing"
    assert len(house.list().jobs) == 1


def test_our_own_trainings_need_their_own_environment(host: Any, own_environment: list[bool], tmp_path: Path) -> None:
    from lib_refonly.studio.commands.jobs import PROGRAM
    from lib_refonly.webui.training import WebuiHouse, WebuiTraining

    house = WebuiHouse(tmp_path / "jobs")
    house.submit("own", "lora", [*PROGRAM, "train", "x.toml"])
    assert WebuiTraining().notes() == ()
    own_environment[0] = False
    with pytest.raises(BadSettings, match=r"type: python studio.py models"):
        house.submit("own", "lora", [*PROGRAM, "train", "x.toml"])
    assert len(house.list().jobs) == 1, "no job that could only fail"
    house.submit("sd-scripts", "lora-sd1", ["python", "-m", "accelerate"])
    assert "type: python studio.py models" in WebuiTraining().notes()[0]


def test_who_paints_is_told_once(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib_refonly.webui import training, training_tab

    jobs = [Job("one", "Miho", "lora-sd1", ("x",), "/", 1.0, 1.0, state="running")]
    monkeypatch.setattr(training, "running", lambda: jobs)
    told: list[str] = []
    for _ in range(2):
        training_tab.before_painting(SimpleNamespace(comment=told.append))
    assert len(told) == 1
    assert "A training runs (Miho)" in told[0]
    jobs.append(Job("two", "", "full-sdxl", ("x",), "/", 1.0, 1.0, state="running"))
    training_tab.before_painting(SimpleNamespace(comment=told.append))
    assert "(full-sdxl)" in told[1]


def test_running_are_those_that_have_a_process(host: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_environment: list[bool]) -> None:
    from dataclasses import replace

    from lib_refonly.training.jobs import record
    from lib_refonly.training.jobs.process import Identity
    from lib_refonly.webui import training

    monkeypatch.setattr(training, "HOUSE", tmp_path / "jobs")
    assert training.running() == []
    house = training.WebuiHouse(tmp_path / "jobs")
    job = house.submit("a", "lora-sd1", ["x"])
    assert training.running() == []
    record.save(replace(job, state="running", process=Identity.of(psutil.Process().pid)), house.folder_of(job.id))
    assert [one.id for one in training.running()] == [job.id]


# --- the tab ------------------------------------------------------------------------------------------------------------------------------------------


def components(page: Any) -> dict[str, Any]:
    return {block.elem_id: block for block in page.blocks.values() if getattr(block, "elem_id", None)}


def test_the_tab(host: Any) -> None:
    from lib_refonly.webui.training_tab import build_train_tab

    ((page, title, elem_id),) = build_train_tab()
    found = components(page)
    assert (title, elem_id) == ("RefOnly Train", "refonly_train")
    assert {"refonly-train-checkpoint", "refonly-train-start", "refonly-train-put", "refonly-train-try"} <= set(found)
    assert all(block.do_not_save_to_config for block in page.blocks.values())


def test_from_elsewhere_nothing_can_be_started(host: Any) -> None:
    from lib_refonly.webui.training_tab import build_train_tab

    host.shared.cmd_opts.listen = True
    ((page, _, _),) = build_train_tab()
    assert "refonly-train-away" in components(page)
    assert not page.fns


def test_without_psutil_the_tab_says_how_to_get_it(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib_refonly.webui import training_tab

    monkeypatch.setattr(training_tab, "missing", lambda: ["psutil"])
    ((page, _, _),) = training_tab.build_train_tab()
    (only,) = [str(block.value) for block in page.blocks.values() if getattr(block, "value", None)]
    assert "pip install psutil" in only
    training_tab.before_painting(SimpleNamespace())
