"""diffusers' UNet2DConditionModel: where the injections go in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from lib_refonly.conditioning.plan import Plan
from lib_refonly.hosts.anatomy import Anatomy, Middle, Site, Stage
from lib_refonly.hosts.noise import Noise
from lib_refonly.hosts.session import Session


def session(unet: Any, plan: Plan, noise: Noise | None = None) -> Session:
    """`with session(unet, plan) as s:` the UNet follows the plan. Set `s.roles` before calls whose rows are not all conditional. A canvas needs `noise`."""
    return Session(anatomy(unet), plan, noise=noise)


def anatomy(unet: Any) -> Anatomy:
    """The injection points of a UNet2DConditionModel of any size (SD 1.x, 2.x, SDXL and small ones)."""
    block = unet.mid_block
    middle = Middle(block.resnets[0], block.attentions[0]) if block is not None and getattr(block, "attentions", None) else None
    stages = tuple(_stages(unet)) if middle else ()
    return Anatomy(unet, unet.conv_in, tuple(_sites(unet)), _read_call, "encoder_hidden_states", stages, middle)


def _read_call(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Any]:
    sample = args[0] if args else kwargs["sample"]
    timestep = args[1] if len(args) > 1 else kwargs["timestep"]
    return sample, timestep


def _sites(unet: Any) -> Iterator[Site]:
    layers = unet.config.layers_per_block
    per_block = list(layers) if isinstance(layers, list | tuple) else [layers] * len(unet.down_blocks)
    number = 1
    for block, count in zip(unet.down_blocks, per_block, strict=True):
        for j, transformer in enumerate(getattr(block, "attentions", ())):
            yield from _transformer(transformer, f"IN{number + j:02d}")
        number += count + 1  # the downsampler is a block of its own in ldm
    if unet.mid_block is not None:
        for transformer in getattr(unet.mid_block, "attentions", ()):
            yield from _transformer(transformer, "M00")
    number = 0
    for block, count in zip(unet.up_blocks, reversed(per_block), strict=True):
        for j, transformer in enumerate(getattr(block, "attentions", ())):
            yield from _transformer(transformer, f"OUT{number + j:02d}")
        number += count + 1


def _stages(unet: Any) -> Iterator[Stage]:
    yield Stage("M00", unet.mid_block.resnets[-1])
    number = 0
    for block in unet.up_blocks:
        ends = list(getattr(block, "attentions", block.resnets))
        if block.upsamplers:
            ends[-1] = block.upsamplers[0]
        for end in ends:
            yield Stage(f"OUT{number:02d}", end)
            number += 1


def _transformer(transformer: nn.Module, block: str) -> Iterator[Site]:
    for i, layer in enumerate(transformer.transformer_blocks):  # type: ignore[arg-type]
        a = layer.attn2
        yield Site(f"{block}.{i}", a, a.to_q, a.to_k, a.to_v, a.to_out[0], a.heads, a.to_k.in_features)
