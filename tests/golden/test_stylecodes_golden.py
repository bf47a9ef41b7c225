"""StyleCodes against the numbers of the author's released code, and against a pack computed here by other means."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from lib_refonly.errors import BadModel
from lib_refonly.models.pack import Row
from lib_refonly.stylecode.golden import verify_pack
from tests.golden.other_style_pack import make_pack

PACK = Path(__file__).parent / "stylecodes_golden"
GIVEN = {"unet.sample", "unet.context", "ddim4.init_latents"}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("pack") / "other", seed=55)


def failed(rows: list[Row]) -> list[Row]:
    return [row for row in rows if not row.ok]


@pytest.mark.parametrize("weights", [".safetensors", ".bin"])
def test_the_authors_numbers(weights: str) -> None:
    seen: list[Row] = []
    rows = verify_pack(PACK, seen.append, weights)
    assert failed(rows) == []
    assert seen == rows
    wanted = set(json.loads((PACK / "golden.json").read_text("utf-8"))["tensors"]) - GIVEN
    assert wanted <= {row.tensor for row in rows}
    assert all(row.tolerance == 0 for row in rows if row.tensor in ("style.levels", "ddim4.timesteps"))


@pytest.mark.parametrize("weights", [".safetensors", ".bin"])
def test_another_pack_of_the_same_form(other: Path, weights: str) -> None:
    rows = verify_pack(other, weights=weights)
    assert failed(rows) == []
    assert set(load_file(other / "golden.safetensors")) - GIVEN == {row.tensor for row in rows if not row.tensor.startswith("weights of ")}
    assert {"mix_scale0.9.up3.out", "unet.out_code1_scale0.9", "ddim4.latents_final"} <= {row.tensor for row in rows}


def test_the_styles_of_the_other_pack_act(other: Path) -> None:
    """Else agreeing would say little."""
    numbers = load_file(other / "golden.safetensors")
    base, styled = numbers["unet.out_base"], numbers["unet.out_scale0.9"]
    assert (styled - base).abs().max() > 0.1
    assert (styled - numbers["unet.out_code1_scale0.9"]).abs().max() > 0.01
    assert numbers["unet.out_scale0.0"].equal(base) or (numbers["unet.out_scale0.0"] - base).abs().max() < 1e-5


def test_a_changed_number_is_found(other: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(other, tmp_path / "pack"))
    tensors = load_file(folder / "golden.safetensors")
    tensors["unet.out_scale0.5"][0, 2, 3, 4] += 3e-4
    tensors["style.levels"][1, 3] ^= 1
    tensors["style.latent"][0, 0] = float("nan")
    tensors["style.decoder_h3_w2"] = tensors["style.decoder_h3_w2"].transpose(2, 3).contiguous()
    tensors["mix_scale0.9.up1.in"][0, 0, 0] -= 3e-4
    tensors["unet.something_new"] = tensors["unet.out_base"].clone()
    tensors["new.group"] = tensors["unet.out_base"].clone()
    save_file(tensors, folder / "golden.safetensors")
    names = {row.tensor for row in failed(verify_pack(folder))}
    assert names == {"unet.out_scale0.5", "style.levels", "style.latent", "style.decoder_h3_w2", "mix_scale0.9.up1.in", "unet.something_new", "new.group"}


@pytest.mark.parametrize(("module", "group"), [("siglip", "siglip.hidden_m2"), ("style_autoencoder", "style.latent"), ("control", "unet.out_scale0.9")])
def test_another_seed_fails_the_hash_and_the_numbers(other: Path, tmp_path: Path, module: str, group: str) -> None:
    folder = Path(shutil.copytree(other, tmp_path / "pack"))
    about = json.loads((folder / "golden.json").read_text("utf-8"))
    about["modules"][module]["seed"] += 1
    (folder / "golden.json").write_text(json.dumps(about), "utf-8")
    names = {row.tensor for row in failed(verify_pack(folder))}
    assert {f"weights of {module} (sha256)", group} <= names
    assert not names & {"siglip.pixel_values", "unet.out_base", "ddim4.timesteps"}


@pytest.mark.parametrize("missing", ["golden.json", "keys.json", "golden.safetensors", "inputs/style_1.png"])
def test_an_incomplete_pack_is_refused(other: Path, tmp_path: Path, missing: str) -> None:
    folder = Path(shutil.copytree(other, tmp_path / "pack"))
    (folder / missing).unlink()
    with pytest.raises(BadModel, match=missing.rsplit("/", maxsplit=1)[-1].replace(".", r"\.")):
        verify_pack(folder)


def test_another_kind_of_pack_is_refused() -> None:
    with pytest.raises(BadModel, match="no golden pack of the kind stylecodes_golden"):
        verify_pack(PACK.parent / "refonly_golden")
