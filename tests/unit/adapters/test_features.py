from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, CLIPVisionModelWithProjection

from lib_refonly.adapters.adapter import Adapter, Reads
from lib_refonly.adapters.features import check_encoder, image_features, unconditional_features
from lib_refonly.errors import BadModel
from tests.contract.conftest import noise
from tests.tiny_models import VISION

PIXELS = noise(3, 3, 40, 40)
STATES: tuple[Reads, ...] = ("penultimate", "last")


@pytest.fixture(scope="module")
def encoder() -> CLIPVisionModelWithProjection:
    torch.manual_seed(0)
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)).eval().requires_grad_(False)  # type: ignore[arg-type]


def test_features_are_transformers_own(encoder: CLIPVisionModelWithProjection) -> None:
    out = encoder(pixel_values=PIXELS, output_hidden_states=True)
    assert len(out.hidden_states) == VISION["num_hidden_layers"] + 1
    assert torch.equal(image_features(encoder, PIXELS, "embeds"), out.image_embeds)
    assert torch.equal(image_features(encoder, PIXELS, "penultimate"), out.hidden_states[-2])
    assert torch.equal(image_features(encoder, PIXELS, "last"), out.last_hidden_state)
    assert not torch.allclose(out.hidden_states[-2], out.last_hidden_state, atol=1e-3)


def test_an_encoder_without_projection_gives_the_same_states(encoder: CLIPVisionModelWithProjection) -> None:
    plain = CLIPVisionModel(encoder.config).eval().requires_grad_(False)
    named = {name.removeprefix("vision_model."): tensor for name, tensor in encoder.state_dict().items() if name.startswith("vision_model.")}
    prefix = "vision_model." if next(iter(plain.state_dict())).startswith("vision_model.") else ""
    plain.load_state_dict({prefix + name: tensor for name, tensor in named.items()})
    for reads in STATES:
        torch.testing.assert_close(image_features(plain, PIXELS, reads), image_features(encoder, PIXELS, reads))
    for ask in (image_features, unconditional_features):
        with pytest.raises(BadModel, match="no projection"):
            ask(plain, PIXELS, "embeds")


def test_nothing_is_what_the_released_code_takes_for_it(encoder: CLIPVisionModelWithProjection) -> None:
    embeds = encoder(pixel_values=PIXELS).image_embeds
    assert torch.equal(unconditional_features(encoder, PIXELS, "embeds"), torch.zeros_like(embeds[:1]))
    states = encoder(pixel_values=torch.zeros_like(PIXELS), output_hidden_states=True).hidden_states[-2]
    torch.testing.assert_close(unconditional_features(encoder, PIXELS, "penultimate").expand_as(states), states)


def test_pixels_follow_the_encoder(encoder: CLIPVisionModelWithProjection) -> None:
    double = CLIPVisionModelWithProjection(encoder.config).eval().double()
    assert image_features(double, PIXELS, "penultimate").dtype is torch.float64
    assert unconditional_features(double, PIXELS, "embeds").dtype is torch.float64


@pytest.mark.parametrize(("reads", "width"), [("embeds", VISION["projection_dim"]), ("penultimate", VISION["hidden_size"])])
def test_another_encoder_is_refused(encoder: CLIPVisionModelWithProjection, reads: Reads, width: int) -> None:
    check_encoder(Adapter("a", reads, width, nn.Identity(), {}), encoder)
    with pytest.raises(BadModel, match=rf"a reads numbers of width 1280 .*gives {width}"):
        check_encoder(Adapter("a", reads, 1280, nn.Identity(), {}), encoder)
