from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import CLIPImageProcessor

from lib_refonly.errors import BadModel
from lib_refonly.refonly.image_encoder import ImagePromptSpec, encode, preprocess
from tests.tiny_models import tiny_model

SPEC = ImagePromptSpec(32)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@given(st.integers(1, 90), st.integers(1, 90))
def test_crop_is_transformers_clip(width: int, height: int) -> None:
    if max(width, height) > 16 * min(width, height):
        return
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    wanted = processor(picture(width, height), return_tensors="pt")["pixel_values"]
    assert torch.allclose(preprocess(picture(width, height), SPEC, "crop"), wanted, atol=1e-5)


def test_pad_keeps_a_tall_sheet_whole_on_black() -> None:
    tall = Image.new("RGB", (40, 160))
    tall.paste((255, 0, 0), (0, 0, 40, 20))
    tall.paste((0, 0, 255), (0, 140, 40, 160))
    rgb = preprocess(tall, SPEC, "pad") * torch.tensor(SPEC.std)[:, None, None] + torch.tensor(SPEC.mean)[:, None, None]
    assert rgb[0, 0, 1, 16] > 0.9  # head
    assert rgb[0, 2, 30, 16] > 0.9  # feet
    assert rgb[0, :, :, :8].abs().max() < 1e-5  # black beside it
    cropped = preprocess(tall, SPEC, "crop") * torch.tensor(SPEC.std)[:, None, None] + torch.tensor(SPEC.mean)[:, None, None]
    assert cropped.abs().max() < 1e-5


def test_transparency_becomes_black_not_what_lies_beneath() -> None:
    layer = Image.new("RGBA", (32, 32), (255, 255, 255, 0))
    assert torch.equal(preprocess(layer, SPEC), preprocess(Image.new("RGB", (32, 32)), SPEC))


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("size", [(1, 20000), (20000, 1), (1, 1), (9000, 3)])
def test_strips_do_not_explode(fit: str, size: tuple[int, int]) -> None:
    assert preprocess(Image.new("RGB", size), SPEC, fit).shape == (1, 3, 32, 32)


def test_unknown_fit() -> None:
    with pytest.raises(ValueError, match="stretch"):
        preprocess(picture(8, 8), SPEC, "stretch")


def test_both_spellings_of_the_config() -> None:
    old = {"crop_size": 224, "size": 224, "resample": 3, "image_mean": [0.1, 0.2, 0.3], "image_std": [1.0, 2.0, 3.0]}
    new = old | {"crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 224}}
    assert ImagePromptSpec.from_config(old) == ImagePromptSpec.from_config(new) == ImagePromptSpec(224, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    assert ImagePromptSpec.from_config(ImagePromptSpec(40).config) == ImagePromptSpec(40)


@pytest.mark.parametrize(
    "config",
    [{"size": 224, "crop_size": 192}, {"size": "big"}, {"size": -1}, {"resample": 0}, {"image_mean": [0.5]}, {"image_std": [0, 1, 1]}],
)
def test_configs_that_mean_something_else_are_refused(config: dict[str, object]) -> None:
    with pytest.raises(BadModel, match="preprocessor_config"):
        ImagePromptSpec.from_config(config)


def test_encode_gives_every_token_without_the_last_norm() -> None:
    encoder = tiny_model().image_encoder
    pixels = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    tokens = encode(encoder, pixels)
    assert tokens.shape == (2, 26, 48)
    assert torch.equal(tokens, encoder(pixels, output_hidden_states=True).hidden_states[-1])
