"""Forge's rules, on a patcher that keeps them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lib_refonly.conditioning.attention import attend
from lib_refonly.conditioning.canvas import CleanContext
from lib_refonly.conditioning.plan import ImagePrompt, ImageTokens, InputFeature, Plan, Window
from lib_refonly.errors import BadModel
from lib_refonly.hosts import forge
from tests.contract.conftest import noise, subject_named
from tests.contract.forge_like import KModel, Patcher
from tests.contract.test_contract import CLOSE, hooks
from tests.contract.unets import WIDTH

X, COND_TEXT, UNCOND_TEXT = noise(2, 4, 16, 8), noise(1, 7, WIDTH, seed=2), noise(1, 7, WIDTH, seed=8)
PLAN = Plan((ImagePrompt((ImageTokens(noise(1, 5, WIDTH, seed=3)),)),), (InputFeature(noise(1, 32, 16, 8, seed=4)),))


@pytest.fixture
def patcher() -> Patcher:
    return Patcher(KModel(subject_named("forge-sd15").unet))


def steps(patcher: Patcher, cond: list[Tensor] | None = None, uncond: Tensor | None = UNCOND_TEXT) -> list[Tensor]:
    return patcher.denoised(X, 3.0, cond or [COND_TEXT], uncond)


def test_conditional_rows_alone_follow_the_plan(patcher: Patcher) -> None:
    base = steps(patcher)
    clone, session = forge.patched(patcher, PLAN)
    cond, uncond = steps(clone)
    torch.testing.assert_close(uncond, base[1], **CLOSE)
    assert (cond - base[0]).abs().max() > 1e-2
    assert session.calls == 1
    alone = steps(clone, uncond=None)  # CFG 1
    torch.testing.assert_close(alone[0], cond, **CLOSE)
    one, two, again = steps(clone, [COND_TEXT, noise(1, 7, WIDTH, seed=9)])  # "a AND b"
    torch.testing.assert_close(one, cond, **CLOSE)
    torch.testing.assert_close(two, cond, **CLOSE)  # the picture stands in for both texts
    torch.testing.assert_close(again, base[1], **CLOSE)


def test_the_host_s_own_patcher_stays_as_it_was(patcher: Patcher) -> None:
    base, options = steps(patcher), str(patcher.model_options)
    clone, _ = forge.patched(patcher, PLAN)
    steps(clone)
    assert hooks(patcher.model) == 0
    assert str(patcher.model_options) == options
    assert all(torch.equal(a, b) for a, b in zip(steps(patcher), base, strict=True))


def test_an_exception_in_a_call_leaves_nothing_behind(patcher: Patcher) -> None:
    base = steps(patcher)
    clone, _ = forge.patched(patcher, PLAN)

    def fail(*_: Any) -> Tensor:
        raise InterruptedError

    clone.set_model_attn2_replace(fail, "output", 9, 0)
    with pytest.raises(InterruptedError):
        steps(clone)
    assert hooks(patcher.model) == 0
    assert torch.equal(steps(patcher)[0], base[0])


def test_later_extensions_clone_it_again(patcher: Patcher) -> None:
    """Deep copies of the options must still work, and what was computed once must not be copied with them."""
    clone, session = forge.patched(patcher, PLAN)
    wanted = steps(clone)
    assert torch.equal(steps(clone.clone().clone())[0], wanted[0])
    assert session.calls == 2


def test_a_wrapper_that_is_there_stays_and_acts_inside(patcher: Patcher) -> None:
    seen: list[list[int]] = []

    def other(apply_model: Any, call: dict[str, Any]) -> Tensor:
        seen.append(call["cond_or_uncond"])
        return 0.5 * apply_model(call["input"], call["timestep"], **call["c"])

    plain, _ = forge.patched(patcher, PLAN)
    earlier = patcher.clone()
    earlier.set_model_unet_function_wrapper(other)
    clone, _ = forge.patched(earlier, PLAN)
    torch.testing.assert_close(steps(clone)[0], 0.5 * steps(plain)[0], **CLOSE)
    assert seen == [[1, 0]]


def test_it_acts_where_another_extension_owns_the_attention(patcher: Patcher) -> None:
    """Forge's IP-Adapter replaces attn2 at every site; a picture beside the text is added on top of what it makes."""

    def owner(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
        return 1.1 * attend(q, k, v, extra["n_heads"])

    beside = Plan((ImagePrompt((ImageTokens(noise(1, 5, WIDTH, seed=3)),), 0.7, replace=False),))
    owned = patcher.clone()
    for site in forge.anatomy(patcher.model.diffusion_model).sites:
        kind, number = ("middle", 0) if site.name[0] == "M" else ("input" if site.name[0] == "I" else "output", int(site.name.split(".")[0][-2:]))
        owned.set_model_attn2_replace(owner, kind, number, 0)
    there = steps(owned)[0]
    both = steps(forge.patched(owned, beside)[0])[0]
    ours = steps(forge.patched(patcher, beside)[0])[0]
    assert (both - there).abs().max() > 1e-3
    assert (both - ours).abs().max() > 1e-3


def test_values_of_their_own_keep_the_text_s_length(patcher: Patcher) -> None:
    """An attn2 patch hands out values beside the context; cutting the context alone would not fit."""
    patcher.set_model_attn2_patch(lambda n, context, value, extra: (n, context, 2 * value))
    replaced, plain = steps(forge.patched(patcher, PLAN)[0]), steps(forge.patched(Patcher(patcher.model), PLAN)[0])
    torch.testing.assert_close(replaced[0], plain[0], **CLOSE)


def test_the_window_follows_sigma(patcher: Patcher) -> None:
    """The window is read off the timestep that the UNet gets, which falls as sigma does."""
    late = Plan((ImagePrompt(PLAN.image_prompts[0].pictures, window=Window(0.5, 1.0)),))
    clone, _ = forge.patched(patcher, late)
    for sigma, acts in ((14.0, False), (1.0, True)):
        changed = clone.denoised(X, sigma, [COND_TEXT], None)[0] - patcher.denoised(X, sigma, [COND_TEXT], None)[0]
        assert bool(changed.abs().max() > 1e-4) == acts


def canvas(reuse: int = 1) -> CleanContext:
    target = torch.zeros(16, 8, dtype=torch.bool)
    target[:8] = True
    return CleanContext(noise(1, 4, 16, 8, seed=5), target, reuse)


def test_a_canvas_s_context_is_clean_and_is_found(patcher: Patcher) -> None:
    """The host scales by sigma outside; what the UNet gets is x_0 all the same, and what the host finds is x_0 to the bit."""
    of, handed = canvas(), []
    clone, _ = forge.patched(patcher, PLAN + Plan(canvas=of))
    unet: Any = patcher.model.diffusion_model
    hook = unet.input_blocks[0][0].register_forward_pre_hook(lambda _, args: handed.append(args[0]))
    for sigma in (14.0, 3.0, 0.1):
        for found in clone.denoised(X, sigma, [COND_TEXT], UNCOND_TEXT):
            assert torch.equal(found[..., ~of.target], of.latents.expand(2, -1, -1, -1)[..., ~of.target])
    hook.remove()
    assert len(handed) == 3
    for x in handed:
        torch.testing.assert_close(x[..., ~of.target], of.latents.expand(4, -1, -1, -1)[..., ~of.target], rtol=0, atol=1e-6)


def test_a_control_sees_the_whole_canvas(patcher: Patcher) -> None:
    sizes: list[int] = []
    clone, _ = forge.patched(patcher, Plan(canvas=canvas(reuse=4)))
    unet: Any = patcher.model.diffusion_model
    hook = unet.input_blocks[0][0].register_forward_hook(lambda _, __, out: sizes.append(out.shape[-2]))

    def call(sigma: float, control: Any) -> None:
        wrapper, sigmas = clone.model_options[forge.WRAPPER], torch.full((2,), sigma)
        c = {"c_crossattn": COND_TEXT.expand(2, -1, -1), "transformer_options": {}, "control": control}
        wrapper(patcher.model.apply_model, {"input": X, "timestep": sigmas, "cond_or_uncond": [0], "c": c})

    call(9.0, None)
    call(8.0, None)
    call(7.0, torch.zeros(1))
    hook.remove()
    assert sizes == [16, 8, 16]


def test_flow_matching_is_painted_from_outside(patcher: Patcher) -> None:
    """Flux' network takes no patches inside; its samples are not scaled."""
    of, seen = canvas(), []

    def apply_model(x: Tensor, *_: Any, **__: Any) -> Tensor:
        seen.append(x)
        return 0.5 * x

    wrapper = forge.patched_flow(patcher, of).model_options[forge.WRAPPER]
    found = wrapper(apply_model, {"input": X, "timestep": torch.ones(2), "c": {}})
    context = of.latents.expand(2, -1, -1, -1)[..., ~of.target]
    assert torch.equal(seen[0][..., ~of.target], context)
    assert torch.equal(found[..., ~of.target], context)
    assert torch.equal(found[..., of.target], 0.5 * X[..., of.target])


def test_a_model_without_cross_attention_is_refused_by_name() -> None:
    with pytest.raises(BadModel, match="Flux"):
        forge.patched(Patcher(KModel(type("FluxTransformer2DModel", (nn.Module,), {})())), PLAN)
