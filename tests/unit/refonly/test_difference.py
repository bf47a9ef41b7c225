from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_refonly.errors import BadModel
from lib_refonly.refonly.convert import from_ldm, to_ldm
from lib_refonly.refonly.ldm_keys import UNET
from lib_refonly.refonly.loader import save_refonly
from tests.tiny_models import tiny_model


def checkpoint(path: Path, model: dict[str, torch.Tensor], change: float, seed: int) -> Path:
    generator = torch.Generator().manual_seed(seed)
    unet = {name: tensor for name, tensor in model.items() if name.startswith(UNET)}
    save_file({name: tensor + change * torch.randn(tensor.shape, generator=generator) for name, tensor in unet.items()}, path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_refonly(tiny_model(), tmp_path / "tiny")


def test_the_model_s_difference_goes_onto_another_checkpoint(folder: Path, tmp_path: Path) -> None:
    plain = load_file(to_ldm(folder, tmp_path / "plain.safetensors"))
    base, style = checkpoint(tmp_path / "base.safetensors", plain, 0.1, 1), checkpoint(tmp_path / "style.safetensors", plain, 0.1, 2)
    mixed = to_ldm(folder, tmp_path / "mixed.safetensors", (base, style))
    got, taken, given = load_file(mixed), load_file(base), load_file(style)
    for name, tensor in plain.items():
        wanted = tensor - taken[name] + given[name] if name.startswith(UNET) else tensor
        torch.testing.assert_close(got[name], wanted)
    assert from_ldm(mixed).card.title == "A tiny one on style"


def test_onto_its_own_base_it_is_itself(folder: Path, tmp_path: Path) -> None:
    plain = load_file(to_ldm(folder, tmp_path / "plain.safetensors"))
    base = checkpoint(tmp_path / "base.safetensors", plain, 0.1, 1)
    mixed = load_file(to_ldm(folder, tmp_path / "mixed.safetensors", (base, base)))
    assert all(torch.allclose(mixed[name], plain[name], atol=1e-6) for name in plain)


def test_another_network_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    plain = load_file(to_ldm(folder, tmp_path / "plain.safetensors"))
    base = checkpoint(tmp_path / "base.safetensors", plain, 0.1, 1)
    save_file({name: tensor[..., :1].contiguous() for name, tensor in load_file(base).items()}, tmp_path / "narrow.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    for wrong in ("narrow", "other"):
        with pytest.raises(BadModel, match=wrong):
            to_ldm(folder, tmp_path / "mixed.safetensors", (base, tmp_path / f"{wrong}.safetensors"))
    assert not (tmp_path / "mixed.safetensors").exists()
