"""The networks that make image tokens in the public IP-Adapters (Ye et al. 2023, arXiv 2308.06721), under the names that their files give the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from lib_refonly.conditioning.attention import attend

DIM_HEAD = 64
"""Width of one head of the perceiver: the same in all released adapters, and told by no file."""


class EmbedTokens(nn.Module):
    """plain: the projected embedding [B, features] -> [B, tokens, width], all tokens by one Linear."""

    def __init__(self, features: int, tokens: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(features, tokens * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, embeds: Tensor) -> Tensor:
        return self.norm(self.proj(embeds).unflatten(-1, (-1, self.norm.normalized_shape[0])))


class StateTokens(nn.Module):
    """full: hidden states [B, n, features] -> [B, n, width], each by itself."""

    def __init__(self, features: int, hidden: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, width), nn.LayerNorm(width))

    def forward(self, states: Tensor) -> Tensor:
        return self.proj(states)


class Perceiver(nn.Module):
    """plus: hidden states [B, n, features] -> [B, tokens, width]. Learned latents read the states, and themselves, layer by layer."""

    def __init__(self, features: int, tokens: int, width: int, dim: int, inner: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty(1, tokens, dim))
        self.proj_in = nn.Linear(features, dim)
        self.layers = nn.ModuleList(nn.ModuleList((_LatentAttention(dim, inner), _feed_forward(dim, hidden))) for _ in range(depth))
        self.proj_out = nn.Linear(dim, width)
        self.norm_out = nn.LayerNorm(width)

    def forward(self, states: Tensor) -> Tensor:
        states = self.proj_in(states)
        latents = self.latents.expand(len(states), -1, -1)
        for layer in self.layers:
            attention, feed_forward = layer  # type: ignore[misc]
            latents = latents + attention(states, latents)
            latents = latents + feed_forward(latents)
        return self.norm_out(self.proj_out(latents))


class _LatentAttention(nn.Module):
    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(dim, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)

    def forward(self, states: Tensor, latents: Tensor) -> Tensor:
        latents = self.norm2(latents)
        q = self.to_q(latents)
        k, v = self.to_kv(torch.cat([self.norm1(states), latents], 1)).chunk(2, -1)
        return self.to_out(attend(q, k, v, q.shape[-1] // DIM_HEAD))


def _feed_forward(dim: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, hidden, bias=False), nn.GELU(), nn.Linear(hidden, dim, bias=False))


def build(variant: Literal["plain", "plus", "full"], shapes: Mapping[str, tuple[int, ...]], width: int) -> nn.Module:
    """The network for weights of these shapes, on the meta device: it takes no memory, and draws no random numbers from the painter's seed.

    Raises:
        LookupError, ValueError: the shapes are of no such network.
    """
    with torch.device("meta"):
        if variant == "plain":
            rows, features = shapes["proj.weight"]
            return EmbedTokens(features, rows // width, width)
        if variant == "full":
            hidden, features = shapes["proj.0.weight"]
            return StateTokens(features, hidden, width)
        _, tokens, dim = shapes["latents"]
        inner, hidden = shapes["layers.0.0.to_q.weight"][0], shapes["layers.0.1.1.weight"][0]
        if inner % DIM_HEAD:
            raise ValueError(f"{inner} is no multiple of {DIM_HEAD}")
        depth = sum(name.endswith(".0.to_q.weight") for name in shapes)
        return Perceiver(shapes["proj_in.weight"][1], tokens, width, dim, inner, hidden, depth)
