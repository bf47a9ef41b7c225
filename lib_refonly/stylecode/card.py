"""A style to pass on: one picture that shows it, with its code to read, to photograph, and in the metadata."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from lib_refonly.stylecode.card_reader import KEY
from lib_refonly.stylecode.card_reader import read_card as read_card
from lib_refonly.stylecode.card_type import ELLIPSIS, Lettering
from lib_refonly.stylecode.codes import Code

SIZE = (1024, 640)
_NAME_KEY = "stylecode name"
Colour = tuple[int, int, int]
_PAPER, _MAT, _RULE, _INK, _QUIET, _DIGIT = (250, 248, 244), (240, 236, 229), (224, 218, 208), (41, 43, 49), (128, 122, 114), (178, 84, 42)
_MARGIN, _PICTURE, _RADIUS = 40, 560, 14
_LEFT, _RIGHT = _MARGIN + _PICTURE + 40, SIZE[0] - _MARGIN
_MODULE = 5
"""Pixels of a square of the QR code."""
_CODES = tuple(range(21, 11, -1))
"""Sizes that a line of a code may have."""
_NAMES = ((34, 2), (26, 3))
"""Sizes that a name may have, and in how many lines."""


def make_card(picture: Image.Image, code: Code, name: str = "") -> bytes:
    """A PNG of 1024 x 640 pixels. Of `picture` nothing but its pixels gets into it. Without the package segno the card has no QR code."""
    card = Image.new("RGB", SIZE, _PAPER)
    _hang(card, picture)
    y = _title(card, picture, name)
    _codes(card, code, y)
    _foot(card, code)
    info = PngInfo()
    info.add_text(KEY, code.long)
    if name:
        info.add_itxt(_NAME_KEY, name.encode("utf-8", "replace").decode())
    out = io.BytesIO()
    card.save(out, "PNG", pnginfo=info)
    return out.getvalue()


def _hang(card: Image.Image, picture: Image.Image) -> None:
    """The picture in its frame, whole, with round corners."""
    whole = _opaque(picture)
    scale = _PICTURE / max(whole.size)
    fitted = whole.resize((max(1, round(whole.width * scale)), max(1, round(whole.height * scale))), Image.Resampling.LANCZOS)
    frame = Image.new("RGB", (_PICTURE, _PICTURE), _MAT)
    frame.paste(fitted, ((_PICTURE - fitted.width) // 2, (_PICTURE - fitted.height) // 2))
    card.paste(frame, (_MARGIN, _MARGIN), _round(frame.size))


def _round(size: tuple[int, int]) -> Image.Image:
    """A mask with round corners, drawn large and made small, since Pillow draws edges without shades."""
    mask = Image.new("L", (size[0] * 4, size[1] * 4))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, mask.width - 1, mask.height - 1), _RADIUS * 4, 255)
    return mask.resize(size, Image.Resampling.BOX)


def _title(card: Image.Image, picture: Image.Image, name: str) -> int:
    """Name and colours. Returns where they end."""
    _spaced(card, (_LEFT, _MARGIN + 2), "STYLECODE", 13, 3, _QUIET)
    letters, lines = _set(name)
    y = _MARGIN + 26
    for line in lines:
        _write(card, (_LEFT, y), line, letters, _INK)
        y += round(1.25 * letters.size)
    y += 12
    for number, colour in enumerate(_palette(picture)):
        _dot(card, (_LEFT + 30 * number, y), 22, colour)
    return y + 22


def _set(name: str) -> tuple[Lettering, list[str]]:
    """The name in large letters, or in smaller ones if it is long."""
    tried = []
    for size, most in _NAMES:
        letters = Lettering(size, name)
        tried.append((letters, letters.lines(letters.fitting(name) or "A style", _RIGHT - _LEFT, most)))
    return next((one for one in tried if not one[1][-1].endswith(ELLIPSIS)), tried[-1])


def _codes(card: Image.Image, code: Code, y: int) -> None:
    draw = ImageDraw.Draw(card)
    y += 20
    draw.line((_LEFT, y, _RIGHT, y), _RULE, 1)
    small, groups = code.short, code.long.split("-")
    for label, lines, mark in (("Short", [[small[i : i + 3] for i in range(0, len(small), 3)]], ""), ("Long", [groups[:3], groups[3:]], "-")):
        y += 14
        _write(card, (_LEFT, y), label, Lettering(13), _QUIET)
        y += 18
        for line in lines:
            _groups(card, (_LEFT, y), line, mark, open_end=line is not lines[-1])
            y += 27


def _groups(card: Image.Image, place: tuple[int, int], groups: Sequence[str], mark: str, open_end: bool) -> None:
    """One line of groups, as large as the column allows. Digits have another colour: nobody takes a nought for an O."""
    signs: list[tuple[str, Colour, int]] = []  # with the gap behind it
    for number, group in enumerate(groups, 1):
        signs += [(sign, _DIGIT if sign.isdigit() else _INK, 1) for sign in group]
        if mark and (number < len(groups) or open_end):
            signs += [("", _INK, 4), (mark, _QUIET, 5)]
        else:
            signs.append(("", _INK, 9))
    size = next(size for size in _CODES if sum(Lettering(size).width(sign) + gap for sign, _, gap in signs) <= _RIGHT - _LEFT + 9 or size == _CODES[-1])
    letters, x = Lettering(size), place[0]
    for sign, colour, gap in signs:
        if sign:
            _write(card, (x, place[1] + (_CODES[0] - size) // 2), sign, letters, colour)
        x += letters.width(sign) + gap


def _foot(card: Image.Image, code: Code) -> None:
    """The QR code, and beside it the model."""
    square = _qr(f"{KEY}:{code.long}")
    left = _RIGHT
    if square is not None:
        left = _RIGHT - square.width
        card.paste(square, (left, SIZE[1] - _MARGIN - square.height), _round(square.size))
    small = Lettering(13)
    lines = small.lines(small.fitting(str(code.model)), left - _LEFT - 14, 4)
    y = SIZE[1] - _MARGIN - 18 * len(lines)
    _write(card, (_LEFT, y - 20), "Model", small, _QUIET)
    for number, line in enumerate(lines):
        _write(card, (_LEFT, y + 18 * number), line, small, _INK)


def _qr(text: str) -> Image.Image | None:
    try:
        import segno
    except ImportError:  # a WebUI that could not install it: the card has its code in letters and in the metadata
        return None
    rows = [bytes(row) for row in segno.make_qr(text, error="m").matrix_iter(border=4)]
    squares = Image.frombytes("L", (len(rows[0]), len(rows)), b"".join(rows)).point([255] + [0] * 255)
    grey = squares.resize((squares.width * _MODULE, squares.height * _MODULE), Image.Resampling.NEAREST)
    white = Image.new("RGB", grey.size, "white")
    white.paste(_INK, (0, 0), grey.point(lambda value: 255 - value))
    return white


def _palette(picture: Image.Image) -> Iterator[Colour]:
    """Five colours that the picture has most of, dark to light."""
    small = _opaque(picture).resize((64, 64), Image.Resampling.BOX).quantize(5, Image.Quantize.MEDIANCUT).convert("RGB")
    found = sorted((colour for _, colour in small.getcolors(64 * 64) or ()), key=lambda colour: sum(colour))  # type: ignore[arg-type]
    yield from found  # type: ignore[misc]


def _opaque(picture: Image.Image) -> Image.Image:
    whole = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")


def _dot(card: Image.Image, place: tuple[int, int], size: int, colour: Colour) -> None:
    for inset, fill in ((0, _RULE), (1, colour)):
        mask = Image.new("L", (size * 4, size * 4))
        ImageDraw.Draw(mask).ellipse((inset * 4, inset * 4, (size - inset) * 4 - 1, (size - inset) * 4 - 1), 255)
        card.paste(fill, place, mask.resize((size, size), Image.Resampling.BOX))


def _write(card: Image.Image, place: tuple[int, int], text: str, letters: Lettering, colour: Colour) -> None:
    card.paste(colour, place, letters.mask(text))


def _spaced(card: Image.Image, place: tuple[int, int], text: str, size: int, gap: int, colour: Colour) -> None:
    letters, x = Lettering(size), place[0]
    for sign in text:
        _write(card, (x, place[1]), sign, letters, colour)
        x += letters.width(sign) + gap
