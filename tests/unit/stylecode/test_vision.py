"""The states of SigLIP that a style is read from, and the autoencoder's first half."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import SiglipVisionConfig, SiglipVisionModel

from lib_refonly.errors import BadModel
from lib_refonly.stylecode.autoencoder import positions
from lib_refonly.stylecode.codes import TINY, read, write_short
from lib_refonly.stylecode.codes.levels import latent_of, levels_of
from lib_refonly.stylecode.model import VISION, read_vision_file
from lib_refonly.stylecode.vision import pixels_of
from tests.unit.stylecode.small import networks

LAYERS = 3


def siglip(seed: int = 0) -> SiglipVisionModel:
    """Two heads, as width / 64 says, with every number random."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = SiglipVisionConfig(hidden_size=128, intermediate_size=200, num_hidden_layers=LAYERS, num_attention_heads=2, image_size=48, patch_size=16)
        model = SiglipVisionModel(config).eval().requires_grad_(False)
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.1 + (parameter.dim() == 1) * 0.3)
    return model


def file_of(model: SiglipVisionModel, path: Path, prefix: str = VISION) -> Path:
    bare = {name.removeprefix("vision_model."): tensor for name, tensor in model.state_dict().items()}
    more = {"text_model.embeddings.token_embedding.weight": torch.zeros(4, 4), "logit_scale": torch.zeros(1)} if prefix else {}
    save_file({prefix + name: tensor.contiguous() for name, tensor in bare.items()} | more, path)
    return path


def some_pictures(count: int = 3) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40 + 30 * i, 90 - 20 * i, 3), dtype=np.uint8)) for i in range(count)]


@pytest.mark.parametrize("prefix", [VISION, ""])
def test_they_are_transformers_hidden_states(tmp_path: Path, prefix: str) -> None:
    """hidden_states[-2], of a whole SigLIP's file (which has a text model, too) and of a vision model's alone."""
    model = siglip()
    ours = read_vision_file(file_of(model, tmp_path / "model.safetensors", prefix))
    pixels = pixels_of(some_pictures(), 48)
    states = model(pixels, output_hidden_states=True).hidden_states
    torch.testing.assert_close(ours(pixels), states[-2], rtol=1e-5, atol=1e-5)
    assert (states[-1] - states[-2]).abs().max() > 0.1
    assert (states[-3] - states[-2]).abs().max() > 0.1


def test_the_last_layer_is_not_even_built(tmp_path: Path) -> None:
    """Nor are norm and head: they may hold anything."""
    model = siglip()
    wanted = read_vision_file(file_of(model, tmp_path / "whole.safetensors"))(pixels_of(some_pictures(), 48))
    for name, parameter in model.named_parameters():
        if f"layers.{LAYERS - 1}." in name or "post_layernorm" in name or "head." in name:
            parameter.fill_(torch.nan)
    ours = read_vision_file(file_of(model, tmp_path / "model.safetensors"))
    assert len(ours.encoder.layers) == LAYERS - 1  # type: ignore[arg-type]
    assert not any(f"layers.{LAYERS - 1}." in name or "post_layernorm" in name or "head" in name for name in ours.state_dict())
    assert torch.equal(ours(pixels_of(some_pictures(), 48)), wanted)


def test_what_is_no_siglip(tmp_path: Path) -> None:
    save_file({"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": torch.zeros(4, 4)}, tmp_path / "lora.safetensors")
    with pytest.raises(BadModel, match="is no SigLIP model. It seems to be a LoRA"):
        read_vision_file(tmp_path / "lora.safetensors")
    with pytest.raises(BadModel, match="not installed. Reading codes works without it"):
        read_vision_file(None)
    found = {VISION + name.removeprefix("vision_model."): tensor.contiguous() for name, tensor in siglip().state_dict().items()}
    del found[f"{VISION}encoder.layers.0.mlp.fc1.weight"]
    save_file(found, tmp_path / "part.safetensors")
    with pytest.raises(BadModel, match=r"part\.safetensors: its vision model can't be read"):
        read_vision_file(tmp_path / "part.safetensors")


def test_pixels() -> None:
    """Squashed, -1 to 1, and each picture by itself, whatever mode it has."""
    pictures = some_pictures()
    both = pixels_of(pictures, 32)
    assert both.shape == (3, 3, 32, 32)
    for i, picture in enumerate(pictures):
        assert torch.equal(pixels_of([picture], 32)[0], both[i])
    for mode, colour, wanted in (("RGB", (255, 0, 127), (1, -1, -0.0039)), ("L", 255, (1, 1, 1)), ("RGBA", (0, 255, 0, 9), (-1, 1, -1))):
        flat = pixels_of([Image.new(mode, (7, 91), colour)], 16)[0]
        torch.testing.assert_close(flat, torch.tensor(wanted).reshape(3, 1, 1).expand_as(flat).float(), rtol=0, atol=1e-3)


def latents(pictures: list[Image.Image]) -> Tensor:
    network, vision = networks()
    with torch.no_grad():
        return network.sref_autoencoder.encode(vision(pixels_of(pictures, 32)))


def test_latents_of_several_pictures() -> None:
    """Mean 0, variance 1; each picture's are its own, whatever lies beside it; and they have codes."""
    pictures = some_pictures()
    together = latents(pictures)
    torch.testing.assert_close(together.mean(1), torch.zeros(3), rtol=0, atol=1e-6)
    torch.testing.assert_close(together.var(1, unbiased=False), torch.ones(3), rtol=0, atol=0.05)
    for i, picture in enumerate(pictures):
        torch.testing.assert_close(latents([picture])[0], together[i], rtol=0, atol=1e-5)
        levels = levels_of(together[i].tolist())
        assert read(write_short(together[i].tolist(), TINY)).latent == latent_of(levels)
    assert (together[0] - together[1]).abs().max() > 1e-5


def test_the_table_of_places() -> None:
    table = positions(5000, 32)
    assert table.shape == (5000, 32)
    assert table[0].tolist() == [0.0, 1.0] * 16
    assert table[7, 2].item() == pytest.approx(np.sin(7 / 10000 ** (2 / 32)), abs=1e-5)
    assert table[7, 3].item() == pytest.approx(np.cos(7 / 10000 ** (2 / 32)), abs=1e-5)
    with pytest.raises(ValueError, match="knows 5000 places; 5001"):
        positions(5001, 32)
