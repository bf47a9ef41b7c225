"""What a session has to know of a UNet, whichever library it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Site:
    """One attn2. `name` counts blocks as ldm does and is the same on every host: IN01.0 ... M00.0 ... OUT11.0 (the last number counts the
    transformer blocks inside). `width` is K's and V's input width."""

    name: str
    attention: nn.Module
    to_q: nn.Module
    to_k: nn.Module
    to_v: nn.Module
    to_out: nn.Module
    heads: int
    width: int


@dataclass(frozen=True)
class Stage:
    """The middle block, or one block of the way up (resnet, its attention, the upsampler that ends a level). `end` is its last layer, whose output is
    the block's: some hosts iterate over a block's layers and never call the block."""

    name: str
    end: nn.Module


@dataclass(frozen=True)
class Middle:
    """Layers of the middle block that are handed the time embedding, and the context, as second argument."""

    resnet: nn.Module
    transformer: nn.Module


@dataclass(frozen=True)
class Anatomy:
    """A UNet's points of injection. `read_call(args, kwargs)` returns the sample and the timestep; `context` is the keyword for K/V's input.
    `stages`: the middle block, then the way up; none without a `middle` that attends."""

    unet: nn.Module
    conv_in: nn.Module
    sites: tuple[Site, ...]
    read_call: Callable[[tuple[Any, ...], Mapping[str, Any]], tuple[Tensor, Any]]
    context: str
    stages: tuple[Stage, ...] = ()
    middle: Middle | None = None

    @property
    def width(self) -> int:
        """The width of the tokens that cross-attention reads."""
        return self.sites[0].width
