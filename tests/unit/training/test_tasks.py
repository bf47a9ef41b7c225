from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from lib_refonly.errors import BadSettings
from lib_refonly.refonly import convert
from lib_refonly.refonly.loader import load_refonly
from lib_refonly.training import cli, vocabulary
from lib_refonly.training.adapter import AdapterConfig
from lib_refonly.training.base import BaseConfig, BaseTask
from lib_refonly.training.latents import LatentSet, encode_all
from lib_refonly.training.onepic import OnePicConfig
from lib_refonly.training.refonly import RefOnlyConfig, RefOnlyTask, turned
from lib_refonly.training.stylecode import StyleConfig
from lib_refonly.training.vae import VaeConfig, VaeTask

WIDTHS = (64, 64)


@pytest.fixture(scope="session")
def vae(drawings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vae")
    VaeTask(VaeConfig(widths=(64, 64, 64, 64)), drawings).export(folder)
    return folder / "vae"


@pytest.fixture(scope="session")
def encoded(drawings: Path, vae: Path) -> Path:
    encode_all(vae, drawings, 64, batch=4)
    return drawings


def test_latents_are_kept_and_gone_on_with(encoded: Path, vae: Path) -> None:
    whole = np.array(LatentSet(encoded, 64).latents)
    assert whole.shape == (10, 2, 4, 8, 8)
    assert 0.5 < whole.astype(np.float32).std() < 1.5
    state = encoded / "latents-64.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"done": 4}), encoding="utf-8")
    assert len(LatentSet(encoded, 64)) == 4
    stored = np.load(encoded / "latents-64.npy", mmap_mode="r+")
    stored[4:] = 0
    stored.flush()
    encode_all(vae, encoded, 64, batch=4)
    assert np.array_equal(np.array(LatentSet(encoded, 64).latents), whole)
    np.save(encoded / "latents-64.npy", whole[:6])  # as if the drawing set had grown from six records to ten
    state.write_text(json.dumps(json.loads(state.read_text()) | {"done": 6}), encoding="utf-8")
    encode_all(vae, encoded, 64, batch=4)
    assert np.array_equal(np.array(LatentSet(encoded, 64).latents), whole)


def test_missing_latents_are_named(tmp_path: Path, drawings: Path) -> None:
    with pytest.raises(BadSettings, match="data latents"):
        LatentSet(drawings, 32)


def test_refonly_drops_the_shares_it_says(encoded: Path, vae: Path) -> None:
    task = RefOnlyTask(RefOnlyConfig(size=64, widths=WIDTHS), encoded, vae)
    batch = task.draw(np.random.default_rng(0), 4000)
    picture, lines = batch["see_picture"], batch["see_lines"]
    c = task.config
    shares = {"both": (c.drop_both, ~picture & ~lines), "picture": (c.drop_image, ~picture & lines), "lines": (c.drop_blueprint, picture & ~lines)}
    for name, (share, dropped) in shares.items():
        assert dropped.float().mean() == pytest.approx(share, rel=0.25), name
    assert batch["t"].min() >= 0
    assert batch["t"].max() <= 999
    noisy = (batch["t"] >= 875).float().mean()  # 1 - u^3 is above 7/8 for half of all u
    assert noisy == pytest.approx(c.noisy / 2 + (1 - c.noisy) / 8, rel=0.1)


def test_refonly_learns_and_its_export_is_the_released_layout(encoded: Path, vae: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    heldout = shutil.copytree(encoded, tmp_path / "heldout", ignore=shutil.ignore_patterns("latents*"))
    task = RefOnlyTask(RefOnlyConfig(size=64, widths=WIDTHS, vision_layers=1), encoded, vae, heldout=heldout)
    optimiser = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=1e-3)
    batch = task.draw(np.random.default_rng(0), 4)
    losses = []
    for _ in range(6):
        loss = task(**batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for network in (task.unet, task.image_encoder, task.blueprint):
        assert all(p.grad is not None for p in network.parameters() if p.requires_grad and p.dim() > 1)
    assert all(p.grad is None for p in task.vae.parameters())
    task.eval()
    assert task.sample(count=4, steps=2).width > 8 * 128
    task.export(tmp_path / "model")
    model = load_refonly(tmp_path / "model")
    assert model.card.dropout
    weight = "conv_in.weight"
    torch.testing.assert_close(model.unet.state_dict()[weight], task.unet.state_dict()[weight], rtol=1e-3, atol=1e-4)
    again = RefOnlyTask(RefOnlyConfig(size=64), encoded, vae, start=tmp_path / "model")
    assert tuple(again.unet.config["block_out_channels"]) == WIDTHS
    assert all(p.requires_grad for p in again.blueprint.parameters())


def test_a_group_can_be_favoured_and_its_lines_thickened(encoded: Path, vae: Path) -> None:
    group = LatentSet(encoded, 64).drawings.meta[0]["group"]
    task = RefOnlyTask(RefOnlyConfig(size=64, widths=WIDTHS, favour=1.0, favoured=group, bold=1.0), encoded, vae)
    own = np.array([LatentSet(encoded, 64).drawings.meta[i]["group"] == group for i in range(10)])
    latents = task.draw(np.random.default_rng(0), 32)["latents"].numpy()
    stored = np.array(task.data.latents, np.float32)
    found = [next(i for i in range(10) if any(np.array_equal(row, view) for view in stored[i])) for row in latents]
    assert own[found].all()
    plain = RefOnlyTask(RefOnlyConfig(size=64, widths=WIDTHS, favour=1.0, favoured=group), encoded, vae)
    thick, thin = (t.draw(np.random.default_rng(0), 16)["lines"].float().mean() for t in (task, plain))
    assert thick > 1.3 * thin
    with pytest.raises(BadSettings, match="nobody"):
        RefOnlyTask(RefOnlyConfig(size=64, widths=WIDTHS, favour=0.5, favoured="nobody"), encoded, vae)


def test_base_learns_and_starts_a_refonly(encoded: Path, vae: Path, tmp_path: Path) -> None:
    task = BaseTask(BaseConfig(size=64, widths=WIDTHS, context=64, text_layers=1), encoded, vae)
    loss = task(**task.draw(np.random.default_rng(0), 4))["loss"]
    loss.backward()
    assert all(p.grad is not None for p in task.text_encoder.encoder.parameters())
    task.eval()
    assert task.sample(steps=2).size[0] > 3 * 192
    task.export(tmp_path / "base")
    assert {"vocab.json", "merges.txt"} <= {p.name for p in (tmp_path / "base" / "tokenizer").iterdir()}
    assert task.unet.dtype == torch.float32
    convert.to_ldm(tmp_path / "base", tmp_path / "base.safetensors")
    again = BaseTask(BaseConfig(size=64), encoded, vae, start=tmp_path / "base")
    assert torch.equal(again.ids(["red disc"]), task.ids(["red disc"]))
    refonly = RefOnlyTask(RefOnlyConfig(size=64), encoded, vae, start=tmp_path / "base")
    assert refonly.image_encoder.config.hidden_size == 64
    torch.testing.assert_close(refonly.unet.conv_in.weight, task.unet.conv_in.weight, rtol=1e-3, atol=1e-4)  # fp16 files


def test_base_reads_parts_of_captions_too(encoded: Path, vae: Path) -> None:
    task = BaseTask(BaseConfig(size=64, widths=WIDTHS, context=64, text_layers=1, drop=0.25, thin=1.0), encoded, vae)
    captions = [c.split(", ") for pair in task.captions for c in pair]
    said = [task.tokenizer.decode(row, skip_special_tokens=True).strip() for row in task.draw(np.random.default_rng(0), 400)["ids"]]
    assert np.mean([text == "" for text in said]) == pytest.approx(0.25, rel=0.25)
    kept = [{tag.strip() for tag in text.split(",")} for text in said if text]
    assert all(any(tags <= set(caption) for caption in captions) for tags in kept)
    assert len({len(tags) for tags in kept}) > 1


def test_the_vocabulary_reads_anything() -> None:
    tokenizer = vocabulary.learn(["long green hair, dark skin"] * 5, merges=40)
    assert tokenizer.decode(tokenizer("long green hair").input_ids, skip_special_tokens=True).strip() == "long green hair"
    assert len(tokenizer("green").input_ids) == 3
    for text in ("日本語", "ÄÖ ß", "(masterpiece:1.2), 1girl", ""):
        ids = tokenizer(text).input_ids
        assert max(ids) < len(tokenizer)
        assert tokenizer.unk_token_id not in ids[1:-1]


def test_turned_keeps_the_colours_and_moves_the_rest() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[20:44, 10:30] = (200, 30, 60)
    out = turned(picture, 32, np.random.default_rng(0))
    assert out.shape == (32, 32, 3)
    solid = out[out.max(-1) > 190]
    assert len(solid) > 20
    assert np.abs(solid.astype(int) - (200, 30, 60)).max() < 12
    assert not np.array_equal(turned(picture, 32, np.random.default_rng(1)), out)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[run]\nkind='vae'\nfolder='f'", "lacks data"),
        ("[run]\nkind='vae'\nfolder='f'\ndata='d'\nlr=3", "does not know lr"),
        ("[run]\nkind='vae'\nfolder='f'\ndata='d'\n[loop]\nsteps=1\nbatch=1\nlr=1.0\nsped=3", "does not know sped"),
        ("[run]\nkind='base'\nfolder='f'\ndata='d'", "lacks vae"),
        ("[run]\nkind='base'\nfolder='f'\ndata='d'\nvae='v'\nheldout='h'", "does not know heldout"),
        ("[run]\nkind='adapter'\nfolder='f'\ndata='d'", "lacks base, start"),
        ("[run]\nkind='loar'\nfolder='f'\ndata='d'", "none of vae, base, refonly, adapter"),
        ("[run]\nkind='vae'\nfolder='f'\ndata='d'", "loop. lacks steps, batch, lr"),
        ("[run", "no valid TOML"),
    ],
)
def test_a_wrong_config_is_refused_before_anything_starts(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "c.toml"
    config.write_text(text, encoding="utf-8")
    with pytest.raises(BadSettings, match=said):
        cli.main(config)


@pytest.mark.parametrize("recipe", sorted((Path(cli.__file__).parent / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_the_shipped_recipes_are_read(recipe: Path) -> None:
    from lib_refonly.training.loop import LoopConfig

    tables = cli.read(recipe)
    cli.build(LoopConfig, tables["loop"], "loop")
    kinds = {"vae": VaeConfig, "base": BaseConfig, "refonly": RefOnlyConfig, "adapter": AdapterConfig, "stylecode": StyleConfig, "onepic": OnePicConfig}
    cli.build(kinds[tables["run"]["kind"]], tables[tables["run"]["kind"]], tables["run"]["kind"])
