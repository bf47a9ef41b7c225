"""Which pairs are wanted, and the best of them for a block of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lib_refonly.errors import BadSettings
from lib_refonly.training.dataset.vectors import Floats, Rows

_PRODUCTS = 2**22
"""Cosines in memory at a time."""
_CANDIDATES = 2**22
"""Candidate pairs that are kept before they are thinned out to the best."""


@dataclass(frozen=True)
class Window:
    """Cosines from `low` to `high`, both included, and at most `per_picture` partners for each picture: those with the highest.

    The paper takes every pair above 0.90 (section 3.2). What is above `high` shows the same thing twice, and teaches copying; with `high` 1 all of it stays.

    Raises:
        BadSettings: not -1 <= low <= high <= 1, or `per_picture` below 1.
    """

    low: float = 0.90
    high: float = 0.98
    per_picture: int = 4

    def __post_init__(self) -> None:
        if not -1 <= self.low <= self.high <= 1:
            raise BadSettings(f"Cosines lie in -1 to 1, and the lower limit is not above the upper one; these are {self.low:g} and {self.high:g}.")
        if self.per_picture < 1:
            raise BadSettings(f"At least 1 pair for a picture; {self.per_picture} is not.")


class Pairs(NamedTuple):
    """Row numbers `a` and `b`, int64 [M], and `cosine`, float32 [M]. By a, then from the highest cosine down, then by b."""

    a: Rows
    b: Rows
    cosine: Floats

    @classmethod
    def joined(cls, parts: Sequence[Pairs]) -> Pairs:
        """One after the other."""
        if not parts:
            return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
        return cls(np.concatenate([part.a for part in parts]), np.concatenate([part.b for part in parts]), np.concatenate([part.cosine for part in parts]))

    def chosen(self, which: Any) -> Pairs:
        """Some of them: a mask, or their numbers in the order that is wanted."""
        return Pairs(self.a[which], self.b[which], self.cosine[which])


class Best:
    """The best partners of some pictures among all that are offered. Memory has a bound, however many candidates there are: those that can't be
    among the best any more are thrown out when there are more than `_CANDIDATES`, or than twice as many as may stay."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._highest = np.float32(window.high if window.high < 1 else np.inf)  # the cosine of a vector with itself can be 1.0000001
        self._kept: list[Pairs] = []
        self._count, self._most = 0, _CANDIDATES

    def offer(self, a: Rows, queries: Floats, b: Rows, bases: Floats) -> None:
        """Pictures `a` with unit vectors `queries` [len(a), D], and possible partners `b`. No pair may be offered twice."""
        step = max(1, _PRODUCTS // max(1, len(b)))
        for start in range(0, len(a), step):
            cosines = queries[start : start + step] @ bases.T
            near = np.flatnonzero(cosines.max(axis=1) >= np.float32(self._window.low))  # most pictures have none here
            part = cosines[near]
            i, j = np.nonzero((part >= np.float32(self._window.low)) & (part <= self._highest))
            found = Pairs(a[start + near[i]], b[j], part[i, j])
            self._add(found.chosen(found.a != found.b))

    def pairs(self) -> Pairs:
        """What is best of all that was offered."""
        self._thin_out()
        return Pairs.joined(self._kept)

    def _add(self, found: Pairs) -> None:
        if len(found.a):
            self._kept.append(found)
            self._count += len(found.a)
        if self._count > self._most:
            self._thin_out()

    def _thin_out(self) -> None:
        whole = Pairs.joined(self._kept)
        whole = whole.chosen(np.lexsort((whole.b, -whole.cosine, whole.a)))
        first = np.flatnonzero(np.diff(whole.a, prepend=-1))
        place = np.arange(len(whole.a)) - np.repeat(first, np.diff(first, append=len(whole.a)))
        self._kept = [whole.chosen(place < self._window.per_picture)]
        self._count = len(self._kept[0].a)
        self._most = max(_CANDIDATES, 2 * self._count)
