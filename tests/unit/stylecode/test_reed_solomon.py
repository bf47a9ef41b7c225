"""One wrong symbol is corrected, two and three are noticed: all of them, or by many draws."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_refonly.stylecode.codes.reed_solomon import CHECKS, corrected, with_checks

symbols = st.lists(st.integers(0, 63), min_size=1, max_size=59)
LONG = 25
"""Symbols of a long code before its checks."""


def random_word(rng: random.Random, length: int = LONG) -> list[int]:
    return with_checks([rng.randrange(64) for _ in range(length)])


def spoilt(word: list[int], places: tuple[int, ...], rng: random.Random) -> list[int]:
    out = [*word]
    for place in places:
        out[place] ^= rng.randrange(1, 64)
    return out


@given(symbols)
def test_what_was_written_is_read(given: list[int]) -> None:
    word = with_checks(given)
    assert word[: len(given)] == given
    assert len(word) == len(given) + CHECKS
    assert corrected(word) == (word, None)


@given(symbols, symbols)
def test_the_code_is_linear(one: list[int], other: list[int]) -> None:
    """The sum of two words is a word: so that what holds for the errors of one holds for all."""
    size = min(len(one), len(other))
    a, b = with_checks(one[:size]), with_checks(other[:size])
    assert with_checks([x ^ y for x, y in zip(one, other, strict=False)]) == [x ^ y for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize("length", [1, 2, LONG, 59])
def test_every_single_error_is_corrected(length: int) -> None:
    """All places, all wrong symbols."""
    word = random_word(random.Random(length), length)
    for place in range(len(word)):
        for error in range(1, 64):
            wrong = [*word]
            wrong[place] ^= error
            assert corrected(wrong) == (word, place)


def test_every_double_error_at_all_places_is_refused() -> None:
    rng = random.Random(0)
    word = random_word(rng)
    for places in combinations(range(len(word)), 2):
        for _ in range(64):
            assert corrected(spoilt(word, places, rng)) is None


def test_triple_errors_are_refused() -> None:
    rng = random.Random(0)
    word = random_word(rng)
    for places in combinations(range(len(word)), 3):
        for _ in range(8):
            assert corrected(spoilt(word, places, rng)) is None


def test_no_word_is_nearer_than_five() -> None:
    """With four wrong symbols one can come within one symbol of another word, and some do: it is the limit, not less."""
    rng = random.Random(0)
    word = random_word(rng)
    found = [corrected(spoilt(word, tuple(rng.sample(range(len(word)), 4)), rng)) for _ in range(60000)]
    near = [other[0] for other in found if other is not None]
    assert near
    assert all(sum(a != b for a, b in zip(word, other, strict=True)) >= 5 for other in near)
    assert len(near) / len(found) < 4 * len(word) * 63 / 64**4 * 64  # far fewer than by three checks


def test_random_words() -> None:
    """A random word is accepted, one symbol corrected, with the share of words within one symbol of a right one: (1 + 29 * 63) / 64^4."""
    rng = random.Random(0)
    found = sum(corrected([rng.randrange(64) for _ in range(29)]) is not None for _ in range(100000))
    expected = 100000 * (1 + 29 * 63) / 64**4
    assert expected / 3 < found < expected * 2.5
