"""What of a picture its style decides, in numbers: what a code has to be able to say of another picture in the same style."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE = 61
_RING = 8


def summary(pictures: Tensor) -> Tensor:
    """uint8 [n, S, S, 3] -> [n, SIZE], every number of about unit size: mean and spread of the border's colours, sixteen places' mean colours, how much
    neighbouring pixels differ, across and down, at once and after halving twice, on the border and all over. What a picture shows is in there as well; over
    many pictures of a style it averages out, and the style stays."""
    x = pictures.permute(0, 3, 1, 2).float() / 64 - 2
    side = x.shape[-1]
    border = torch.ones(side, side, dtype=torch.bool, device=x.device)
    edge = side // _RING
    border[edge:-edge, edge:-edge] = False
    ring = x[..., border]
    places = F.adaptive_avg_pool2d(x, 4).flatten(1)
    return torch.cat([ring.mean(-1), ring.std(-1), places, *_roughness(x), *_roughness(F.avg_pool2d(x, 4))[2:], _contrast(x)], 1)


def _roughness(x: Tensor) -> list[Tensor]:
    """Of the border (above, left), and of everything (across, down), each [n, 1]."""
    across, down = (x[..., 1:] - x[..., :-1]).abs().mean(1), (x[..., 1:, :] - x[..., :-1, :]).abs().mean(1)
    edge = x.shape[-1] // _RING
    parts = (across[:, :edge], down[:, :, :edge], across, down)
    return [4 * part.flatten(1).mean(1, keepdim=True) for part in parts]


def _contrast(x: Tensor) -> Tensor:
    """[n, 1]: how far the darkest and the lightest tenth lie apart."""
    light = x.mean(1).flatten(1).quantile(torch.tensor([0.1, 0.9], device=x.device), dim=1)
    return (light[1] - light[0])[:, None]
