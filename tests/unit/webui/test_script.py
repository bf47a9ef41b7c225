"""The AlwaysOn script, driven by A1111's order of hooks: the real ldm UNet, a recorded order, no WebUI."""

from __future__ import annotations

import gc
import sys
import types
import weakref
from typing import Any

import pytest
import torch
from PIL import Image

from tests.contract.test_contract import hooks
from tests.unit.webui.conftest import text_of
from tests.unit.webui.fake_modules import Processing, SdModel, generate


@pytest.fixture
def script(host: Any) -> Any:
    from lib_refonly.webui.script import RefOnlyScript

    return RefOnlyScript()


def paint(script: Any, sd_model: SdModel, request: Any = None, **more: Any) -> torch.Tensor:
    latent, swallowed, _ = generate(Processing(sd_model), script, [request] if request else [False], script.on_step, **more)
    assert swallowed == []
    return latent


def test_a_run_is_changed_and_the_next_one_is_not(script: Any, sd_model: SdModel, asked: dict[str, Any]) -> None:
    base = paint(script, sd_model)
    ours = paint(script, sd_model, asked)
    assert (ours - base).abs().max() > 1e-2
    assert torch.equal(paint(script, sd_model), base)
    assert torch.equal(paint(script, sd_model, asked), ours)
    assert hooks(sd_model) == 0


def test_what_was_asked_for_goes_into_the_parameters(script: Any, sd_model: SdModel, asked: dict[str, Any]) -> None:
    p = Processing(sd_model)
    generate(p, script, [asked | {"strength": 0.5, "units": [asked["units"][0] | {"weight": 0.8, "blocks": "IN04:0.5, M:0"}]}], script.on_step)
    told = p.extra_generation_params
    assert (told["RefOnly model"], told["RefOnly strength"]) == ("tiny", "0.5")
    assert "weight: 0.8" in told["RefOnly unit 1"]
    assert "blocks: IN04=0.5;M=0" in told["RefOnly unit 1"]


@pytest.mark.parametrize("step", [0, 1, 2])
def test_an_interrupt_at_any_step_leaves_nothing_behind(script: Any, sd_model: SdModel, asked: dict[str, Any], step: int) -> None:
    base = paint(script, sd_model)
    with pytest.raises(InterruptedError):
        paint(script, sd_model, asked, stop_at=step)
    assert hooks(sd_model) == 0
    assert torch.equal(paint(script, sd_model), base)


def test_hires_passes(script: Any, sd_model: SdModel, asked: dict[str, Any]) -> None:
    base = paint(script, sd_model, hires=True)
    painted = {passes: paint(script, sd_model, asked | {"passes": passes}, hires=True) for passes in ("both", "low", "high")}
    pictures = [base, *painted.values()]
    assert all((a - b).abs().max() > 1e-3 for i, a in enumerate(pictures) for b in pictures[:i])


def test_strength_nought_is_the_checkpoint(script: Any, sd_model: SdModel, asked: dict[str, Any]) -> None:
    assert torch.equal(paint(script, sd_model, asked | {"strength": 0, "line_strength": 0}), paint(script, sd_model))


def test_controlnet_s_marks_in_the_prompts_are_forgotten(script: Any, sd_model: SdModel, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    marked = ["what was asked", "tokens with a mark"]
    both = {"cached_c": marked, "cached_uc": marked}
    txt2img = type("StableDiffusionProcessingTxt2Img", (), {"cached_hr_c": marked, "cached_hr_uc": marked})
    processing = types.ModuleType("modules.processing")
    vars(processing).update(StableDiffusionProcessing=type("StableDiffusionProcessing", (), both), StableDiffusionProcessingTxt2Img=txt2img)
    monkeypatch.setitem(sys.modules, "modules.processing", processing)
    paint(script, sd_model, asked)
    assert txt2img.cached_hr_c is marked  # type: ignore[attr-defined] no ControlNet: the prompts stay as they are
    unet: Any = sd_model.model.diffusion_model
    unet.forward = types.MethodType(lambda self, *args, **named: type(self).forward(self, *args, **named), unet)
    paint(script, sd_model, asked)
    kept = [getattr(kind, name) for kind in (processing.StableDiffusionProcessing, txt2img) for name in vars(kind) if name.startswith("cached")]
    assert kept == [[None, None]] * 4
    assert len({id(one) for one in kept}) == 4


def test_a_plain_infotext_stays_plain(script: Any, sd_model: SdModel) -> None:
    p = Processing(sd_model)
    generate(p, script, [False], script.on_step)
    assert p.extra_generation_params == {}
    assert p.comments == []


def test_in_img2img_the_picture_is_the_drawing(script: Any, sd_model: SdModel, asked: dict[str, Any], drawing: Image.Image) -> None:
    own, _, _ = generate(Processing(sd_model, [drawing]), script, [asked | {"drawing": None}], script.on_step)
    assert torch.equal(own, paint(script, sd_model, asked))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "nonsense"}, "There is no model 'nonsense'"),
        ({"model": "tiny-refonly"}, "their VAEs make different latents"),
        ({"drawing": None, "units": []}, "has no picture"),
    ],
)
def test_what_cannot_be_applied_is_said_and_the_picture_is_plain(script: Any, sd_model: SdModel, asked: dict[str, Any], change: Any, said: str) -> None:
    p, base = Processing(sd_model), paint(script, sd_model)
    latent, swallowed, _ = generate(p, script, [asked | change], script.on_step)
    assert torch.equal(latent, base)
    assert swallowed == []
    assert any(said in comment for comment in p.comments)
    assert p.extra_generation_params == {"RefOnly note": "not applied"}
    with pytest.raises(Exception, match=said):
        paint(script, sd_model, asked | change | {"must": True})
    assert torch.equal(paint(script, sd_model), base)


@pytest.mark.parametrize("wrong", [{"bogus": 1}, {"strength": 9}, {"drawing": "/etc/passwd"}, {"drawing": "https://example.org/a.png"}, {"units": 3}])
def test_a_request_that_cannot_be_read_stops_the_run(script: Any, sd_model: SdModel, asked: dict[str, Any], wrong: Any) -> None:
    from lib_refonly.errors import PainterError

    with pytest.raises(PainterError):
        paint(script, sd_model, asked | wrong)
    assert hooks(sd_model) == 0


def test_a_picture_of_a_script_that_is_switched_off_is_not_even_opened(script: Any, sd_model: SdModel, asked: dict[str, Any]) -> None:
    assert torch.equal(paint(script, sd_model, asked | {"enabled": False, "drawing": "nonsense"}), paint(script, sd_model))


def test_another_extension_that_takes_over_is_told(script: Any, sd_model: SdModel, asked: dict[str, Any]) -> None:
    original = sd_model.model.forward
    other = SdModel(sd_model.model.diffusion_model, sd_model.first_stage_model)  # its UNet is called, but not through the host's model
    p = Processing(sd_model)

    class Around:
        """A rival: once the hooks are set, the calls go elsewhere."""

        def __getattr__(self, name: str) -> Any:
            return getattr(script, name)

        def process_before_every_sampling(self, p: Any, *arguments: Any, **given: Any) -> None:
            script.process_before_every_sampling(p, *arguments, **given)
            p.sd_model = other

    _, _, processed = generate(p, Around(), [asked], script.on_step)
    assert "another extension took over" in processed.comments
    assert sd_model.model.forward == original


def test_x_y_z_overrides_one_cell(script: Any, sd_model: SdModel, asked: dict[str, Any]) -> None:
    from lib_refonly.webui import xyz

    class AxisOption:
        def __init__(self, label: str, kind: type, apply: Any, choices: Any = None) -> None:
            self.label, self.kind, self.apply, self.choices = label, kind, apply, choices

    options = {option.label: option for option in xyz._options(type("module", (), {"AxisOption": AxisOption}))}
    p = Processing(sd_model)
    options["[RefOnly] Reference strength"].apply(p, 0.0, [])
    options["[RefOnly] Line strength"].apply(p, 0.0, [])
    latent, _, _ = generate(p, script, [asked], script.on_step)
    assert torch.equal(latent, paint(script, sd_model))
    weighed = Processing(sd_model)
    options["[RefOnly] Weight 1"].apply(weighed, 0.0, [])
    latent, _, _ = generate(weighed, script, [asked], script.on_step)
    assert not torch.equal(latent, paint(script, sd_model, asked))


def test_one_unit_more_in_positional_arguments(script: Any, sd_model: SdModel, asked: dict[str, Any], reference: Image.Image) -> None:
    from lib_refonly.ui.request import names

    values: list[Any] = [None] * len(names())
    told = {"enabled": True, "model": "tiny", "drawing": asked["drawing"], "unit 1 picture": text_of(reference)}
    for name, value in told.items():
        values[names().index(name)] = value
    latent, swallowed, _ = generate(Processing(sd_model), script, values, script.on_step)
    assert swallowed == []
    assert torch.equal(latent, paint(script, sd_model, asked))


def test_a_run_that_is_over_is_freed_at_once(script: Any, sd_model: SdModel, asked: dict[str, Any]) -> None:
    gc.disable()
    try:
        p = Processing(sd_model)
        generate(p, script, [asked], script.on_step)
        assert p.closed == 1
        gone = weakref.ref(p)
        del p
        assert gone() is None
    finally:
        gc.enable()


def test_a_checkpoint_that_changes_on_the_way_is_met(script: Any, sd_model: SdModel, asked: dict[str, Any]) -> None:
    """Hires fix with another checkpoint, whose VAE is another: the second pass is painted without us, and it is said."""
    p, other = Processing(sd_model), SdModel(sd_model.model.diffusion_model, sd_model.first_stage_model)
    other.scale_factor = 0.13

    class Changing:
        def __getattr__(self, name: str) -> Any:
            return getattr(script, name)

        def before_hr(self, p: Any, *_: Any) -> None:
            p.sd_model = other

    latent, swallowed, _ = generate(p, Changing(), [asked], script.on_step, hires=True)
    assert swallowed == []
    assert any("different latents" in comment for comment in p.comments)
    assert torch.equal(latent, paint(script, sd_model, asked | {"passes": "low"}, hires=True))
