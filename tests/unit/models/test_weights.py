from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from lib_refonly.errors import BadModel
from lib_refonly.models.weights import TensorInfo, Weights, read_header, read_json

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16), "c": torch.zeros((), dtype=torch.int64)}
INFOS = {"a.weight": TensorInfo("F32", (2, 3)), "b": TensorInfo("F16", (4,)), "c": TensorInfo("I64", ())}


def written(path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(TENSORS, path, metadata={"title": "x"})
    else:
        torch.save(TENSORS, path)
    return path


@pytest.mark.parametrize("name", ["w.safetensors", "w.bin", "w.ckpt"])
def test_header_and_tensors_of_both_kinds(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name)
    header, weights = read_header(path), Weights.open(path)
    assert header.tensors == INFOS
    assert header.values == 11
    assert set(weights) == set(TENSORS)
    assert all(torch.equal(weights[key], TENSORS[key]) for key in TENSORS)
    assert header.metadata == ({"title": "x"} if name.endswith("safetensors") else {})


def test_state_dict_inside_a_checkpoint(tmp_path: Path) -> None:
    torch.save({"state_dict": TENSORS, "epoch": 3}, tmp_path / "w.ckpt")
    assert read_header(tmp_path / "w.ckpt").tensors == INFOS


def test_files_from_before_torch_used_zip(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "w.bin", _use_new_zipfile_serialization=False)
    assert torch.equal(Weights.open(tmp_path / "w.bin")["a.weight"], TENSORS["a.weight"])


def test_other_names_and_shapes(tmp_path: Path) -> None:
    weights = Weights.open(written(tmp_path / "w.safetensors")).renamed({"new": "a.weight"}).renamed({"newer": "new"}).reshaped({"newer": (3, 2)})
    assert list(weights) == ["newer"]
    assert weights.infos == {"newer": TensorInfo("F32", (3, 2))}
    assert torch.equal(weights["newer"], TENSORS["a.weight"].reshape(3, 2))


def safetensors(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "header",
    [
        [],
        {"a": 3},
        {"a": {"dtype": "F32"}},
        {"a": ENTRY | {"shape": "large"}},
        {"a": ENTRY | {"shape": [-1, -2]}},
        {"a": ENTRY | {"shape": [3]}},
        {"a": ENTRY | {"data_offsets": [8, 0]}},
        {"a": ENTRY | {"data_offsets": [0]}},
        {"a": ENTRY | {"data_offsets": [4, 12]}},
        {"a": ENTRY, "b": ENTRY},
        b"\xff\xfe{}",
        b"[" * 200_000,
        b'{"a": 1' + b" " * 100,
    ],
)
def test_damaged_headers(tmp_path: Path, header: object) -> None:
    with pytest.raises(BadModel):
        read_header(safetensors(tmp_path / "w.safetensors", header, b"\0" * 16))


@pytest.mark.parametrize("length", [2**64 - 1, 2**40, 99_999_999, 0, 1])
def test_a_header_that_claims_to_be_enormous_is_not_read(tmp_path: Path, length: int) -> None:
    with pytest.raises(BadModel, match="beginning is damaged"):
        read_header(safetensors(tmp_path / "w.safetensors", {"a": ENTRY}, b"\0" * 8, length))


def test_missing_empty_truncated_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="not there"):
        read_header(tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"")
    with pytest.raises(BadModel, match="0 bytes"):
        read_header(tmp_path / "w.safetensors")
    with pytest.raises(BadModel, match="4 bytes are missing"):
        read_header(safetensors(tmp_path / "w.safetensors", {"a": ENTRY}, b"\0" * 4))
    (tmp_path / "w.png").write_bytes(b"x")
    with pytest.raises(BadModel, match=r"only \.safetensors"):
        read_header(tmp_path / "w.png")


@given(st.binary(max_size=300))
def test_any_bytes_give_a_header_or_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    for name in ("w.safetensors", "w.bin"):
        (folder / name).write_bytes(data)
        with pytest.raises(BadModel):
            read_header(folder / name)


@given(st.data())
def test_a_pickle_with_a_flipped_byte_gives_tensors_or_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = written(tmp_path_factory.mktemp("flip") / "w.bin")
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with contextlib.suppress(BadModel):
        assert all(tensor.shape == weights.infos[name].shape for weights in [Weights.open(path)] for name, tensor in weights.items())


def test_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + b'{"x": 1}')
    assert read_json(tmp_path / "a.json") == {"x": 1}
    (tmp_path / "a.json").write_text("[" + " " * 1_000_001, "utf-8")
    with pytest.raises(BadModel, match="too large"):
        read_json(tmp_path / "a.json")
