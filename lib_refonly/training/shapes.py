"""The embedded family's networks: Stable Diffusion 2.1's anatomy, only narrow.

Four levels, cross-attention in the first three, linear projections, v-prediction, the scaled_linear schedule; one layer a block instead of two.
ldm's norms have 32 groups, and one channel a group would wipe the time embedding out: widths are at least 64. ldm knows only whole multiples
of the first width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

HEAD = 32
SCHEDULE: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


@dataclass(frozen=True)
class UNetShape:
    widths: tuple[int, ...] = (64, 128, 128, 128)
    layers: int = 1
    context: int = 128

    def build(self) -> UNet2DConditionModel:
        n = len(self.widths)
        return UNet2DConditionModel(
            sample_size=32,
            in_channels=4,
            out_channels=4,
            down_block_types=("CrossAttnDownBlock2D",) * (n - 1) + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (n - 1),
            block_out_channels=self.widths,
            layers_per_block=self.layers,
            cross_attention_dim=self.context,
            # diffusers' name for the number of heads, as in SD 2.1
            attention_head_dim=[w // HEAD for w in self.widths],  # pyright: ignore[reportArgumentType]
            use_linear_projection=True,
            norm_num_groups=32,
        )


@dataclass(frozen=True)
class VisionShape:
    """257 tokens, as the released encoder has: 128 px in patches of 8."""

    width: int = 128
    layers: int = 4
    size: int = 128
    patch: int = 8

    def build(self) -> CLIPVisionModel:
        return CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=self.width,
                intermediate_size=4 * self.width,
                num_hidden_layers=self.layers,
                num_attention_heads=self.width // HEAD,
                image_size=self.size,
                patch_size=self.patch,
                projection_dim=self.width,
                hidden_act="gelu",
            )
        )


@dataclass(frozen=True)
class TextShape:
    width: int = 128
    layers: int = 4
    length: int = 77

    def build(self, vocabulary: int, bos: int, eos: int) -> CLIPTextModel:
        return CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=self.width,
                intermediate_size=4 * self.width,
                num_hidden_layers=self.layers,
                num_attention_heads=self.width // HEAD,
                max_position_embeddings=self.length,
                projection_dim=self.width,
                hidden_act="gelu",
                bos_token_id=bos,
                eos_token_id=eos,
                pad_token_id=eos,
            )
        )


def quick_to_train(unet: UNet2DConditionModel, encoder: CLIPVisionModel | CLIPTextModel) -> None:
    """On a CPU the fused attention's backward pass is slow; the same sums written out are quicker."""
    if not torch.cuda.is_available():
        unet.set_attn_processor(AttnProcessor())
        encoder.set_attn_implementation("eager")
