"""Infotext: round trips, A1111's own samples, every picture format, and saving that never leaves half a file."""

import errno
import io
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lib_refonly.errors import BadPicture, CannotWrite
from lib_refonly.imaging import infotext as it

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NAMES = st.text("aZ9_é漢 -/", min_size=2, max_size=20).filter(lambda name: name[0] not in " -/" and name[-1] != " ")


@given(st.dictionaries(NAMES, TEXTS, min_size=3, max_size=8))
def test_fields_round_trip(fields):
    assert it.read_infotext(it.write_infotext("a girl", "bad", fields)) == ("a girl", "bad", fields)


@given(TEXTS, TEXTS)
def test_prompts_round_trip(prompt, negative):
    prompt, negative = (text.replace("Negative prompt:", "") for text in (prompt, negative))
    fields = {"Steps": "20", "Sampler": "UniPC", "Seed": "1"}
    read = it.read_infotext(it.write_infotext(prompt, negative, fields))
    tidy = ["\n".join(line.strip() for line in text.strip().split("\n")).strip() for text in (prompt, negative)]
    assert read == (tidy[0], tidy[1], fields)


@given(st.text())
def test_any_text_can_be_read(text):
    prompt, negative, fields = it.read_infotext(text)
    assert isinstance(prompt, str)
    assert isinstance(negative, str)
    assert all(isinstance(value, str) for value in fields.values())


def test_numbers_and_nothing():
    text = it.write_infotext("", "", {"Steps": 20, "Scale": 0.05, "On": True, "Gone": None, "Note": 'a, "b": c\nd'})
    assert text == 'Steps: 20, Scale: 0.05, On: True, Note: "a, \\"b\\": c\\nd"'
    assert it.read_infotext(text)[2] == {"Steps": "20", "Scale": "0.05", "On": "True", "Note": 'a, "b": c\nd'}


def test_a_text_as_a1111_writes_it():
    text = (
        "masterpiece, 1girl, (red hair:1.2)\nsecond line\nNegative prompt: lowres, bad hands\nsecond too\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 965400086, Size: 512x768, "
        'Model hash: 6ce0161689, Lora hashes: "a: 1, b: 2", Version: v1.10.1'
    )
    prompt, negative, fields = it.read_infotext(text)
    assert prompt == "masterpiece, 1girl, (red hair:1.2)\nsecond line"
    assert negative == "lowres, bad hands\nsecond too"
    assert fields["Seed"] == "965400086"
    assert fields["Lora hashes"] == "a: 1, b: 2"
    assert fields["Version"] == "v1.10.1"


def test_prose_is_no_field():
    assert it.read_infotext("a girl, hair: red") == ("a girl, hair: red", "", {})


@pytest.mark.parametrize("name", ["", "a:b", "a,b", " lead", "x", "new\nline"])
def test_names_that_could_not_be_read_back_are_refused(name):
    with pytest.raises(ValueError, match="name"):
        it.write_infotext("", "", {name: 1})


@given(TEXTS.filter(lambda text: "\0" not in text))
def test_png_round_trip(text):
    data = it.png_bytes(PICTURE, text)
    assert it.read_png_infotext(data) == text
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), np.asarray(PICTURE))


def test_text_behind_the_pixels_is_found():
    data = it.png_bytes(PICTURE, "Steps: 1")
    start = data.index(b"tEXt") - 4
    chunk = data[start : start + 12 + int.from_bytes(data[start : start + 4], "big")]
    end = data.index(b"IEND") - 4
    moved = data[:start] + data[start + len(chunk) : end] + chunk + data[end:]
    assert it.read_png_infotext(moved) == it.read_png_infotext(Image.open(io.BytesIO(moved))) == "Steps: 1"


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("raw", [b"UNICODE\0" + "Steps: 3, 漢字".encode("utf-16-be"), b"UNICODE\0" + "Steps: 3, 漢字".encode("utf-16-le")])
def test_user_comment(kind, raw):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = raw
    buffer = io.BytesIO()
    PICTURE.save(buffer, kind, exif=exif)
    assert it.read_png_infotext(buffer.getvalue()) == "Steps: 3, 漢字"


def test_ascii_user_comment():
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0Steps: 4"
    buffer = io.BytesIO()
    PICTURE.save(buffer, "JPEG", exif=exif)
    assert it.read_png_infotext(buffer.getvalue()) == "Steps: 4"


def test_none_and_nonsense():
    assert it.read_png_infotext(it.png_bytes(PICTURE)) == ""
    assert it.read_png_infotext(it.png_bytes(PICTURE, "x" * (it.MAX_INFOTEXT + 1))) == ""
    bomb = PngInfo()
    bomb.add_text("parameters", "x" * 20_000_000, zip=True)
    buffer = io.BytesIO()
    PICTURE.save(buffer, "PNG", pnginfo=bomb)
    with pytest.raises(BadPicture):
        it.read_png_infotext(buffer.getvalue())


def test_save_and_replace(tmp_path):
    path = tmp_path / "-ä ö.png"
    for text in ("one", "two"):
        it.save_png(path, PICTURE, text)
        assert it.read_png_infotext(path) == text
    assert os.listdir(tmp_path) == [path.name]


def test_saving_into_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    it.save_png("here.png", PICTURE)
    assert os.listdir(tmp_path) == ["here.png"]


@pytest.mark.parametrize(("name", "says"), [("none/x.png", "not there"), ("n" * 300 + ".png", "too long"), ("a\0b.png", "null")])
def test_impossible_places(tmp_path, name, says):
    with pytest.raises(CannotWrite, match=says):
        it.save_png(tmp_path / name, PICTURE)
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "x.png").mkdir()
    with pytest.raises(CannotWrite):
        it.save_png(tmp_path / "x.png", PICTURE)
    assert os.listdir(tmp_path) == ["x.png"]


@pytest.mark.parametrize(("code", "says"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EDQUOT, "quota")])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, code, says):
    path = tmp_path / "x.png"
    it.save_png(path, PICTURE, "old")

    def full(_descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotWrite, match=says):
        it.save_png(path, PICTURE, "new")
    assert os.listdir(tmp_path) == ["x.png"]
    assert it.read_png_infotext(path) == "old"


def test_ctrl_c_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        it.save_png(tmp_path / "x.png", PICTURE)
    assert os.listdir(tmp_path) == []
