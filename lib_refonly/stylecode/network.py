"""All of a stylecode model but the vision model, on diffusers' classes: what is trained, and what the studio runs. Parameter names are the released file's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from lib_refonly.stylecode.autoencoder import AutoencoderShape, StyleAutoencoder
from lib_refonly.stylecode.control import Control, StyleRun, control_of_diffusers

_SMALL = 1e-4
"""Deviation of the mixing layers' weights at the start of training (paper, section 4)."""


class StyleNetwork(nn.Module):
    """`control` shares its blocks with `control_model`, under the names of the host-independent module."""

    def __init__(self, unet_config: Mapping[str, Any], shape: AutoencoderShape) -> None:
        super().__init__()
        self.sref_autoencoder = StyleAutoencoder(shape)
        self.control_model = control_blocks(unet_config)
        stages = [width for block in self.control_model.up_blocks for width in _widths(block)]  # type: ignore[union-attr]
        self.middle_block_out = _mixer(shape.output_dim)
        self.control_model.up_zero_convs_out = nn.ModuleList(_mixer(width) for width in stages)

    @property
    def control(self) -> Control:
        mixers = [self.middle_block_out, *self.control_model.up_zero_convs_out]  # type: ignore[misc]
        return control_of_diffusers(self.control_model.mid_block, self.control_model.up_blocks, mixers)

    def begin_as(self, unet: UNet2DConditionModel) -> None:
        """Copy the base's middle block and way up, and begin without any effect: each half of a mixing layer hands its own through."""
        missing = self.control_model.load_state_dict(
            {name: value for name, value in unet.state_dict().items() if name.startswith(("mid_block.", "up_blocks."))}, strict=False
        )
        if missing.unexpected_keys:
            raise ValueError(f"not the base this network was built for: {missing.unexpected_keys[:3]}")
        for mixer in (self.middle_block_out, *self.control_model.up_zero_convs_out):  # type: ignore[misc]
            nn.init.normal_(mixer.weight, std=_SMALL)  # type: ignore[arg-type]
            nn.init.zeros_(mixer.bias)  # type: ignore[arg-type]
            with torch.no_grad():
                mixer.weight += torch.eye(len(mixer.weight))  # type: ignore[operator, arg-type]

    def run(self, latents: Tensor) -> StyleRun:
        """A style for a plan; latents [1 or rows, 20]."""
        return StyleRun(self.control, self.sref_autoencoder, latents)


def control_blocks(unet_config: Mapping[str, Any]) -> nn.Module:
    """A UNet's middle block and way up alone, with linear projections in its attentions whatever the base has."""
    # A config that was read holds a list of what it left to chance, by which diffusers would take the next line back.
    plain = {name: value for name, value in unet_config.items() if not name.startswith("_")}
    unet: Any = UNet2DConditionModel.from_config(plain | {"use_linear_projection": True})
    blocks = nn.Module()
    blocks.mid_block, blocks.up_blocks = unet.mid_block, unet.up_blocks
    return blocks


def _mixer(width: int) -> nn.Linear:
    return nn.Linear(2 * width, 2 * width)


def _widths(block: Any) -> list[int]:
    """Channels after each resnet of one block of the way up."""
    return [resnet.out_channels for resnet in block.resnets]
