"""A RefOnly model in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from lib_refonly.refonly.blueprint import BlueprintEncoder
from lib_refonly.refonly.card import ModelCard, estimate_memory
from lib_refonly.refonly.image_encoder import ImagePromptSpec

__all__ = ["ModelCard", "RefOnlyModel"]

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from torch import nn
    from transformers import CLIPVisionModel


@dataclass
class RefOnlyModel:
    """The four networks and what is needed to use them. The UNet is diffusers' own, without the blueprint encoder.

    `scheduler_config` is the model's own scheduler_config.json: prediction type, noise schedule and timestep spacing are read from it.
    """

    unet: UNet2DConditionModel
    blueprint: BlueprintEncoder
    image_encoder: CLIPVisionModel
    vae: AutoencoderKL
    scheduler_config: dict[str, Any]
    prompt_spec: ImagePromptSpec
    card: ModelCard

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {"unet": self.unet, "blueprint": self.blueprint, "image_encoder": self.image_encoder, "vae": self.vae}

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    @property
    def vae_scale(self) -> float:
        """Latents of the UNet = latents of the VAE times this (0.18215 in SD)."""
        return self.vae.config["scaling_factor"]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> RefOnlyModel:
        """Move all four networks, in place. Returns self."""
        for network in self.networks.values():
            network.to(device=device, dtype=dtype)
        return self

    def memory(self, size: int | None = None) -> int:
        """Bytes needed to colour a picture of `size` (the native size when None) at the present dtype."""
        values = sum(p.numel() for network in self.networks.values() for p in network.parameters())
        return estimate_memory(values, self.vae.config, size or self.card.native_size, self.dtype.itemsize)
