"""Small random UNets of every kind, on every host, with the same weights where the hosts share a kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from lib_refonly.conditioning.plan import Plan
from lib_refonly.hosts.session import Session

WIDTH = 48
KINDS: dict[str, dict[str, Any]] = {
    "sd15": {"attention_head_dim": 2},
    "sd21": {"attention_head_dim": [1, 2, 2, 2], "use_linear_projection": True},
    "sdxl": {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (32, 64, 64),
        "attention_head_dim": [1, 2, 4],
        "transformer_layers_per_block": [1, 2, 3],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 16,
    },
}


@dataclass(frozen=True)
class Subject:
    """A UNet under test. `call(sample, t, context)` returns its output."""

    name: str
    unet: nn.Module
    session: Callable[[Any, Plan], Session]
    call: Callable[[Tensor, float, Tensor], Tensor]
    conv_in: nn.Module


def diffusers_unet(kind: str) -> UNet2DConditionModel:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"block_out_channels": (32, 64, 64, 64), "layers_per_block": 2, "cross_attention_dim": WIDTH, "sample_size": 16}
    unet = UNet2DConditionModel(**(shape | KINDS[kind])).eval().requires_grad_(False)
    for weight in unet.parameters():  # the default start leaves some branches nearly silent
        if weight.dim() > 1:
            weight.mul_(1.5)
    return unet


def on_diffusers(kind: str) -> Subject:
    from lib_refonly.hosts import diffusers as host

    unet = diffusers_unet(kind)

    def call(sample: Tensor, t: float, context: Tensor) -> Tensor:
        extra = {"text_embeds": torch.ones(len(sample), 16), "time_ids": torch.ones(len(sample), 6)} if kind == "sdxl" else None
        return unet(sample, torch.tensor(t), encoder_hidden_states=context, added_cond_kwargs=extra, return_dict=False)[0]

    return Subject(f"diffusers-{kind}", unet, host.session, call, unet.conv_in)


def on_ldm(kind: str) -> Subject:
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    from lib_refonly.hosts import ldm as host
    from lib_refonly.refonly.ldm_keys import UNET, unet_names
    from lib_refonly.refonly.ldm_yaml import unet_params

    source = diffusers_unet(kind)
    weights = source.state_dict()
    unet = UNetModel(**(unet_params(source.config) | {"use_checkpoint": False})).eval().requires_grad_(False)
    names = unet_names(source.config, weights)
    own = unet.state_dict()
    unet.load_state_dict({k.removeprefix(UNET): weights[v].reshape(own[k.removeprefix(UNET)].shape) for k, v in names.items()})

    def call(sample: Tensor, t: float, context: Tensor) -> Tensor:
        return unet(sample, torch.full((len(sample),), t), context=context)

    blocks: Any = unet.input_blocks
    return Subject(f"ldm-{kind}", unet, host.session, call, blocks[0][0])


def on_forge(kind: str) -> Subject:
    """The same weights as ldm's, in a UNet that calls its layers as Forge's family does."""
    from lib_refonly.hosts import forge as host
    from tests.contract.forge_like import ForgeLikeUNet

    layers: Any = on_ldm(kind).unet
    unet = ForgeLikeUNet(layers).eval()

    def call(sample: Tensor, t: float, context: Tensor) -> Tensor:
        return unet(sample, torch.full((len(sample),), t), context=context)

    return Subject(f"forge-{kind}", unet, lambda u, plan: Session(host.anatomy(u), plan), call, layers.input_blocks[0][0])


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "diffusers-sd15": lambda: on_diffusers("sd15"),
    "diffusers-sd21": lambda: on_diffusers("sd21"),
    "diffusers-sdxl": lambda: on_diffusers("sdxl"),
    "ldm-sd15": lambda: on_ldm("sd15"),
    "ldm-sd21": lambda: on_ldm("sd21"),
    "forge-sd15": lambda: on_forge("sd15"),
    "forge-sd21": lambda: on_forge("sd21"),
}
