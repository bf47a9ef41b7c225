"""Model files and model names from strangers."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from lib_refonly.errors import BadModel
from lib_refonly.models.registry import ModelStore, check_name
from lib_refonly.models.sniff import sniff, sniff_folder
from lib_refonly.models.weights import Weights
from lib_refonly.refonly.convert import to_ldm
from lib_refonly.refonly.loader import load_refonly, save_refonly
from tests.tiny_models import tiny_model

NAMES = [
    *("../outside", "..", ".", "", "a/b", "a\\b", "/etc", "C:\\models", "C:", "c:evil", "a:stream", "\\\\server\\share", "//server/share"),
    *("%2e%2e%2foutside", "..%2foutside", "a%00", "a\0", "a\n", "\u2025/outside", "\uff0e\uff0e", "~", "~root", "-rf", ".hidden"),
    *("CON", "nul", "com1.safetensors", "a.", "a ", "a..b", "a" * 200, "$HOME", "a;b", "<b>"),
]


class Bomb:
    """A pickle of it makes `path` when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_refonly(tiny_model(), tmp_path / "models" / "tiny")


def bombs(tmp_path: Path, fired: Path) -> list[Path]:
    """Code in a zip-pickle, in an old one, in a plain pickle, and under the names of weights."""
    plain, old, bare, hidden = (tmp_path / f"{name}.bin" for name in ("plain", "old", "bare", "hidden"))
    torch.save({"conv_in.weight": Bomb(fired)}, plain)
    torch.save({"conv_in.weight": Bomb(fired)}, old, _use_new_zipfile_serialization=False)
    bare.write_bytes(pickle.dumps(Bomb(fired)))
    torch.save({"conv_in.weight": torch.zeros(2), "state_dict": {"x": Bomb(fired)}}, hidden)
    return [plain, old, bare, hidden]


def test_code_in_a_pickle_is_never_run(tmp_path: Path, folder: Path) -> None:
    fired = tmp_path / "fired"
    for bomb in bombs(tmp_path, fired):
        for read in (sniff, Weights.open):
            with pytest.raises(BadModel, match=bomb.name):
                read(bomb)
        target = folder / "unet" / "diffusion_pytorch_model.bin"
        (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink(missing_ok=True)
        shutil.copy(bomb, target)
        for use in (load_refonly, sniff_folder, lambda path: to_ldm(path, tmp_path / "out.safetensors")):
            with pytest.raises(BadModel) if use is not sniff_folder else _nothing():
                use(folder)
        ModelStore([folder.parent]).entries()
        assert not fired.exists()
    pickle.loads(bombs(tmp_path, fired)[2].read_bytes())  # the bomb is a real one
    assert fired.is_dir()


class _nothing:  # noqa: N801 - reads as contextlib.nullcontext
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def test_the_painter_is_told_what_the_pickle_wanted(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"wants to run program code \((posix|nt)\.mkdir\)"):
        sniff(bombs(tmp_path, tmp_path / "fired")[0])


def test_a_packed_pickle_is_not_unpacked(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.bin", tmp_path / "packed.bin"
    torch.save({"x": torch.zeros(30_000_000)}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert packed.stat().st_size < 1_000_000
    with pytest.raises(BadModel, match="might unpack to any size"):
        Weights.open(packed)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_that_are_no_names(folder: Path, name: str) -> None:
    save_refonly(tiny_model(), folder.parent.parent / "outside")
    with pytest.raises(BadModel, match="is no model name"):
        check_name(name)
    with pytest.raises(BadModel, match="is no model name"):
        ModelStore([folder.parent]).get(name)


@pytest.mark.skipif(sys.platform == "win32", reason="making links needs rights on Windows")
def test_links_that_lead_out_of_the_folder_are_not_followed(folder: Path, tmp_path: Path) -> None:
    outside = save_refonly(tiny_model(), tmp_path / "outside")
    (folder.parent / "linked").symlink_to(outside)
    (folder.parent / "inside").symlink_to(folder)
    assert [entry.name for entry in ModelStore([folder.parent]).entries() if entry.installed] == ["inside", "tiny"]
    with pytest.raises(BadModel, match="no model 'linked'"):
        ModelStore([folder.parent]).get("linked")


def test_a_failed_load_leaves_the_file_alone(folder: Path) -> None:
    target = folder / "vae" / "diffusion_pytorch_model.safetensors"
    target.write_bytes(target.read_bytes()[:-7])
    before = target.read_bytes()
    with pytest.raises(BadModel, match="7 bytes are missing"):
        load_refonly(folder)
    assert target.read_bytes() == before
