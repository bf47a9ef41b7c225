"""The released code's own form: 27 symbols of base64, which hold 20 bytes of 64 even steps from -1 to 1.

Written and read to the bit as `CiaraStrawberry/stylecodes` does it, in float32 or float16. What that code takes by mistake is refused here.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence
from typing import Literal

from lib_refonly.errors import BadSettings
from lib_refonly.stylecode.codes.levels import DIMENSIONS

LENGTH = 27
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_TOP = 63
_FORMATS = {"float32": "f", "float16": "e"}
_NOUGHT = [0] * LENGTH
"""Bits that are nought in each symbol of a code that was written: each byte's two highest, as no step is beyond 63, and the two left over at the end."""
for _first in range(0, 8 * DIMENSIONS, 8):
    _NOUGHT[_first // 6] |= 0b11 << (4 - _first % 6)
_NOUGHT[-1] |= 0b11


def write_v1(latent: Sequence[float], dtype: Literal["float32", "float16"] = "float32") -> str:
    """20 numbers -> 27 symbols; beyond -1 and 1 they are clipped. dtype: what the numbers are computed with.

    Raises:
        BadSettings: other than 20 numbers, or one that is none.
    """
    if len(latent) != DIMENSIONS:
        raise BadSettings(f"A style is {DIMENSIONS} numbers, not {len(latent)}.")
    if any(math.isnan(x) for x in latent):
        raise BadSettings("A style's numbers must be numbers.")
    steps = bytes(_step(x, _FORMATS[dtype]) for x in latent)
    return base64.b64encode(steps).decode().rstrip("=")


def _step(x: float, kind: str) -> int:
    """Each operation is rounded to the format, as torch rounds it: a double holds every such result exactly enough to be rounded once more."""
    return int(min(max(_rounded(_rounded(_rounded(x, kind) + 1, kind) * 31.5, kind), 0), _TOP))


def _rounded(x: float, kind: str) -> float:
    try:
        return struct.unpack(kind, struct.pack(kind, x))[0]
    except OverflowError:
        return float("inf") if x > 0 else float("-inf")


def steps_of(text: str) -> bytes | None:
    """27 symbols -> 20 steps; None: no code that this form could have written."""
    if len(text) != LENGTH or wrong_symbol(text) is not None:
        return None
    return base64.b64decode(text + "=")


def wrong_symbol(text: str) -> int | None:
    """The first place, from 0, at which no code that this form writes has this symbol. None: there is none."""
    for place, (symbol, nought) in enumerate(zip(text, _NOUGHT, strict=False)):
        level = ALPHABET.find(symbol)
        if level < 0 or level & nought:
            return place
    return None


def latent_of_steps(steps: bytes) -> tuple[float, ...]:
    """As the released code reads them, in float32."""
    return tuple(_rounded(_rounded(_rounded(step * 2, "f") / _TOP, "f") - 1, "f") for step in steps)
