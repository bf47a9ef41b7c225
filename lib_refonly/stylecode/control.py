"""The control module: a copy of the UNet's middle block and way up that begins with the style, and is mixed with the UNet's own after each block.

StyleCodes, section 3, as the released code computes it: not a residual behind a zero convolution, but a Linear over both hidden states, pixel by pixel,
one half of whose output goes on as the control's and the other half as the UNet's. Skip connections are noughts. Blocks are instances of the host's
own classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lib_refonly.conditioning.plan import COND, PARTIAL, UNCOND, SideBranch, Window
from lib_refonly.hosts.anatomy import Anatomy
from lib_refonly.stylecode.autoencoder import StyleAutoencoder
from lib_refonly.stylecode.settings import PROMPT


class Control(nn.Module):
    """`stages`: the middle block, then each block of the way up, called as stage(hidden, emb, context). `mixers`: one for each of them, 2c -> 2c."""

    def __init__(self, stages: Sequence[nn.Module], mixers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stages, self.mixers = nn.ModuleList(stages), nn.ModuleList(mixers)

    def block(self, number: int, hidden: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        """See `conditioning.plan.BranchNetwork`."""
        stage = self.stages[number]
        if number:
            missing = _reads(stage) - hidden.shape[1]
            hidden = torch.cat([hidden, hidden.new_zeros(hidden.shape[0], missing, *hidden.shape[2:])], 1)
        return stage(hidden, emb, context)

    def mix(self, number: int, hidden: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        """See `conditioning.plan.BranchNetwork`."""
        both = torch.cat([hidden, base.to(hidden)], 1).movedim(1, -1)
        own, given = self.mixers[number](both).movedim(-1, 1).chunk(2, 1)
        return own, given


def _reads(stage: nn.Module) -> int:
    """Channels that a block of the way up reads: its first convolution's."""
    return next(weight.shape[1] for weight in stage.parameters() if weight.dim() == 4)


class StyleRun:
    """One style in a control module: what a plan's `SideBranch` holds. latents: [1 or rows, 20]."""

    def __init__(self, control: Control, autoencoder: StyleAutoencoder, latents: Tensor) -> None:
        self.control, self.autoencoder, self.latents = control, autoencoder, latents

    def begin(self, height: int, width: int) -> Tensor:
        weight = self.autoencoder.latent_to_d_model.weight
        return self.autoencoder.decode(self.latents.to(weight), height, width)

    def block(self, number: int, hidden: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        return self.control.block(number, hidden, emb, context)

    def mix(self, number: int, hidden: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        return self.control.mix(number, hidden, base)


def style_branch(run: StyleRun, strength: float, window: Window, reach: str) -> SideBranch:
    """A style for a plan. `reach`: as in `StyleSettings`."""
    return SideBranch(run, strength, window=window, roles=frozenset({COND}) if reach == PROMPT else frozenset({COND, PARTIAL, UNCOND}))


class _Stage(nn.Module):
    """diffusers' layers of one block of the way up, called as ldm calls a block."""

    def __init__(self, resnets: Sequence[nn.Module], attention: nn.Module | None, upsampler: nn.Module | None) -> None:
        super().__init__()
        self.resnets, self.attention, self.upsampler = nn.ModuleList(resnets), attention, upsampler

    def forward(self, hidden: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        first, *others = self.resnets
        hidden = first(hidden, emb)
        if self.attention is not None:
            hidden = self.attention(hidden, encoder_hidden_states=context, return_dict=False)[0]
        for resnet in others:
            hidden = resnet(hidden, emb)
        return hidden if self.upsampler is None else self.upsampler(hidden)


def control_of_diffusers(middle: Any, ups: Any, mixers: Sequence[nn.Module]) -> Control:
    """diffusers' mid_block and up_blocks as a control module. They are shared, not copied."""
    stages = [_Stage(middle.resnets, middle.attentions[0], None)]
    for block in ups:
        attentions = list(getattr(block, "attentions", [None] * len(block.resnets)))
        last = len(block.resnets) - 1
        for i, (resnet, attention) in enumerate(zip(block.resnets, attentions, strict=True)):
            stages.append(_Stage([resnet], attention, block.upsamplers[0] if i == last and block.upsamplers else None))
    return Control(stages, mixers)


def control_of_ldm(middle: nn.Module, ups: Sequence[nn.Module], mixers: Sequence[nn.Module]) -> Control:
    """ldm's middle_block and output_blocks (A1111, Forge's family), which are called so already."""
    return Control([middle, *ups], mixers)


def widths(anatomy: Anatomy) -> tuple[int, int, int]:
    """What tells UNets apart that a control module may go with: blocks, channels in the middle, and the context's width."""
    assert anatomy.middle is not None
    middle = next(weight.shape[0] for weight in anatomy.middle.resnet.parameters() if weight.dim() == 4)
    return len(anatomy.stages), middle, anatomy.width
