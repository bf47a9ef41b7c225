"""ONE-PIC's panels, its trainer, and what it trains."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lib_refonly.errors import BadModel, BadSettings
from lib_refonly.models.registry import EMBEDDED
from lib_refonly.onepic import lora, shelf
from lib_refonly.onepic.shelf import told
from lib_refonly.refonly.text_to_image import TextToImage
from lib_refonly.training import panels
from lib_refonly.training.base import BaseConfig, BaseTask
from lib_refonly.training.canvases import LAYOUTS
from lib_refonly.training.cli import make_task, read
from lib_refonly.training.drawings.dataset import DrawingSet
from lib_refonly.training.evaluate_onepic import WAYS, Trained, _compared, evaluate, report
from lib_refonly.training.latents import encode_all
from lib_refonly.training.loop import LoopConfig, Run
from lib_refonly.training.onepic import OnePicConfig, OnePicTask
from lib_refonly.training.panels import KINDS
from lib_refonly.training.vae import VaeConfig, VaeTask

SQUARE = OnePicConfig((("reference", "lines"), ("lines", "target")), "tested", task="colorize", size=64, rank=4, alpha=2)
KIND = {kind: number for number, kind in enumerate(KINDS)}


@pytest.fixture(scope="module")
def folders(drawings: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("onepic")
    VaeTask(VaeConfig(widths=(64, 64, 64, 64)), drawings).export(folder)
    encode_all(folder / "vae", drawings, 64, batch=4)
    BaseTask(BaseConfig(size=64, widths=(64, 64), context=64, text_layers=1), drawings, folder / "vae").export(folder / "base")
    panels.build(drawings, folder / "panels", 64, 100, seed=0)
    encode_all(folder / "vae", folder / "panels", 64)
    return {"data": folder / "panels", "base": folder / "base"}


def some_panels(ground: int) -> dict[str, np.ndarray]:
    """A red head over blue clothes, once left (A) and once right (B)."""
    drawn = {}
    for side, left in (("a", 8), ("b", 24)):
        picture, alpha = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
        picture[8:38, left : left + 32], picture[38:56, left : left + 32] = (255, 0, 0), (0, 0, 255)
        alpha[8:56, left : left + 32] = 255
        drawn[side] = (picture, alpha)
    lines = np.zeros((64, 64), np.uint8)
    lines[8:56, 24] = 255
    (a, alpha_a), (b, alpha_b) = drawn["a"], drawn["b"]
    hairs = np.array((255, 0, 0), np.uint8), np.array((0, 200, 0), np.uint8)
    made = panels.panels(a, alpha_a, b, alpha_b, lines, ground, hairs)
    return dict(zip(KINDS, made, strict=True))


@pytest.mark.parametrize("ground", [0, 255])
def test_panels_show_what_they_are_called(ground: int) -> None:
    made = some_panels(ground)
    assert tuple(made["target"][0, 0]) == (ground,) * 3
    assert tuple(made["target"][20, 50]) == (255, 0, 0)
    assert tuple(made["reference"][20, 10]) == (255, 0, 0)
    assert np.array_equal(made["mirrored"], made["reference"][:, ::-1])
    assert tuple(made["lines"][20, 24]) == (255 - ground,) * 3
    assert tuple(made["lines"][20, 30]) == (ground,) * 3
    assert (made["masked"][40:] == panels.GREY).all()
    assert np.array_equal(made["masked"][:30], made["target"][:30])
    assert tuple(made["garment"][34, 32]) == (0, 0, 255)
    assert not (made["garment"] == (255, 0, 0)).all(-1).any()
    assert tuple(made["close"][30, 32]) == (255, 0, 0)
    head = np.zeros((64, 64), bool)
    head[8:38, 24:56] = True
    assert (made["recoloured"][head] == (0, 200, 0)).all()
    assert np.array_equal(made["recoloured"][~head], made["target"][~head])
    assert (made["hidden"][head] == panels.GREY).all()
    assert np.array_equal(made["hidden"][:, :16], made["target"][:, :16])
    assert (made["area"] == 255 * head[..., None]).all()


def test_other_hair_has_another_colour(folders: dict[str, Path]) -> None:
    """Of the colour that the drawing's description gives, and nowhere else. A drawing without hair stays as it is."""
    made = DrawingSet(folders["data"])
    for pictures, meta in zip(made.pictures, made.meta, strict=True):
        target, recoloured, area = (pictures[KIND[kind]].astype(int) for kind in ("target", "recoloured", "area"))
        hair = area[..., 0] == 255
        assert np.array_equal(target[~hair], recoloured[~hair])
        assert hair.any() == (meta["group"] != "open-peeps")
        assert not hair.any() or np.abs(target - recoloured)[hair].max(-1).mean() > 64


def test_a_set_of_panels(drawings: Path, folders: dict[str, Path]) -> None:
    source, made = DrawingSet(drawings), DrawingSet(folders["data"])
    people = [i for i, meta in enumerate(source.meta) if meta["group"] != "openmoji"]
    assert sorted(meta["drawing"] for meta in made.meta) == people
    assert made.pictures.shape == (len(people), len(KINDS), 64, 64, 3)
    assert {meta["captions"][0] for meta in made.meta} == {source.meta[i]["captionB"] for i in people}
    with pytest.raises(BadSettings, match="not empty"):
        panels.build(drawings, folders["data"], 64, 1, seed=0)


def test_a_canvas_is_the_panels_side_by_side(folders: dict[str, Path]) -> None:
    task = OnePicTask(SQUARE, **folders)
    views = task.data.latents[0].astype(np.float32)
    canvas = task.canvas(task.data.latents[0])
    assert canvas.shape == (4, 16, 16)
    assert np.array_equal(canvas[:, :8, :8], views[KIND["reference"]])
    assert np.array_equal(canvas[:, 8:, :8], views[KIND["lines"]])
    assert np.array_equal(canvas[:, 8:, 8:], views[KIND["target"]])
    assert task.target[8:, 8:].all()
    assert task.target.sum() == 64


def test_noise_and_loss_are_the_target_s_alone(folders: dict[str, Path]) -> None:
    """What stands in the target without noise, and what the noise is in the context, have no part in anything."""
    task = OnePicTask(SQUARE, **folders)
    batch, handed = task.draw(np.random.default_rng(0), 2), []
    hook = task.unet.conv_in.register_forward_pre_hook(lambda _, args: handed.append(args[0]))
    loss = task(**batch)["loss"]
    other = torch.where(task.target, batch["noise"], torch.randn_like(batch["noise"]))
    torch.testing.assert_close(task(**batch | {"noise": other})["loss"], loss)
    hook.remove()
    assert torch.equal(handed[0][..., ~task.target], batch["latents"][..., ~task.target])
    assert (handed[0] - batch["latents"])[..., task.target].abs().max() > 0.1


def test_only_the_lora_learns(folders: dict[str, Path]) -> None:
    task = OnePicTask(SQUARE, **folders)
    learnt = {name: p for name, p in task.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in learnt.values()) == lora.size(task.unet, rank=4)
    assert all("attn1.to_" in name and "lora_" in name for name in learnt)
    optimiser, batch = torch.optim.Adam(learnt.values(), 1e-2), task.draw(np.random.default_rng(0), 4)
    losses = []
    for _ in range(6):
        optimiser.zero_grad()
        losses.append(task(**batch)["loss"])
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < losses[0]


def test_a_run_ends_in_a_file_that_acts_as_it_was_trained(folders: dict[str, Path], tmp_path: Path) -> None:
    """kohya's file, merged into the plain base, gives what the trainer's own layers give; alpha is not taken for the rank."""
    task = OnePicTask(replace(SQUARE, title="A tested one"), **folders)
    run = Run(task, LoopConfig(steps=6, batch=2, lr=5e-2, warmup=1, ema=0.0, precision="no", sample_every=100), tmp_path)
    run.train()
    (file,) = run.export().iterdir()
    lows, metadata = lora.read(file)
    panels_ = [list(row) for row in SQUARE.panels]
    assert told(metadata) == {"task": "colorize", "layout": "2x2", "panels": panels_, "target": "target", "title": "A tested one", "size": 64}
    assert metadata["ss_network_dim"] == "4"
    assert {low.alpha for low in lows.values()} == {2.0}
    plain = OnePicTask(SQUARE, **folders).unet
    plain.disable_adapters()
    x, t, text = torch.randn(1, 4, 16, 16), torch.tensor(500), torch.randn(1, 5, 64)

    def out(unet: Any) -> Tensor:
        with torch.no_grad():
            return unet(x, t, text, return_dict=False)[0]

    trained, before = out(task.unet), out(plain)
    assert (trained - before).abs().max() > 1e-2
    base = _plain_unet(folders["base"])
    alone = out(base)
    torch.testing.assert_close(alone, before, rtol=0, atol=1e-4)
    with lora.merged(base, lows):
        torch.testing.assert_close(out(base), trained, rtol=0, atol=1e-3)  # the file is in half precision
    assert torch.equal(out(base), alone)


def _plain_unet(base: Path) -> Any:
    from diffusers import UNet2DConditionModel

    unet: Any = UNet2DConditionModel.from_pretrained(base / "unet", torch_dtype=torch.float32)
    return unet.eval()


def test_another_panel_can_be_what_is_painted(folders: dict[str, Path]) -> None:
    task = OnePicTask(replace(SQUARE, panels=(("target", "area"),), target="area"), **folders)
    assert task.target[:, 8:].all()
    assert not task.target[:, :8].any()
    hair = np.array(task.sample(count=2, steps=1))[:64, 260:324]
    assert set(np.unique(hair)) <= {0, 255}, "the truth beside it is black and white"


def test_it_goes_on_from_a_lora(folders: dict[str, Path], tmp_path: Path) -> None:
    task = OnePicTask(SQUARE, **folders)
    Run(task, LoopConfig(steps=2, batch=2, lr=5e-2, warmup=1, ema=0.0, precision="no", sample_every=100), tmp_path / "run").train()
    task.export(tmp_path)
    file = tmp_path / "tested.safetensors"
    batch = task.draw(np.random.default_rng(0), 2)
    further = OnePicTask(replace(SQUARE, alpha=4), **folders, start=file)
    torch.testing.assert_close(further(**batch), task(**batch), rtol=1e-3, atol=1e-4)
    with pytest.raises(BadModel, match="another rank"):
        OnePicTask(replace(SQUARE, rank=8), **folders, start=file)


def test_a_set_with_other_panels_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    for file in folders["data"].iterdir():
        if file.suffix == ".npy":
            np.save(tmp_path / file.name, np.load(file, mmap_mode="r")[:, :7])
        else:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(BadSettings, match="7 panels a record"):
        OnePicTask(SQUARE, tmp_path, folders["base"])


def test_a_sample_shows_canvas_and_truth(folders: dict[str, Path]) -> None:
    task = OnePicTask(SQUARE, **folders).eval()
    assert task.sample(count=2, steps=1).size == (2 * 260 - 4, 2 * 260 - 4)


def test_records_are_chosen_by_their_captions(folders: dict[str, Path]) -> None:
    meta = DrawingSet(folders["data"]).meta
    word = meta[0]["captions"][0].split(", ")[-1]
    task = OnePicTask(replace(SQUARE, only=word), **folders)
    assert task.rows == [i for i, one in enumerate(meta) if word in one["captions"][0]]
    with pytest.raises(BadSettings, match="No caption"):
        OnePicTask(replace(SQUARE, only="submarine"), **folders)


@pytest.mark.parametrize("rows", [(("lines", "lines"),), (("lines", "target"), ("target", "lines")), (("lines",), ("lines", "target")), (("sky", "target"),)])
def test_wrong_canvases_are_refused(rows: tuple[tuple[str, ...], ...]) -> None:
    with pytest.raises(BadSettings, match="one target"):
        OnePicConfig(rows, "x")


RECIPES = sorted((Path(panels.__file__).parent / "recipes").glob("tiny-onepic-*.toml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_build_their_task(recipe: Path, folders: dict[str, Path]) -> None:
    tables = read(recipe)
    table = tables["onepic"] | {"size": 64, "only": ""}
    task = make_task("onepic", table, folders["data"], {"base": str(folders["base"])})
    assert task.config.name == recipe.stem
    json.dumps(task.config.panels)


def test_there_is_a_recipe_for_every_lora_that_comes_along() -> None:
    assert {file.name for file in shelf.loras([EMBEDDED / shelf.FOLDER])} <= {recipe.stem for recipe in RECIPES}


def test_scores_tell_colours_from_places() -> None:
    made = some_panels(255)
    true, nearer = made["target"], np.roll(made["target"], 4, 1)
    assert _compared(true, true) == (0, 0, 1)
    moved = _compared(nearer, true)
    grey = _compared(np.where(true == 255, true, 90).astype(np.uint8), true)
    assert moved[2] < 0.9 < grey[2] == 1
    assert 0 < moved[0] < grey[0]
    assert 0 < moved[1] < grey[1]


def test_loras_are_scored_on_held_out_panels(folders: dict[str, Path], tmp_path: Path) -> None:
    task = OnePicTask(SQUARE, folders["data"], folders["base"])
    task.export(tmp_path)
    (trained,) = [Trained.read(path) for path in tmp_path.glob("*.safetensors")]
    assert (trained.name, trained.task, trained.panels, trained.size) == ("tested", "colorize", SQUARE.panels, 64)
    base = TextToImage(folders["base"])
    scores, sheet = evaluate(base, [trained], folders["data"], limit=4)
    by_way = {score.way: score for score in scores}
    assert tuple(by_way) == WAYS
    assert all(score.pictures == 4 for score in scores)
    # Nothing is learnt yet: the LoRA is no change. What the context is, and how it is shown, is one.
    assert replace(by_way["without"], way=WAYS[0]) == by_way[WAYS[0]]
    for way in WAYS[2:]:
        assert by_way[way].in_place != by_way[WAYS[0]].in_place
    assert sheet.width > sheet.height / 2
    assert "| tested | without | 4 |" in report("base", scores, "a command")
    lora.save(tmp_path / "other.safetensors", trained.lows, {})
    with pytest.raises(BadSettings, match="which panels"):
        Trained.read(tmp_path / "other.safetensors")


def test_a_base_may_learn_canvases_too(drawings: Path, folders: dict[str, Path]) -> None:
    """Clean but for one panel, and the loss over that one alone; beside them ordinary pictures."""
    vae = folders["base"] / "vae"
    encode_all(vae, folders["data"], 32)
    config = BaseConfig(size=64, canvases=0.5, train_text=False)
    task = BaseTask(config, drawings, vae, start=folders["base"], panels=folders["data"])
    rng = np.random.default_rng(0)
    batches = [task.draw(rng, 2) for _ in range(80)]
    canvases = [batch for batch in batches if "target" in batch]
    assert 20 < len(canvases) < 60
    assert {tuple(batch["latents"].shape[-2:]) for batch in canvases} == {(4 * rows, 4 * columns) for rows, columns in set(LAYOUTS)}
    assert {int(batch["target"].sum()) for batch in canvases} == {16}
    assert len({tuple(batch["target"].nonzero()[0].tolist()) for batch in canvases if batch["latents"].shape[-2:] == (8, 8)}) > 1
    batch = canvases[0]
    views = task.canvases.panels.latents.astype(np.float32).reshape(-1, 4, 4, 4) if task.canvases else []
    cells = batch["latents"][0][:, batch["target"]].reshape(4, 4, 4).numpy()
    assert KIND["target"] in [i % len(KINDS) for i, view in enumerate(views) if np.array_equal(view, cells)]
    elsewhere = torch.where(batch["target"], batch["noise"], torch.randn_like(batch["noise"]))
    torch.testing.assert_close(task(**batch | {"noise": elsewhere}), task(**batch))
    task(**batch)["loss"].backward()
    assert all(p.grad is None for p in task.text_encoder.parameters())
    assert any(p.grad is not None for p in task.unet.parameters())
    with pytest.raises(BadSettings, match="panels"):
        BaseTask(config, drawings, vae, start=folders["base"])
