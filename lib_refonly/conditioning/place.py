"""A plan that was made for one picture, put onto a part of a canvas."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lib_refonly.conditioning.canvas import Box
from lib_refonly.conditioning.plan import ImageTokens, InputFeature, Plan, SideBranch

Masked = TypeVar("Masked", ImageTokens, InputFeature, SideBranch)


def placed(plan: Plan, box: Box, size: tuple[int, int]) -> Plan:
    """What acted everywhere acts in `box` of a canvas of `size` (height, width) latent cells, and what had a mask has it there. Features lie in the box."""

    def masked(one: Masked) -> Masked:
        return replace(one, mask=_mask(one.mask, box, size))

    prompts = tuple(replace(prompt, pictures=tuple(map(masked, prompt.pictures))) for prompt in plan.image_prompts)
    features = tuple(replace(feature, feature=_laid(feature.feature, box, size), mask=_mask(feature.mask, box, size)) for feature in plan.input_features)
    return Plan(prompts, features, tuple(map(masked, plan.branches)), plan.canvas)


def _mask(mask: Tensor | None, box: Box, size: tuple[int, int]) -> Tensor:
    if mask is None:
        return _laid(torch.ones(box.height, box.width), box, size)
    return _laid(F.interpolate(mask[None, None].float(), size=(box.height, box.width), mode="area")[0, 0], box, size)


def _laid(picture: Tensor, box: Box, size: tuple[int, int]) -> Tensor:
    """[..., height, width] of the box -> [..., *size], nought around it."""
    whole = picture.new_zeros(*picture.shape[:-2], *size)
    box.cut(whole).copy_(picture)
    return whole
