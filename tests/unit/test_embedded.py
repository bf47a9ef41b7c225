"""The weights that ship: they are small enough, and they colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lib_refonly.imaging.decode import open_picture
from lib_refonly.models.registry import EMBEDDED, ModelStore
from lib_refonly.refonly import convert
from lib_refonly.refonly.loader import load_refonly
from lib_refonly.refonly.settings import RefOnlySettings
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
