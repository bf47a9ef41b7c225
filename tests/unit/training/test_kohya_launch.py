"""How sd-scripts is started and what came of it; LoRAs on chosen modules."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lib_refonly.errors import BadModel, BadSettings
from lib_refonly.onepic import lora
from lib_refonly.training.kohya import chosen_network, installed, launch, options, shim
from lib_refonly.training.kohya.config import Pictures
from lib_refonly.training.kohya.goals import GOALS, MODULES
from lib_refonly.training.kohya.installed import Installed
from lib_refonly.training.kohya.settings import KohyaSettings
from tests.tiny_models import tiny_unet

TRAINER = Installed("sd-scripts", "/opt/sd scripts", "/opt/venv/bin/python", "v0.10.1", "ae72efb9", "2.7.1", "/opt/options.json")


@pytest.mark.parametrize("goal", GOALS)
def test_the_command_is_a_list_that_only_names_files(tmp_path: Path, goal: str) -> None:
    job = tmp_path / "job; rm -rf x"
    argv = launch.argv(TRAINER, goal, job)
    assert argv[:3] == [TRAINER.python, "-m", "accelerate.commands.launch"]
    assert Path(argv[argv.index("--dynamo_backend") + 4]) == Path(shim.__file__)
    ours, theirs = shim.own_arguments(argv[argv.index(str(launch.SHIM)) + 1 :])
    assert (ours.goal, ours.job) == (goal, job)
    assert theirs == ["--config_file", str(job / "config.toml"), "--dataset_config", str(job / "dataset.toml")]


def test_a_house_of_jobs_gets_the_files_and_the_command(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    trainer = dataclasses.replace(TRAINER, options=str(options.RECORDED))
    settings = KohyaSettings(pretrained_model_name_or_path="a.safetensors", mixed_precision="bf16")
    made = launch.maker(trainer, "lora-sd1", settings, [Pictures(tmp_path / "pictures")])
    assert made(tmp_path) == launch.argv(trainer, "lora-sd1", tmp_path, precision="bf16")
    assert {path.name for path in tmp_path.iterdir()} == {"pictures", "config.toml", "dataset.toml"}
    known = options.RECORDED.read_text(encoding="utf-8").replace('"network_dim"', '"network_rank"')
    (tmp_path / "other.json").write_text(known, encoding="utf-8")
    with pytest.raises(BadSettings, match="train_network.py has no 'network_dim'"):
        launch.maker(dataclasses.replace(trainer, options=str(tmp_path / "other.json")), "lora-sd1", dataclasses.replace(settings, network_dim=4), [])(tmp_path)


def test_several_cards_are_accelerate_s_own_file(tmp_path: Path) -> None:
    argv = launch.argv(TRAINER, "lora-sdxl", tmp_path, accelerate_config=Path("two.yaml"))
    assert argv[3:6] == ["--config_file", "two.yaml", str(launch.SHIM)]


def test_the_environment_finds_both_and_leaves_the_hub_as_it_is() -> None:
    told = launch.environment(TRAINER)
    assert told["PYTHONPATH"].split(os.pathsep) == [TRAINER.folder, str(launch.ROOT)]
    assert (launch.ROOT / "lib_refonly" / "training").is_dir()
    assert "HF_HUB_OFFLINE" not in told


def test_results_are_whole_files_the_last_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    weights = {"w": torch.zeros(4)}
    save_file(weights, out / "mine-step00000100.safetensors")
    save_file(weights, out / "mine-step00000020.safetensors")
    save_file(weights, out / "mine.safetensors", {"ss_steps": "120", "modelspec.title": "mine"})
    (out / "cut-step00000130.safetensors").write_bytes((out / "mine.safetensors").read_bytes()[:-4])
    (out / "notes.txt").touch()
    found = launch.results(tmp_path, "lora-sd1")
    assert [(one.path.name, one.step, one.last) for one in found] == [
        ("mine.safetensors", 120, True),
        ("mine-step00000100.safetensors", 100, False),
        ("mine-step00000020.safetensors", 20, False),
    ]
    assert found[0].metadata["modelspec.title"] == "mine"
    assert {launch.results(tmp_path, goal)[0].makes for goal in GOALS} == {"lora", "embedding", "checkpoint"}


def test_results_do_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    save_file({"w": torch.zeros(4)}, tmp_path / "other.safetensors")
    try:
        (tmp_path / "out" / "mine.safetensors").symlink_to(tmp_path / "other.safetensors")
    except OSError:
        pytest.skip("this system does not let us make links")
    assert launch.results(tmp_path, "lora-sd1") == []


def test_the_step_to_go_on_from_is_the_newest_whole_state_s(tmp_path: Path) -> None:
    assert launch.saved_step(tmp_path) == 0
    for step, text in ((100, '{"step": 100}'), (200, '{"step": 200}'), (300, '{"st'), (400, '{"step": "x"}'), (500, "[]"), (600, "")):
        folder = tmp_path / "out" / f"mine-step{step:08d}-state"
        folder.mkdir(parents=True)
        if text:
            (folder / "refonly.json").write_text(text, encoding="utf-8")
    assert launch.saved_step(tmp_path) == 200


# --- the list of trainers -----------------------------------------------------------------------------------------------------------------------------


def test_the_list_of_trainers_keeps_what_was_installed(tmp_path: Path) -> None:
    assert installed.listed(tmp_path) == []
    with pytest.raises(BadSettings, match="trainers install"):
        installed.find(folder=tmp_path)
    here = dataclasses.replace(TRAINER, folder=str(tmp_path), python=sys.executable)
    installed.remember(TRAINER, tmp_path)
    installed.remember(here, tmp_path)
    assert installed.listed(tmp_path) == [here]
    assert installed.find(folder=tmp_path) == here
    installed.remember(TRAINER, tmp_path)
    with pytest.raises(BadSettings, match="no longer where it was"):
        installed.find(folder=tmp_path)
    installed.forget("sd-scripts", tmp_path)
    assert installed.listed(tmp_path) == []


@pytest.mark.parametrize(
    "text", ["", "[]", '{"trainers": {}}', '{"trainers": [{"name": "x"}]}', json.dumps({"trainers": [dataclasses.asdict(TRAINER) | {"torch": 2}]})]
)
def test_a_damaged_list_is_told_and_not_touched(tmp_path: Path, text: str) -> None:
    (tmp_path / "trainers.json").write_text(text, encoding="utf-8")
    for call in (lambda: installed.listed(tmp_path), lambda: installed.remember(TRAINER, tmp_path)):
        with pytest.raises(BadSettings, match="trainers.json"):
            call()
    assert (tmp_path / "trainers.json").read_text(encoding="utf-8") == text


def test_an_installed_one_s_own_options_are_read(tmp_path: Path) -> None:
    trainer = dataclasses.replace(TRAINER, options=str(options.RECORDED))
    assert options.of(trainer) == options.recorded()
    with pytest.raises(BadSettings, match="Install sd-scripts again"):
        options.of(dataclasses.replace(TRAINER, options=str(tmp_path / "gone.json")))


# --- a LoRA on chosen modules -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modules", [*MODULES, "text, feed-forward", "*up_blocks*attn2.to_k"])
def test_only_what_was_chosen_is_trained(modules: str) -> None:
    unet = tiny_unet()
    made = chosen_network.create_network(1.0, 4, 2.0, None, None, unet, modules=modules)
    names = [name for name, _ in made.named_children()]
    words = {"self-attention": "attn1", "cross-attention": "attn2", "attention": "attn", "feed-forward": "_ff_", "text": "attn2"}
    part = next((word for name, word in words.items() if name == modules), "")
    assert names
    assert all(part in name for name in names)
    if modules == "text":
        assert {name.rsplit("_", 1)[1] for name in names} == {"k", "v"}
    if modules == "text, feed-forward":
        assert {"attn2" in name for name in names} == {True, False}
        assert not any("attn1" in name for name in names)
    if modules.startswith("*"):
        assert all(name.startswith("lora_unet_up_blocks") and name.endswith("attn2_to_k") for name in names)
    assert {id(p) for group in made.prepare_optimizer_params(None, None, 1.0)[0] for p in group["params"]} == {id(p) for p in made.parameters()}


def test_it_is_saved_gone_on_from_and_acts(tmp_path: Path) -> None:
    unet, path = tiny_unet(), str(tmp_path / "a.safetensors")
    made = chosen_network.create_network(1.0, 4, 2.0, None, None, unet, modules="feed-forward")
    for low in made.children():
        torch.nn.init.normal_(low.get_submodule("lora_up").weight)  # pyright: ignore[reportArgumentType]
    given = torch.randn(1, 4, 8, 8), torch.tensor(10), torch.randn(1, 3, 48)
    with torch.no_grad():
        plain = unet(*given, return_dict=False)[0]
        made.apply_to(None, unet)
        acts = unet(*given, return_dict=False)[0]
    assert (acts - plain).abs().max() > 1e-4
    made.save_weights(path, None, {"ss_network_module": chosen_network.__name__})
    lows, metadata = lora.read(Path(path))
    assert ({low.alpha for low in lows.values()}, metadata["ss_network_dim"]) == ({2.0}, "4")
    again, _ = chosen_network.create_network_from_weights(1.0, path, None, None, tiny_unet(), modules="feed-forward")
    again.load_weights(path)
    with pytest.raises(BadModel, match="modules that are not"):
        chosen_network.create_network(1.0, 4, 2.0, None, None, tiny_unet(), modules="attention").load_weights(path)


def test_modules_that_are_not_there_or_not_named_are_refused() -> None:
    for modules in ("attention3", "conv_in", "*.norm*", " , "):
        with pytest.raises((BadModel, BadSettings), match="Known names|NAMES are of"):
            chosen_network.create_network(1.0, 4, 2.0, None, None, tiny_unet(), modules=modules)
    with pytest.raises(BadSettings, match="modules=NAMES"):
        chosen_network.create_network(1.0, 4, 2.0, None, None, tiny_unet())
    with pytest.raises(BadSettings, match="does not know conv_dim"):
        chosen_network.create_network(1.0, 4, 2.0, None, None, tiny_unet(), modules="text", conv_dim="4")
    with pytest.raises(BadSettings, match="base_weights"):
        chosen_network.create_network_from_weights(1.0, "x", None, None, tiny_unet(), for_inference=True)
