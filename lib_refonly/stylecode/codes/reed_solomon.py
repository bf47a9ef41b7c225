"""A Reed-Solomon code over GF(64) with four check symbols: any single wrong symbol is corrected, any three are noticed (distance 5)."""

from __future__ import annotations

from collections.abc import Sequence

CHECKS = 4
_FIELD = 64
_POLYNOMIAL = 0b1000011  # x^6 + x + 1, primitive
_POWERS = [1]
while len(_POWERS) < _FIELD - 1:
    _next = _POWERS[-1] << 1
    _POWERS.append(_next ^ _POLYNOMIAL if _next & _FIELD else _next)
_LOGS = {power: i for i, power in enumerate(_POWERS)}


def _times(a: int, b: int) -> int:
    return _POWERS[(_LOGS[a] + _LOGS[b]) % (_FIELD - 1)] if a and b else 0


def _generator() -> list[int]:
    """(x - 1)(x - a)(x - a^2)(x - a^3), highest power first."""
    out = [1]
    for root in _POWERS[:CHECKS]:
        out = [a ^ _times(root, b) for a, b in zip([*out, 0], [0, *out], strict=True)]
    return out


_GENERATOR = _generator()


def with_checks(symbols: Sequence[int]) -> list[int]:
    """Symbols 0 to 63, at most 59 of them -> the same and four check symbols."""
    rest = [*symbols, *[0] * CHECKS]
    for i in range(len(symbols)):
        lead = rest[i]
        for j, factor in enumerate(_GENERATOR):
            rest[i + j] ^= _times(lead, factor)
    return [*symbols, *rest[-CHECKS:]]


def corrected(symbols: Sequence[int]) -> tuple[list[int], int | None] | None:
    """With check symbols -> the same, corrected, and the place that was wrong (None: none). None: more is wrong than can be told."""
    syndromes = [_evaluate(symbols, root) for root in _POWERS[:CHECKS]]
    if not any(syndromes):
        return list(symbols), None
    if not all(syndromes):  # a single error shows in all four
        return None
    steps = [(_LOGS[b] - _LOGS[a]) % (_FIELD - 1) for a, b in zip(syndromes, syndromes[1:], strict=False)]
    place = len(symbols) - 1 - steps[0]
    if len(set(steps)) > 1 or place < 0:
        return None
    out = list(symbols)
    out[place] ^= syndromes[0]
    return out, place


def _evaluate(symbols: Sequence[int], root: int) -> int:
    value = 0
    for symbol in symbols:
        value = _times(value, root) ^ symbol
    return value
