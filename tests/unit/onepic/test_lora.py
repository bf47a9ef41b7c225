"""LoRA files: their names, their size on SDXL, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_refonly.errors import BadModel
from lib_refonly.onepic import lora
from lib_refonly.onepic.lora import Low, merged, names, read, save
from lib_refonly.onepic.shelf import told
from tests.tiny_models import tiny_unet

SDXL: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 2,
    "transformer_layers_per_block": [1, 2, 10],
    "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
}


def random_lows(unet: Any, rank: int = 4, alpha: float = 2.0) -> dict[str, Low]:
    generator = torch.Generator().manual_seed(3)

    def low(module: Any) -> Low:
        down, up = torch.randn(rank, module.in_features, generator=generator), torch.randn(module.out_features, rank, generator=generator)
        return Low(down, up, alpha)

    return {name: low(unet.get_submodule(place)) for name, place in names(unet).items()}


def test_on_sdxl_it_is_the_paper_s() -> None:
    """Section 4: rank 32 on attn1's q, k and v. 0.618 % of SDXL's UNet."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL)
    known = names(unet)
    assert len(known) == 210
    assert lora.size(unet) == 15_974_400
    assert round(100 * lora.size(unet) / (sum(p.numel() for p in unet.parameters()) + lora.size(unet)), 3) == pytest.approx(0.618, abs=0.002)
    assert known["lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"] == "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    assert known["lora_unet_middle_block_1_transformer_blocks_9_attn1_to_v"] == "mid_block.attentions.0.transformer_blocks.9.attn1.to_v"


def test_a_round_trip(tmp_path: Path) -> None:
    unet, path = tiny_unet(), tmp_path / "a.safetensors"
    lows = random_lows(unet)
    save(path, lows, {"refonly_onepic": '{"task": "x"}'})
    again, metadata = read(path)
    assert told(metadata) == {"task": "x"}
    assert again.keys() == lows.keys()
    for name, low in again.items():
        torch.testing.assert_close(low.change(), lows[name].change(), rtol=0, atol=2e-2)
    assert set(load_file(path)) == {f"{name}.{part}" for name in lows for part in ("lora_down.weight", "lora_up.weight", "alpha")}


def test_merged_is_added_and_taken_away_to_the_bit() -> None:
    unet = tiny_unet()
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    lows = random_lows(unet)
    name, place = next(iter(names(unet).items()))
    wanted = before[f"{place}.weight"] + 0.5 * (2.0 / 4) * lows[name].up @ lows[name].down
    with merged(unet, lows, 0.5):
        torch.testing.assert_close(unet.state_dict()[f"{place}.weight"], wanted)
    with pytest.raises(ZeroDivisionError), merged(unet, lows):
        raise ZeroDivisionError
    assert all(torch.equal(tensor, before[name]) for name, tensor in unet.state_dict().items())


def test_diffusers_names_are_known_too() -> None:
    unet, low = tiny_unet(), random_lows(tiny_unet())
    with merged(unet, low):
        wanted = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    with merged(unet, {f"lora_unet_{place.replace('.', '_')}": low[name] for name, place in names(unet).items()}):
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in unet.state_dict().items())


def test_without_alpha_it_is_the_rank(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"
    save(path, random_lows(tiny_unet()), {})
    save_file({name: tensor for name, tensor in load_file(path).items() if not name.endswith("alpha")}, path)
    assert {low.alpha for low in read(path)[0].values()} == {4.0}


def test_what_is_no_lora_for_this_unet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(BadModel, match=r"c\.safetensors"):
        read(path)
    path.write_bytes(b"x" * 100)
    with pytest.raises(BadModel, match="no whole safetensors file"):
        read(path)
    save_file({"lora_te_text_model_encoder_layers_0_mlp_fc1.alpha": torch.ones(1)}, path)
    with pytest.raises(BadModel, match="lora_te_text"):
        read(path)
    save_file({"lora_unet_a.lora_down.weight": torch.ones(2, 3)}, path)
    with pytest.raises(BadModel, match="lora_unet_a"):
        read(path)
    wide = random_lows(tiny_unet(block_out_channels=(64, 128)))
    with pytest.raises(BadModel, match="another checkpoint"), merged(tiny_unet(), wide):
        pass
