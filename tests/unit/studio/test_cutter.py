"""Characters in front of a scene: cut out where the segmentation model is installed, and never in the way of a colouring."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib_refonly.errors import BadModel
from lib_refonly.imaging.segment import Segmenter
from lib_refonly.models.registry import SEGMENTER, ModelStore
from lib_refonly.refonly.loader import save_refonly
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.studio.cutter import Cutter
from lib_refonly.studio.engine import Engine
from lib_refonly.studio.requests import ColorRequest, Prepared, Reference
from tests.unit.imaging.test_segment import network
from tests.unit.refonly.painting import differ, drawing, lively_model

RED = (230, 30, 20)
RED_IS_CHARACTER = network((40, 0, -40), -20)


def scene(ground: str | None = None) -> Image.Image:
    """A red character in front of something varied that has no red, or on a plain ground."""
    picture = Image.new("RGB", (96, 96), ground or "white")
    if ground is None:
        stripes = np.zeros((96, 96, 3), np.uint8)
        stripes[..., 1] = np.linspace(0, 255, 96)[:, None]
        stripes[..., 2] = np.arange(96)[None] * 5 % 256
        picture = Image.fromarray(stripes)
    picture.paste(RED, (30, 20, 66, 80))
    return picture


@pytest.fixture
def root(tmp_path: Path) -> Path:
    save_refonly(lively_model(), tmp_path / "models" / "one")
    return tmp_path / "models"


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every picture that goes through a segmentation model: the model's path."""
    asked: list[Path] = []
    alpha = Segmenter.alpha

    def counted(self: Segmenter, picture: Image.Image) -> Image.Image:
        asked.append(self.path)
        return alpha(self, picture)

    monkeypatch.setattr(Segmenter, "alpha", counted)
    return asked


def install(root: Path, data: bytes = RED_IS_CHARACTER, later: int = 0) -> Path:
    path = root / SEGMENTER
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (1_000_000_000 + later, 1_000_000_000 + later))
    return path


def request(picture: Image.Image, **settings: Any) -> ColorRequest:
    chosen: dict[str, Any] = {"seed": 1, "steps": 1, "size": 64} | settings
    return ColorRequest((Reference(picture),), drawing(), RefOnlySettings(**chosen), "one")


def seen(engine: Engine, picture: Image.Image, **settings: Any) -> Prepared:
    return engine.prepare(request(picture, **settings))


def test_a_scene_is_cut_and_page_and_painting_see_the_same(root: Path, asked_for: list[Path]) -> None:
    path, engine = install(root), Engine(ModelStore([root]), "cpu")
    shown = seen(engine, scene())
    (painted,) = engine.color(request(scene()))
    assert shown.notes == painted.prepared.notes
    assert differ(shown.references[0], painted.prepared.references[0]) == 0
    assert shown.references[0].getpixel((48, 50)) == RED
    assert [shown.references[0].getpixel(place) for place in ((5, 5), (90, 90), (80, 50))] == [(0, 0, 0)] * 3
    assert "cut out of its scene and set on black" in shown.notes[-1]
    assert asked_for == [path], "once: equal pictures are not cut again"
    assert seen(engine, scene(), background="white").references[0].getpixel((5, 5)) == (255, 255, 255)
    assert asked_for == [path], "nor is the same one for another ground"


@pytest.mark.parametrize("ground", ["white", "black", "skyblue"])
def test_plain_grounds_need_no_model(root: Path, asked_for: list[Path], ground: str) -> None:
    install(root)
    ready = seen(Engine(ModelStore([root]), "cpu"), scene(ground))
    assert ready.references[0].getpixel((5, 5)) == (0, 0, 0)
    assert asked_for == []


def test_what_is_to_be_kept_is_not_cut(root: Path, asked_for: list[Path]) -> None:
    install(root)
    assert differ(seen(Engine(ModelStore([root]), "cpu"), scene(), background="keep").references[0], scene()) == 0
    assert asked_for == []


def test_it_is_used_as_soon_as_it_is_installed(root: Path) -> None:
    engine = Engine(ModelStore([root]), "cpu")
    before = seen(engine, scene())
    assert "install the segmentation model" in before.notes[-1]
    assert differ(before.references[0], scene()) == 0
    install(root)
    assert "cut out of its scene" in seen(engine, scene()).notes[-1]


def test_a_broken_model_is_a_note_and_is_not_tried_again_until_mended(root: Path, asked_for: list[Path]) -> None:
    install(root, b"not a model at all")
    engine = Engine(ModelStore([root]), "cpu")
    (result,) = engine.color(request(scene()))
    assert "left as it is: 'isnetis.onnx' is not a segmentation model" in result.prepared.notes[-1]
    assert differ(result.prepared.references[0], scene()) == 0
    assert seen(engine, scene()).notes == result.prepared.notes
    assert len(asked_for) == 1
    install(root, later=5)
    assert "cut out of its scene" in seen(engine, scene()).notes[-1]


@pytest.mark.parametrize("error", [RuntimeError("no kernel"), MemoryError(), OSError("gone")], ids=lambda error: type(error).__name__)
def test_whatever_goes_wrong_the_colouring_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> Image.Image:
        raise error

    install(root)
    monkeypatch.setattr(Segmenter, "alpha", fail)
    (result,) = Engine(ModelStore([root]), "cpu").color(request(scene()))
    assert f"failed on this picture ({type(error).__name__})" in result.prepared.notes[-1]


def test_a_scene_without_a_character(root: Path) -> None:
    install(root, network((0, 0, 0), -20))
    ready = seen(Engine(ModelStore([root]), "cpu"), scene())
    assert "no character was found" in ready.notes[-1]
    assert differ(ready.references[0], scene()) == 0


def test_a_file_that_goes_away_while_it_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="cannot be read"):
        Cutter(lambda: tmp_path / "gone.onnx")(scene())
