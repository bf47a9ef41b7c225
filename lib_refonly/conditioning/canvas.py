"""ONE-PIC's clean context: one latent canvas, of which the UNet paints the target and only looks at the rest.

The paper's x_t = x~_t * m + x_0 * (1 - m) (section 3.3, equation 2), before every call of the UNet: what it is handed is noisy in the target panel and
clean elsewhere. A host's own inpainting is something else: it gives the rest the noise of the step, or puts it back after the call.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lib_refonly.errors import BadSettings

BLOCK = 8
"""Latent cells that a UNet's three halvings make one of."""


@dataclass(frozen=True)
class Box:
    """A rectangle of latent cells."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, canvas: Tensor) -> Tensor:
        """[..., H, W] -> [..., height, width]."""
        return canvas[..., self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class CleanContext:
    """latents: x_0 of the whole canvas, [1 or n, C, H, W]; what it holds in the target does not matter. target: bool [H, W].

    reuse: of how many steps in a row the first alone computes the whole canvas; the others compute the target, and take from it what the context gave to
    the target there (`hosts.context_reuse`). 1 is exact.

    control: the part for which the host's ControlNets are called, and in which they act (`hosts.control`). None is all of it.
    """

    latents: Tensor
    target: Tensor
    reuse: int = 1
    control: Box | None = None

    def __post_init__(self) -> None:
        if self.latents.dim() != 4 or self.target.shape != self.latents.shape[-2:]:
            raise BadSettings(f"A canvas has latents [n, C, H, W] and a target [H, W], not {list(self.latents.shape)} and {list(self.target.shape)}.")
        if self.target.dtype != torch.bool:
            raise BadSettings("A canvas' target is a mask of yes and no.")
        if not self.target.any():
            raise BadSettings("No panel is marked as the target: there is nothing to paint. Mark at least one.")
        if self.reuse < 1:
            raise BadSettings(f"The context is computed anew every {self.reuse} steps; that has to be 1 or more.")

    def rows(self, like: Tensor) -> Tensor:
        """x_0 for each row of a UNet call. Raises: BadSettings: the rows can't be shared out among the canvases."""
        if len(like) % len(self.latents):
            raise BadSettings(f"{len(self.latents)} canvases can't be shared out among the {len(like)} rows of one UNet call.")
        return self.latents.to(like).repeat(len(like) // len(self.latents), 1, 1, 1)

    def clean(self, noisy: Tensor) -> Tensor:
        """`noisy` [rows, C or more, H, W] with the context put back. More channels than a latent's (an inpainting checkpoint's) are left alone.

        Raises:
            BadSettings: another size than the canvas'.
        """
        if noisy.shape[-2:] != self.target.shape:
            have, want = ("x".join(str(8 * side) for side in reversed(shape)) for shape in (noisy.shape[-2:], self.target.shape))
            raise BadSettings(f"The canvas is {want} px, but this pass paints {have} px. Take another sampler, and no hires fix.")
        channels, x_0 = self.latents.shape[1], self.rows(noisy)
        mixed = torch.where(self.target.to(noisy.device), noisy[:, :channels], x_0)
        return mixed if noisy.shape[1] == channels else torch.cat([mixed, noisy[:, channels:]], 1)

    def place(self) -> Box:
        """The smallest rectangle that holds the target."""
        down, across = self.target.any(1).nonzero(), self.target.any(0).nonzero()
        top, left = int(down[0]), int(across[0])
        return Box(top, left, int(down[-1]) + 1 - top, int(across[-1]) + 1 - left)

    def box(self) -> Box | None:
        """The smallest rectangle on the UNet's coarsest grid that holds the target; None where that is most of the canvas, or the grid does not fit."""
        height, width = self.target.shape
        if height % BLOCK or width % BLOCK:
            return None
        own = self.place()
        top, left = own.top // BLOCK * BLOCK, own.left // BLOCK * BLOCK
        bottom, right = (-(-end // BLOCK) * BLOCK for end in (own.top + own.height, own.left + own.width))
        box = Box(top, left, bottom - top, right - left)
        return None if 4 * box.height * box.width > 3 * height * width else box
