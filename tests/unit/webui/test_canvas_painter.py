"""The ONE-PIC page inside a WebUI: the host paints, with its LoRAs and samplers."""

from __future__ import annotations

import sys
import threading
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from lib_refonly.errors import BadModel, BadSettings, Interrupted
from lib_refonly.imaging.infotext import png_bytes
from lib_refonly.models.weights import read_header
from lib_refonly.onepic import lora
from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.project import Panel, Project
from lib_refonly.onepic.settings import NONE, OnePicPaintSettings
from tests.contract.unets import diffusers_unet
from tests.unit.webui.fake_modules import SdModel

RED = png_bytes(Image.new("RGB", (64, 64), "red"))
PANELS = (Panel(picture=RED), Panel(role="target"), Panel(picture=RED), Panel())
PROJECT = Project(layout=Layout(2, 2), width=64, height=64, panels=PANELS, task="colorize", prompt="a cat", negative="dark")
SETTINGS = OnePicPaintSettings(model="", steps=3, seed=7, cfg=4.0, sampler="Euler")


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The host's list of LoRAs: one for the checkpoint's task and shape, one for another shape, and one of another kind."""
    unet = diffusers_unet("sd15")
    places: dict[str, Any] = {name: unet.get_submodule(place) for name, place in lora.names(unet).items()}
    here = {name: lora.Low(torch.zeros(2, part.in_features), torch.zeros(part.out_features, 2), 4.0) for name, part in places.items()}
    other = {name: lora.Low(torch.zeros(2, 7), torch.zeros(7, 2), 4.0) for name in here}
    about = {"refonly_onepic": '{"task": "colorize", "layout": "2x2", "title": "Colours"}'}
    found = {}
    for name, lows, metadata in (("other-size", other, about), ("ours", here, about), ("style", here, {})):
        path = tmp_path / f"{name}.safetensors"
        lora.save(path, lows, metadata)
        found[name] = types.SimpleNamespace(filename=str(path), metadata=read_header(path).metadata)
    monkeypatch.setitem(sys.modules, "networks", types.SimpleNamespace(available_networks=found))
    return found


@pytest.fixture
def samplers(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modules.sd_samplers", types.SimpleNamespace(all_samplers_map={"Euler": 0, "DPM++ 2M": 0, "PLMS": 0}))


@pytest.mark.usefixtures("samplers", "networks")
def test_the_host_paints_the_canvas(processing: list[Any], sd_model: SdModel) -> None:
    from lib_refonly.webui.canvas_painter import HostCanvasPainter

    result = HostCanvasPainter().paint(PROJECT, SETTINGS)
    asked = processing[0].settings
    assert (asked["prompt"], asked["negative_prompt"]) == ("a cat <lora:ours:1>", "dark")
    assert [asked[name] for name in ("steps", "seed", "cfg_scale", "sampler_name")] == [3, 7, 4.0, "Euler"]
    assert (result.lora, result.text) == ("ours", "as the host says it")
    assert list(result.painted.targets) == [1]
    assert result.painted.canvas.size == (128, 128)
    assert result.painted.canvas.getpixel((5, 5)) == (255, 0, 0)
    assert result.painted.canvas.crop((64, 0, 128, 64)).tobytes() == result.painted.targets[1].tobytes()
    assert processing[0].closed


@pytest.mark.usefixtures("samplers", "networks")
def test_which_lora_and_which_sampler(processing: list[Any]) -> None:
    from lib_refonly.webui import canvas_painter

    def asked(**changed: Any) -> tuple[str, str]:
        wanted, _ = canvas_painter.asked(PROJECT, replace(SETTINGS, **changed))
        return wanted["prompt"], wanted["sampler_name"]

    assert canvas_painter.listed() == [("Colours", "other-size"), ("Colours", "ours")]
    assert asked(lora=NONE) == ("a cat", "Euler")
    assert asked(lora="other-size", lora_strength=0.5, sampler="PNDM") == ("a cat <lora:other-size:0.5>", "PLMS")
    assert asked(sampler="DPM++ 2M Karras")[1] == "DPM++ 2M Karras"
    fields = {"prompt": "a cat <lora:ours:1>", "neg_prompt": "dark", "steps": "3", "cfg_scale": "4"}
    assert canvas_painter.parcel(PROJECT, SETTINGS) == {"canvas": PROJECT.written(), "fields": fields}
    with pytest.raises(BadModel, match="style is not installed"):
        asked(lora="style")
    with pytest.raises(BadSettings, match="no sampler UniPC"):
        asked(sampler="UniPC")


def test_a_host_without_loras(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib_refonly.webui import canvas_painter

    monkeypatch.delitem(sys.modules, "networks", raising=False)
    assert canvas_painter.loras() == []


def test_the_example_checkpoint_is_known_by_its_file(host: Any) -> None:
    from lib_refonly.webui.canvas_painter import here

    for sd_model, name in (
        (None, ""),
        (types.SimpleNamespace(sd_checkpoint_info=types.SimpleNamespace(filename="/models/refonly-tiny-base.safetensors")), "tiny-base"),
        (types.SimpleNamespace(sd_checkpoint_info=types.SimpleNamespace(filename="/tiny-base/other.safetensors")), ""),
    ):
        vars(host.sd_models).update(model_data=types.SimpleNamespace(sd_model=sd_model))
        assert here() == name


def test_several_targets_are_cut_from_the_whole_canvas(host: Any) -> None:
    from lib_refonly.webui.canvas_painter import pictures

    panels = (Panel(role="target"), PANELS[0], Panel(role="target"), PANELS[0])
    whole = Image.new("RGB", (128, 128), "red")
    whole.paste("blue", (0, 64, 64, 128))
    found = pictures(replace(PROJECT, panels=panels), whole)
    assert {number: one.getpixel((3, 3)) for number, one in found.targets.items()} == {0: (255, 0, 0), 2: (0, 0, 255)}


def test_stopping_ends_the_host_s_generation(host: Any) -> None:
    from lib_refonly.webui.own_painting import _watched

    stopped, told = threading.Event(), list[tuple[int, int]]()
    vars(host.shared).update(state=types.SimpleNamespace(sampling_step=2, interrupt=stopped.set))

    def on_step(done: int, steps: int) -> None:
        told.append((done, steps))
        if len(told) > 1:
            raise Interrupted("Stopped.")

    with pytest.raises(Interrupted), _watched(on_step, 20):
        assert stopped.wait(5)
    assert told == [(0, 20), (2, 20)]
