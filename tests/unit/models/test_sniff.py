from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lib_refonly.models.sniff import ModelKind, sniff, sniff_folder
from lib_refonly.refonly.loader import save_refonly
from tests.tiny_models import tiny_model, tiny_unet, tiny_vae

CROSS = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
FILES: list[tuple[ModelKind, dict[str, list[int]]]] = [
    (ModelKind.SD15_CHECKPOINT, {CROSS: [4, 768], "cond_stage_model.transformer.text_model.x": [1]}),
    (ModelKind.SD2_CHECKPOINT, {CROSS: [4, 1024]}),
    (ModelKind.SDXL_CHECKPOINT, {"model.diffusion_model.label_emb.0.0.weight": [4, 4], "conditioner.embedders.0.x": [1]}),
    (ModelKind.LDM_CHECKPOINT, {CROSS: [4, 128]}),
    (ModelKind.LORA, {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": [4, 4], "x.alpha": []}),
    (ModelKind.LORA, {"unet.down_blocks.0.attentions.0.attn1.to_q.lora_A.weight": [4, 4]}),
    (ModelKind.CONTROLNET, {"controlnet_cond_embedding.conv_in.weight": [16, 3, 3, 3], "controlnet_down_blocks.0.weight": [4], "conv_in.weight": [4]}),
    (ModelKind.CONTROLNET, {"control_model.zero_convs.0.0.weight": [4], "control_model.input_blocks.0.0.weight": [4]}),
    (ModelKind.IP_ADAPTER, {"image_proj.proj.weight": [4, 4], "ip_adapter.1.to_k_ip.weight": [4, 4]}),
    (ModelKind.LDM_VAE, {"encoder.down.0.block.0.conv1.weight": [4], "decoder.up.0.block.0.conv1.weight": [4]}),
    (ModelKind.TEXT_ENCODER, {"text_model.embeddings.token_embedding.weight": [4, 4]}),
    (ModelKind.IMAGE_ENCODER, {"vision_model.embeddings.class_embedding": [4]}),
    (ModelKind.IMAGE_ENCODER, {"embeddings.patch_embedding.weight": [4, 3, 2, 2]}),
    (ModelKind.CLIP, {"vision_model.embeddings.class_embedding": [4], "text_model.embeddings.token_embedding.weight": [4, 4]}),
    (ModelKind.SDXL_UNET, {f"{name}.weight": [4] for name in ("conv_in", "down_blocks.0", "up_blocks.0", "time_embedding.linear_1", "add_embedding.linear_1")}),
    (ModelKind.EMBEDDING, {"emb_params": [8, 768]}),
    (ModelKind.UNKNOWN, {"something": [3]}),
]


@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
@pytest.mark.parametrize(("kind", "shapes"), FILES, ids=[f"{kind.name}-{i}" for i, (kind, _) in enumerate(FILES)])
def test_told_by_names(tmp_path: Path, kind: ModelKind, shapes: dict[str, list[int]], ending: str) -> None:
    tensors, path = {name: torch.zeros(shape) for name, shape in shapes.items()}, tmp_path / f"model{ending}"
    torch.save(tensors, path) if ending == ".bin" else save_file(tensors, path)
    assert sniff(path) is kind


def test_real_files(tmp_path: Path) -> None:
    folder = save_refonly(tiny_model(), tmp_path / "tiny")
    tiny_unet().save_pretrained(tmp_path / "unet")
    tiny_vae().save_pretrained(tmp_path / "vae")
    name = "diffusion_pytorch_model.safetensors"
    assert sniff(folder / "unet" / name) is ModelKind.REFONLY_UNET
    assert sniff(folder / "image_encoder" / "model.safetensors") is ModelKind.IMAGE_ENCODER
    assert sniff(tmp_path / "unet" / name) is ModelKind.PLAIN_UNET
    assert sniff(tmp_path / "vae" / name) is ModelKind.VAE


def test_folders(tmp_path: Path) -> None:
    assert sniff_folder(tmp_path) == ""
    (tmp_path / "text_encoder").mkdir()
    assert "text-to-image" in sniff_folder(tmp_path)
    (tmp_path / "broken.safetensors").write_bytes(b"123")
    assert "broken.safetensors" in sniff_folder(tmp_path)
