"""64 levels for a number that is normally distributed: Lloyd's and Max's, which lose least (relative error 2.5 %; the released code's even steps 36.8 %).

A style's latent comes out of a LayerNorm, so its 20 numbers are nearly that. Levels are told to five digits, so that every machine has the same.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import combinations

from lib_refonly.errors import BadSettings

DIMENSIONS = 20
_HALF = (
    *(0.03341, 0.10028, 0.1673, 0.23457, 0.30219, 0.37028, 0.43895, 0.50831, 0.5785, 0.64966, 0.72192, 0.79547, 0.87048, 0.94715, 1.02574, 1.10649),
    *(1.18972, 1.27579, 1.36514, 1.45828, 1.55583, 1.65859, 1.76754, 1.88398, 2.00961, 2.14681, 2.29898, 2.4713, 2.67227, 2.91741, 3.24044, 3.7441),
)
LEVELS = (*(-level for level in reversed(_HALF)), *_HALF)
_EDGES = tuple((low + high) / 2 for low, high in zip(LEVELS, LEVELS[1:], strict=False))
MODULUS = 17
"""A larger prime notices more slips and costs more: 2.75 % error instead of 2.54 %."""
_WEIGHTS = tuple(1 + i % (MODULUS - 1) for i in range(DIMENSIONS))
BALANCE = (0.06, 0.3)
"""How far from 0 the mean, and from 1 the mean square, of a latent may be that was normalised and then rounded to levels: a little more than the most
that was found by searching, in latents with one number far above the highest level (0.057 and 0.254)."""


def levels_of(latent: Sequence[float]) -> tuple[int, ...]:
    """20 numbers -> 20 levels, 0 to 63, the nearest ones but for one (two where numbers lie beyond the last levels): their weighted sum is made a
    multiple of 17, by which slips are noticed.

    Raises:
        BadSettings: other than 20 numbers, or one that is none.
    """
    if len(latent) != DIMENSIONS or not all(math.isfinite(x) for x in latent):
        raise BadSettings(f"A style is {DIMENSIONS} numbers, not {len(latent)}." if len(latent) != DIMENSIONS else "A style's numbers must be finite.")
    exact = [float(x) for x in latent]  # numpy's own would have the levels rounded to their type
    return tuple(_made_to_add_up([bisect_right(_EDGES, x) for x in exact], exact))


def _made_to_add_up(levels: list[int], latent: Sequence[float]) -> list[int]:
    rest = remainder(levels)
    if not rest:
        return levels
    steps = []
    for i, (level, x) in enumerate(zip(levels, latent, strict=True)):
        for step in (-1, 1):
            if 0 <= level + step < len(LEVELS):
                new, old = LEVELS[level + step], LEVELS[level]
                cost = (new - old) * (new + old - 2 * x)  # what the square of its error grows by
                steps.append((round(cost, 9), i, step))
    # One step is enough but where the places that it could be made at have no level in its direction.
    ways = (_ways(steps, rest, count) for count in (1, 2, 3))
    out = list(levels)
    for _, place, step in min(next(filter(None, ways)), key=lambda way: (round(sum(cost for cost, _, _ in way), 9), way)):
        out[place] += step
    return out


_Step = tuple[float, int, int]
"""What it costs, where, and 1 or -1."""


def _ways(steps: list[_Step], rest: int, count: int) -> list[tuple[_Step, ...]]:
    """The choices of `count` steps at different places that take the rest away."""
    sums = ((way, sum(step * _WEIGHTS[i] for _, i, step in way)) for way in combinations(steps, count) if len({i for _, i, _ in way}) == count)
    return [way for way, change in sums if (rest + change) % MODULUS == 0]


def remainder(levels: Sequence[int]) -> int:
    """0 for every code that was written here."""
    return sum(weight * level for weight, level in zip(_WEIGHTS, levels, strict=True)) % MODULUS


def latent_of(levels: Sequence[int]) -> tuple[float, ...]:
    return tuple(LEVELS[level] for level in levels)


def balanced(latent: Sequence[float]) -> bool:
    """Whether 20 numbers can have come out of a LayerNorm."""
    # Not `sum`: Python's own rounds otherwise since 3.12, and a code must not be read by one and refused by the other.
    mean, square = math.fsum(latent) / len(latent), math.fsum(x * x for x in latent) / len(latent)
    return abs(mean) <= BALANCE[0] and abs(square - 1) <= BALANCE[1]
