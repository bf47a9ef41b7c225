from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_refonly.errors import BadModel
from lib_refonly.models.registry import RELEASED, ModelStore, user_folder
from lib_refonly.refonly.convert import to_ldm
from lib_refonly.refonly.loader import load_refonly, save_refonly
from tests.tiny_models import tiny_model, tiny_unet, tiny_vae


@pytest.fixture
def root(tmp_path: Path) -> Path:
    save_refonly(tiny_model(), tmp_path / "models" / "my tiny (v1)")
    return tmp_path / "models"


def test_folders_and_converted_files_are_listed(root: Path) -> None:
    to_ldm(root / "my tiny (v1)", root / "one-file.safetensors")
    entries = ModelStore([root]).entries()
    assert [entry.name for entry in entries] == ["my tiny (v1)", "one-file", RELEASED.name]
    for entry in entries[:2]:
        assert (entry.installed, entry.native_size, entry.title, entry.problem, entry.download) == (True, 128, "A tiny one", "", False)
        assert entry.path is not None
        assert entry.memory == load_refonly(entry.path).memory()
    assert not entries[2].installed
    assert entries[2].download


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_memory_of_a_pickled_model(root: Path, dtype: torch.dtype) -> None:
    (before, _) = ModelStore([root]).entries()
    path = root / "my tiny (v1)" / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({name: tensor.to(dtype) for name, tensor in load_file(path).items()}, path.with_suffix(".bin"))
    path.unlink()
    (after, _) = ModelStore([root]).entries()
    assert after.installed
    assert before.memory <= after.memory < before.memory * 1.1


def test_get(root: Path) -> None:
    store = ModelStore([root])
    assert store.get("my tiny (v1)").path == root / "my tiny (v1)"
    with pytest.raises(BadModel, match=r"no model 'other'. There is: my tiny \(v1\)"):
        store.get("other")
    with pytest.raises(BadModel, match="is not installed. Download it"):
        store.get(RELEASED.name)


def test_other_models_are_not_listed(root: Path) -> None:
    tiny_unet().save_pretrained(root / "plain" / "unet")
    tiny_vae().save_pretrained(root / "plain" / "vae")
    save_file({"x.lora_down.weight": torch.zeros(2, 2)}, root / "lora.safetensors")
    (root / "notes.txt").write_text("x", "utf-8")
    assert [entry.name for entry in ModelStore([root]).entries() if not entry.download] == ["my tiny (v1)"]


def test_damaged_ones_say_why(root: Path) -> None:
    path = root / "my tiny (v1)" / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    store = ModelStore([root])
    (entry, _) = store.entries()
    assert not entry.installed
    assert "5 bytes are missing" in entry.problem
    with pytest.raises(BadModel, match="5 bytes are missing"):
        store.get(entry.name)


def test_a_download_that_was_broken_off_can_go_on(root: Path) -> None:
    (root / "my tiny (v1)").rename(root / RELEASED.name)
    (root / RELEASED.name / "image_encoder" / "model.safetensors").unlink()
    (entry,) = ModelStore([root]).entries()
    assert (entry.name, entry.title, entry.installed, entry.download) == (RELEASED.name, RELEASED.title, False, True)
    assert "has no weights" in entry.problem


def test_a_unet_without_blueprint_encoder_is_a_problem(root: Path) -> None:
    path = root / "my tiny (v1)" / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: t for name, t in load_file(path).items() if not name.startswith("controlnet")}, path)
    assert "no blueprint encoder" in ModelStore([root]).entries()[0].problem


@pytest.mark.parametrize(
    "configs", ["[]", "{", json.dumps({"card": {}}), json.dumps(dict.fromkeys(("unet", "vae", "image_encoder", "scheduler", "preprocessor", "card"), {}))]
)
def test_files_with_odd_metadata(tmp_path: Path, configs: str) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "odd.safetensors", metadata={"refonly.configs": configs})
    (entry, _) = ModelStore([tmp_path]).entries()
    assert entry.problem


def test_the_first_root_wins(root: Path, tmp_path: Path) -> None:
    save_refonly(tiny_model(), tmp_path / "second" / "my tiny (v1)")
    store = ModelStore([root, tmp_path / "second", tmp_path / "not there"])
    assert store.get("my tiny (v1)").path == root / "my tiny (v1)"


def test_pointing_to_a_folder_anywhere(root: Path, tmp_path: Path) -> None:
    save_refonly(tiny_model(), tmp_path / "elsewhere" / "other one")
    store = ModelStore([root])
    assert store.point_to(tmp_path / "elsewhere" / "other one").name == "other one"
    assert store.get("other one").path == (tmp_path / "elsewhere" / "other one").resolve()
    for wrong in (tmp_path / "elsewhere", tmp_path / "nothing"):
        with pytest.raises(BadModel, match="is no RefOnly model"):
            store.point_to(wrong)


def test_user_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFONLY_MODELS_DIR", str(tmp_path))
    assert user_folder() == tmp_path
    monkeypatch.delenv("REFONLY_MODELS_DIR")
    assert user_folder() == Path.home() / ".refonly" / "models"


def test_listing_imports_no_torch(root: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from lib_refonly.models.registry import ModelStore;"
        f"print([e.name for e in ModelStore([Path({str(root)!r})]).entries()], sorted(set(sys.modules) & {{'torch', 'numpy', 'diffusers', 'transformers'}}))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['my tiny (v1)', 'stable-diffusion-reference-only'] []"
