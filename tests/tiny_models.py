"""RefOnly models of a few hundred thousand random values, in the anatomy of the real ones."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPVisionConfig, CLIPVisionModel

from lib_refonly.refonly.blueprint import BlueprintEncoder
from lib_refonly.refonly.image_encoder import ImagePromptSpec
from lib_refonly.refonly.model import ModelCard, RefOnlyModel

SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
UNET: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 48,
    "attention_head_dim": [2, 4],
    "use_linear_projection": True,
}
VAE: dict[str, Any] = {
    "block_out_channels": (32, 32, 32, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 1,
    "sample_size": 128,
}
VISION = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 40, "patch_size": 8, "projection_dim": 32}


def tiny_unet(seed: int = 0, **changes: Any) -> UNet2DConditionModel:
    return _random(UNet2DConditionModel(**UNET | changes), seed)


def tiny_vae(seed: int = 1, **changes: Any) -> AutoencoderKL:
    return _random(AutoencoderKL(**VAE | changes), seed)


def tiny_model(seed: int = 0, form: str = "released", **unet: Any) -> RefOnlyModel:
    """A RefOnly model whose every tensor is random, also those that begin as zero or one."""
    network = tiny_unet(seed, **unet)
    blueprint = _random(BlueprintEncoder(network.config["block_out_channels"][0], form, (8, 16, 24, 32)), seed + 1)
    vision = CLIPVisionConfig(**VISION | {"hidden_size": network.config["cross_attention_dim"]})  # type: ignore[arg-type]
    card = ModelCard(name="tiny", native_size=128, dropout=True, guidance=1.5, title="A tiny one")
    return RefOnlyModel(network, blueprint, _random(CLIPVisionModel(vision), seed + 2), tiny_vae(seed + 3), dict(SCHEDULER), ImagePromptSpec(40), card)


def _random(module: Any, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            many = parameter.dim() > 1
            noise = torch.randn(parameter.shape, generator=generator) * (parameter[0].numel() ** -0.5 if many else 0.1)
            parameter.copy_(noise + 1 if not many and name.endswith("weight") else noise)
    return module.eval().requires_grad_(False)


def states(model: RefOnlyModel) -> dict[str, torch.Tensor]:
    """Every tensor of every network by one name."""
    return {f"{part}.{name}": tensor for part, network in model.networks.items() for name, tensor in network.state_dict().items()}
