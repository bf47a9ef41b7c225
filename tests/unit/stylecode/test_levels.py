"""The 64 levels, and the one step by which a code adds up."""

from __future__ import annotations

import math
import random
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given

from lib_refonly.errors import BadSettings
from lib_refonly.stylecode.codes.blend import normalised, random_style
from lib_refonly.stylecode.codes.levels import DIMENSIONS, LEVELS, MODULUS, balanced, latent_of, levels_of, remainder
from tests.unit.stylecode.latents import anything, ordinary, some

NORMAL = NormalDist()


def centroid(low: float, high: float) -> float:
    """The mean of a normal number that lies between two edges."""
    return (NORMAL.pdf(low) - NORMAL.pdf(high)) / (NORMAL.cdf(high) - NORMAL.cdf(low))


def test_the_levels_are_lloyds_and_maxs() -> None:
    """Every level is the centroid of the cell between the middles to its neighbours, to the digits that are told; they rise, and mirror each other."""
    edges = [-math.inf, *((a + b) / 2 for a, b in zip(LEVELS, LEVELS[1:], strict=False)), math.inf]
    assert len(LEVELS) == 64
    assert sorted(set(LEVELS)) == list(LEVELS)
    assert [-level for level in reversed(LEVELS)] == list(LEVELS)
    for level, low, high in zip(LEVELS, edges, edges[1:], strict=False):
        assert level == pytest.approx(centroid(low, high), abs=2e-5)


def test_it_is_no_other_fixed_point() -> None:
    """Lloyd's iteration from even levels comes to the same."""
    levels = [-3 + 6 * i / 63 for i in range(64)]
    for _ in range(12000):
        edges = [-math.inf, *((a + b) / 2 for a, b in zip(levels, levels[1:], strict=False)), math.inf]
        cdf, pdf = [NORMAL.cdf(e) for e in edges], [NORMAL.pdf(e) for e in edges]
        levels = [(pdf[i] - pdf[i + 1]) / (cdf[i + 1] - cdf[i]) for i in range(64)]
    assert levels == pytest.approx(list(LEVELS), abs=2e-5)


def test_what_is_lost() -> None:
    """At most 3 % for styles (v1 loses 36.8 %), the step by which it adds up included."""
    rng = np.random.default_rng(0)
    styles = rng.standard_normal((3000, DIMENSIONS))
    styles = (styles - styles.mean(1, keepdims=True)) / styles.std(1, keepdims=True)
    lost = [np.square(np.subtract(latent_of(levels_of(x)), x)).sum() for x in styles.tolist()]
    assert 0.02 < math.sqrt(np.mean(lost) / DIMENSIONS) < 0.03
    even = np.clip(styles, -1, 1)
    assert np.sqrt(np.mean((even - styles) ** 2)) == pytest.approx(0.368, abs=0.01)


@given(anything)
def test_any_20_numbers_have_levels_that_add_up(latent: list[float]) -> None:
    levels = levels_of(latent)
    assert all(0 <= level < 64 for level in levels)
    assert remainder(levels) == 0
    assert levels_of(latent_of(levels)) == levels


@given(ordinary)
def test_no_number_is_moved_by_more_than_one_level(latent: list[float]) -> None:
    moved = 0
    for level, x in zip(levels_of(latent), latent, strict=True):
        away = [abs(other - x) for other in LEVELS]
        nearest = [i for i in range(64) if away[i] == min(away)]  # two, on an edge
        assert min(abs(level - i) for i in nearest) <= 1
        moved += level not in nearest
    assert moved <= 3


def test_the_step_is_the_cheapest_of_all() -> None:
    rng = random.Random(0)
    for _ in range(200):
        latent = [rng.gauss(0, 1) for _ in range(DIMENSIONS)]
        nearest = [min(range(64), key=lambda i, x=x: abs(LEVELS[i] - x)) for x in latent]
        if remainder(nearest) == 0:
            assert levels_of(latent) == tuple(nearest)
            continue
        costs = []
        for place, step in product(range(DIMENSIONS), (-1, 1)):
            changed = [*nearest]
            changed[place] += step
            if 0 <= changed[place] < 64 and remainder(changed) == 0:
                costs.append(math.dist(latent, latent_of(changed)))
        assert math.dist(latent, latent_of(levels_of(latent))) == pytest.approx(min(costs))


def test_numbers_beyond_the_last_levels() -> None:
    """Where no single step adds up: all numbers at an end."""
    rng = random.Random(1)
    for _ in range(3000):
        levels = levels_of([rng.choice((-9.0, 9.0)) for _ in range(DIMENSIONS)])
        assert remainder(levels) == 0
        assert sum(level not in (0, 63) for level in levels) <= 3


@given(some)
def test_every_style_is_balanced(numbers: list[float]) -> None:
    style = normalised(numbers)
    assert balanced(latent_of(levels_of(style)))


@pytest.mark.parametrize("far", [2, 2.5, 3, 3.3, 3.49, 3.6, 3.8, 4, 4.2, 4.3, 4.35])
def test_a_style_with_one_number_far_off_is_balanced(far: float) -> None:
    """The worst there is: the number is cut off at the highest level. The others have what is left of the variance, in 300 ways."""
    rng = np.random.default_rng(round(100 * far))
    left = 20 - far**2 - far**2 / 19
    for sign in (-1, 1):
        others = rng.standard_normal((300, 19))
        others = (others - others.mean(1, keepdims=True)) / others.std(1, keepdims=True)
        others = -far / 19 + others * math.sqrt(left / 19)
        for rest in others.tolist():
            latent = normalised([sign * far, *(sign * x for x in rest)])
            assert latent[0] == pytest.approx(sign * far)
            assert balanced(latent_of(levels_of(latent)))


def test_what_is_no_style_is_out_of_balance() -> None:
    assert not balanced([0.0] * 20)
    assert not balanced([1.0] * 20)
    assert not balanced([2.0, -2.0] * 10)
    assert balanced([1.0, -1.0] * 10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_read_back_in_any_precision_it_is_the_same_code(dtype: torch.dtype) -> None:
    """A decoded latent lies in the middle of its cells: neither a type nor the rows beside it can move it out of them."""
    codes = [levels_of(random_style(i)) for i in range(300)]
    decoded = torch.tensor([latent_of(code) for code in codes], dtype=torch.float64).to(dtype)
    assert [levels_of(row) for row in decoded.tolist()] == codes
    noisy = decoded.double() * (1 + 1e-5 * torch.randn(decoded.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    assert [levels_of(row) for row in noisy.tolist()] == codes


def test_numpys_and_torchs_numbers_are_pythons() -> None:
    """The same numbers in other hands: numpy would compare in float32."""
    for i in range(200):
        row = np.array(random_style(i), np.float32)
        row[3] = np.float32((LEVELS[40] + LEVELS[41]) / 2)  # rounded to an edge
        wanted = levels_of([float(x) for x in row])
        assert levels_of(row) == wanted  # type: ignore[arg-type]
        assert levels_of(torch.from_numpy(row)) == wanted  # type: ignore[arg-type]


def test_it_is_the_same_everywhere() -> None:
    """What this code wrote once, for good."""
    assert levels_of(random_style(1)) == (43, 59, 16, 43, 36, 22, 31, 18, 36, 42, 31, 42, 20, 48, 20, 40, 5, 21, 30, 27)
    assert LEVELS[63] == 3.7441
    assert MODULUS == 17


@pytest.mark.parametrize("latent", [[], [0.0] * 19, [0.0] * 21, [math.nan] * 20, [0.0] * 19 + [math.inf], [-math.inf] + [0.0] * 19])
def test_what_is_no_style(latent: list[float]) -> None:
    with pytest.raises(BadSettings, match=r"20 numbers|finite"):
        levels_of(latent)
