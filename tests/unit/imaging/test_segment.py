"""Segmentation through a tiny ONNX network of ISNet's form, written here by hand."""

import importlib.util
import struct

import numpy as np
import pytest
from PIL import Image

from lib_refonly.errors import BadModel
from lib_refonly.imaging.segment import SIDE, Segmenter

BACKENDS = ["opencv", pytest.param("onnxruntime", marks=pytest.mark.skipif(not importlib.util.find_spec("onnxruntime"), reason="onnxruntime is not installed"))]


def field(number: int, value: int | bytes | str) -> bytes:
    """One protobuf field: a varint for numbers, else length-delimited."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def tensor(name: str, values: np.ndarray) -> bytes:
    return b"".join(field(1, side) for side in values.shape) + field(2, 1) + field(8, name) + field(9, values.astype("<f4").tobytes())


def typed(name: str, shape: tuple[int, ...]) -> bytes:
    sides = b"".join(field(1, field(1, side)) for side in shape)
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, sides)))


def network(weights: tuple[float, float, float], bias: float, side: int = SIDE, outputs: int = 1) -> bytes:
    """mask = sigmoid(conv1x1(img)): ONNX ModelProto with input `img` [1, 3, side, side] and output `mask` [1, outputs, side, side]."""
    conv = field(1, "img") + field(1, "w") + field(1, "b") + field(2, "logit") + field(4, "Conv")
    sigmoid = field(1, "logit") + field(2, "mask") + field(4, "Sigmoid")
    kernel = np.tile(np.array(weights, np.float32).reshape(1, 3, 1, 1), (outputs, 1, 1, 1))
    graph = field(1, conv) + field(1, sigmoid) + field(2, "tiny") + field(5, tensor("w", kernel)) + field(5, tensor("b", np.full(outputs, bias)))
    graph += field(11, typed("img", (1, 3, side, side))) + field(12, typed("mask", (1, outputs, side, side)))
    return field(1, 7) + field(7, graph) + field(8, field(1, "") + field(2, 11))


@pytest.fixture(scope="module")
def red_is_character(tmp_path_factory):
    """A network that takes what is red for the character. Folder and file name are awkward on purpose."""
    path = tmp_path_factory.mktemp("model") / "is nét.onnx"
    path.write_bytes(network((40, 0, -40), -20))
    return path


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
@pytest.mark.parametrize("size", [(200, 80), (60, 300)])
def test_the_mask_lies_where_the_character_is(red_is_character, backend, size):
    picture = Image.new("RGB", size, (20, 40, 200))
    picture.paste((230, 30, 20), (10, 20, 40, 60))
    alpha = np.asarray(Segmenter(red_is_character, backend).alpha(picture))
    wanted = np.zeros(size[::-1], bool)
    wanted[20:60, 10:40] = True
    assert alpha.shape == wanted.shape
    assert alpha[22:58, 12:38].min() > 250
    assert alpha[~np.pad(wanted, 2)[2:-2, 2:-2]].mean() < 5
    assert ((alpha > 127) == wanted).mean() > 0.995, "not moved by a pixel"


def test_channels_are_rgb_in_0_to_1(tmp_path):
    path = tmp_path / "linear.onnx"
    path.write_bytes(network((2.0, 0.5, -1.0), 0.25))
    alpha = np.asarray(Segmenter(path).alpha(Image.new("RGB", (64, 64), (255, 51, 102))))
    assert abs(int(alpha[32, 32]) - 255 / (1 + struct.unpack("d", struct.pack("d", np.exp(-(2.0 + 0.1 - 0.4 + 0.25))))[0])) <= 1


def test_transparency_counts_as_black(red_is_character):
    hidden = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    hidden.paste((255, 0, 0, 255), (0, 0, 32, 64))
    alpha = np.asarray(Segmenter(red_is_character).alpha(hidden))
    assert alpha[:, :30].min() > 250
    assert alpha[:, 34:].max() < 5


def test_nothing_is_read_before_the_first_picture(tmp_path):
    path = tmp_path / "later.onnx"
    segmenter = Segmenter(path)
    with pytest.raises(BadModel, match="cannot be read"):
        segmenter.alpha(Image.new("RGB", (8, 8)))
    path.write_bytes(network((0, 0, 0), 9))
    assert np.asarray(segmenter.alpha(Image.new("RGB", (8, 8)))).min() > 250


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("content", [b"", b"\x08", b"not a model at all", network((1, 1, 1), 0)[:60]])
def test_damaged_models_are_refused(tmp_path, backend, content):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(BadModel, match="broken.onnx"):
        Segmenter(path, backend).alpha(Image.new("RGB", (8, 8)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("other", [network((1, 1, 1), 0, outputs=2), network((1, 1, 1), 0, side=64)])
def test_other_networks_are_refused(tmp_path, backend, other):
    path = tmp_path / "other.onnx"
    path.write_bytes(other)
    if backend == "opencv" and other == network((1, 1, 1), 0, side=64):
        pytest.skip("OpenCV runs a fully convolutional network at any size")
    with pytest.raises(BadModel, match="other.onnx"):
        Segmenter(path, backend).alpha(Image.new("RGB", (8, 8)))


@pytest.mark.parametrize(("name", "content"), [("isnetis.ckpt", b"PK\x03\x04"), ("isnetis.onnx", b"\x80\x02}q\0."), ("x.onnx", b"PK\x03\x04archive")])
def test_checkpoints_are_never_unpickled(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadModel, match="can hold code"):
        Segmenter(path).alpha(Image.new("RGB", (8, 8)))
