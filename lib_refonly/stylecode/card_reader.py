"""The code on a card, or in any picture that was painted in a style: out of the metadata, or of the QR code where that was lost."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from PIL import Image

from lib_refonly.imaging.decode import DECODER_ERRORS, decode, open_header
from lib_refonly.imaging.infotext import read_infotext, read_png_infotext
from lib_refonly.stylecode.codes import levels, reed_solomon, v1
from lib_refonly.stylecode.codes.codec import LONG, LONG_ALPHABET, SHORT, SHORT_ALPHABET

KEY = "stylecode"
"""Of the PNG's text that holds the code; and what a QR code begins with, before a colon."""
FIELD = "RefOnly style"
"""Of a parameters text."""
_LONGEST = 200
_IN_PROMPT = re.compile(r"<sref:([^:<>\n]{1,200})[:>]")
_SIDES = (1024, 1600, 640)
"""Pixels of the longer side at which a QR code is looked for, most likely first: its squares must be neither too small nor blurred."""

_SMALLEST = 48
"""Pixels of the shorter side: a QR code of this length has 33 squares, and needs more than one pixel for each."""


def read_card(picture: Image.Image | bytes) -> str | None:
    """The code's text, as it stands there. None: the picture has none, or says a mixture of several.

    The code is well formed; whether its model is here, `codes.read` says.

    Raises:
        BadPicture: bytes that are no picture, damaged, or too large.
    """
    if isinstance(picture, Image.Image):
        return _told(picture) or _photographed(picture)
    return _told(open_header(picture)) or _photographed(decode(picture))


def is_code(text: str) -> bool:
    """Whether it has the form of a code, and its checks are right. Of which model, is not asked."""
    bare = "".join(text.split())
    if len(text) > _LONGEST or not bare.isascii():
        return False
    if len(bare) == SHORT and set(bare) <= set(SHORT_ALPHABET):
        return not levels.remainder([SHORT_ALPHABET.index(sign) for sign in bare[:-1]])
    if len(bare) == v1.LENGTH:
        return v1.steps_of(bare.replace("-", "+").replace("_", "/")) is not None
    symbols = bare.replace("-", "")
    return len(symbols) == LONG and set(symbols) <= set(LONG_ALPHABET) and reed_solomon.corrected([LONG_ALPHABET.index(sign) for sign in symbols]) is not None


def _told(image: Image.Image) -> str | None:
    """By the metadata."""
    try:
        image.load()  # texts may lie behind the pixels
    except DECODER_ERRORS:
        return None
    own = image.info.get(KEY)
    if isinstance(own, str) and is_code(own):
        return own.strip()
    return in_infotext(read_png_infotext(image))


def in_infotext(text: str) -> str | None:
    """The one code of a parameters text: of its field, or else of its prompt. None: none, or several."""
    prompt, _, fields = read_infotext(text)
    for said in (fields.get(FIELD, "").split(), _IN_PROMPT.findall(prompt)):
        codes = {word for word in (one.partition(":")[0].strip() for one in said) if is_code(word)}
        if codes:
            return codes.pop() if len(codes) == 1 else None
    return None


def _photographed(picture: Image.Image) -> str | None:
    """By a QR code somewhere in the picture."""
    import cv2

    try:
        grey = _on_white(picture)
    except DECODER_ERRORS:
        return None
    detector = cv2.QRCodeDetector()
    for pixels in _at_sizes(grey):
        try:
            text = detector.detectAndDecode(pixels)[0]
        except (cv2.error, UnicodeDecodeError):
            continue
        head, _, code = text.partition(":")
        if head.lower() == KEY and is_code(code):
            return code.strip()
    return None


def _at_sizes(grey: Image.Image) -> Iterator[np.ndarray]:
    if min(grey.size) < _SMALLEST:
        return
    for side in _SIDES:
        scale = side / max(grey.size)
        size = (max(1, round(grey.width * scale)), max(1, round(grey.height * scale)))
        if min(size) >= _SMALLEST:
            yield np.asarray(grey.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX))


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        whole = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("L")
    return picture.convert("L")
