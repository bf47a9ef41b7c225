"""Captions for a folder: who writes them, what is kept, what goes wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from lib_refonly.errors import BadModel, BadSettings
from lib_refonly.models import offers, taggers
from lib_refonly.training.captions import Captioner, How, by_taggers, composed, unescaped, write_captions
from lib_refonly.training.pictures import PictureFolder
from tests.tiny_tagger import install


@pytest.fixture
def folder(tmp_path: Path) -> PictureFolder:
    """a is red, b blue with a caption, c no picture, d nothing to be recognised in."""
    place = tmp_path / "girl"
    place.mkdir()
    for name, colour in (("a", "red"), ("b", "blue"), ("d", "black")):
        Image.new("RGB", (64, 64), colour).save(place / f"{name}.png")
    (place / "b.txt").write_text("mine, by hand\n")
    (place / "c.png").write_bytes(b"no picture")
    return PictureFolder(place)


@pytest.fixture
def tagger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Captioner:
    monkeypatch.setenv("REFONLY_MODELS_DIR", str(tmp_path / "models"))
    assert by_taggers() == []
    assert not offers.TAGGER.installed
    install(offers.place_of(offers.TAGGER))
    assert offers.TAGGER.installed
    (found,) = by_taggers()
    assert found.title == "Tagger wd-vit-tagger-v3"
    return found


def test_pictures_without_a_caption_get_one(folder: PictureFolder, tagger: Captioner) -> None:
    told = list(write_captions(folder, tagger, How.of(False, "mihoxyz", "Red_Hair, hat")))
    assert [(one.number, one.count, one.name, bool(one.problem)) for one in told] == [(1, 3, "a.png", False), (2, 3, "c.png", True), (3, 3, "d.png", False)]
    assert [folder.caption(f"{name}.png") for name in "abcd"] == ["mihoxyz, miho (idol)", "mine, by hand", "", "mihoxyz"]
    with pytest.raises(BadSettings, match="Every picture has a caption"):
        list(write_captions(PictureFolder(_only(folder, "a")), tagger, How()))


def _only(folder: PictureFolder, name: str) -> Path:
    for path in folder.path.iterdir():
        if path.stem != name:
            path.unlink()
    return folder.path


def test_old_captions_are_kept_when_all_are_written_anew(folder: PictureFolder, tagger: Captioner) -> None:
    (folder.path / "b.txt.bak").write_text("an earlier one\n")
    told = {one.name: one for one in write_captions(folder, tagger, How(again=True))}
    assert (told["b.png"].old, folder.caption("b.png")) == ("mine, by hand", "blue hair")
    assert (folder.path / "b.txt.bak").read_text() == "an earlier one\n"
    assert (folder.path / "b.txt.bak2").read_text() == "mine, by hand\n"
    assert told["d.png"].problem == "Nothing was recognised in it."
    assert not (folder.path / "a.txt.bak").exists()
    assert folder.names() == ["a.png", "b.png", "c.png", "d.png"]


def test_a_run_that_is_left_keeps_what_it_wrote(folder: PictureFolder, tagger: Captioner) -> None:
    course = write_captions(folder, tagger, How())
    assert next(course).name == "a.png"
    course.close()
    assert folder.caption("a.png")
    assert folder.caption("d.png") == ""


def test_who_fails_ends_the_run_and_loses_nothing(folder: PictureFolder) -> None:
    def describe(picture: Image.Image) -> str:
        if picture.getpixel((0, 0)) == (0, 0, 255):
            raise BadModel("no network")
        return "a caption"

    with pytest.raises(BadModel, match="no network"):
        list(write_captions(folder, Captioner("x", "x", lambda: describe), How(again=True)))
    assert [folder.caption(f"{name}.png") for name in "abd"] == ["a caption", "mine, by hand", ""]
    assert not (folder.path / "b.txt.bak").exists()


def test_an_empty_folder_is_told_before_a_model_is_read(tmp_path: Path) -> None:
    def begin() -> None:
        raise AssertionError

    captioner = Captioner("x", "x", begin)  # type: ignore[arg-type]
    with pytest.raises(BadSettings, match="no pictures"):
        list(write_captions(PictureFolder(tmp_path), captioner, How()))


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_links_are_left_alone(folder: PictureFolder, tagger: Captioner, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("secret")
    (folder.path / "a.txt").symlink_to(outside)
    told = {one.name: one for one in write_captions(folder, tagger, How(again=True))}
    assert "no plain text file" in told["a.png"].problem
    assert outside.read_text() == "secret"
    away = install(tmp_path / "elsewhere")
    (tmp_path / "models" / "linked").symlink_to(away)
    assert [path.name for path in taggers.installed()] == ["wd-vit-tagger-v3"]


def test_composed_and_unescaped() -> None:
    assert composed("Hat, hat ,, red_hair,miho", How(word="Miho", left_out=("red hair",))) == "Miho, Hat"
    assert composed("a girl with a hat", How()) == "a girl with a hat"
    assert unescaped(r"(red hair:0.874), miho \(idol\), (plain), :d") == "red hair, miho (idol), (plain), :d"
    with pytest.raises(BadSettings, match="without commas"):
        How.of(False, "a, b", "")


def test_a_tag_is_replaced_in_all_captions(folder: PictureFolder) -> None:
    folder.write("a.png", "Long_Hair, hat, cap")
    assert folder.replace_tag("long hair", "cap") == {"a.png": "Long_Hair, hat, cap"}
    assert folder.caption("a.png") == "cap, hat"
    assert folder.replace_tag("hat", "") == {"a.png": "cap, hat"}
    assert [folder.caption("a.png"), folder.caption("b.png")] == ["cap", "mine, by hand"]
    assert folder.replace_tag("by", "x") == {}, "only whole tags"
    for wrong in ("", " , ", "a, b"):
        with pytest.raises(BadSettings, match="one tag"):
            folder.replace_tag(wrong, "x")
