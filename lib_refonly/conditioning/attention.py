"""Attention over image tokens: the one formula that every host uses.

After to_q/to_k/to_v and before to_out, heads merged. With q [B, N, inner], K and V [B, L, inner], h heads:

    a_img = softmax(q K^T / sqrt(d) + bias) V        bias = log(weight * mask)
    a     = base + gate * (a_img - base)             replace
    a     = base + gate * a_img                      beside the text

A weight w as log(w) on the logits multiplies a picture's unnormalised attention by w; nought removes it exactly. Where every picture is
masked out, the gate is nought and the base stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def token_grid(height: int, width: int, tokens: int) -> tuple[int, int]:
    """Rows and columns of the attention tokens of a latent [height, width]. ldm and diffusers halve by ceiling at each level.

    Raises:
        ValueError: no level of the UNet has that many tokens (token merging, for example).
    """
    h, w = height, width
    while h * w > tokens:
        h, w = math.ceil(h / 2), math.ceil(w / 2)
    if h * w != tokens:
        raise ValueError(f"{tokens} tokens are no grid of a {height}x{width} latent")
    return h, w


def mask_tokens(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """A mask [H, W] on the tokens of one level: means over their area, [N]."""
    return F.interpolate(mask[None, None].float(), size=grid, mode="area").reshape(-1)


def picture_bias(
    lengths: Sequence[int], weights: Sequence[float], masks: Sequence[Tensor | None], grid: tuple[int, int], device: torch.device | None = None
) -> tuple[Tensor | None, Tensor | None]:
    """Logit bias [N, L] for pictures of `lengths` tokens side by side, and the share of the place that any picture covers, [N, 1].

    Both are None where nothing has to be weighed. Rows that no picture covers get bias 0 (they are gated out, and no NaN arises).
    """
    if all(w == 1 for w in weights) and all(m is None for m in masks):
        return None, None
    n = grid[0] * grid[1]
    columns = [torch.ones(n, device=device) if m is None else mask_tokens(m.to(device), grid).clamp(0, 1) for m in masks]
    covered = torch.stack([c if w > 0 else torch.zeros_like(c) for c, w in zip(columns, weights, strict=True)]).amax(0)
    bias = torch.cat([(c * w).log()[:, None].expand(n, length) for c, w, length in zip(columns, weights, lengths, strict=True)], 1)
    bias = torch.where(covered[:, None] > 0, bias, torch.zeros((), device=device))
    return bias, covered[:, None]


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v on merged heads: q [B, N, C], k and v [B, L, C] -> [B, N, C]."""
    split = [t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v)]
    out = F.scaled_dot_product_attention(*split, attn_mask=None if bias is None else bias.to(split[0].dtype))
    return out.transpose(1, 2).flatten(2)


def mix(base: Tensor, image: Tensor, gate: Tensor | float, replace: bool) -> Tensor:
    """Put the picture's attention in place of the base, or beside it, by `gate` (a number, or [N, 1])."""
    if replace and isinstance(gate, int | float) and gate == 1:
        return image
    return base + gate * (image - base if replace else image)
