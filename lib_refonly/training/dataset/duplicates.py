"""Near-duplicates: pictures that look the same when they are small. What similar embeddings above the ceiling are, but found before anything is embedded."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Looks = NDArray[np.uint8]

_SHAPE, _COLOUR = 8, 4
_BITS_LENGTH = _SHAPE * _SHAPE // 8
LENGTH = _BITS_LENGTH + _COLOUR * _COLOUR * 3
"""Bytes of a picture's look."""
BITS, LEVELS = 3, 14
"""Two pictures are duplicates when at most this many of 64 bits and no colour by more than this many levels differ."""
_BAND = _BITS_LENGTH // (BITS + 1)
"""Bytes."""


def look(picture: Image.Image) -> bytes:
    """How a picture looks: 64 bits of its shapes, and 4 x 4 mean colours.

    The bits are the signs of the lowest frequencies of the brightness (pHash: a discrete cosine transform of 32 x 32 pixels, against the median). The
    colours tell a character from the same one in another dress, which is no duplicate but the best of partners.
    """
    rgb = picture.convert("RGB")
    small = np.asarray(rgb.convert("L").resize((32, 32), Image.Resampling.BOX), np.float32)
    waves = cv2.dct(small)[:_SHAPE, :_SHAPE].ravel()
    bits = np.packbits(waves > np.median(waves[1:]))
    return bits.tobytes() + np.asarray(rgb.resize((_COLOUR, _COLOUR), Image.Resampling.BOX), np.uint8).tobytes()


def duplicates(looks: Sequence[bytes], pixels: Sequence[int]) -> list[int]:
    """For each picture the number of the one that stays instead of it; -1 for those that stay: of some that look alike the one with the most pixels,
    of those the first. A chain of small differences may end in a picture that stays beside the first: only what looks like a kept one goes.
    """
    known = np.frombuffer(b"".join(looks), np.uint8).reshape(len(looks), LENGTH)
    # 64 bits in BITS + 1 bands: when at most BITS differ, one band is the same. Only the kept ones with such a band are compared.
    buckets: dict[tuple[int, bytes], array[int]] = {}
    instead = [-1] * len(looks)
    for number in sorted(range(len(looks)), key=lambda place: (-pixels[place], place)):
        bands = [(band, looks[number][start : start + _BAND]) for band, start in enumerate(range(0, _BITS_LENGTH, _BAND))]
        before = [_first_alike(known, number, buckets[band]) for band in bands if band in buckets]
        if found := [other for other in before if other >= 0]:
            instead[number] = min(found)
        else:
            for band in bands:
                buckets.setdefault(band, array("q")).append(number)
    return instead


def _first_alike(known: Looks, number: int, others: array[int]) -> int:
    """The first of `others` that looks like `number`; -1: none does."""
    places = np.frombuffer(others, np.int64)
    bits = np.unpackbits(known[places, :_BITS_LENGTH] ^ known[number, :_BITS_LENGTH], axis=1).sum(axis=1)
    places = places[bits <= BITS]
    away = np.abs(known[places, _BITS_LENGTH:].astype(np.int16) - known[number, _BITS_LENGTH:]).max(axis=1, initial=0)
    near = places[away <= LEVELS]
    return int(near.min()) if len(near) else -1
