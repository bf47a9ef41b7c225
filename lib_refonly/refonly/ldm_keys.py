"""diffusers' names of weights <-> ldm's (A1111, Forge), written out from the configs: any number of levels, layers and attentions.

Each function returns {ldm name: diffusers name}. No torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_names(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """ldm name -> diffusers name, for the UNet's `names` (without prefix).

    Raises:
        KeyError: a name that is not in this configuration's blocks.
    """
    blocks = dict(_unet_blocks(config))
    return {UNET + _unet_name(name, blocks): name for name in names}


def _unet_blocks(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every block of the UNet, diffusers' name and ldm's. ldm counts through: each layer, and each downsampler, is one block."""
    down, up = config["down_block_types"], config["up_block_types"]
    layers = per_level(config["layers_per_block"], len(down))
    index = 1
    for i, count in enumerate(layers):
        for j in range(count):
            yield f"down_blocks.{i}.resnets.{j}", f"input_blocks.{index + j}.0"
            yield f"down_blocks.{i}.attentions.{j}", f"input_blocks.{index + j}.1"
        yield f"down_blocks.{i}.downsamplers.0.conv", f"input_blocks.{index + count}.0.op"
        index += count + 1
    yield from (("mid_block.resnets.0", "middle_block.0"), ("mid_block.attentions.0", "middle_block.1"), ("mid_block.resnets.1", "middle_block.2"))
    index = 0
    for i, count in enumerate(reversed(layers)):
        for j in range(count + 1):
            yield f"up_blocks.{i}.resnets.{j}", f"output_blocks.{index + j}.0"
            yield f"up_blocks.{i}.attentions.{j}", f"output_blocks.{index + j}.1"
        after = 2 if "Attn" in up[i] else 1
        yield f"up_blocks.{i}.upsamplers.0.conv", f"output_blocks.{index + count}.{after}.conv"
        index += count + 1


def _unet_name(name: str, blocks: Mapping[str, str]) -> str:
    stem, _, end = name.rpartition(".")
    if stem in _UNET_ENDS:
        return f"{_UNET_ENDS[stem]}.{end}"
    if stem in blocks:  # a sampler's convolution
        return f"{blocks[stem]}.{end}"
    depth = 3 if name.startswith("mid_block.") else 4
    block, inner = ".".join(name.split(".")[:depth]), ".".join(name.split(".")[depth:-1])
    if ".resnets." in name:
        inner = _RESNET[inner]
    return f"{blocks[block]}.{inner}.{end}"


def vae_names(config: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """ldm name -> diffusers name, for the VAE's `names`. The attention's weights differ in shape too: `is_vae_projection`."""
    last = len(config["block_out_channels"]) - 1
    return {VAE + _vae_name(name, last): name for name in names}


def _vae_name(name: str, last: int) -> str:
    parts = name.split(".")
    half, where = parts[0], parts[1]
    if where in ("down_blocks", "up_blocks"):
        level = int(parts[2]) if where == "down_blocks" else last - int(parts[2])
        kind = {"resnets": f"block.{parts[4]}", "downsamplers": "downsample", "upsamplers": "upsample"}[parts[3]]
        inner = ".".join(parts[5:-1]).replace("conv_shortcut", "nin_shortcut")
        return f"{half}.{where.removesuffix('_blocks')}.{level}.{kind}.{inner}.{parts[-1]}"
    if where == "mid_block":
        inner = ".".join(parts[4:-1])
        place = f"block_{int(parts[3]) + 1}" if parts[2] == "resnets" else "attn_1"
        return f"{half}.mid.{place}.{_VAE_ATTENTION.get(inner, inner)}.{parts[-1]}"
    return name.replace("conv_norm_out", "norm_out")


def is_vae_projection(name: str) -> bool:
    """Whether a diffusers VAE weight is a Linear [c, c] where ldm has a 1x1 convolution [c, c, 1, 1]."""
    return ".attentions." in name and name.endswith(".weight") and "group_norm" not in name


def text_names(names: Iterable[str]) -> dict[str, str]:
    """ldm name -> transformers name, for a CLIPTextModel's `names`, with or without the `text_model.` prefix."""
    return {f"{TEXT}text_model.{name.removeprefix('text_model.')}": name for name in names}


def per_level(value: Any, levels: int) -> list[Any]:
    """diffusers' "one number, or one a level" as a list."""
    return list(value) if isinstance(value, list | tuple) else [value] * levels
