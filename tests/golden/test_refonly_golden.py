"""The whole chain against the numbers of the authors' released code, and against a pack computed here by other means."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from lib_refonly.errors import BadModel
from lib_refonly.models.pack import Row
from lib_refonly.refonly.golden import verify_pack
from tests.golden.other_pack import make_pack

PACK = Path(__file__).parent / "refonly_golden"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("pack") / "other", seed=77)


def failed(rows: list[Row]) -> list[Row]:
    return [row for row in rows if not row.ok]


@pytest.mark.parametrize("weights", [".safetensors", ".bin"])
def test_the_authors_numbers(weights: str) -> None:
    seen: list[Row] = []
    rows = verify_pack(PACK, seen.append, weights)
    assert failed(rows) == []
    assert seen == rows
    computed = {row.tensor for row in rows}
    wanted = set(json.loads((PACK / "golden.json").read_text("utf-8"))["tensors"]) - {"unet.sample", "unet_odd.sample", "pipe.init_latents"}
    assert wanted <= computed
    assert all(row.tolerance == 0 for row in rows if row.tensor.startswith("lineart"))


def test_another_pack_of_the_same_form(other: Path) -> None:
    rows = verify_pack(other)
    assert failed(rows) == []
    assert {"unipc6.image01", "ddim4.latents_after_3", "unet.out_t702", "unet_odd.out_t400"} <= {row.tensor for row in rows}


def test_a_changed_number_is_found(other: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(other, tmp_path / "pack"))
    tensors = load_file(folder / "golden.safetensors")
    tensors["unet.out_t702"][0, 2, 3, 4] += 2e-4
    tensors["lineart.line"][0, 0] ^= 255
    tensors["clip.pixel_values"][0, 0, 0, 0] = float("nan")
    tensors["blueprint.feature"] = tensors["blueprint.feature"][..., :-1].contiguous()
    tensors["unet.something_new"] = tensors["unet.out_t702"].clone()
    save_file(tensors, folder / "golden.safetensors")
    names = {row.tensor for row in failed(verify_pack(folder))}
    assert names == {"unet.out_t702", "lineart.line", "clip.pixel_values", "blueprint.feature", "unet.something_new"}


def test_another_seed_fails_the_hash_and_the_numbers(other: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(other, tmp_path / "pack"))
    about = json.loads((folder / "golden.json").read_text("utf-8"))
    about["modules"]["vae"]["seed"] += 1
    (folder / "golden.json").write_text(json.dumps(about), "utf-8")
    assert {row.tensor for row in failed(verify_pack(folder))} == {"weights of vae (sha256)", "unipc6.image01", "ddim4.image01"}


@pytest.mark.parametrize("missing", ["golden.json", "keys.json", "golden.safetensors", "inputs/odd.png"])
def test_an_incomplete_pack_is_refused(other: Path, tmp_path: Path, missing: str) -> None:
    folder = Path(shutil.copytree(other, tmp_path / "pack"))
    (folder / missing).unlink()
    with pytest.raises(BadModel, match=missing.rsplit("/", maxsplit=1)[-1].replace(".", r"\.")):
        verify_pack(folder)
