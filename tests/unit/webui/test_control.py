"""ControlNets on a ONE-PIC canvas: called for the target panel alone."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from lib_refonly.conditioning.canvas import Box
from lib_refonly.hosts.control import NarrowedChain, laid
from tests.unit.webui.fake_modules import Processing, SdModel, generate
from tests.unit.webui.test_canvas import RED, project, script, text

__all__ = ["script"]
PANEL = Box(0, 8, 8, 8)
"""The target of `project`, in latent cells of a canvas of 16 by 16."""


class Net(nn.Module):
    """Answers as a ControlNet does: a feature at each scale, of what it was handed."""

    def __init__(self) -> None:
        super().__init__()
        self.handed: list[Tensor] = []

    def forward(self, x: Tensor, hint: Tensor) -> list[Tensor]:
        self.handed.append(x)
        return [nn.functional.avg_pool2d(x, scale, ceil_mode=True) + 1 for scale in (1, 2, 4, 8)]


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_a_feature_lies_where_its_box_does(scale: int) -> None:
    feature = torch.rand(2, 3, 16 // scale, 8 // scale)
    out = laid(feature, Box(16, 8, 16, 8), (32, 24))
    assert out.shape == (2, 3, 32 // scale, 24 // scale)
    assert torch.equal(out[..., 16 // scale :, 8 // scale : 16 // scale], feature)
    torch.testing.assert_close(out.sum(), feature.sum())


def test_a_box_off_the_grid_stays_on_the_canvas() -> None:
    """Panels of 9 by 9 cells: a UNet's features are 18, 9, 5 and 3 cells wide."""
    for scale, side, whole in ((1, 9, 18), (2, 5, 9), (4, 3, 5), (8, 2, 3)):
        out = laid(torch.ones(1, 1, side, side), Box(9, 9, 9, 9), (18, 18))
        assert out.shape[-2:] == (whole, whole), scale
        assert int(out.sum()) == side * side
        assert out[..., -1, -1] == 1


def test_what_is_pooled_keeps_its_mean() -> None:
    feature = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(laid(feature, PANEL, (16, 16), pooled=True).mean((2, 3)), feature.mean((2, 3)))


def test_a_chain_is_asked_for_the_panel() -> None:
    asked: list[Any] = []

    def get_control(x: Tensor, *more: Any) -> Any:
        asked.append((x, more))
        return {"input": [None], "middle": [x[..., ::8, ::8]], "output": [x, x[..., ::2, ::2]]} if more[0] else None

    chain = NarrowedChain(SimpleNamespace(get_control=get_control, previous_controlnet="next"), PANEL)
    x = torch.rand(2, 4, 16, 16)
    found = chain.get_control(x, "t", {}, 2)
    assert asked[0][1] == ("t", {}, 2)
    assert torch.equal(asked[0][0], x[..., :8, 8:])
    assert found["input"] == [None]
    assert [tuple(one.shape[-2:]) for one in (*found["middle"], *found["output"])] == [(2, 2), (16, 16), (8, 8)]
    assert torch.equal(found["output"][0], torch.cat([torch.cat([torch.zeros(2, 4, 8, 8), x[..., :8, 8:]], 3), torch.zeros(2, 4, 8, 16)], 2))
    assert chain.get_control(x, "") is None  # outside its window
    assert chain.previous_controlnet == "next"


def unit(net: nn.Module, kind: str = "ControlNet") -> Any:
    return SimpleNamespace(control_model=net, control_model_type=SimpleNamespace(name=kind, is_controlnet=kind == "ControlNet"), global_average_pooling=False)


class Extension:
    """A ControlNet whose hooks come before ours, or after them."""

    def __init__(self, script: Any, first: bool, units: list[Any]) -> None:
        self.script, self.first, self.units, self.latest_network, self.sizes = script, first, units, None, list[Any]()

    def process(self, p: Any, *arguments: Any) -> None:
        if not self.first:
            self.script.process(p, *arguments)
        self.sizes.append(((p.width, p.height), [one.size for one in getattr(p, "init_images", ())]))
        self.latest_network = SimpleNamespace(control_params=self.units)
        if self.first:
            self.script.process(p, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["script"], name)


@pytest.fixture
def called(sd_model: SdModel) -> Iterator[list[tuple[Tensor, list[Tensor]]]]:
    """What the UNet was handed, and what a ControlNet inside it answers to that."""
    seen: list[tuple[Tensor, list[Tensor]]] = []
    layer: Any = sd_model.model.diffusion_model.input_blocks[0][0]  # type: ignore[index]
    hook = layer.register_forward_pre_hook(lambda _, args: seen.append((args[0], NET[0](x=args[0], hint=torch.zeros(1, 3, 64, 64)))))
    NET[:] = [Net()]
    yield seen
    hook.remove()


NET: list[Net] = []


def paint(script: Any, sd_model: SdModel, request: Any, first: bool = True, init_images: list[Any] | None = None, units: Any = None) -> Any:
    p = Processing(sd_model, init_images)
    p.width, p.height = 256, 192
    extension = Extension(script, first, units or [unit(NET[0]), unit(NET[0])])
    p.scripts = SimpleNamespace(alwayson_scripts=[script, extension])  # type: ignore[attr-defined]
    _, swallowed, _ = generate(p, extension, [request], script.on_step)
    assert swallowed == []
    assert (p.width, p.height) == (256, 192)
    assert not {"init", "_refonly_own_size"} & vars(p).keys()
    return p, extension


@pytest.mark.parametrize("first", [True, False])
def test_controlnet_sees_the_target(script: Any, sd_model: SdModel, called: list[Any], first: bool) -> None:
    p, extension = paint(script, sd_model, text(project()), first)
    assert extension.sizes == [((64, 64), [])]
    assert p.begun_as == (None, (128, 128))
    for (x, features), handed in zip(called, NET[0].handed, strict=True):
        assert torch.equal(handed, x[..., :8, 8:])
        assert torch.equal(features[0][..., :8, 8:], handed + 1)
        assert not features[0][..., :8].any()
        assert not features[0][..., 8:, :].any()
        assert [feature.shape[-1] for feature in features] == [16, 8, 4, 2]
    assert not NET[0]._forward_hooks
    assert not NET[0]._forward_pre_hooks


@pytest.mark.parametrize("first", [True, False])
def test_switched_off_it_sees_the_canvas(script: Any, sd_model: SdModel, called: list[Any], first: bool) -> None:
    _, extension = paint(script, sd_model, text(project(control_alone=False)), first)
    assert extension.sizes == [((128, 128), [])]
    assert all(handed.shape[-2:] == (16, 16) for handed in NET[0].handed)


@pytest.mark.parametrize("first", [True, False])
def test_in_img2img_it_is_given_the_picture_itself(script: Any, sd_model: SdModel, called: list[Any], first: bool) -> None:
    given = Image.new("RGB", (80, 80), "lime")
    p, extension = paint(script, sd_model, text(project(RED)), first, [given])
    assert extension.sizes == [((64, 64), [(80, 80)])]
    assert p.begun_as[0][0].size == (128, 128)
    assert p.init_images == [given]


def test_what_can_t_be_kept_to_the_target_is_said(script: Any, sd_model: SdModel, called: list[Any]) -> None:
    p, _ = paint(script, sd_model, text(project()), units=[unit(NET[0]), unit(nn.Identity(), "IPAdapter")])
    assert [said for said in p.comments if "IPAdapter" in said]


def test_without_a_canvas_nothing_is_touched(script: Any, sd_model: SdModel, called: list[Any]) -> None:
    _, extension = paint(script, sd_model, False)
    assert extension.sizes == [((256, 192), [])]
    assert all(handed.shape[-2:] == (24, 32) for handed in NET[0].handed)


def test_a_run_that_ended_before_it_began_leaves_the_size_alone(script: Any, sd_model: SdModel) -> None:
    p = Processing(sd_model)
    p.width, p.height = 256, 192
    script.before_process(p, text(project()))
    assert (p.width, p.height) == (64, 64)
    script.before_process(p, False)
    assert (p.width, p.height) == (256, 192)
