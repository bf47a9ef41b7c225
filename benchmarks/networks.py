"""Stable Diffusion's networks at their real size with random weights: what a step costs does not depend on what was learnt.

They are built on the meta device and filled in place, so that a network of 866 M values needs its own 3.5 GB and no more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import ImageProjection, MultiIPAdapterImageProjection
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

Network = TypeVar("Network", bound=nn.Module)
IP_TOKENS = 4
IP_EMBEDDING = 1024


@dataclass(frozen=True)
class Shape:
    """A UNet's size, and that of an image encoder whose tokens fit it (257 of them)."""

    title: str
    unet: dict[str, Any] = field(hash=False)
    vision_layers: int
    latent: int = 64

    @property
    def width(self) -> int:
        """Of text and image tokens."""
        return self.unet["cross_attention_dim"]


SHAPES = {
    "sd15": Shape("Stable Diffusion 1.5", {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}, 12),
    "sd21": Shape(
        "Stable Diffusion 2.1",
        {"sample_size": 64, "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
        24,
    ),
}


def build(make: Callable[[], Network], device: str, dtype: torch.dtype) -> Network:
    """`make()` on `device` with random weights that keep activations near 1."""
    with torch.device("meta"):
        network = make()
    nn.Module.to(network, dtype)  # in place; diffusers' own `to` warns of weights that are none yet
    network.to_empty(device=device).eval().requires_grad_(False)
    for module in network.modules():
        for name, values in module.named_parameters(recurse=False):
            _fill(values, name)
        for values in module.buffers(recurse=False):
            values.copy_(torch.arange(values.numel()).reshape(values.shape))  # the only buffers here number CLIP's positions
    return network


def _fill(values: nn.Parameter, name: str) -> None:
    if values.dim() > 1:
        bound = (3 / values[0].numel()) ** 0.5
        values.uniform_(-bound, bound)
    else:
        values.fill_(1.0 if name == "weight" else 0.0)


def unet(shape: Shape, device: str, dtype: torch.dtype) -> UNet2DConditionModel:
    return build(lambda: UNet2DConditionModel(**shape.unet), device, dtype)


def controlnet(unet: UNet2DConditionModel, device: str, dtype: torch.dtype) -> ControlNetModel:
    """diffusers' ControlNet for a UNet, its zero convolutions random too."""
    return build(lambda: ControlNetModel.from_unet(unet, load_weights_from_unet=False), device, dtype)


def image_encoder(shape: Shape, device: str, dtype: torch.dtype) -> CLIPVisionModel:
    """CLIP's vision tower of the UNet's width at 224 px in patches of 14: ViT-L's size for SD 2.1."""
    width = shape.width
    config = CLIPVisionConfig(
        hidden_size=width, intermediate_size=4 * width, num_hidden_layers=shape.vision_layers, num_attention_heads=width // 64, patch_size=14
    )
    return build(lambda: CLIPVisionModel(config), device, dtype)


@dataclass
class IPAdapter:
    """diffusers' own IP-Adapter (4 tokens, added beside the text) for one UNet, put in and taken out again."""

    unet: UNet2DConditionModel
    processors: dict[str, Any]
    projection: MultiIPAdapterImageProjection
    _before: dict[str, Any] = field(default_factory=dict, init=False)

    @classmethod
    def for_unet(cls, unet: UNet2DConditionModel, device: str, dtype: torch.dtype) -> IPAdapter:
        width = unet.config["cross_attention_dim"]
        processors = dict(unet.attn_processors)
        for name in processors:
            if name.endswith("attn2.processor"):
                inner = unet.get_parameter(name.removesuffix("processor") + "to_q.weight").shape[0]
                processors[name] = build(lambda inner=inner: IPAdapterAttnProcessor2_0(inner, width, (IP_TOKENS,)), device, dtype)
        projection = build(lambda: MultiIPAdapterImageProjection([ImageProjection(IP_EMBEDDING, width, IP_TOKENS)]), device, dtype)
        return cls(unet, processors, projection)

    def __enter__(self) -> None:
        self._before = dict(self.unet.attn_processors)
        self._set(self.processors, self.projection, "ip_image_proj")

    def __exit__(self, *_: object) -> None:
        self._set(self._before, None, None)

    def _set(self, processors: dict[str, Any], projection: nn.Module | None, kind: str | None) -> None:
        self.unet.set_attn_processor(dict(processors))
        setattr(self.unet, "encoder_hid_proj", projection)  # noqa: B010  diffusers declares fewer types than its loader puts there
        self.unet.register_to_config(encoder_hid_dim_type=kind)
