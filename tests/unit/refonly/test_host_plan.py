from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from lib_refonly.conditioning.plan import COND, UNCOND
from lib_refonly.errors import BadSettings
from lib_refonly.refonly.blueprint import BlueprintEncoder, blueprint_tensor
from lib_refonly.refonly.host_plan import Conditions, Part, find_lines, on_canvas
from lib_refonly.refonly.panel import PanelSettings, Unit, UnitSettings

RED = Image.new("RGB", (8, 8), "red")


def drawn(width: int = 60, height: int = 30) -> Image.Image:
    lines = np.zeros((height, width), np.uint8)
    lines[:, width // 2 - 1 : width // 2 + 1] = 255
    return Image.fromarray(lines)


def where(picture: Image.Image) -> tuple[float, float]:
    rows, columns = np.nonzero(np.asarray(picture) > 128)
    return float(columns.mean()), float(np.ptp(rows) + 1)


@pytest.mark.parametrize(("fitting", "height"), [("pad", 32), ("crop", 64), ("stretch", 64)])
def test_a_drawing_of_another_shape_on_the_canvas(fitting: str, height: int) -> None:
    laid = on_canvas(drawn(), (64, 64), fitting)
    assert laid.size == (64, 64)
    centre, tall = where(laid)
    assert centre == pytest.approx(31.5, abs=1)
    assert tall == pytest.approx(height, abs=1)


def test_a_thin_line_survives_a_strong_reduction() -> None:
    lines = np.zeros((2048, 2048), np.uint8)
    lines[:, 1024] = 255
    assert np.asarray(on_canvas(Image.fromarray(lines), (128, 128), "pad")).max() > 100


@pytest.mark.parametrize("name", ["auto", "as it is", "adaptive threshold", "canny", "scribble"])
def test_every_preprocessor_draws_white_on_black(name: str) -> None:
    picture = np.full((96, 96, 3), 255, np.uint8)
    picture[20:80, 20:80] = (200, 60, 60)
    picture[20:80, 20:24] = 0
    drawing = Image.fromarray(picture if name != "as it is" else 255 - picture)
    found = np.asarray(find_lines(drawing, PanelSettings(preprocessor=name)).blueprint)
    assert found.shape == (96, 96)
    assert found[5, 5] < 30, "the ground is black"
    assert found[25:75, 15:30].max() > 200, "the outline is white"


def test_a_host_s_own_preprocessor_and_one_that_is_not_there() -> None:
    mine = {"ControlNet: lineart": lambda picture: Image.new("RGB", (10, 10), "white")}
    found = find_lines(RED, PanelSettings(preprocessor="ControlNet: lineart"), mine)
    assert (found.blueprint.mode, found.blueprint.size) == ("L", (8, 8))
    with pytest.raises(BadSettings, match="auto"):
        find_lines(RED, PanelSettings(preprocessor="ControlNet: lineart"))


def conditions(encoder: BlueprintEncoder | None, *units: Unit, lines: Image.Image | None = None) -> Conditions:
    tokens = [torch.full((1, 3, 4), float(number)) for number in range(len(units))]
    return Conditions(PanelSettings(strength=0.7, line_strength=0.5), units, tokens, lines, encoder)


def test_the_plan_of_a_full_model() -> None:
    encoder = BlueprintEncoder(4, channels=(4, 4, 4, 4)).eval()
    mask = Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 2, 0))
    made = conditions(encoder, Unit(RED, UnitSettings(0.5, 0.1, 0.9, "IN04:0")), Unit(RED, mask=mask), lines=drawn())
    plan = made.plan((64, 32))
    (prompt,), (feature,) = plan.image_prompts, plan.input_features
    assert (prompt.strength, prompt.replace, prompt.roles) == (0.7, True, {COND})
    first, second = prompt.pictures
    assert (first.weight, first.window.start, first.window.end, first.weight_at("IN04.0")) == (0.5, 0.1, 0.9, 0)
    assert second.mask is not None
    assert second.mask.shape == (32, 64)
    assert second.mask[:, 0].max() < 0.1 < 0.9 < second.mask[:, -1].min()
    assert (feature.strength, UNCOND in feature.roles, feature.feature.shape) == (0.5, True, (1, 4, 4, 8))
    assert made.plan((64, 32)).input_features[0].feature is feature.feature, "made once for each size"


def test_only_the_masked_part_sees_its_part_of_the_lines() -> None:
    encoder = BlueprintEncoder(4, channels=(4, 4, 4, 4)).eval()
    made = conditions(encoder, Unit(RED, mask=drawn()), lines=drawn())
    part = Part((120, 60), (30, 0, 90, 60))
    plan = made.plan((64, 64), part=part)
    canvas = on_canvas(on_canvas(drawn(), (120, 60), "pad").crop(part.box), (64, 64), "stretch")
    assert torch.equal(plan.input_features[0].feature, encoder(blueprint_tensor(canvas)))
    mask = plan.image_prompts[0].pictures[0].mask
    assert mask is not None
    assert mask[32].argmax() == pytest.approx(32, abs=2)


def test_without_lines_or_without_an_encoder_there_is_no_feature() -> None:
    assert conditions(None, Unit(RED), lines=drawn()).plan((64, 64)).input_features == ()
    assert conditions(BlueprintEncoder(4), Unit(RED)).plan((64, 64)).input_features == ()
    assert not conditions(None).plan((64, 64))
