"""A stylecode model of random numbers, as tensors and as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib_refonly.stylecode.autoencoder import AutoencoderShape
from lib_refonly.stylecode.codes.known import CodeModel
from lib_refonly.stylecode.model import CONTROL, VISION, StylecodeInfo, save_stylecode
from lib_refonly.stylecode.network import StyleNetwork
from lib_refonly.stylecode.vision import SiglipStates, VisionShape
from tests.tiny_models import tiny_unet

HEADS = 4


def info(**changes: Any) -> StylecodeInfo:
    told: dict[str, Any] = {
        "code": CodeModel("small-1", "A small one"),
        "native_size": 128,
        "unet": dict(tiny_unet().config),
        "vision": {"heads": 3, "layers": 3},
        "heads": HEADS,
    }
    told.update(changes)
    return StylecodeInfo(**told)


def networks(seed: int = 0) -> tuple[StyleNetwork, SiglipStates]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = StyleNetwork(tiny_unet().config, AutoencoderShape(48, 64, 32, HEADS, decoder_ff=64))
        return network.eval(), SiglipStates(VisionShape(48, 96, 3, 3, 32, 8)).eval()


def tensors(seed: int = 0) -> dict[str, Tensor]:
    """Under the names of a file, in numbers that float16 holds."""
    network, vision = networks(seed)
    found = {CONTROL + name: tensor for name, tensor in network.state_dict().items()} | {VISION + name: tensor for name, tensor in vision.state_dict().items()}
    return {name: tensor.half().float() for name, tensor in found.items()}


def small_model(path: Path, seed: int = 0, **changes: Any) -> Path:
    return save_stylecode(tensors(seed), info(**changes), path)
