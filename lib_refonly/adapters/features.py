"""What an adapter reads of a picture, out of a transformers CLIPVisionModel or CLIPVisionModelWithProjection."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lib_refonly.adapters.adapter import Adapter, Reads
from lib_refonly.errors import BadModel
from lib_refonly.refonly.image_encoder import encode

_ENCODERS = {("embeds", 1024): "ViT-H", ("embeds", 1280): "ViT-bigG", ("penultimate", 1280): "ViT-H", ("penultimate", 1664): "ViT-bigG"}
"""The two that were released with the IP-Adapters."""


def check_encoder(adapter: Adapter, encoder: Any) -> None:
    """Raises: BadModel: `adapter` reads another image encoder than this."""
    width = _projection(encoder) if adapter.reads == "embeds" else encoder.config.hidden_size
    if width != adapter.features:
        wanted, there = (_ENCODERS.get((adapter.reads, n), "another") for n in (adapter.features, width))
        raise BadModel(f"{adapter.name} reads numbers of width {adapter.features} ({wanted}), but this image encoder gives {width} ({there}).")


def image_features(encoder: Any, pixels: Tensor, reads: Reads) -> Tensor:
    """Features of pixels [B, 3, S, S] (see `refonly.image_encoder.preprocess`): [B, features] for "embeds", else [B, 1 + (S/patch)^2, features].

    Raises:
        BadModel: the embedding is wanted of an encoder without a projection.
    """
    if reads == "last":
        return encode(encoder, pixels)
    weight = next(encoder.parameters())
    pixels = pixels.to(weight.device, weight.dtype)
    if reads == "embeds":
        _projection(encoder)
        return encoder(pixel_values=pixels).image_embeds
    # One layer of 32 is run for nothing: leaving it out would need names that changed between versions of transformers.
    return encoder(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]


def unconditional_features(encoder: Any, pixels: Tensor, reads: Reads) -> Tensor:
    """What stands for "no picture" in unconditional rows, [1, ...] as `image_features`; of `pixels` only the size matters.

    As in the released code: an embedding of noughts; but where hidden states are read, those of a picture of noughts (the mean grey). What reads the
    last states is ours, and was trained with noughts.
    """
    if reads == "embeds":
        weight = next(encoder.parameters())
        return torch.zeros(1, _projection(encoder), device=weight.device, dtype=weight.dtype)
    seen = image_features(encoder, torch.zeros_like(pixels[:1]), reads)
    return torch.zeros_like(seen) if reads == "last" else seen


def _projection(encoder: Any) -> int:
    projection = getattr(encoder, "visual_projection", None)
    if projection is None:
        raise BadModel("This adapter reads the embedding of a whole picture; the image encoder has no projection to it.")
    return projection.weight.shape[0]
