"""Which stylecode models there are: a code says whose it is, and is never read by another."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

FINGERPRINT = 4
"""Symbols of a model's fingerprint in a long code."""
_MARKS = "23456789abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"


@dataclass(frozen=True)
class CodeModel:
    """`name` is the model's for good: two trainings are two models. `mark`: the last symbol of its short codes; one of its own unless told.
    `normalised`: its latents have mean 0 and variance 1, by which slips in short codes are noticed."""

    name: str
    title: str = ""
    mark: str = ""
    normalised: bool = True

    @property
    def sign(self) -> str:
        return self.mark or _MARKS[int.from_bytes(self._digest[FINGERPRINT:][:4], "big") % len(_MARKS)]

    @property
    def fingerprint(self) -> tuple[int, ...]:
        """Four symbols, 0 to 63."""
        return tuple(byte % 64 for byte in self._digest[:FINGERPRINT])

    @property
    def _digest(self) -> bytes:
        return hashlib.sha256(self.name.encode()).digest()

    def __str__(self) -> str:
        return self.title or self.name


RELEASED = CodeModel("stylecodes-80000", "StyleCodes (SD 1.5, the author's)", "1", normalised=False)
"""The author's only release. Its LayerNorm has learnt weights."""
TINY = CodeModel("tiny-stylecode-1", "Built in: tiny-stylecode", "0")
