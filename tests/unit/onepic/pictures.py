"""Pictures to test with."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RED, GREEN, BLUE, GREY = (220, 20, 30), (20, 200, 40), (10, 30, 210), (127, 127, 127)


def file_of(picture: Image.Image | NDArray[Any], format: str = "PNG", **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def plain(width: int, height: int, colour: tuple[int, ...] = RED) -> bytes:
    return file_of(Image.new("RGB" if len(colour) == 3 else "RGBA", (width, height), colour))


def noise(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def mask(width: int, height: int, *boxes: tuple[int, int, int, int]) -> bytes:
    """White inside the boxes (left, top, right, bottom), black elsewhere."""
    grey = np.zeros((height, width), np.uint8)
    for left, top, right, bottom in boxes:
        grey[top:bottom, left:right] = 255
    return file_of(grey)


def lying(picture: Image.Image, format: str = "JPEG") -> bytes:
    """The file of a picture that was taken with the camera turned: its pixels lie on their side, and EXIF says how to turn them upright."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by a quarter to see it upright
    return file_of(picture.transpose(Image.Transpose.ROTATE_90), format, exif=exif, quality=95)
