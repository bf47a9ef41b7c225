"""The card: whoever gets it has the code, out of the metadata, or of the picture alone."""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFont
from PIL.PngImagePlugin import PngInfo

from lib_refonly.errors import BadPicture
from lib_refonly.imaging.infotext import png_bytes, write_infotext
from lib_refonly.stylecode import card_type
from lib_refonly.stylecode.card import SIZE, make_card, read_card
from lib_refonly.stylecode.card_reader import is_code
from lib_refonly.stylecode.card_type import Lettering
from lib_refonly.stylecode.codes import RELEASED, TINY, Code, CodeModel, blend, read, write_long, write_v1
from lib_refonly.stylecode.codes.levels import latent_of

CODE = read(write_long(blend.random_style(11), TINY))
OTHER = read(write_long(blend.random_style(12), TINY))


def painting(width: int = 300, height: int = 200) -> Image.Image:
    """Blotches of colour, the same each time."""
    coarse = np.random.default_rng(7).integers(0, 256, (max(1, height // 20), max(1, width // 20), 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def as_jpeg(picture: Image.Image, quality: int = 60) -> bytes:
    out = io.BytesIO()
    picture.convert("RGB").save(out, "JPEG", quality=quality)
    return out.getvalue()


def with_text(key: str, text: str, **options: Any) -> bytes:
    info, out = PngInfo(), io.BytesIO()
    info.add_text(key, text, **options)
    painting(40, 40).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def opened(card: bytes) -> Image.Image:
    return Image.open(io.BytesIO(card))


def test_the_card_tells_its_code_by_its_metadata() -> None:
    card = make_card(painting(), CODE, "Quiet harbour 水")
    assert opened(card).size == SIZE
    assert opened(card).info == {"stylecode": CODE.long, "stylecode name": "Quiet harbour 水"}
    assert read_card(card) == CODE.long
    assert read_card(opened(card)) == CODE.long


def test_the_metadata_says_it_where_the_picture_does_not() -> None:
    blank = Image.new("RGB", (32, 32))
    blank.info["stylecode"] = f" {CODE.short}\n"
    assert read_card(blank) == CODE.short


@pytest.mark.parametrize(("seed", "model"), [(0, TINY), (1, RELEASED)])
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.45, 2.0])
def test_the_card_tells_its_code_without_its_metadata(seed: int, model: CodeModel, scale: float) -> None:
    code = read(write_long(blend.random_style(seed), model))
    card = opened(make_card(painting(), code, "Quiet harbour")).convert("RGB")
    card.info.clear()
    small = card.resize((round(SIZE[0] * scale), round(SIZE[1] * scale)), Image.Resampling.BICUBIC)
    assert read_card(as_jpeg(small)) == code.long


def test_a_screenshot_of_a_card() -> None:
    card = opened(make_card(painting(), CODE)).convert("RGB").resize((717, 448), Image.Resampling.BILINEAR)
    screen = Image.new("RGB", (1600, 900), (32, 33, 36))
    screen.paste(painting(1600, 80), (0, 0))
    screen.paste(card, (333, 211))
    assert read_card(screen) == CODE.long


def test_a_card_whose_paper_was_made_transparent() -> None:
    card = opened(make_card(painting(), CODE)).convert("L")
    clear = Image.new("RGBA", card.size)
    clear.putalpha(card.point(lambda value: 255 - value))
    assert read_card(clear) == CODE.long


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_a_picture_without_a_code(mode: str) -> None:
    assert read_card(painting().convert(mode)) is None
    assert read_card(png_bytes(painting().convert("RGB"), "a house\nSteps: 20, Sampler: UniPC, Seed: 1")) is None


@pytest.mark.parametrize(
    ("prompt", "fields", "found"),
    [
        ("a house", {"RefOnly style": CODE.long}, CODE.long),
        ("a house", {"RefOnly style": f"{CODE.short}:0.5"}, CODE.short),
        (f"a house <sref:{CODE.long}:0.8>", {}, CODE.long),
        (f"<sref:{CODE.short}> a house <sref:harbour:0.3>", {}, CODE.short),
        (f"<sref:{OTHER.long}>", {"RefOnly style": CODE.long}, CODE.long),
        (f"<sref:{CODE.long}> and <sref:{CODE.long}:2>", {}, CODE.long),
        (f"<sref:{CODE.long}> <sref:{OTHER.long}>", {}, None),
        ("a house", {"RefOnly style": f"{CODE.long}:2 {OTHER.long}"}, None),
        ("a house <sref:harbour:0.8>", {"RefOnly style": "harbour"}, None),
    ],
)
def test_a_painted_picture_tells_its_one_code(prompt: str, fields: dict[str, str], found: str | None) -> None:
    text = write_infotext(prompt, "", {"Steps": 20, "Seed": 1, "Size": "64x64"} | fields)
    assert read_card(png_bytes(painting(40, 40), text)) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "internationalisations",
        CODE.long * 9,
        "S" * 5_000_000,
        CODE.short[:-2] + CODE.short[-1],
        "\0" * 29,
        "é" * 27,
        "x" * 27,
        f"<sref:{'x' * 300}>",
    ],
)
def test_hostile_metadata(text: str) -> None:
    assert read_card(with_text("stylecode", text)) is None
    assert read_card(with_text("parameters", text)) is None
    assert not is_code(text)


def test_metadata_that_swells_is_refused_as_a_picture() -> None:
    with pytest.raises(BadPicture):
        read_card(with_text("stylecode", "S" * 9_000_000, zip=True))


@pytest.mark.parametrize("data", [b"", b"no picture", zlib.compress(b"0" * 999)])
def test_what_is_no_picture(data: bytes) -> None:
    with pytest.raises(BadPicture):
        read_card(data)


def test_a_qr_code_of_something_else() -> None:
    import segno

    for text in ("https://example.org", f"https:{CODE.long}", "stylecode:nonsense"):
        out = io.BytesIO()
        segno.make_qr(text).save(out, kind="png", scale=8)
        assert read_card(out.getvalue()) is None


@pytest.mark.parametrize(
    "text", [CODE.long, CODE.short, CODE.long.replace("-", ""), f" {CODE.long}\n", write_v1(CODE.latent), write_v1(CODE.latent).replace("+", "-")]
)
def test_every_form_of_a_code_is_one(text: str) -> None:
    assert is_code(text)


def test_a_code_of_a_model_that_is_not_here_is_one() -> None:
    code = read(write_long(CODE.latent, CodeModel("mine")), (CodeModel("mine"),))
    assert is_code(code.long)
    assert read_card(make_card(painting(), code)) == code.long


def ink(card: bytes, box: tuple[int, int, int, int]) -> int:
    """Pixels of the box that are not the card's paper."""
    pixels = np.asarray(opened(card).convert("RGB").crop(box)).astype(int)
    return int((np.abs(pixels - pixels[0, 0]).sum(-1) > 60).sum())


MARGINS = ((0, 0, 1024, 38), (0, 602, 1024, 640), (986, 0, 1024, 640), (602, 0, 638, 640))
NAME = (640, 60, 1024, 175)


@pytest.mark.parametrize("name", ["", "Quiet harbour", "W" * 64, "a long name " * 5, "水彩の夕暮れ", "🙂" * 9, "\u202e\n\t"])
def test_nothing_leaves_its_place(name: str) -> None:
    code = Code(latent_of([22] * 20), RELEASED, "long")
    assert code.short.count("W") > 15  # the widest letter
    card = make_card(painting(900, 100), code, name)
    assert [ink(card, box) for box in MARGINS] == [0, 0, 0, 0]
    assert ink(card, NAME) > 200


@pytest.mark.parametrize(("size", "mode"), [((1, 1), "RGB"), ((1, 900), "RGBA"), ((900, 1), "P"), ((2000, 1000), "L")])
def test_pictures_of_any_shape(size: tuple[int, int], mode: str) -> None:
    assert read_card(make_card(Image.new(mode, size), CODE)) == CODE.long


def test_the_picture_is_shown_whole_and_clear_parts_white() -> None:
    picture = Image.new("RGBA", (200, 100), (0, 0, 255, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 100, 100))
    picture.info["parameters"] = "what was asked for"
    card = make_card(picture, CODE)
    shown = opened(card).convert("RGB")
    assert (shown.getpixel((100, 320)), shown.getpixel((550, 320))) == ((255, 255, 255), (0, 0, 255))
    assert "parameters" not in opened(card).info


def test_without_the_package_for_qr_codes_the_rest_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    card = make_card(painting(), CODE, "Quiet harbour")
    assert read_card(card) == CODE.long
    assert read_card(opened(card).convert("L").copy()) is not None  # copies keep the texts
    assert read_card(as_jpeg(opened(card))) is None


@pytest.fixture
def old_pillow(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Before 10.1 there is one small bitmap font."""
    small = ImageFont.load_default_imagefont()

    def load(size: float | None = None) -> Any:
        if size is not None:
            raise TypeError("load_default() takes 0 positional arguments")
        return small

    monkeypatch.setattr(ImageFont, "load_default", load)
    monkeypatch.setattr(card_type, "_SYSTEM_FONTS", ())
    card_type._default.cache_clear()
    return card_type._default.cache_clear


def test_an_old_pillow_makes_cards_too(old_pillow: Callable[[], None]) -> None:
    card = make_card(painting(), CODE, "Quiet harbour 水")
    old_pillow()
    assert [ink(card, box) for box in MARGINS] == [0, 0, 0, 0]
    assert ink(card, NAME) > 500
    assert read_card(as_jpeg(opened(card))) == CODE.long


def test_signs_that_no_font_here_has_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_type, "_SYSTEM_FONTS", ())
    assert Lettering(20, "é水").fitting("Café 水 au lait") == "Cafe au lait"


def test_lines_are_broken_between_words_and_cut() -> None:
    letters = Lettering(20)
    width = letters.width("one two three")
    assert letters.lines("one two three", width, 2) == ["one two three"]
    assert letters.lines("one two three four", width, 2) == ["one two three", "four"]
    lines = letters.lines("one two three four five six seven", width, 2)
    assert lines[0] == "one two three"
    assert lines[1].endswith("...")
    assert all(letters.width(line) <= width for line in lines)
    assert letters.lines("x" * 99, width, 1)[0].startswith("xxxx")
    assert letters.lines("", width, 2) == []
