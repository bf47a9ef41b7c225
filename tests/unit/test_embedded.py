"""The weights that ship: they are small enough, and they colour."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lib_refonly.conditioning.plan import Plan
from lib_refonly.imaging.decode import open_picture
from lib_refonly.imaging.infotext import png_bytes
from lib_refonly.models.registry import EMBEDDED, ModelStore
from lib_refonly.onepic import lora, shelf
from lib_refonly.onepic.painter import paint
from lib_refonly.onepic.project import Panel
from lib_refonly.onepic.settings import AUTO, OnePicPaintSettings
from lib_refonly.onepic.tasks import TASKS, project_of, task_named
from lib_refonly.refonly import convert
from lib_refonly.refonly.loader import load_refonly
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.refonly.text_to_image import TextToImage
from lib_refonly.studio.cli import DEFAULT_MODEL
from lib_refonly.studio.engine import Engine
from lib_refonly.studio.requests import ColorRequest, Reference
from lib_refonly.training.evaluate import lab
from lib_refonly.training.evaluate_base import COLOURS, Painter, share

MEGABYTE = 1_000_000
SAMPLES = sorted(path for path in (EMBEDDED / "samples").iterdir() if path.is_dir())


def test_a_clone_stays_small() -> None:
    sizes = [path.stat().st_size for path in EMBEDDED.rglob("*") if path.is_file()]
    assert max(sizes) <= 25 * MEGABYTE
    assert sum(sizes) <= 80 * MEGABYTE


def test_the_default_model_is_the_first_of_the_list() -> None:
    first = ModelStore([EMBEDDED]).entries()[0]
    assert first.name == DEFAULT_MODEL
    assert first.installed
    assert first.native_size == 256


def test_the_samples_are_coloured_like_their_references() -> None:
    store = ModelStore([EMBEDDED])
    references = [open_picture(folder / "reference.png") for folder in SAMPLES]
    settings = RefOnlySettings(seed=1, steps=10)
    requests = [
        ColorRequest((Reference(reference),), open_picture(folder / "lines.png"), settings, DEFAULT_MODEL)
        for reference, folder in zip(references, SAMPLES, strict=True)
    ]
    layers = [result.colour_layer for result in Engine(store, "cpu").color_all(requests)]
    off = np.array([[distance(layer, reference) for reference in references] for layer in layers])
    own, others = off.diagonal(), off[~np.eye(len(off), dtype=bool)].reshape(len(off), -1)
    assert (own < others.min(1)).mean() >= 0.8, off.round(1)
    assert own.mean() < others.mean() / 2, off.round(1)


def test_each_onepic_lora_is_small_and_for_a_canvas_that_can_be_made() -> None:
    files = shelf.loras([EMBEDDED / shelf.FOLDER])
    assert all(shelf.choose(task.name, task.layout.name, AUTO, files) for task in TASKS)
    for file in files:
        assert file.path.stat().st_size <= MEGABYTE
        assert shelf.choose(file.task, file.layout, AUTO, files) == file
        task_named(file.task)
    subject = next(file for file in files if file.task == "subject")
    for task, like in (("portrait", "subject"), ("new-pose", "colorize"), ("edit", "edit-masked")):
        assert shelf.choose(task, subject.layout, AUTO, files) == next(file for file in files if file.task == like)
    own = replace(subject, name="mine", task="portrait")
    assert shelf.choose("portrait", subject.layout, AUTO, [*files, own]) == own
    assert shelf.choose("", subject.layout, AUTO, files) is None


def test_the_same_number_paints_the_same_picture_with_a_sampler_that_adds_noise() -> None:
    base, settings = TextToImage(EMBEDDED / "tiny-base"), OnePicPaintSettings(steps=3, seed=5, sampler="Euler a")
    picture = png_bytes(open_picture(SAMPLES[0] / "lines.png").resize((64, 64)))
    project = replace(project_of(task_named("fashion-extraction"), 64, 64), panels=(Panel(picture=picture), Panel(role="target")))
    first, again = (np.asarray(paint(base, project, settings).targets[1]) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, np.asarray(paint(base, project, replace(settings, seed=6)).targets[1]))
    pair, (alone,) = (base.paint(["a cat"] * n, Plan(), size=(64, 64), steps=3, seed=seed, sampler="Euler a") for n, seed in ((2, 4), (1, 5)))
    assert np.abs(np.asarray(pair[1], int) - np.asarray(alone, int)).max() <= 2


def test_cfg_costs_nothing_where_there_is_nothing_to_be_told() -> None:
    base, rows = TextToImage(EMBEDDED / "tiny-base"), list[int]()
    picture = png_bytes(open_picture(SAMPLES[0] / "lines.png").resize((64, 64)))
    told = replace(project_of(task_named("segmentation"), 64, 64), panels=(Panel(picture=picture), Panel(role="target")), prompt="hair")
    base.unet.register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    for project, cfg in ((told, 1.0), (told, 3.0), (replace(told, prompt=""), 3.0), (replace(told, negative="hair"), 3.0)):
        paint(base, project, OnePicPaintSettings(steps=1, cfg=cfg))
    assert rows == [1, 2, 1, 1]


def test_a_canvas_is_coloured_like_its_reference() -> None:
    pictures = [[png_bytes(open_picture(folder / f"{part}.png").resize((128, 128))) for part in ("reference", "lines")] for folder in SAMPLES[:4]]
    base, lows = TextToImage(EMBEDDED / "tiny-base"), lora.read(shelf.loras([EMBEDDED / shelf.FOLDER])[0].path)[0]
    empty = project_of(task_named("colorize"), 128, 128)
    off = []
    for reference, lines in pictures:
        project = replace(empty, panels=(Panel(picture=reference), Panel(picture=lines), Panel(picture=lines), Panel(role="target")))
        (painted,) = paint(base, project, OnePicPaintSettings(steps=12), lows).targets.values()
        off.append([distance(painted, Image.open(BytesIO(other))) for other, _ in pictures])
    own, others = np.diagonal(off), np.array(off)[~np.eye(len(off), dtype=bool)].reshape(len(off), -1)
    assert (own < others.min(1)).mean() >= 0.75, np.round(off, 1)
    assert own.mean() < 0.7 * others.mean(), np.round(off, 1)


def distance(layer: Image.Image, reference: Image.Image) -> float:
    """How far the layer's colours (CIE, mean over its pixels) are from the nearest of the reference's."""
    rgba = np.asarray(layer.convert("RGBA").resize((64, 64), Image.Resampling.BOX)).reshape(-1, 4)
    there = lab(np.asarray(reference.convert("RGB").resize((48, 48), Image.Resampling.NEAREST))).reshape(-1, 3)
    painted = lab(rgba[None, rgba[:, 3] == 255, :3].copy())[0]
    return float(np.linalg.norm(painted[:, None] - there, axis=-1).min(1).mean())


def test_it_becomes_a_checkpoint_of_the_webuis(tmp_path: Path) -> None:
    out = tmp_path / "model.safetensors"
    convert.to_ldm(EMBEDDED / DEFAULT_MODEL, out)
    assert out.with_suffix(".yaml").exists()
    assert ModelStore([]).point_to(out).native_size == 256
    again, folder = convert.from_ldm(out, dtype=torch.float32), load_refonly(EMBEDDED / DEFAULT_MODEL)
    for read, kept in ((again.unet, folder.unet), (again.image_encoder, folder.image_encoder), (again.blueprint, folder.blueprint), (again.vae, folder.vae)):
        torch.testing.assert_close(read.state_dict(), kept.state_dict(), rtol=0, atol=0)


def test_tiny_base_reads_its_prompt(tmp_path: Path) -> None:
    painter = Painter(EMBEDDED / "tiny-base")
    words = ("green", "red")
    said = {word: painter.paint(f"storybook character, long {word} hair", "", 4.0, 3, 0) for word in words}
    for word, other in (words, words[::-1]):
        own, elsewhere = share(said[word], COLOURS[word]), share(said[other], COLOURS[word])
        assert own > 2 * elsewhere + 0.1, (word, own, elsewhere)
    free, avoided = (painter.paint("", negative, guidance, 4, 0) for negative, guidance in (("", 1.0), ("green hair", 4.0)))
    assert share(avoided, COLOURS["green"]) < share(free, COLOURS["green"]) / 2
    convert.to_ldm(EMBEDDED / "tiny-base", tmp_path / "base.safetensors")
    assert (tmp_path / "base.yaml").exists()
