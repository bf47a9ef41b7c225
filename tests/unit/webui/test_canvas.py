"""A ONE-PIC canvas in the AlwaysOn script, driven by the host's order of hooks on the real ldm UNet."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from lib_refonly.imaging.infotext import png_bytes
from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.project import Panel, Project
from tests.contract.test_contract import hooks
from tests.unit.webui.fake_modules import Processing, SdModel, generate

RED, BLUE = (png_bytes(Image.new("RGB", (64, 64), colour)) for colour in ("red", "blue"))


@pytest.fixture
def script(host: Any) -> Any:
    from lib_refonly.webui.script import RefOnlyScript

    return RefOnlyScript()


def project(first: bytes = RED, **more: Any) -> Project:
    panels = (Panel(picture=first), Panel(role="target"), Panel(picture=BLUE), Panel())
    return Project(layout=Layout(2, 2), width=64, height=64, panels=panels, **more)


def paint(script: Any, p: Processing, request: Any, **more: Any) -> tuple[Tensor, list[Tensor]]:
    """The latents that the host would decode, and what the UNet was handed."""
    handed: list[Tensor] = []
    hook = p.sd_model.model.diffusion_model.input_blocks[0][0].register_forward_pre_hook(lambda _, args: handed.append(args[0]))  # type: ignore[index, union-attr]
    try:
        latent, swallowed, _ = generate(p, script, [request], script.on_step, **more)
    finally:
        hook.remove()
    assert swallowed == []
    return latent, handed


def text(of: Project) -> dict[str, Any]:
    return {"canvas": json.loads(of.written())}


def test_the_canvas_is_painted_and_the_target_handed_out(script: Any, sd_model: SdModel) -> None:
    p = Processing(sd_model)
    latent, handed = paint(script, p, text(project()))
    assert latent.shape == (1, 4, 8, 8)
    assert all(x.shape[-2:] == (16, 16) for x in handed)
    with torch.no_grad():
        red = sd_model.encode_first_stage(torch.tensor([1.0, -1.0, -1.0]).reshape(1, 3, 1, 1).expand(1, 3, 64, 64)).mode() * sd_model.scale_factor
    for x in handed:
        torch.testing.assert_close(x[:, :, :8, :8], red.expand(2, -1, -1, -1), rtol=0, atol=1e-6)
    assert (p.width, p.height) == (64, 64)
    assert p.extra_generation_params["Size"] == "64x64"
    assert hooks(sd_model) == 0


def test_the_target_follows_its_context(script: Any, sd_model: SdModel) -> None:
    one, other, again = (paint(script, Processing(sd_model), text(project(first)))[0] for first in (RED, BLUE, RED))
    assert (one - other).abs().max() > 1e-4
    assert torch.equal(one, again)


def test_the_next_run_is_plain(script: Any, sd_model: SdModel) -> None:
    p = Processing(sd_model)
    plain = generate(p, script, [False], script.on_step)[0]
    paint(script, p, text(project()))
    assert torch.equal(generate(p, script, [False], script.on_step)[0], plain)
    with pytest.raises(InterruptedError):
        generate(p, script, [text(project())], script.on_step, stop_at=1)
    assert (p.width, p.height) == (64, 64)
    assert torch.equal(generate(p, script, [False], script.on_step)[0], plain)


def test_references_act_on_the_target_alone(script: Any, sd_model: SdModel, asked: dict[str, Any]) -> None:
    """In the context nothing changes before the first attention; in the target lines and reference act."""
    alone = paint(script, Processing(sd_model), text(project()))[0]
    both = paint(script, Processing(sd_model), asked | text(project()))[0]
    everywhere = paint(script, Processing(sd_model), asked | text(project(alone=False)))[0]
    assert (both - alone).abs().max() > 1e-3
    assert (both - everywhere).abs().max() > 1e-4


def test_several_targets_are_handed_out_as_the_whole_canvas(script: Any, sd_model: SdModel) -> None:
    panels = (Panel(picture=RED), Panel(role="target"), Panel(role="target"), Panel(picture=BLUE))
    p = Processing(sd_model)
    latent, handed = paint(script, p, text(Project(layout=Layout(2, 2), width=64, height=64, panels=panels)))
    assert latent.shape == (1, 4, 16, 16)
    torch.testing.assert_close(latent[:, :, :8, :8], handed[0][:1, :, :8, :8], rtol=0, atol=1e-6)
    assert "Size" not in p.extra_generation_params


def test_img2img_s_picture_is_what_the_target_begins_as(script: Any, sd_model: SdModel) -> None:
    given = Image.new("RGB", (80, 80), "lime")
    p = Processing(sd_model, [given])
    seen: list[Any] = []
    paint(script, p, text(project()), networks=lambda p: seen.append(p.init_images[0]))  # type: ignore[attr-defined]
    assert seen[0].size == (128, 128)
    assert (seen[0].getpixel((90, 20)), seen[0].getpixel((20, 20))) == ((0, 255, 0), (255, 0, 0))
    assert p.init_images == [given]  # type: ignore[attr-defined]


def test_hires_fix_is_switched_off_and_said(script: Any, sd_model: SdModel) -> None:
    p = Processing(sd_model)
    p.enable_hr = True  # type: ignore[attr-defined]
    seen: list[bool] = []
    paint(script, p, text(project()), networks=lambda p: seen.append(p.enable_hr))  # type: ignore[attr-defined]
    assert seen == [False]
    assert p.enable_hr is True  # type: ignore[attr-defined]
    assert any("hires fix is off" in said for said in p.comments)


@pytest.mark.parametrize(
    ("canvas", "words"),
    [
        ('{"format": "something"}', "no ONE-PIC project"),
        (json.loads(project().written()) | {"version": 9}, "version 1"),
        (json.loads(Project(layout=Layout(1, 2), panels=(Panel(), Panel())).written()), "nothing to paint"),
    ],
)
def test_a_canvas_that_cannot_be_had_paints_nothing(script: Any, sd_model: SdModel, canvas: Any, words: str) -> None:
    from lib_refonly.errors import PainterError

    p = Processing(sd_model)
    with pytest.raises(PainterError, match=words):
        generate(p, script, [{"canvas": canvas}], script.on_step)
    assert any(words in said for said in p.comments)
    assert hooks(sd_model) == 0


def test_an_inpainting_mask_beside_it_is_refused(script: Any, sd_model: SdModel) -> None:
    from lib_refonly.errors import BadSettings

    p = Processing(sd_model, [Image.new("RGB", (64, 64))])
    p.image_mask = Image.new("L", (64, 64))  # type: ignore[attr-defined]
    with pytest.raises(BadSettings, match="in the ONE-PIC tab"):
        generate(p, script, [text(project())], script.on_step)


def test_parameters_bring_the_canvas_back(host: Any, tmp_path: Any) -> None:
    from lib_refonly.webui import infotext
    from lib_refonly.webui.pictures import PictureStore

    store, of = PictureStore(tmp_path, 10**6), project(reuse=3, task="colorize")
    back = Project.read(infotext.canvas_read(infotext.canvas_written(of, store), store))
    assert (back.layout, back.width, back.reuse, back.task, [panel.role for panel in back.panels]) == (
        of.layout,
        64,
        3,
        "colorize",
        [p.role for p in of.panels],
    )
    assert back.panels[0].picture is not None
    assert back.panels[3].picture is None
    gone = Project.read(infotext.canvas_read(infotext.canvas_written(of, store), PictureStore(tmp_path / "empty", 0)))
    assert all(panel.picture is None for panel in gone.panels)
    assert infotext.canvas_read("", store) == ""


def test_positional_arguments_end_with_the_canvas(script: Any, sd_model: SdModel) -> None:
    from lib_refonly.ui.request import is_enabled, names, read_arguments

    arguments: list[Any] = [None] * len(names())
    arguments[0] = False
    assert not is_enabled(arguments)
    arguments[-1] = project().written()
    assert is_enabled(arguments)
    assert read_arguments(arguments, lambda _: None).canvas == project()
    assert read_arguments([False], lambda _: None).canvas is None
