"""A LoRA and an embedding from a folder of pictures: what is trained, what the files hold, and that others read the same from them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lib_refonly.errors import BadPicture, BadSettings
from lib_refonly.onepic import lora
from lib_refonly.training import builtin_settings as builtin
from lib_refonly.training import cli
from lib_refonly.training.base import BaseConfig, BaseTask
from lib_refonly.training.builtin_settings import BuiltinSettings, EmbeddingConfig, LoraConfig
from lib_refonly.training.embedding import KEY, EmbeddingTask
from lib_refonly.training.evaluate_training import WAYS, evaluate, holds, palette_distance, report
from lib_refonly.training.kohya.toml_text import written
from lib_refonly.training.latents import encode_all
from lib_refonly.training.loop import LoopConfig, Run
from lib_refonly.training.lora import TARGETS, LoraTask
from lib_refonly.training.own_pictures import OwnPictures, worded
from lib_refonly.training.vae import VaeConfig, VaeTask

LORA = LoraConfig(name="zibo", word="zibo", size=64, rank=4, alpha=2.0)
WORD = EmbeddingConfig(name="zibo", begin="red disc", size=64, vectors=3)


@pytest.fixture(scope="module")
def base(drawings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("base")
    VaeTask(VaeConfig(widths=(64, 64, 64, 64)), drawings).export(folder)
    encode_all(folder / "vae", drawings, 64, batch=4)
    BaseTask(BaseConfig(size=64, widths=(64, 64), context=64, text_layers=2), drawings, folder / "vae").export(folder / "base")
    return folder / "base"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disc on nothing, a wide picture, and one that has the word already."""
    folder = tmp_path_factory.mktemp("pictures")
    disc = np.zeros((80, 80, 4), np.uint8)
    disc[20:60, 10:50] = (250, 30, 30, 255)
    disc[..., :3][disc[..., 3] == 0] = (9, 200, 9)  # what a painter never sees
    Image.fromarray(disc).save(folder / "a.png")
    (folder / "a.txt").write_text("red disc, smiling")
    Image.new("RGB", (128, 64), (20, 30, 240)).save(folder / "b.png")
    Image.new("RGB", (64, 64), (200, 200, 30)).save(folder / "c.jpg")
    (folder / "c.txt").write_text("yellow, Zibo")
    return folder


def lora_task(pictures: Path, base: Path, **changes: Any) -> LoraTask:
    return LoraTask(replace(LORA, **changes), pictures, base)


# --- pictures -----------------------------------------------------------------------------------------------------------------------------------------


def test_pictures_are_squares_on_black_encoded_once(pictures: Path, base: Path) -> None:
    task = lora_task(pictures, base)
    (disc, wide, _), latents = task.data.pictures, task.data.latents
    assert latents.shape == (3, 2, 4, 8, 8)
    assert tuple(disc[2, 2]) == (0, 0, 0)
    assert tuple(disc[30, 20]) == (250, 30, 30)
    assert tuple(wide[0, 32]) == (0, 0, 0)
    assert tuple(wide[32, 32]) == (20, 30, 240)
    cut = OwnPictures(pictures, task.vae, 64, whole=False, mirror=False)
    assert cut.latents.shape[1] == 1
    assert tuple(cut.pictures[1][0, 32]) == (20, 30, 240)
    with torch.no_grad():
        back = task.vae.decode(latents[0, 1:] / task.vae.config.scaling_factor).sample[0]
        there = task.vae.decode(latents[0, :1] / task.vae.config.scaling_factor).sample[0]
    assert (back.flip(-1) - there).abs().mean() < (back - there).abs().mean()


def test_what_can_t_be_trained_on_is_said(base: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="no pictures"):
        lora_task(tmp_path, base)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(BadPicture, match="broken.png can't be trained on"):
        lora_task(tmp_path, base)


def test_a_caption_begins_with_the_word(pictures: Path, base: Path) -> None:
    task = lora_task(pictures, base, drop_text=0.0, thin=1.0)
    assert [task.caption(number) for number in range(3)] == ["zibo, red disc, smiling", "zibo", "yellow, Zibo"]
    rng = np.random.default_rng(0)
    said = {task._said(row, rng) for row in (0, 2) for _ in range(40)}
    assert {"zibo, smiling", "zibo, red disc", "zibo, yellow"} <= said
    assert all("zibo" in text.lower() for text in said)
    assert worded("zibology", "zibo") == "zibo, zibology"
    assert worded("", "") == ""


def test_noise_has_a_mean_of_its_own(pictures: Path, base: Path) -> None:
    """Spread of the noise's means: 1/8 of one where there are 64 values, and `offset` on top."""
    plain, moved = (lora_task(pictures, base, offset=offset).draw(np.random.default_rng(0), 64)["noise"].mean((2, 3)).std() for offset in (0.0, 1.0))
    assert 0.1 < plain < 0.15
    assert 0.8 < moved < 1.2


# --- the LoRA -----------------------------------------------------------------------------------------------------------------------------------------


def run(task: Any, folder: Path, lr: float) -> Path:
    """Train a little; the exported file."""
    made = Run(task, LoopConfig(steps=4, batch=2, lr=lr, warmup=1, ema=0.0, precision="no", sample_every=100), folder)
    made.train()
    (file,) = made.export().iterdir()
    return file


def out(unet: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x, text = torch.randn(1, 4, 8, 8, generator=generator), torch.randn(1, 5, 64, generator=generator)
    with torch.no_grad():
        return unet(x, torch.tensor(500), text, return_dict=False)[0]


def test_the_lora_s_file_acts_as_it_was_trained(pictures: Path, base: Path, tmp_path: Path) -> None:
    """In diffusers, and merged as kohya's format says: up @ down * alpha / rank, under ldm's names."""
    from diffusers import StableDiffusionPipeline

    task = lora_task(pictures, base)
    learnt = [name for name, p in task.named_parameters() if p.requires_grad]
    assert all("lora_" in name for name in learnt)
    assert {part for part in ("attn1.to_q", "attn2.to_k", "attn2.to_out.0", "ff.net.0.proj", "ff.net.2") for name in learnt if part in name} == {
        "attn1.to_q", "attn2.to_k", "attn2.to_out.0", "ff.net.0.proj", "ff.net.2"
    }  # fmt: skip
    file = run(task, tmp_path, 5e-2)
    assert file.name == "zibo.safetensors"
    lows, metadata = lora.read(file)
    assert "lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_out_0" in lows
    assert "lora_unet_middle_block_1_transformer_blocks_0_ff_net_0_proj" in lows
    assert {low.alpha for low in lows.values()} == {2.0}
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"], metadata["ss_steps"]) == ("4", "2", "4")
    assert metadata["modelspec.trigger_phrase"] == "zibo"
    assert json.loads(metadata["ss_tag_frequency"])["zibo"]["zibo"] == 2

    trained = out(task.unet)
    pipeline: Any = StableDiffusionPipeline.from_pretrained(base, torch_dtype=torch.float32)
    alone = out(pipeline.unet)
    assert (trained - alone).abs().max() > 1e-2
    with lora.merged(pipeline.unet, lows, targets=TARGETS):
        torch.testing.assert_close(out(pipeline.unet), trained, rtol=0, atol=1e-3)  # the file is in half precision
    pipeline.load_lora_weights(file, unet_config=pipeline.unet.config)
    torch.testing.assert_close(out(pipeline.unet), trained, rtol=0, atol=1e-3)


def test_a_sheet_shows_pictures_without_and_with(pictures: Path, base: Path) -> None:
    task = lora_task(pictures, base).eval()
    for name, parameter in task.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    shown = np.asarray(task.sample())
    assert shown.shape[:2] == (3 * 196 - 4, 3 * 196 - 4)
    above, without, with_ = shown[:192], shown[196:388], shown[392:]
    assert tuple(above[90, 60]) == (250, 30, 30)
    assert (without != with_).any()
    assert task.sample_shows.startswith("At the top pictures of yours; below what the model paints from their captions")
    given = lora_task(pictures, base, prompts="zibo\n\n zibo, laughing ").eval()
    assert np.asarray(given.sample()).shape[:2] == (2 * 196 - 4, 2 * 196 - 4)
    assert given.sample_shows.startswith("Above what the model paints from your prompts without")


def test_the_loop_stops_and_goes_on(pictures: Path, base: Path, tmp_path: Path) -> None:
    """What was learnt, and how many steps it took, outlive the process."""
    config = LoopConfig(steps=4, batch=1, lr=1e-2, warmup=1, ema=0.0, precision="no", sample_every=100)
    (tmp_path / "asks").mkdir()
    (tmp_path / "asks" / "pause").touch()
    first = Run(lora_task(pictures, base), config, tmp_path)
    assert first.train() == 1
    second = Run(lora_task(pictures, base), config, tmp_path)
    second.load()
    assert int(second.task.done) == 1
    for one, other in zip(first.weights, second.weights, strict=True):
        torch.testing.assert_close(one, other)
    assert second.train() == 4
    assert int(second.task.done) == 4


# --- the embedding ------------------------------------------------------------------------------------------------------------------------------------


def test_only_the_word_s_vectors_learn(pictures: Path, base: Path, tmp_path: Path) -> None:
    task = EmbeddingTask(WORD, pictures, base)
    assert [(name, tuple(p.shape)) for name, p in task.named_parameters() if p.requires_grad] == [("text_encoder.embeddings.token_embedding.vectors", (3, 64))]
    before = task.table.vectors.detach().clone()
    table = task.table.table.weight.detach().clone()
    run(task, tmp_path, 1e-1)
    assert (task.table.vectors - before).abs().min(1).values.max() > 1e-3
    assert torch.equal(task.table.table.weight, table)


def test_the_word_begins_as_what_it_is_told(pictures: Path, base: Path) -> None:
    task = EmbeddingTask(WORD, pictures, base)
    tokens = task._tokens("red disc")
    nearest = torch.cdist(task.table.vectors, task.table.table.weight).argmin(1)
    assert [int(one) for one in nearest] == [tokens[row * len(tokens) // 3] for row in range(3)]


def test_the_word_takes_its_tokens_in_a_prompt(pictures: Path, base: Path) -> None:
    task = EmbeddingTask(WORD, pictures, base)
    plain = task.ids(["red disc, smiling"])
    torch.testing.assert_close(plain, task.tokenizer(["red disc, smiling"], padding="max_length", max_length=77, return_tensors="pt").input_ids)
    (ids,) = task.ids(["red, ZIBO disc"]).tolist()
    red, disc = task._tokens("red,"), task._tokens("disc")
    assert ids[1 : 4 + len(red) + len(disc)] == [*red, task.first, task.first + 1, task.first + 2, *disc]
    assert task.ids(["zibo " * 100]).shape == (1, 77)


def test_diffusers_reads_the_embedding(pictures: Path, base: Path, tmp_path: Path) -> None:
    """The file has the one tensor that A1111 and diffusers look for, and means the same in a prompt as it did while it was trained."""
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import load_file

    task = EmbeddingTask(WORD, pictures, base)
    file = run(task, tmp_path, 1e-1)
    tensors = load_file(file)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {KEY: (3, 64)}
    pipeline: Any = StableDiffusionPipeline.from_pretrained(base, torch_dtype=torch.float32)
    pipeline.load_textual_inversion(file, token="zibo")
    theirs = pipeline.encode_prompt("red zibo, smiling", "cpu", 1, False)[0]
    with torch.no_grad():
        ours = task.text_encoder(task.ids(["red zibo, smiling"])).last_hidden_state
        apart = task.text_encoder(task.ids(["red disc, smiling"])).last_hidden_state
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3, check_dtype=False)
    assert (ours - apart).abs().max() > 1e-2


# --- settings -----------------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate keeps to one precision in a process, and the other tests have theirs."""
    monkeypatch.setattr(builtin, "_LOOP", builtin._LOOP | {"precision": "no"})


@pytest.mark.usefixtures("full_precision")
@pytest.mark.parametrize("task", builtin.TASKS)
def test_a_form_is_a_file_that_trains(task: str, pictures: Path, base: Path, tmp_path: Path) -> None:
    """The whole way: form, TOML, `studio.py train`, the one file; and back into the form."""
    kind, first = builtin.TASKS[task]
    form = builtin.worded(kind, replace(first, name="zibo", size=64, steps=1, batch=1, rank=2, vectors=2, begin="red", seed=7), "zibo")
    config = tmp_path / "form.toml"
    config.write_text(written(builtin.tables(kind, form, pictures, base)))
    kept = replace(first, **{name: getattr(form, name) for name in (*builtin.fields_of(kind), *(["word"] if kind == "lora" else []))})
    assert builtin.read(cli.read(config)) == (kind, replace(BuiltinSettings(), **{name: getattr(kept, name) for name in (*builtin.fields_of(kind), "word")}))
    assert cli.main(config, folder=tmp_path / "job") == 0
    assert [one.name for one in (tmp_path / "job" / "export").iterdir()] == ["zibo.safetensors"]


def test_wrong_settings_are_refused_in_words() -> None:
    with pytest.raises(BadSettings, match="no name for the file"):
        BuiltinSettings(name="../away")
    with pytest.raises(BadSettings, match="multiple of 64"):
        LoraConfig(size=100)
    with pytest.raises(BadSettings, match="Begin as"):
        EmbeddingConfig(begin=" ")
    with pytest.raises(BadSettings, match="trains refonly"):
        builtin.read({"run": {"kind": "refonly"}})
    with pytest.raises(BadSettings, match="no field for minutes, vectors"):
        builtin.read({"run": {"kind": "lora"}, "lora": {"vectors": 3}, "loop": {"minutes": 3.0}})


# --- scores -------------------------------------------------------------------------------------------------------------------------------------------


def test_palettes_tell_colours_apart() -> None:
    red, blue = np.tile(np.array([[200, 30, 30]], np.uint8), (50, 1)), np.tile(np.array([[30, 30, 200]], np.uint8), (50, 1))
    both = np.concatenate([red, blue])
    assert palette_distance(red, red) == 0
    assert palette_distance(both, both[::-1].copy()) == 0
    assert 0 < palette_distance(red, both) < palette_distance(red, blue)


@pytest.mark.usefixtures("full_precision")
def test_the_report_is_made_of_what_was_painted(drawings: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib_refonly.training import evaluate_training as scoring
    from lib_refonly.training import own_pictures
    from lib_refonly.training.styles.build import build

    build(drawings, tmp_path / "styles", 0, 2, 12, "heldout")
    monkeypatch.setattr(scoring, "STYLES", (0, 1))
    monkeypatch.setattr(own_pictures, "_STEPS", 2)
    small = {task: (kind, replace(form, size=64, batch=1)) for task, (kind, form) in builtin.TASKS.items()}
    monkeypatch.setattr(builtin, "TASKS", small)
    scores, sheets = evaluate(drawings, tmp_path / "styles", base, tmp_path / "work", steps=1)
    ways = {task: [s.way for s in scores if s.task == task] for task in small}
    assert ways == {"character": [*WAYS] * 2, "style": [*WAYS[:3]] * 2, "embedding": [*WAYS[:3]] * 2}
    assert {task: sheet.size for task, sheet in sheets.items()} == {task: (n * 100 - 4, 596) for task, n in (("character", 5), ("style", 4), ("embedding", 4))}
    text = report("tiny", scores, "pictures/some", "a command")
    assert all(f"| {s.subject.partition(':')[0]} | {s.way} | {s.colours:.1f} | {s.mean:.1f} |" in text for s in scores)
    assert all(f"(pictures/some-{task}.png)" in text for task in sheets)
    near = [replace(s, colours=0.0) if s.way == WAYS[0] else s for s in scores]
    assert holds(near)
    assert not holds([replace(near[0], colours=1e3), *near[1:]])
