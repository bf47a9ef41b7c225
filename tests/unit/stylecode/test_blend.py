"""Mixing, varying, drawing and comparing styles."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_refonly.errors import BadSettings
from lib_refonly.stylecode.codes.blend import distance, interpolate, mix, mutate, normalised, random_style
from lib_refonly.stylecode.codes.codec import read, write_short
from lib_refonly.stylecode.codes.known import TINY
from tests.unit.stylecode.latents import some

numbers = st.integers(0, 10**9)
weight = st.floats(-1e300, 1e300)


def is_style(latent: tuple[float, ...]) -> bool:
    mean = math.fsum(latent) / 20
    return len(latent) == 20 and abs(mean) < 1e-9 and abs(math.fsum(x * x for x in latent) / 20 - 1) < 1e-9


@given(some)
def test_normalised(latent: list[float]) -> None:
    style = normalised(latent)
    assert is_style(style)
    assert normalised(style) == pytest.approx(style, abs=1e-12)
    assert normalised([3 * x + 2 for x in latent]) == pytest.approx(style, abs=1e-6)


@given(st.lists(st.tuples(some, weight), min_size=1, max_size=6))
def test_a_mix_is_a_style_or_refused(parts: list[tuple[list[float], float]]) -> None:
    """Refused where little is left: beside the largest weight next to nothing."""
    latents, weights = zip(*parts, strict=True)
    largest = max(map(abs, weights)) or 1.0
    left = [sum(w / largest * x for w, x in zip(weights, column, strict=True)) for column in zip(*latents, strict=True)]
    spread = max(left) - min(left)
    if spread < 1e-7:
        with pytest.raises(BadSettings, match="cancel"):
            mix(latents, weights)
    if spread < 1e-5:
        return
    mixed = mix(latents, weights)
    assert is_style(mixed)
    assert read(write_short(mixed, TINY)).model is TINY


@given(numbers, numbers, st.floats(0.01, 100))
def test_weights_are_shares(a: int, b: int, factor: float) -> None:
    one, other = random_style(a), random_style(b)
    assert mix([one, other], [3 * factor, factor]) == pytest.approx(mix([one, other], [0.75, 0.25]), abs=1e-9)
    assert mix([one, other], [factor, 0]) == pytest.approx(one, abs=1e-9)
    assert mix([one, other, one], [1, 1, 1]) == pytest.approx(mix([other, one], [1, 2]), abs=1e-9)


def test_a_mix_lies_between_and_a_negative_weight_leads_away() -> None:
    one, other = random_style(1), random_style(2)
    half = mix([one, other], [1, 1])
    assert distance(half, one) == pytest.approx(distance(half, other))
    assert distance(half, one) < distance(one, other)
    assert distance(mix([one, other], [1, -0.5]), other) > distance(one, other)


def test_what_cannot_be_mixed() -> None:
    style = random_style(1)
    for latents, weights in (([], []), ([style], []), ([style, style], [1])):
        with pytest.raises(BadSettings, match="one weight for each"):
            mix(latents, weights)
    for wrong in (math.nan, math.inf):
        with pytest.raises(BadSettings, match="must be a number"):
            mix([style], [wrong])
    for weights in ([1, -1], [0, 0]):
        with pytest.raises(BadSettings, match="cancel"):
            mix([style, style], weights)


@given(numbers, numbers)
def test_interpolation_goes_from_the_one_to_the_other(a: int, b: int) -> None:
    one, other = random_style(a), random_style(b)
    assert interpolate(one, other, 0) == pytest.approx(one, abs=1e-9)
    assert interpolate(one, other, 1) == pytest.approx(other, abs=1e-9)
    away = [distance(one, interpolate(one, other, share / 8)) for share in range(9)]
    assert all(nearer <= farther + 1e-12 for nearer, farther in zip(away, away[1:], strict=False))


@given(numbers)
def test_random_styles(number: int) -> None:
    assert is_style(random_style(number))
    assert random_style(number) == random_style(number)
    assert distance(random_style(number), random_style(number + 1)) > 0.02


def test_random_styles_are_spread_as_they_should_be() -> None:
    """Normal in each place, and unlike each other; and this one is the same on every machine and for good."""
    styles = [random_style(i) for i in range(2000)]
    for column in zip(*styles, strict=True):
        assert abs(math.fsum(column) / 2000) < 0.1
        assert math.fsum(x * x for x in column) / 2000 == pytest.approx(1, abs=0.15)
    far = [distance(a, b) for a, b in zip(styles, styles[1:], strict=False)]
    assert math.fsum(far) / len(far) == pytest.approx(1, abs=0.03)
    assert write_short(random_style(0), TINY) == "kTuh0kqdlJXnpn0ncZHH0"


@given(numbers, st.floats(0, 1), numbers)
def test_a_mutation_is_a_style_as_far_off_as_asked(style: int, amount: float, number: int) -> None:
    one = random_style(style)
    changed = mutate(one, amount, number)
    assert is_style(changed)
    assert changed == mutate(one, amount, number)
    if amount < 0.2:
        assert distance(one, changed) < 0.25


def test_mutations_from_near_to_far() -> None:
    one = random_style(5)
    assert mutate(one, 0, 1) == pytest.approx(one)
    means = [sum(distance(one, mutate(one, amount / 4, i)) for i in range(200)) / 200 for amount in range(5)]
    assert means == sorted(means)
    assert means[-1] == pytest.approx(1, abs=0.05)
    assert mutate(one, 0.5, 1) != mutate(one, 0.5, 2)
    for amount in (-0.1, 1.1, math.nan):
        with pytest.raises(BadSettings, match="between 0 and 1"):
            mutate(one, amount, 1)


@given(numbers, numbers)
def test_distance(a: int, b: int) -> None:
    one, other = random_style(a), random_style(b)
    assert distance(one, one) == pytest.approx(0, abs=1e-12)
    assert distance(one, other) == pytest.approx(distance(other, one))
    assert 0 <= distance(one, other) + 1e-12 <= 2 + 1e-9
    assert distance(one, [-x for x in one]) == pytest.approx(2)
    assert distance(one, read(write_short(one, TINY)).latent) < 1e-2
    assert distance(one, [0.0] * 20) == 1
