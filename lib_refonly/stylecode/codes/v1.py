"""The released code's own form: 27 symbols of base64, which hold 20 bytes of 64 even steps from -1 to 1.

Written and read to the bit as `CiaraStrawberry/stylecodes` does it, in float32 or float16. What that code takes by mistake is refused here.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Sequence
from typing import Literal

from lib_refonly.errors import BadSettings
from lib_refonly.stylecode.codes.levels import DIMENSIONS

LENGTH = 27
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_TOP = 63
_FORMATS = {"float32": "f", "float16": "e"}


def write_v1(latent: Sequence[float], dtype: Literal["float32", "float16"] = "float32") -> str:
    """20 numbers -> 27 symbols; beyond -1 and 1 they are clipped. dtype: what the numbers are computed with.

    Raises:
        BadSettings: other than 20 numbers.
    """
    if len(latent) != DIMENSIONS:
        raise BadSettings(f"A style is {DIMENSIONS} numbers, not {len(latent)}.")
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
    try:
        steps = base64.b64decode(text + "=", validate=True)
    except (binascii.Error, ValueError):
        return None
    # Whoever wrote it: no step is beyond 63, and the last symbol's spare bits are nought.
    if len(steps) != DIMENSIONS or max(steps) > _TOP or base64.b64encode(steps).decode().rstrip("=") != text:
        return None
    return steps


def latent_of_steps(steps: bytes) -> tuple[float, ...]:
    """As the released code reads them, in float32."""
    return tuple(_rounded(_rounded(_rounded(step * 2, "f") / _TOP, "f") - 1, "f") for step in steps)
