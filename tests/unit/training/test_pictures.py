"""A folder of pictures is looked at, and its captions are written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from lib_refonly.errors import BadSettings, CannotWrite
from lib_refonly.training import pictures
from lib_refonly.training.pictures import PictureFolder, duplicates, facts, tags


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "girl"
    made.mkdir()
    Image.linear_gradient("L").resize((300, 320)).save(made / "a.png")
    (made / "b.png").write_bytes((made / "a.png").read_bytes())
    Image.linear_gradient("L").resize((40, 400)).convert("RGB").save(made / "c.JPG", format="JPEG")
    Image.new("RGB", (300, 300), "white").save(made / "d.webp")
    (made / "e.png").write_bytes((made / "a.png").read_bytes()[:300])
    (made / "a.txt").write_text("red hair, hat, red hair", encoding="utf-8")
    (made / "c.txt").write_bytes("\ufeffhat".encode())
    (made / "d.txt").write_bytes(b"\xff\xfe\x00")
    (made / "notes.txt").write_text("nobody's")
    (made / ".hidden.png").write_bytes(b"x")
    return made


def test_a_look(folder: Path) -> None:
    seen = duplicates(list(PictureFolder(folder).look(thumbnails=2)))
    assert [(one.name, one.flaws) for one in seen] == [
        ("a.png", ()),
        ("b.png", ("twice", "without a caption")),
        ("c.JPG", ("too small",)),
        ("d.webp", ("empty", "with a caption that can't be read")),
        ("e.png", ("broken", "without a caption")),
    ]
    assert [one.thumbnail is not None for one in seen] == [True, True, False, False, False]
    assert (seen[0].caption, seen[2].caption, seen[0].size) == ("red hair, hat, red hair", "hat", (300, 320))
    assert "UTF-8" in seen[3].problem
    assert "damaged" in seen[4].problem
    assert facts(seen) == "5 pictures, 1 too small, 1 broken, 1 empty, 2 without a caption, 1 twice, 1 with a caption that can't be read"
    assert facts(seen[:1]) == "1 picture"
    assert tags([one.caption for one in seen]) == [("hat", 2), ("red hair", 1)]


def test_nothing_but_transparency_is_empty(tmp_path: Path) -> None:
    Image.new("RGBA", (300, 300), (200, 30, 30, 0)).save(tmp_path / "a.png")
    assert "empty" in next(PictureFolder(tmp_path).look()).flaws


@pytest.mark.parametrize("given", ["", "   ", "pictures", "/no/such/folder", "\0"])
def test_folders_that_are_none(given: str) -> None:
    with pytest.raises(BadSettings):
        PictureFolder(given)


def test_captions_are_written_whole_and_on_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = PictureFolder(f'  "{folder}" ')
    assert ours.write("b.png", " a\nhat,\t日本 ") == "a hat, 日本"
    assert (folder / "b.txt").read_bytes() == "a hat, 日本\n".encode()
    assert ours.write("b.png", " ") == "" == ours.caption("b.png")
    assert ours.write("e.png", "") == ""
    assert not (folder / "e.txt").exists()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(CannotWrite, match=r"a\.txt"):
        ours.write("a.png", "new")
    assert ours.caption("a.png") == "red hair, hat, red hair"
    assert not [name for name in os.listdir(folder) if name.endswith(".part")]


@pytest.mark.parametrize("name", ["../girl/a.png", "/etc/a.png", "none.png", "notes.txt", "..", "", "a\0.png", ".hidden.png", "sub\\a.png", "a.png/"])
def test_only_captions_of_pictures_in_the_folder(folder: Path, name: str) -> None:
    before = sorted(os.listdir(folder))
    with pytest.raises(BadSettings, match="no picture"):
        PictureFolder(folder).write(name, "x")
    assert sorted(os.listdir(folder)) == before


def test_a_caption_that_is_too_long(folder: Path) -> None:
    with pytest.raises(BadSettings, match="too long"):
        PictureFolder(folder).write("a.png", "x" * 20_001)
    (folder / "a.txt").write_text("x" * 100_000)
    with pytest.raises(BadSettings, match="length"):
        PictureFolder(folder).caption("a.png")


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "b.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "f.png").symlink_to(folder / "a.png")
    ours = PictureFolder(folder)
    assert "f.png" not in ours.names()
    for wrong in (lambda: ours.caption("b.png"), lambda: ours.write("b.png", "x"), lambda: ours.write("f.png", "x")):
        with pytest.raises(BadSettings):
            wrong()
    assert (tmp_path / "secret.txt").read_text() == "secret"


def test_a_trigger_word(folder: Path) -> None:
    ours = PictureFolder(folder)
    (folder / "d.txt").write_text("miho, sitting")
    assert ours.add_word(" miho, ") == 4
    assert [ours.caption(name) for name in ours.names()] == ["miho, red hair, hat, red hair", "miho", "miho, hat", "miho, sitting", "miho"]
    assert ours.add_word("miho") == 0
    for wrong in ("", " , ", "a, b", "x" * 101):
        with pytest.raises(BadSettings, match="trigger word"):
            ours.add_word(wrong)


def test_an_unreadable_caption_stops_the_trigger_word_before_it_begins(folder: Path) -> None:
    with pytest.raises(BadSettings, match="UTF-8"):
        PictureFolder(folder).add_word("miho")
    assert (folder / "a.txt").read_text() == "red hair, hat, red hair"


def test_pictures_that_share_a_caption_get_the_word_once(folder: Path) -> None:
    (folder / "d.webp").unlink()
    (folder / "a.jpg").write_bytes((folder / "c.JPG").read_bytes())
    PictureFolder(folder).add_word("miho")
    assert (folder / "a.txt").read_text() == "miho, red hair, hat, red hair\n"


def test_no_more_than_so_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST", 2)
    assert PictureFolder(folder).names() == ["a.png", "b.png"]
