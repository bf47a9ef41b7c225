"""Lettering for the card, as masks: with the font that Pillow brings, with a system's font for scripts that it lacks, and without FreeType too."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

_SYSTEM_FONTS = (
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKjp-Regular.otf", "NotoSans-Regular.ttf", "DejaVuSans.ttf", "wqy-microhei.ttc"),
    *("YuGothM.ttc", "meiryo.ttc", "msyh.ttc", "malgun.ttf", "segoeui.ttf"),
    *("Arial Unicode.ttf", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc"),
)
"""Linux, Windows, macOS. Pillow's own font has little more than ASCII."""
_BITMAP_HEIGHT = 11
_NO_SIGN = "\uffff"
ELLIPSIS = "..."


class Lettering:
    """Letters of one size. All masks have the same height and the same base line."""

    def __init__(self, size: int, text: str = "") -> None:
        """`text`: what it must be able to show, if any font here can."""
        self.size = size
        self._font = next((font for font in _fonts(size) if _shows(font, text)), None) or next(_fonts(size))

    def fitting(self, text: str) -> str:
        """`text` in signs that the font has: letters lose their accents where they must, and signs that it can't show are left out."""
        text = unicodedata.normalize("NFC", text)
        return " ".join("".join(self._nearest(sign) for sign in text).split())

    def mask(self, text: str) -> Image.Image:
        """L, 255 where there is ink."""
        if _is_bitmap(self._font):
            small = Image.new("L", (max(1, round(self._font.getlength(text))), _BITMAP_HEIGHT))
            ImageDraw.Draw(small).text((0, 0), text, 255, self._font)
            scale = self.size / _BITMAP_HEIGHT
            return small.resize((max(1, round(small.width * scale)), round(small.height * scale)), Image.Resampling.BICUBIC)
        out = Image.new("L", (max(1, round(self._font.getlength(text))), sum(self._font.getmetrics())))
        ImageDraw.Draw(out).text((0, 0), text, 255, self._font)
        return out

    def width(self, text: str) -> int:
        return self.mask(text).width if text else 0

    def lines(self, text: str, width: int, most: int) -> list[str]:
        """`text` in at most so many lines: broken between words, inside a word that is too long, and cut with an ellipsis."""
        out: list[str] = []
        rest = text
        while rest and len(out) < most:
            line = self._beginning(rest, width)
            rest = rest[len(line) :].lstrip()
            out.append(line.rstrip())
        if rest:
            kept = out[-1]
            while kept and self.width(kept + ELLIPSIS) > width:
                kept = kept[:-1].rstrip()
            out[-1] = kept + ELLIPSIS
        return out

    def _beginning(self, text: str, width: int) -> str:
        fits = max((end for end in range(1, len(text) + 1) if self.width(text[:end]) <= width), default=1)
        if fits == len(text) or text[fits] == " ":
            return text[:fits]
        ends = [end for end in range(1, fits + 1) if text[end - 1] in " -"]
        return text[: ends[-1]] if ends else text[:fits]

    def _nearest(self, sign: str) -> str:
        if sign == " " or _shows(self._font, sign):
            return sign
        plain = "".join(part for part in unicodedata.normalize("NFKD", sign) if not unicodedata.combining(part))
        return plain if plain and _shows(self._font, plain) else ""


def _is_bitmap(font: Any) -> bool:
    return not isinstance(font, ImageFont.FreeTypeFont)


def _fonts(size: int) -> Iterator[Any]:
    yield _default(size)
    for name in _SYSTEM_FONTS:
        font = _system(name, size)
        if font is not None:
            yield font


@lru_cache(maxsize=64)
def _default(size: int) -> Any:
    try:
        return ImageFont.load_default(size)
    except (TypeError, ImportError, OSError):  # a Pillow before 10.1, or one without FreeType
        return ImageFont.load_default()


@lru_cache(maxsize=256)
def _system(name: str, size: int) -> Any:
    try:
        return ImageFont.truetype(name, size)
    except (OSError, ImportError):
        return None


def _shows(font: Any, text: str) -> bool:
    return all(_has(font, sign) for sign in set(text) - {" "})


@lru_cache(maxsize=4096)
def _has(font: Any, sign: str) -> bool:
    if _is_bitmap(font):
        return sign.isascii()
    missing, own = font.getmask(_NO_SIGN), font.getmask(sign)
    return (own.size, bytes(own)) != (missing.size, bytes(missing))
