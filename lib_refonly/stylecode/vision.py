"""SigLIP's vision transformer, as far as stylecodes read it: the states that go into its last layer. The last layer itself is not even built.

Zhai et al. 2023, arXiv 2303.15343; names of weights as in transformers, which the WebUIs' pinned versions have without it or under other names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

_FIRST_SIZE = 512
"""The released code squashes every picture to this before the image processor sees it."""


@dataclass(frozen=True)
class VisionShape:
    """`layers`: of the whole model; one less is run. The default is SigLIP base, patch 16, 224 px."""

    width: int = 768
    inner: int = 3072
    layers: int = 12
    heads: int = 12
    size: int = 224
    patch: int = 16


class SiglipStates(nn.Module):
    """Pixels [rows, 3, size, size] in [-1, 1] -> hidden_states[-2], [rows, (size / patch)^2, width]."""

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = nn.Module()
        self.embeddings.patch_embedding = nn.Conv2d(3, shape.width, shape.patch, shape.patch)
        self.embeddings.position_embedding = nn.Embedding((shape.size // shape.patch) ** 2, shape.width)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.layers - 1))

    def forward(self, pixels: Tensor) -> Tensor:
        patches: Tensor = self.embeddings.patch_embedding(pixels)  # type: ignore[operator]
        states = patches.flatten(2).transpose(1, 2) + self.embeddings.position_embedding.weight  # type: ignore[operator, union-attr]
        for layer in self.encoder.layers:  # type: ignore[union-attr]
            states = layer(states)
        return states


class _Layer(nn.Module):
    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.layer_norm1, self.layer_norm2 = (nn.LayerNorm(shape.width, eps=1e-6) for _ in range(2))
        self.self_attn, self.mlp = _Attention(shape), nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(shape.width, shape.inner), nn.Linear(shape.inner, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        inner = F.gelu(self.mlp.fc1(self.layer_norm2(x)), approximate="tanh")  # type: ignore[operator]
        return x + self.mlp.fc2(inner)  # type: ignore[operator]


class _Attention(nn.Module):
    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(shape.width, shape.width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def pixels_of(pictures: Sequence[Image.Image], size: int) -> Tensor:
    """As the released code prepares them, [n, 3, size, size]: squashed to 512 px, then to `size`, bicubic both, to [-1, 1]."""
    square = (picture.convert("RGB").resize((_FIRST_SIZE, _FIRST_SIZE), Image.Resampling.BICUBIC) for picture in pictures)
    arrays = [np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32) for picture in square]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2) / 127.5 - 1
