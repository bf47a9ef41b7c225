"""Pictures from outside, opened safely: size limits are checked on the header, and only raster formats are ever tried.

`open_picture` is for files the painter chose and for uploads; `decode_base64` is for strings that came through an API, where a path or an
address must never be followed.
"""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
import stat
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageOps, features

from lib_refonly.errors import BadPicture

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", *(("AVIF",) if "avif" in features.modules and features.check("avif") else ()))

DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    LookupError,
    EOFError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""What Pillow's plug-ins raise on damaged or hostile bytes (found by mutating files of every format)."""

_MEGA = 1_000_000
_MIB = 2**20
_MAX_ICC = 4 * _MIB
_URL = re.compile(r"\s*[a-zA-Z][a-zA-Z0-9+.\-]+:(//|\\\\)?")
_DATA_URL = re.compile(r"data:(?:image/[\w.+\-]+|application/octet-stream)?(?:;[\w\-]+=[\w\-.]+)*;base64,", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/\-_\s]+=*\s*")
_TIFF_TILE_SIZE = (322, 323)


@dataclass(frozen=True)
class Limits:
    """What a picture may cost at most: bytes of the file, pixels in all, and pixels of one side."""

    bytes: int = 64 * _MIB
    pixels: int = 64 * _MEGA
    side: int = 16384


DEFAULT_LIMITS = Limits()


def open_picture(source: str | os.PathLike[str] | bytes | BinaryIO, *, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """Open a picture from a path, from bytes, or from a binary stream.

    Returns: 8-bit RGB, or RGBA when the transparency says something; turned upright by its EXIF; the first frame of an animation; in sRGB
        when it carries a colour profile. Nothing of the file (text, EXIF, handle) stays attached.

    Raises:
        BadPicture: no file, not a regular file, not a raster picture, damaged, or over `limits` (found before anything is decoded).
    """
    return decode(read_source(source, limits), limits)


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """`open_picture` for bytes already in memory."""
    image = open_header(data, limits)
    try:
        image.load()
        return _tidy(image)
    except DECODER_ERRORS as error:
        raise BadPicture(f"The picture is damaged or cut off ({_reason(error)}). Save or download it again.") from error


def decode_base64(text: str, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """Open a picture that an API sent as base64 text or as a data: URL. Paths and addresses are refused; neither disk nor network is touched.

    Raises:
        BadPicture: as `open_picture`, or the text is something else.
    """
    if not isinstance(text, str):
        raise BadPicture(f"A picture as base64 text is expected here, not {type(text).__name__}.")
    if len(text) > limits.bytes * 4 // 3 + 4096:
        raise BadPicture(f"The picture is larger than {limits.bytes // _MIB} MB.")
    body = text.strip()
    header = _DATA_URL.match(body)
    if header:
        body = body[header.end() :]
    elif _URL.match(body) or "\\" in body:
        raise BadPicture("A picture as base64 text is expected here. Addresses and file names are not opened.")
    if not _BASE64.fullmatch(body):
        raise BadPicture("A picture as base64 text is expected here; this is something else (addresses and file names are not opened).")
    try:
        data = base64.b64decode(re.sub(r"\s", "", body).replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadPicture("The base64 text of the picture is cut off or damaged (file names are not opened).") from error
    return decode(_check_bytes(data, limits), limits)


def read_source(source: str | os.PathLike[str] | bytes | BinaryIO, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The bytes of a picture file, an upload or a stream: at most `limits.bytes`, and never from a pipe or a device.

    Raises:
        BadPicture: missing, not a regular file, unreadable, empty or too large.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return _check_bytes(bytes(source), limits)
    if isinstance(source, str | os.PathLike):
        return _read_file(os.fspath(source), limits)
    if not hasattr(source, "read"):
        raise BadPicture(f"A picture is expected here, not {type(source).__name__}.")
    data = source.read(limits.bytes + 1)
    if not isinstance(data, bytes):
        raise BadPicture("A picture is expected here, not text.")
    return _check_bytes(data, limits)


def _read_file(path: str, limits: Limits) -> bytes:
    if len(path) > 2 and _URL.match(path) and ("//" in path[:16] or path.lower().startswith("data:")):
        raise BadPicture("This is an address, not a file. Download the picture first.")
    name = os.path.basename(path) or path
    try:
        # Looked at before it is opened: opening a pipe waits for ever, and opening a device can do something.
        _check_regular(os.stat(path), name, limits)
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
        with open(os.open(path, flags), "rb") as file:
            _check_regular(os.fstat(file.fileno()), name, limits)  # again: it may have been swapped in between
            return _check_bytes(file.read(limits.bytes + 1), limits)
    except FileNotFoundError:
        raise BadPicture(f"There is no file {name!r}.") from None
    except PermissionError:
        raise BadPicture(f"{name!r} may not be read (permissions).") from None
    except (OSError, ValueError) as error:
        raise BadPicture(f"{name!r} cannot be read: {_reason(error)}.") from error


def _check_regular(info: os.stat_result, name: str, limits: Limits) -> None:
    if stat.S_ISDIR(info.st_mode):
        raise BadPicture(f"{name!r} is a folder, not a picture.")
    if not stat.S_ISREG(info.st_mode):
        raise BadPicture(f"{name!r} is not an ordinary file (a pipe or a device).")
    if info.st_size > limits.bytes:
        raise BadPicture(f"{name!r} is larger than {limits.bytes // _MIB} MB.")


def _check_bytes(data: bytes, limits: Limits) -> bytes:
    if not data:
        raise BadPicture("The file is empty (0 bytes).")
    if len(data) > limits.bytes:
        raise BadPicture(f"The picture is larger than {limits.bytes // _MIB} MB.")
    return data


def open_header(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """Read only the header. The pixels of the picture that comes back are not decoded yet, and its size is within `limits`.

    Raises:
        BadPicture: no raster picture, or too large.
    """
    webp = _webp_canvas(data)
    if webp:  # Pillow reserves the whole canvas of a WebP while opening it
        _check_size(webp, limits)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadPicture(f"The picture has more than {limits.pixels // _MEGA} million pixels. Make it smaller first.") from None
    except Image.UnidentifiedImageError as error:
        raise BadPicture(_what_it_is(data)) from error
    except DECODER_ERRORS as error:
        raise BadPicture(f"The picture is damaged ({_reason(error)}). Save or download it again.") from error
    _check_size(image.size, limits)
    tags = getattr(image, "tag_v2", {})
    if any(isinstance(tags.get(tag), int) and tags[tag] > limits.side for tag in _TIFF_TILE_SIZE):
        raise BadPicture("The TIFF is stored in tiles that are far larger than the picture. Save it as PNG.")
    return image


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise BadPicture("The picture has no pixels.")
    if max(width, height) > limits.side:
        raise BadPicture(f"The picture is {width} x {height} pixels; no side may be longer than {limits.side}. Make it smaller first.")
    if width * height > limits.pixels:
        raise BadPicture(f"The picture is {width} x {height} pixels, more than {limits.pixels // _MEGA} million. Make it smaller first.")


def _webp_canvas(data: bytes) -> tuple[int, int] | None:
    """Size of an extended WebP (the only form whose canvas can be larger than 16383 a side), from its first 30 bytes."""
    if len(data) < 30 or data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8X":
        return None
    return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")


_SIGNATURES = (
    (rb"%PDF", "a PDF"),
    (rb"8BPS", "a Photoshop file"),
    (rb"CSFCHUNK", "a Clip Studio file"),
    (rb"PK\x03\x04", "a zip archive (or a Krita, OpenRaster or Office file)"),
    (rb"....ftyp(heic|heix|mif1|msf1|hevc)", "a HEIC photo"),
    (rb"....ftyp", "a film"),
    (rb"\x1a\x45\xdf\xa3", "a film"),
    (rb"gimp xcf", "a GIMP file"),
    (rb"\x00\x00\x01\x00", "an icon file"),
    (rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.{0,2000}?-->\s*)*(<!DOCTYPE svg[^>]*>\s*)?<svg", "an SVG drawing"),
    (rb"(\xef\xbb\xbf)?\s*<(!doctype html|html)", "a web page"),
)


def _what_it_is(data: bytes) -> str:
    for pattern, name in _SIGNATURES:
        if re.match(pattern, data[:4096], re.DOTALL | re.IGNORECASE):
            return f"This is {name}, not a picture that can be opened here. Export it as PNG."
    return f"This is no picture that can be opened here ({', '.join(FORMATS)}), or its beginning is damaged."


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().rstrip(".")[:120] or type(error).__name__


def _tidy(image: Image.Image) -> Image.Image:
    """A decoded picture of any mode -> upright 8-bit RGB or RGBA in sRGB, without metadata."""
    profile = image.info.get("icc_profile")
    image = _upright(image)
    image = _to_8_bit(image)
    image = _to_srgb(image, profile)
    transparent = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    image = _drop_idle_alpha(image.convert("RGBA")) if transparent else image.convert("RGB")
    tidy = Image.new(image.mode, image.size)
    tidy.paste(image)
    return tidy


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except DECODER_ERRORS:  # broken EXIF: the pixels are good, only their turn is unknown
        return image


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale deep single-channel pictures (I;16, I, F) to 8-bit L. Pillow itself would clip them at 255. Others pass through."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.nan_to_num(np.asarray(image).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return Image.fromarray(np.clip(np.rint(values * (255 / _white_of(image, float(values.max(initial=0.0))))), 0, 255).astype(np.uint8))


def _white_of(image: Image.Image, brightest: float) -> float:
    """The value that means white. Files of 32 bits don't say it; what their brightest pixel fits into is the usual reading."""
    if image.mode.startswith("I;16") or image.format == "PNG":
        return 65535.0
    if image.mode == "F" and brightest <= 16:  # 0..1 with highlights; a 0..255 picture this dark would show nothing
        return 1.0
    return next((white for white in (255.0, 65535.0) if brightest <= white), brightest)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert by the embedded colour profile where it fits the mode; without one, or with a broken one, leave the numbers alone."""
    if image.mode == "LAB":
        return _through_profile(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "RGB")
    if not profile or len(profile) > _MAX_ICC or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if not _wants_conversion(embedded, "CMYK" if image.mode == "CMYK" else "RGB"):
            return image
        if image.mode != "RGBA":
            return _through_profile(image, embedded, "RGB")
        colour = _through_profile(image.convert("RGB"), embedded, "RGB")
        colour.putalpha(image.getchannel("A"))
        return colour
    except (ImageCms.PyCMSError, *DECODER_ERRORS):
        return image


def _wants_conversion(profile: ImageCms.ImageCmsProfile, space: str) -> bool:
    """A profile for pictures of this colour space that is not plain sRGB."""
    return str(getattr(profile.profile, "xcolor_space", "")).strip() == space and "sRGB" not in ImageCms.getProfileDescription(profile)


def _through_profile(image: Image.Image, profile: ImageCms.ImageCmsProfile, mode: str) -> Image.Image:
    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode=mode)
    assert converted is not None  # None only with inPlace=True
    return converted


def _drop_idle_alpha(image: Image.Image) -> Image.Image:
    """Transparency that is the same everywhere says nothing about where the character is."""
    lowest, highest = image.getchannel("A").getextrema()
    return image.convert("RGB") if lowest == highest else image
