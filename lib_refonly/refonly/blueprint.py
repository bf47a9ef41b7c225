"""The blueprint encoder: a line drawing (white on black) becomes the feature that is added to the UNet's conv_in output.

`h = conv_in(z) + encoder(blueprint)`, once, before the first down block. The feature does not depend on the timestep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from PIL.Image import Image

FORMS = ("released", "paper")
_CHANNELS = {"released": (16, 32, 96, 256), "paper": (16, 32, 64, 128)}


class BlueprintEncoder(nn.Module):
    """Blueprint [B, 3, H, W] in [0, 1], H and W multiples of 8 -> feature [B, out_channels, H/8, W/8].

    `released` is what the authors' code does, under the parameter names of their files: 3x3 convolutions with padding 1, `conv_in`,
    `blocks.0` ... `blocks.5` (the odd ones have stride 2), `conv_out`; SiLU after all but the last.

    `paper` is what the paper describes: "four convolution layers with 4x4 and 2x2 strides (activated by ReLU, channels are 16, 32, 64, 128)".
    Taken literally that is 1/16, yet "512x512 -> 64x64" is 1/8, and 128 channels cannot be added to the UNet's 320. The gaps are closed so:
    the first convolution has stride 1 (as the released encoder's has: a line one pixel wide is read before anything is thinned out) and
    pads 1 before and 2 after, which keeps the size with an even kernel; the other three have stride 2 and padding 1; and a 1x1 `conv_out`
    without activation projects to the UNet's width. `conv_out` is the part that the paper "initialises with 0".

    Source: github.com/aihao2000/stable-diffusion-reference-only (released), section 3.1 of the paper (paper).
    """

    def __init__(self, out_channels: int, form: str = "released", channels: Sequence[int] | None = None, in_channels: int = 3) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"blueprint form {form!r} is none of {', '.join(FORMS)}")
        self.form = form
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.channels = tuple(channels or _CHANNELS[form])
        build = self._build_released if form == "released" else self._build_paper
        build()

    def _build_released(self) -> None:
        first, *_, last = self.channels
        self.conv_in = nn.Conv2d(self.in_channels, first, 3, padding=1)
        self.blocks = nn.ModuleList()
        for narrow, wide in zip(self.channels, self.channels[1:], strict=False):
            self.blocks.append(nn.Conv2d(narrow, narrow, 3, padding=1))
            self.blocks.append(nn.Conv2d(narrow, wide, 3, padding=1, stride=2))
        self.conv_out = nn.Conv2d(last, self.out_channels, 3, padding=1)

    def _build_paper(self) -> None:
        first, *_, last = self.channels
        self.conv_in = nn.Conv2d(self.in_channels, first, 4)
        pairs = zip(self.channels, self.channels[1:], strict=False)
        self.blocks = nn.ModuleList(nn.Conv2d(narrow, wide, 4, padding=1, stride=2) for narrow, wide in pairs)
        self.conv_out = nn.Conv2d(last, self.out_channels, 1)

    def zero_out(self) -> BlueprintEncoder:
        """Set conv_out to 0, as training begins: the UNet then computes what it did before. Returns self."""
        nn.init.zeros_(self.conv_out.weight)
        if self.conv_out.bias is not None:
            nn.init.zeros_(self.conv_out.bias)
        return self

    def forward(self, blueprint: Tensor) -> Tensor:
        if self.form == "released":
            x = functional.silu(self.conv_in(blueprint))
            for block in self.blocks:
                x = functional.silu(block(x))
        else:
            x = functional.relu(self.conv_in(functional.pad(blueprint, (1, 2, 1, 2))))
            for block in self.blocks:
                x = functional.relu(block(x))
        return self.conv_out(x)

    @property
    def config(self) -> dict[str, Any]:
        """The fields that a UNet config carries for its blueprint encoder. `released` has none of our own."""
        released = {"conditioning_channels": self.in_channels, "conditioning_embedding_out_channels": list(self.channels)}
        return released if self.form == "released" else released | {"blueprint_form": self.form}

    @classmethod
    def from_config(cls, unet_config: Mapping[str, Any]) -> BlueprintEncoder:
        """The encoder that belongs to a UNet config (the released `UNet2DDobuleConditionModel`'s, or ours with `blueprint_form`)."""
        return cls(
            unet_config["block_out_channels"][0],
            unet_config.get("blueprint_form", "released"),
            unet_config.get("conditioning_embedding_out_channels"),
            unet_config.get("conditioning_channels", 3),
        )


def blueprint_tensor(picture: Image) -> Tensor:
    """A blueprint picture as the encoder wants it: float32 [1, 3, H, W] in [0, 1], H and W rounded down to multiples of 8 (Lanczos)."""
    import numpy as np
    from PIL import Image

    width, height = (max(8, side // 8 * 8) for side in picture.size)
    pixels = np.array(picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
