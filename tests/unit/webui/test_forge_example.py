"""Forge's list of networks and the small example checkpoint. That real ones load it and paint with it: tests/webui."""

from __future__ import annotations

import json
import sys
import types
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from lib_refonly.models.registry import EMBEDDED
from lib_refonly.refonly.convert import to_ldm


class SD15:
    unet_config = {"context_dim": 768, "model_channels": 320, "use_linear_in_transformer": False, "adm_in_channels": None}
    unet_extra_config = {"num_heads": 8, "num_head_channels": -1}


class ModelType(Enum):
    V_PREDICTION = 2


def _module(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)
    return module


@pytest.fixture
def forge(host: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], list[Any]]:
    """Forge's list of networks, and those that its engine for Stable Diffusion 1.x takes."""
    _module(monkeypatch, "modules_forge", __path__=[])
    listed, taken = [SD15], [SD15]
    for name in ("huggingface_guess", "backend", "backend.diffusion_engine"):
        _module(monkeypatch, name, __path__=[])
    _module(monkeypatch, "huggingface_guess.model_list", models=listed, SD15=SD15, ModelType=ModelType)
    _module(monkeypatch, "backend.diffusion_engine.sd15", StableDiffusion=types.SimpleNamespace(matched_guesses=taken))
    return listed, taken


def test_it_is_listed_once_and_taken_by_the_engine(forge: tuple[list[Any], list[Any]]) -> None:
    from lib_refonly.webui import forge_example

    assert not forge_example.taught()
    forge_example.teach()
    forge_example.teach()
    assert forge_example.taught()
    listed, taken = forge
    assert len(listed) == 2
    assert listed == taken
    network: Any = listed[1]
    assert SD15 in network.__mro__
    assert network().model_type({}) is ModelType.V_PREDICTION
    assert json.loads((Path("/elsewhere") / network.huggingface_repo / "model_index.json").read_text("utf-8"))["_class_name"] == "StableDiffusionPipeline"


@pytest.mark.parametrize("model", ["tiny-base", "tiny-refonly"])
def test_what_it_is_known_by_is_what_the_file_has(forge: tuple[list[Any], list[Any]], tmp_path: Path, model: str) -> None:
    from lib_refonly.webui import forge_example

    forge_example.teach()
    known: dict[str, Any] = forge[0][1].unet_config
    with safe_open(to_ldm(EMBEDDED / model, tmp_path / "file.safetensors"), "pt") as file:
        shape = {name.removeprefix("model.diffusion_model."): file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 no mapping
    block = "input_blocks.1.1"
    assert known["model_channels"] == shape["input_blocks.0.0.weight"][0]
    assert known["context_dim"] == shape[f"{block}.transformer_blocks.0.attn2.to_k.weight"][1]
    assert known["use_linear_in_transformer"] == (len(shape[f"{block}.proj_in.weight"]) == 2)
    assert known["adm_in_channels"] is None


@pytest.mark.parametrize(("chosen", "told"), [(None, 1), ("mine", 0)])
def test_forge_without_any_checkpoint_is_told_of_the_first(
    forge: tuple[list[Any], list[Any]], host: Any, monkeypatch: pytest.MonkeyPatch, chosen: str | None, told: int
) -> None:
    from lib_refonly.webui import forge_example

    calls: list[str] = []
    host.sd_models.model_data.forge_loading_parameters = {"checkpoint_info": chosen}
    _module(monkeypatch, "modules_forge.main_entry", refresh_model_loading_parameters=lambda: calls.append("told"))
    forge_example.choose_first()
    assert not calls  # not this kind of loader
    forge_example.teach()
    forge_example.choose_first()
    assert len(calls) == told


def test_elsewhere_nothing_is_touched(host: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In A1111, though a package of Forge's may be there; and in reForge, which says why the example can't be loaded."""
    from lib_refonly.webui import forge_example

    listed = _module(monkeypatch, "huggingface_guess.model_list", models=[], SD15=SD15, ModelType=ModelType)
    forge_example.teach()
    assert not listed.models
    assert not capsys.readouterr().out
    monkeypatch.delitem(sys.modules, "huggingface_guess.model_list")
    _module(monkeypatch, "modules_forge")
    forge_example.teach()
    assert not forge_example.taught()
    assert "small example checkpoint" in capsys.readouterr().out
