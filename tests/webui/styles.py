"""A random stylecode model for a random checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from lib_refonly.stylecode.autoencoder import AutoencoderShape
from lib_refonly.stylecode.codes import CodeModel
from lib_refonly.stylecode.model import CONTROL, VISION, StylecodeInfo, save_stylecode
from lib_refonly.stylecode.network import StyleNetwork
from lib_refonly.stylecode.vision import SiglipStates, VisionShape

MODEL = CodeModel("random-styles", "Random styles")
_VISION = VisionShape(48, 96, 2, 4, 64, 16)


def style_model(out: Path, wide: bool) -> None:
    """For `rand-sd15`, whose widths are those of `checkpoints.small` or `of_true_width`."""
    widths, layers = ((320,) * 4, 1) if wide else ((32, 64, 128, 128), 2)
    shape: dict[str, Any] = {"block_out_channels": widths, "layers_per_block": layers, "cross_attention_dim": 768, "attention_head_dim": 8}
    with torch.device("meta"):
        config = UNet2DConditionModel(**shape).config
    torch.manual_seed(5)
    network = StyleNetwork(config, AutoencoderShape(_VISION.width, widths[-1], 32, decoder_ff=64))
    tensors = {CONTROL + name: tensor for name, tensor in network.state_dict().items()}
    tensors |= {VISION + name: tensor for name, tensor in SiglipStates(_VISION).state_dict().items()}
    save_stylecode(tensors, StylecodeInfo(MODEL, 128, config, {"heads": _VISION.heads, "layers": _VISION.layers}), out / "random.safetensors")
