"""A canvas in diffusers' FLUX pipelines, tiny and random: clean before every call of the transformer, x_0 at the end."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxFillPipeline, FluxPipeline, FluxTransformer2DModel
from torch import Tensor

from lib_refonly.conditioning.canvas import CleanContext
from lib_refonly.errors import BadSettings
from lib_refonly.hosts.flux import FluxCanvas, packed
from tests.contract.conftest import noise

HEIGHT, WIDTH = 8, 16  # latent cells
X_0 = noise(1, 4, HEIGHT, WIDTH, seed=21)
TARGET = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
TARGET[:, 8:] = True


def pipeline(kind: type) -> Any:
    torch.manual_seed(0)
    extra = 4 * 4 + 4 * 16 if kind is FluxFillPipeline else 0  # the masked picture's latents, and the mask's 2 by 2 times 16 pixels
    shape: dict[str, Any] = {"num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2, "axes_dims_rope": [4, 4, 8]}
    transformer = FluxTransformer2DModel(
        in_channels=16 + extra, out_channels=16, joint_attention_dim=32, pooled_projection_dim=32, guidance_embeds=False, **shape
    )
    blocks: dict[str, Any] = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3, "block_out_channels": [8, 8, 8]}
    vae = AutoencoderKL(**blocks, latent_channels=4, norm_num_groups=4, shift_factor=0.1, scaling_factor=0.5, use_quant_conv=False, use_post_quant_conv=False)
    none: dict[str, Any] = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    pipe: Any = kind(scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae, transformer=transformer, **none)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run(pipe: Any, canvas: CleanContext) -> tuple[list[Tensor], Any]:
    """What the transformer was handed at each call, and the last latents."""
    handed: list[Tensor] = []
    scale = pipe.vae_scale_factor
    given: dict[str, Any] = {"height": HEIGHT * scale, "width": WIDTH * scale, "num_inference_steps": 4, "output_type": "latent"}
    given |= {"prompt_embeds": noise(1, 5, 32), "pooled_prompt_embeds": noise(1, 32)}
    if type(pipe) is FluxFillPipeline:
        given |= {"image": torch.zeros(1, 3, HEIGHT * scale, WIDTH * scale), "mask_image": torch.ones(1, 1, HEIGHT * scale, WIDTH * scale)}
    with FluxCanvas(pipe.transformer, canvas):
        first = pipe.transformer.x_embedder.register_forward_pre_hook(lambda _, args: handed.append(args[0]))
        out: Any = pipe(generator=torch.Generator().manual_seed(0), **given)
        first.remove()
    return handed, out.images


@pytest.mark.parametrize("kind", [FluxPipeline, FluxFillPipeline])
def test_the_context_is_x_0_at_every_step(kind: type) -> None:
    pipe = pipeline(kind)
    handed, last = run(pipe, CleanContext(X_0, TARGET))
    target = packed(TARGET[None, None]).any(-1)[0]
    assert len(handed) == 4
    for tokens in handed:
        torch.testing.assert_close(tokens[:, ~target, :16], packed(X_0)[:, ~target], rtol=0, atol=1e-6)
        assert (tokens[:, target, :16] - packed(X_0)[:, target]).abs().mean() > 0.1
    torch.testing.assert_close(last[:, ~target], packed(X_0)[:, ~target], rtol=0, atol=1e-5)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in pipe.transformer.modules())


def test_the_target_follows_the_context() -> None:
    pipe = pipeline(FluxPipeline)
    one, other = (run(pipe, CleanContext(x, TARGET))[1] for x in (X_0, X_0.flip(-1)))
    target = packed(TARGET[None, None]).any(-1)[0]
    assert (one - other)[:, target].abs().max() > 1e-3


def test_tokens_are_packed_as_flux_packs_them() -> None:
    latents = noise(2, 4, 6, 10)
    theirs = FluxPipeline._pack_latents(latents, 2, 4, 6, 10)
    assert torch.equal(packed(latents), theirs)


def test_what_does_not_fit_is_said() -> None:
    pipe = pipeline(FluxPipeline)
    with pytest.raises(BadSettings, match="multiples of 16 px"):
        FluxCanvas(pipe.transformer, CleanContext(noise(1, 4, 7, 8), torch.ones(7, 8, dtype=torch.bool)))
    with pytest.raises(BadSettings, match="canvas has 8 tokens, but FLUX was called with 32"):
        run(pipe, CleanContext(noise(1, 4, 4, 8), TARGET[:4, :8] | True))
