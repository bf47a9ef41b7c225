"""Latents to test with."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from lib_refonly.stylecode.codes.levels import DIMENSIONS


def _spread(numbers: list[float]) -> bool:
    mean = math.fsum(numbers) / len(numbers)
    return math.fsum((x - mean) ** 2 for x in numbers) > 1e-3


anything = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=DIMENSIONS, max_size=DIMENSIONS)
"""20 finite numbers, however large."""
ordinary = st.lists(st.floats(-4.5, 4.5), min_size=DIMENSIONS, max_size=DIMENSIONS)
some = st.lists(st.floats(-3, 3), min_size=DIMENSIONS, max_size=DIMENSIONS).filter(_spread)
"""20 numbers that are not all the same."""
