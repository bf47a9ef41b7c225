"""Another UNet in the checkpoint's place: in A1111's model, and as a patcher of Forge's family."""

from __future__ import annotations

import copy
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor

from lib_refonly.conditioning.plan import ImagePrompt, ImageTokens, InputFeature, Plan
from lib_refonly.hosts import forge
from lib_refonly.hosts.ldm import Attachment, RowCursor, anatomy
from lib_refonly.hosts.session import Session
from lib_refonly.hosts.stand_in import StandIn, alpha_bar_at, denoised_in_terms_of, in_terms_of, prediction_of
from tests.contract.a1111_like import ALPHAS_CUMPROD, Wrapper
from tests.contract.conftest import noise, subject_named
from tests.contract.forge_like import KModel, Patcher
from tests.contract.test_contract import CLOSE, hooks
from tests.contract.unets import WIDTH, on_forge, on_ldm

X, TEXT = noise(2, 4, 16, 8), noise(2, 7, WIDTH, seed=2)
PLAN = Plan((ImagePrompt((ImageTokens(noise(1, 5, WIDTH, seed=3)),)),), (InputFeature(noise(1, 32, 16, 8, seed=4)),))
T = torch.tensor([500.25, 500.25])


def parts(t: Tensor) -> tuple[Tensor, Tensor]:
    bar = alpha_bar_at(t, ALPHAS_CUMPROD).view(-1, 1, 1, 1)
    return bar.sqrt(), (1 - bar).sqrt()


def test_velocity_and_epsilon_say_the_same() -> None:
    x_0, e, (a, s) = noise(2, 4, 8, 8), noise(2, 4, 8, 8, seed=5), parts(T)
    x_t, v, bar = a * x_0 + s * e, a * e - s * x_0, alpha_bar_at(T, ALPHAS_CUMPROD)
    torch.testing.assert_close(in_terms_of(v, x_t, bar, "v_prediction", "epsilon"), e, **CLOSE)
    torch.testing.assert_close(in_terms_of(e, x_t, bar, "epsilon", "v_prediction"), v, **CLOSE)
    assert in_terms_of(v, x_t, bar, "v_prediction", "v_prediction") is v


@pytest.mark.parametrize("sigma", [0.03, 1.0, 14.6])
def test_a_picture_computed_in_the_wrong_terms_is_put_right(sigma: float) -> None:
    x_0, e, sigmas = noise(2, 4, 8, 8), noise(2, 4, 8, 8, seed=5), torch.full((2,), sigma)
    x, root = x_0 + sigma * e, (sigma**2 + 1) ** 0.5
    v = (e - sigma * x_0) / root
    taken_for_epsilon = x - sigma * v
    torch.testing.assert_close(denoised_in_terms_of(taken_for_epsilon, x, sigmas, "v_prediction", "epsilon"), x_0, rtol=0, atol=2e-4)
    taken_for_velocity = x / root**2 - e * sigma / root
    torch.testing.assert_close(denoised_in_terms_of(taken_for_velocity, x, sigmas, "epsilon", "v_prediction"), x_0, rtol=0, atol=2e-4)


def test_timesteps_between_two_steps_are_k_diffusion_s() -> None:
    sigmas = ((1 - ALPHAS_CUMPROD) / ALPHAS_CUMPROD) ** 0.5
    between = alpha_bar_at(torch.tensor([10.0, 10.5, 999.0]), ALPHAS_CUMPROD)
    torch.testing.assert_close((1 / between - 1).sqrt(), torch.stack([sigmas[10], (sigmas[10] * sigmas[11]).sqrt(), sigmas[999]]), rtol=1e-5, atol=1e-6)


def test_hosts_names_for_predictions() -> None:
    assert [prediction_of(name) for name in ("eps", "epsilon", "EPS", "v", "v_prediction", "V_PREDICTION")] == ["epsilon"] * 3 + ["v_prediction"] * 3


@pytest.fixture
def wrapper() -> Wrapper:
    return Wrapper(subject_named("ldm-sd15").unet)


def call(wrapper: Wrapper) -> Tensor:
    return wrapper(X, T, c_crossattn=[TEXT])


def attached(wrapper: Wrapper, unet: Any, **more: Any) -> Attachment:
    cursor = RowCursor()
    cursor.begin_step(1)  # the first row is conditional, the second is not
    stand_in = StandIn(unet, WIDTH, "v_prediction")
    return Attachment(wrapper, Session(anatomy(unet), PLAN, roles=cursor), stand_in, "epsilon", ALPHAS_CUMPROD, **more)


def test_in_a1111_it_runs_instead_and_the_checkpoint_s_own_is_back_after_every_call(wrapper: Wrapper) -> None:
    own, base = wrapper.diffusion_model, call(wrapper)
    other = on_ldm("sd21").unet
    attachment = attached(wrapper, other)
    out = call(wrapper)
    assert wrapper.diffusion_model is own
    assert hooks(other) == hooks(own) == 0
    with Session(anatomy(other), PLAN, roles=("cond", "uncond")):
        v = other(X, T, context=X.new_zeros(2, 1, WIDTH))
    a, s = parts(T)
    torch.testing.assert_close(out, a * v + s * X, **CLOSE)
    attachment.remove()
    attachment.remove()
    assert torch.equal(call(wrapper), base)
    assert hooks(wrapper) == 0


def test_in_a1111_an_exception_gives_the_own_one_back(wrapper: Wrapper) -> None:
    own, base, other = wrapper.diffusion_model, call(wrapper), on_ldm("sd21").unet
    attachment = attached(wrapper, other)

    def fail(*_: object) -> None:
        raise InterruptedError

    handle = anatomy(other).sites[3].attention.register_forward_pre_hook(fail)
    with pytest.raises(InterruptedError):
        call(wrapper)
    handle.remove()
    assert wrapper.diffusion_model is own
    attachment.remove()
    assert torch.equal(call(wrapper), base)


def test_in_a1111_an_inpainting_checkpoint_s_extra_channels_are_left_out(wrapper: Wrapper) -> None:
    other = on_ldm("sd21").unet
    attachment = attached(wrapper, other)
    plain = call(wrapper)
    attached_rows = attachment.session.roles
    assert isinstance(attached_rows, RowCursor)
    attached_rows.begin_step(1)
    wrapper.conditioning_key = "hybrid"
    assert torch.equal(wrapper(X, T, c_crossattn=[TEXT], c_concat=[noise(2, 5, 16, 8)]), plain)


def test_without_a_stand_in_the_session_acts_on_the_checkpoint_s_own(wrapper: Wrapper) -> None:
    cursor = RowCursor()
    cursor.begin_step(1)
    attachment = Attachment(wrapper, Session(anatomy(wrapper.diffusion_model), PLAN, roles=cursor))
    base = subject_named("ldm-sd15").call(X, 500.25, TEXT)
    out = call(wrapper)
    attachment.remove()
    torch.testing.assert_close(out[1], base[1], **CLOSE)
    assert (out[0] - base[0]).abs().max() > 1e-2


def test_a_hook_that_moves_the_model_to_its_device_meets_the_one_that_runs(wrapper: Wrapper) -> None:
    """As --medvram does: its hook was there first."""
    seen: list[object] = []
    wrapper.register_forward_pre_hook(lambda model, _: seen.append(model.diffusion_model))
    other = on_ldm("sd21").unet
    attachment = attached(wrapper, other)
    call(wrapper)
    attachment.remove()
    assert seen == [other]


def controlled(unet: Any, inside: Any = None) -> list[Tensor]:
    """ControlNet's way in A1111: a forward of its own in this one UNet. It adds 1 here. Returns the texts that it is going to see."""
    seen: list[Tensor] = []

    def forward(self: Any, x: Tensor, timesteps: Any = None, context: Any = None, **_: Any) -> Tensor:
        seen.append(context)
        if inside is not None:
            inside()
        return type(self).forward(self, x, timesteps, context=context) + 1

    unet.forward = MethodType(forward, unet)
    return seen


def test_in_a1111_a_controlnet_acts_on_the_one_that_runs(wrapper: Wrapper) -> None:
    own, other = wrapper.diffusion_model, on_ldm("sd21").unet
    attachment = attached(wrapper, other)
    without = call(wrapper)
    seen = controlled(own)
    attachment.session.roles = ("cond", "uncond")
    out = call(wrapper)
    torch.testing.assert_close(out, without + parts(T)[0], **CLOSE)  # 1 in the other's terms, and no text in its attentions
    assert torch.equal(seen[0], TEXT)
    assert "forward" not in vars(other)
    assert hooks(other) == 0
    attachment.remove()
    assert len(seen) == 1


def test_in_a1111_a_controlnet_of_other_widths_is_left_out(wrapper: Wrapper) -> None:
    other = on_ldm("sd21").unet
    other.input_blocks[1][0].out_channels += 1  # type: ignore[index, union-attr, operator]
    attachment = attached(wrapper, other)
    without = call(wrapper)
    seen = controlled(wrapper.diffusion_model)
    attachment.session.roles = ("cond", "uncond")
    assert torch.equal(call(wrapper), without)
    assert not seen


@pytest.mark.parametrize("stands_in", [True, False])
def test_in_a1111_a_call_within_the_call_does_not_end_it(wrapper: Wrapper, stands_in: bool) -> None:
    """Under --medvram ControlNet calls the model, with nothing, from within its forward, to have it moved to the device."""
    own = wrapper.diffusion_model
    attachment = attached(wrapper, on_ldm("sd21").unet) if stands_in else Attachment(wrapper, Session(anatomy(own), PLAN))
    attachment.session.roles = ("cond", "cond")
    controlled(own)
    once = call(wrapper)

    def move() -> None:
        with pytest.raises(TypeError):
            wrapper()

    controlled(own, move)
    assert torch.equal(call(wrapper), once)
    assert wrapper.diffusion_model is own
    attachment.remove()
    assert hooks(wrapper) == hooks(own) == 0


class Predictor:
    prediction_type = "epsilon"


class FamilyPatcher(Patcher):
    """With the arguments that the family's class takes, and what others ask of it."""

    def __init__(self, model: Any, load_device: str = "cpu", offload_device: str = "cpu") -> None:
        super().__init__(model)
        self.load_device, self.offload_device = load_device, offload_device
        self.controlnet_linked_list = None
        self.lora_patches: dict[str, Any] = {}

    def clone(self) -> FamilyPatcher:
        other = FamilyPatcher(self.model)
        other.model_options = copy.deepcopy(self.model_options)
        other.controlnet_linked_list, other.lora_patches = self.controlnet_linked_list, dict(self.lora_patches)
        return other


@pytest.fixture
def patcher() -> FamilyPatcher:
    model: Any = KModel(subject_named("forge-sd15").unet)
    model.predictor = Predictor()
    return FamilyPatcher(model)


def test_in_forge_it_is_a_patcher_s_model_of_its_own(patcher: FamilyPatcher) -> None:
    text = [TEXT[:1]]
    base = patcher.denoised(X, 3.0, text, TEXT[1:])
    patcher.lora_patches["of the checkpoint"] = 1
    other = on_forge("sd21").unet
    stand_in = StandIn(other, WIDTH, "v_prediction")
    clone, session = forge.patched(patcher, PLAN, stand_in)
    cond, uncond = clone.denoised(X, 3.0, text, TEXT[1:])
    assert session.calls == 1
    assert clone.model.diffusion_model is other
    assert clone.lora_patches == {}
    sigma, zeros = torch.full((2,), 3.0), X.new_zeros(2, 1, WIDTH)
    v = (X - clone.model.apply_model(X, sigma, zeros)) / 3.0
    torch.testing.assert_close(uncond, X / 10 - v * 3.0 / 10**0.5, **CLOSE)
    assert (cond - uncond).abs().max() > 1e-2
    again, _ = forge.patched(patcher, PLAN, stand_in)
    assert again.model is clone.model, "the host tells by the object what lies on its device already"
    assert all(torch.equal(a, b) for a, b in zip(patcher.denoised(X, 3.0, text, TEXT[1:]), base, strict=True))
    assert hooks(other) == 0


def test_in_forge_a_run_can_be_refused(patcher: FamilyPatcher) -> None:
    with pytest.raises(ValueError, match="no"):
        forge.refusing(patcher, ValueError("no")).denoised(X, 3.0, [TEXT[:1]], None)
    patcher.denoised(X, 3.0, [TEXT[:1]], None)
