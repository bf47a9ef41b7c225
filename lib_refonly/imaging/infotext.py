"""A1111's parameters text: written into pictures, read back from them, and the safe saving of a PNG.

The form is A1111 1.10's: the prompt, a line `Negative prompt: ...`, and one last line `Steps: 20, Sampler: UniPC, ...` whose values are
JSON strings where they hold a comma, a colon or a line break.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import secrets
from collections.abc import Mapping

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lib_refonly.errors import CannotWrite
from lib_refonly.imaging.decode import DECODER_ERRORS, DEFAULT_LIMITS, Limits, open_header, read_source

MAX_INFOTEXT = 1_000_000
"""Characters. A longer text is no infotext."""

_NEGATIVE = "Negative prompt:"
_NAME = re.compile(r"\w[\w \-/]*[\w\-/]")
_FIELD = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_FEWEST_FIELDS = 3  # a last line with fewer is taken for prose, as A1111 does
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "the folder may not be written to",
    errno.EPERM: "the folder may not be written to",
    errno.ENOENT: "the folder is not there",
    errno.ENOTDIR: "the folder is not a folder",
    errno.EISDIR: "a folder has that name",
    errno.ENAMETOOLONG: "the name is too long",
}


def write_infotext(prompt: str, negative: str, fields: Mapping[str, object]) -> str:
    """The parameters text. Fields that are None are left out. `read_infotext` gives the rest back as text, if there are at least three.

    Raises:
        ValueError: a field name that A1111 could not read back.
    """
    written = {name: value for name, value in fields.items() if value is not None}
    bad = [name for name in written if not _NAME.fullmatch(name)]
    if bad:
        raise ValueError(f"not a name for an infotext field: {bad[0]!r}")
    last = ", ".join(f"{name}: {_quote(str(value))}" for name, value in written.items())
    negative = _tidy_lines(negative)
    return "\n".join(part for part in (_tidy_lines(prompt), f"{_NEGATIVE} {negative}" if negative else "", last) if part)


def read_infotext(text: str) -> tuple[str, str, dict[str, str]]:
    """The parameters text -> (prompt, negative prompt, fields). Anything is accepted; what is no field is prompt."""
    *lines, last = text.strip().split("\n")
    found = _FIELD.findall(last)
    if len(found) < _FEWEST_FIELDS:
        lines, found = [*lines, last], []
    prompt: list[str] = []
    negative: list[str] = []
    into = prompt
    for line in lines:
        line = line.strip()
        if line.startswith(_NEGATIVE):
            into, line = negative, line[len(_NEGATIVE) :].strip()
        into.append(line)
    return "\n".join(prompt).strip(), "\n".join(negative).strip(), {name: _unquote(value) for name, value in found}


def _tidy_lines(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().split("\n"))


def _quote(value: str) -> str:
    """A1111 quotes commas, colons and line breaks; the other cases here would lose something and read back well there too."""
    plain = value and value == value.strip() and value[0] != '"' and value.isprintable() and not any(mark in value for mark in ",:")
    return value if plain else json.dumps(value, ensure_ascii=False)


def _unquote(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    try:
        read = json.loads(value)
    except ValueError:
        return value
    return read if isinstance(read, str) else value


def png_bytes(image: Image.Image, infotext: str = "") -> bytes:
    """`image` as a PNG file with the infotext under "parameters", where A1111 and others look for it."""
    info = PngInfo()
    if infotext:
        info.add_text("parameters", infotext.encode("utf-8", "replace").decode("utf-8"))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info, compress_level=4)
    return buffer.getvalue()


def read_png_infotext(picture: Image.Image | bytes | str | os.PathLike[str], *, limits: Limits = DEFAULT_LIMITS) -> str:
    """The infotext inside a PNG (tEXt, iTXt, zTXt) or a JPEG, WebP or AVIF (EXIF UserComment); "" when there is none, or only nonsense.

    Raises:
        BadPicture: bytes or a file that are no picture, or over `limits`.
    """
    image = picture if isinstance(picture, Image.Image) else open_header(read_source(picture, limits), limits)
    try:
        text = image.info.get("parameters")
        if text is None and image.format == "PNG":
            image.load()  # texts may lie behind the pixels
            text = image.info.get("parameters")
        text = text if text is not None else _user_comment(image.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT, b""))
    except DECODER_ERRORS:
        return ""
    return str(text) if isinstance(text, str) and len(text) <= MAX_INFOTEXT else ""


def _user_comment(raw: object) -> str:
    """EXIF 2.3: eight bytes name the encoding. "UNICODE" says no byte order: big-endian is what A1111 writes, others write little-endian."""
    if isinstance(raw, str):
        return raw
    if not isinstance(raw, bytes) or len(raw) > 4 * MAX_INFOTEXT:
        return ""
    code, body = raw[:8], raw[8:]
    if code == b"UNICODE\0":
        high, low = body[0::2].count(0), body[1::2].count(0)
        return body.decode("utf-16-le" if low > high else "utf-16-be", "replace").lstrip("\ufeff").rstrip("\0")
    if code in (b"ASCII\0\0\0", b"\0" * 8):
        return body.decode("utf-8", "replace").rstrip("\0")
    return ""


def save_png(path: str | os.PathLike[str], image: Image.Image, infotext: str = "") -> None:
    """Save atomically: the file is there whole, or as it was before.

    Raises:
        CannotWrite: disk full, read-only, no such folder. Nothing half-written is left.
    """
    write_atomically(path, png_bytes(image, infotext))


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` beside `path` under a passing name, then move it there.

    Raises:
        CannotWrite: the file could not be written; what was there before is untouched.
    """
    target = os.fspath(path)
    folder, name = os.path.split(target)
    passing = os.path.join(folder, f".{secrets.token_hex(8)}.part")
    try:
        try:
            with open(passing, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(passing, target)
        except BaseException:  # Ctrl-C too: nothing half-written stays
            with contextlib.suppress(OSError):
                os.unlink(passing)
            raise
    except (OSError, ValueError) as error:
        known = _REASONS.get(error.errno or 0) if isinstance(error, OSError) else None
        reason = known or (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise CannotWrite(f"{name or target!r} could not be saved: {reason}. Nothing was changed.") from error
