"""A small stand-in for Forge's side of the contract, written from what was observed on running ones: where patches are called, in which order rows
stand, what a clone copies. The layers are the real ldm UNet's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class ForgeLikeUNet(nn.Module):
    """ldm's layers, called as the family calls them: a block's layers one by one, never the block; options handed down; attn2 open to patches."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.time_embed, self.out, self.model_channels = unet.time_embed, unet.out, unet.model_channels
        self.input_blocks, self.middle_block, self.output_blocks = unet.input_blocks, unet.middle_block, unet.output_blocks
        for layer in unet.modules():
            if hasattr(layer, "transformer_blocks"):
                layer.forward = partial(_transformer, layer)

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, control: Any = None, transformer_options: dict[str, Any] | None = None) -> Tensor:
        from ldm.modules.diffusionmodules.util import timestep_embedding

        options = {} if transformer_options is None else transformer_options
        patches = options.get("patches", {})
        emb, skips, h = self.time_embed(timestep_embedding(timesteps, self.model_channels)), [], x
        for number, block in enumerate(self.input_blocks):
            options["block"] = ("input", number)
            h = self._layers(block, h, emb, context, options)
            for patch in patches.get("input_block_patch", ()):
                h = patch(h, options)
            skips.append(h)
        options["block"] = ("middle", 0)
        h = self._layers(self.middle_block, h, emb, context, options)
        if control is not None:
            h = h + control
        for number, block in enumerate(self.output_blocks):
            options["block"] = ("output", number)
            h = self._layers(block, torch.cat([h, skips.pop()], 1), emb, context, options)
        return self.out(h)

    def _layers(self, block: Any, h: Tensor, emb: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        for layer in block:
            if hasattr(layer, "transformer_blocks"):
                h = layer(h, context, options)
            elif hasattr(layer, "emb_layers"):
                h = layer(h, emb)
            else:
                h = layer(h)
        return h


def _transformer(layer: Any, x: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
    b, _, height, width = x.shape
    h = layer.norm(x)
    h = h if layer.use_linear else layer.proj_in(h)
    h = h.flatten(2).transpose(1, 2)
    h = layer.proj_in(h) if layer.use_linear else h
    for number, block in enumerate(layer.transformer_blocks):
        h = h + block.attn1(block.norm1(h))
        h = h + _attn2(block.attn2, block.norm2(h), context, {**options, "n_heads": block.attn2.heads}, (*options["block"], number))
        h = h + block.ff(block.norm3(h))
    h = layer.proj_out(h) if layer.use_linear else h
    h = h.transpose(1, 2).reshape(b, -1, height, width)
    return x + (h if layer.use_linear else layer.proj_out(h))


def _attn2(attn2: Any, n: Tensor, context: Tensor, extra: dict[str, Any], key: tuple[Any, ...]) -> Tensor:
    value = None
    for patch in extra.get("patches", {}).get("attn2_patch", ()):
        n, context, value = patch(n, context, context if value is None else value, extra)
    owners = extra.get("patches_replace", {}).get("attn2", {})
    owner = owners.get(key) or owners.get(key[:2])
    if owner is None:
        return attn2(n, context=context)
    k, v = attn2.to_k(context), attn2.to_v(context if value is None else value)
    return attn2.to_out(owner(attn2.to_q(n), k, v, extra))


class KModel(nn.Module):
    """Scales a noisy latent to what the UNet reads, and its noise back to a picture. `timestep` here is a sigma."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.diffusion_model = unet

    def apply_model(self, x: Tensor, sigma: Tensor, c_crossattn: Tensor, control: Any = None, transformer_options: dict[str, Any] | None = None) -> Tensor:
        wide = sigma.view(-1, 1, 1, 1)
        t = 999 * (sigma / 14.6).clamp(0, 1)
        out = self.diffusion_model(x / (wide**2 + 1) ** 0.5, t, context=c_crossattn, control=control, transformer_options=transformer_options)
        return x - wide * out


class Patcher:
    """clone() copies the options deeply and shares the model; a key of attn2 has one owner, the last."""

    def __init__(self, model: KModel) -> None:
        self.model = model
        self.model_options: dict[str, Any] = {"transformer_options": {}}

    def clone(self) -> Patcher:
        other = Patcher(self.model)
        other.model_options = copy.deepcopy(self.model_options)
        return other

    def set_model_unet_function_wrapper(self, wrapper: Callable[..., Tensor]) -> None:
        self.model_options["model_function_wrapper"] = wrapper

    def set_model_attn2_replace(self, patch: Callable[..., Tensor], block: str, number: int, index: int | None = None) -> None:
        owners = self.model_options["transformer_options"].setdefault("patches_replace", {}).setdefault("attn2", {})
        owners[(block, number) if index is None else (block, number, index)] = patch

    def set_model_attn2_patch(self, patch: Callable[..., Any]) -> None:
        self.model_options["transformer_options"].setdefault("patches", {}).setdefault("attn2_patch", []).append(patch)

    def denoised(self, x: Tensor, sigma: float, cond: list[Tensor], uncond: Tensor | None) -> list[Tensor]:
        """One step of the sampler: a picture for each conditional prompt, then for the unconditional one. Rows stand in the opposite order."""
        prompts = [*cond, *([] if uncond is None else [uncond])]
        marks = [0] * len(cond) + ([] if uncond is None else [1])
        rows = list(reversed(range(len(prompts))))
        options = self.model_options["transformer_options"].copy()
        sigmas = torch.full((len(x),), sigma)
        options |= {"cond_or_uncond": [marks[i] for i in rows], "sigmas": sigmas}
        text = torch.cat([prompts[i].expand(len(x), -1, -1) for i in rows])
        call = {"input": torch.cat([x] * len(rows)), "timestep": sigmas.repeat(len(rows)), "c": {"c_crossattn": text, "transformer_options": options}}
        call["cond_or_uncond"] = options["cond_or_uncond"]
        wrapper = self.model_options.get("model_function_wrapper")
        out = wrapper(self.model.apply_model, call) if wrapper else self.model.apply_model(call["input"], call["timestep"], **call["c"])
        return [part for _, part in sorted(zip(rows, out.chunk(len(rows)), strict=True), key=lambda pair: pair[0])]
