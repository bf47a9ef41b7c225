from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from lib_refonly.refonly.blueprint import BlueprintEncoder, blueprint_tensor

RELEASED_SHAPES = {
    "conv_in": [16, 3, 3, 3],
    "blocks.0": [16, 16, 3, 3],
    "blocks.1": [32, 16, 3, 3],
    "blocks.2": [32, 32, 3, 3],
    "blocks.3": [96, 32, 3, 3],
    "blocks.4": [96, 96, 3, 3],
    "blocks.5": [256, 96, 3, 3],
    "conv_out": [320, 256, 3, 3],
}


def test_released_has_the_names_shapes_and_size_of_the_authors_files() -> None:
    encoder = BlueprintEncoder(320)
    shapes = {name.removesuffix(".weight"): list(t.shape) for name, t in encoder.state_dict().items() if name.endswith("weight")}
    assert shapes == RELEASED_SHAPES
    assert sum(p.numel() for p in encoder.parameters()) == 1_086_480


def test_paper_has_four_convolutions_of_4x4_before_the_projection() -> None:
    encoder = BlueprintEncoder(320, "paper")
    kernels = [tuple(m.weight.shape) for m in encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    assert kernels == [(16, 3, 4, 4), (32, 16, 4, 4), (64, 32, 4, 4), (128, 64, 4, 4), (320, 128, 1, 1)]


@pytest.mark.parametrize("form", ["released", "paper"])
def test_an_eighth_of_the_size(form: str) -> None:
    encoder = BlueprintEncoder(32, form)
    assert encoder(torch.rand(2, 3, 64, 24)).shape == (2, 32, 8, 3)


@pytest.mark.parametrize("form", ["released", "paper"])
def test_zeroed_it_adds_nothing_and_can_still_learn(form: str) -> None:
    encoder = BlueprintEncoder(8, form).zero_out()
    out = encoder(torch.rand(1, 3, 16, 16))
    assert torch.count_nonzero(out) == 0
    out.sum().backward()
    assert encoder.conv_out.weight.grad is not None
    assert encoder.conv_out.weight.grad.abs().max() > 0


@pytest.mark.parametrize("form", ["released", "paper"])
def test_the_config_gives_the_same_encoder_back(form: str) -> None:
    encoder = BlueprintEncoder(8, form, (4, 6, 8, 10))
    again = BlueprintEncoder.from_config({"block_out_channels": [8, 16]} | encoder.config)
    assert again.config == encoder.config
    assert {n: t.shape for n, t in again.state_dict().items()} == {n: t.shape for n, t in encoder.state_dict().items()}


def test_released_config_has_no_field_of_our_own() -> None:
    assert BlueprintEncoder(320).config == {"conditioning_channels": 3, "conditioning_embedding_out_channels": [16, 32, 96, 256]}


def test_unknown_form() -> None:
    with pytest.raises(ValueError, match="sketchy"):
        BlueprintEncoder(8, "sketchy")


def test_tensor_keeps_values_and_rounds_down_to_multiples_of_8() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24), dtype=np.uint8)
    tensor = blueprint_tensor(Image.fromarray(pixels))
    assert tensor.dtype == torch.float32
    assert np.array_equal(tensor[0, 1].numpy(), pixels.astype(np.float32) / 255)
    assert blueprint_tensor(Image.new("L", (31, 17))).shape == (1, 3, 16, 24)
    assert blueprint_tensor(Image.new("L", (3, 5))).shape == (1, 3, 8, 8)
