"""A WD14 tagger, through a tiny network of its form."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib_refonly.errors import BadModel
from lib_refonly.imaging.tagger import SIDE, Tagger, pixels, readable
from tests.tiny_tagger import install

RED = (255, 10, 10)
BACKENDS = ["auto", "opencv", pytest.param("onnxruntime", marks=pytest.mark.skipif(not importlib.util.find_spec("onnxruntime"), reason="no onnxruntime"))]


@pytest.mark.parametrize("backend", BACKENDS)
def test_tags_by_colour_the_surest_first_without_ratings(tmp_path: Path, backend: str) -> None:
    tagger = Tagger(install(tmp_path / "tägger"), backend)
    assert tagger.tags(Image.new("RGB", (40, 40), RED)) == ["miho (idol)", "red hair"]
    assert "white background" in tagger.tags(Image.new("RGB", (40, 40), "white"))
    assert tagger.tags(Image.new("RGB", (40, 40), (10, 10, 255)))[0] == "blue hair"
    assert tagger.tags(Image.new("RGB", (40, 40), "black")) == []


def test_thresholds(tmp_path: Path) -> None:
    """A character has to be surer than anything else. sigmoid(-0.5) is 0.38, sigmoid(1.5) 0.82, sigmoid(2) 0.88; of white."""
    sums = {"a_general": (0, 1.5), "unlikely": (0, 1.3), "someone": (4, 3.5), "somebody": (4, 4.0), "safe": (9, 9.0)}
    install(tmp_path, {name: (category, (total / 765, total / 765, total / 765)) for name, (category, total) in sums.items()})
    assert Tagger(tmp_path).tags(Image.new("RGB", (8, 8), "white")) == ["somebody", "a general"]


def test_the_picture_lies_on_a_white_square_in_bgr() -> None:
    wide = Image.new("RGBA", (90, 30), (255, 0, 0, 255))
    wide.paste((0, 0, 0, 0), (45, 0, 90, 30))
    got = pixels(wide)
    assert (got.shape, got.dtype) == ((1, SIDE, SIDE, 3), np.float32)
    assert got[0, SIDE // 2, 20].tolist() == [0, 0, 255]
    assert got[0, SIDE // 2, -20].tolist() == [255, 255, 255], "what is transparent is white"
    assert got[0, 20, 20].tolist() == got[0, -20, 20].tolist() == [255, 255, 255]


def test_underscores_stay_in_emoticons_alone() -> None:
    kept = ("^_^", "o_o", "0_0", ">_<", "(o)_(o)", "||_||", "+_-", ">_o")
    assert [readable(tag) for tag in kept] == list(kept)
    assert [readable(tag) for tag in ("long_hair", "miho_(idol)", "x-shaped_y")] == ["long hair", "miho (idol)", "x-shaped y"]


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    picture = Image.new("RGB", (8, 8))
    for name, content, why in (
        ("model.onnx", b"rubbish", "not a tagger"),
        ("model.onnx", b"PK\x03\x04", "can hold code"),
        ("selected_tags.csv", b"a,b\n1,2\n", "no list of tags"),
        ("selected_tags.csv", b"\xff\xfe", "no list of tags"),
        ("selected_tags.csv", b"tag_id,name,category\n1,x,0\n", "do not belong together"),
    ):
        folder = install(tmp_path / "one")
        (folder / name).write_bytes(content)
        with pytest.raises(BadModel, match=why):
            Tagger(folder).tags(picture)
        (folder / name).unlink()
        with pytest.raises(BadModel, match="cannot be read"):
            Tagger(folder).tags(picture)
