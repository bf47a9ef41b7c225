"""A million strings: nothing but a sentence is raised, and no more of them is taken for a code than by chance."""

from __future__ import annotations

import random
import string
from collections import Counter
from collections.abc import Callable

import pytest

from lib_refonly.errors import BadSettings
from lib_refonly.stylecode.codes import RELEASED, TINY, read, write_long, write_short, write_v1
from lib_refonly.stylecode.codes.blend import random_style
from lib_refonly.stylecode.codes.codec import LONG, LONG_ALPHABET, SHORT, SHORT_ALPHABET
from lib_refonly.stylecode.codes.levels import MODULUS, balanced, latent_of
from lib_refonly.stylecode.codes.v1 import ALPHABET, LENGTH

MILLION = 1_000_000
SHARE = 4
"""Of each kind of string a quarter of a million is read."""
_UNICODE = string.printable + "éß日本語\u00a0\u200b\ufeff\u202e\x00\x1b🙂\ud800“”–—ＡＢ٣" + SHORT_ALPHABET


def counted(make: Callable[[random.Random], str], seed: int, count: int = MILLION // SHARE) -> Counter[str]:
    """How many are accepted, by model and form."""
    rng, found = random.Random(seed), Counter()
    for _ in range(count):
        text = make(rng)
        try:
            code = read(text)
        except BadSettings:
            continue
        found[f"{code.form} {code.model.name}"] += 1
    return found


def share_in_balance(count: int = 40_000) -> float:
    rng = random.Random(99)
    return sum(balanced(latent_of([rng.randrange(64) for _ in range(SHORT - 1)])) for _ in range(count)) / count


def test_random_words_of_a_short_codes_length() -> None:
    """1 in 64 for the sign, 1 in 17 for the sum: 0.092 % for a model without a balance; with one 0.00034 %."""
    found = counted(lambda rng: "".join(rng.choices(SHORT_ALPHABET, k=SHORT)), 1)
    expected = MILLION / SHARE / 64 / MODULUS
    assert abs(found.pop(f"short {RELEASED.name}") - expected) < 5 * expected**0.5
    with_balance = expected * share_in_balance()
    assert 0 < with_balance < 2
    assert found.pop(f"short {TINY.name}", 0) < with_balance + 5 * with_balance**0.5 + 3
    assert not found


def test_random_words_of_the_other_lengths() -> None:
    """v1: 42 bits that must be nought, 2e-13. Long: within one symbol of a right one, (1 + 29 * 63) / 64^4, and then of 64 forms and 64^4 fingerprints
    those of two models: 4e-13."""
    even = counted(lambda rng: "".join(rng.choices(ALPHABET, k=LENGTH)), 2, MILLION // SHARE // 2)
    long = counted(lambda rng: "".join(rng.choices(LONG_ALPHABET, k=LONG)), 3, MILLION // SHARE // 2)
    assert not even
    assert not long


def test_any_strings() -> None:
    """Of all lengths around, of all letters."""

    def make(rng: random.Random) -> str:
        letters = rng.choice((_UNICODE, string.printable, ALPHABET + "=", LONG_ALPHABET + "-", "A", "A-", "\ud800", " \t\n-"))
        return "".join(rng.choices(letters, k=rng.choice((*range(19, 36), 0, 1, 199, 200, 201))))

    found = counted(make, 4)
    # A's alone are a right v1 code: twenty times the lowest step.
    allowed = {f"v1 {RELEASED.name}"}
    short = found.pop(f"short {RELEASED.name}", 0) + found.pop(f"short {TINY.name}", 0)
    assert found.keys() <= allowed
    # At most three eighths of the strings have letters of which a short code can be, an eleventh of these its length.
    assert short < MILLION / SHARE * 3 / 8 / 11 / 64 / MODULUS * 2 + 20


def test_right_codes_made_wrong() -> None:
    """One to four changes of any kind: another symbol, a swap, one left out or doubled, a space, another case, cut off, turned round."""
    styles = [random_style(i) for i in range(100)]
    right = {
        "v1": [write_v1(style) for style in styles],
        "short": [write_short(style, TINY) for style in styles],
        "long": [write_long(style, TINY) for style in styles],
    }
    own = {form: [read(code).latent for code in codes] for form, codes in right.items()}
    rng, wrong, tried = random.Random(5), Counter(), Counter()
    for _ in range(MILLION // SHARE):
        form = rng.choice(("v1", "short", "short", "long"))
        number = rng.randrange(len(styles))
        text = right[form][number]
        for _ in range(rng.randint(1, 4)):
            text = changed(text, rng)
        tried[form] += 1
        try:
            code = read(text)
        except BadSettings:
            continue
        # Right is: the code that it was, for what was changed is corrected, or is left out in reading.
        wrong[form, code.form] += code.latent != own[form][number]
    assert sum(tried.values()) == MILLION // SHARE
    # v1 has no check but its bits. A short code's sum misses 1 slip of 17, its balance few of them. Of a long code up to three wrong symbols are noticed,
    # more are missed once in 64^4 / (1 + 29 * 63) = 9178. A code becomes one of another form hardly ever.
    assert wrong["v1", "v1"] / tried["v1"] < 0.15
    assert wrong["short", "short"] / tried["short"] < 0.015
    assert wrong["long", "long"] < 2 * tried["long"] / 9178
    assert sum(wrong[form, other] for form, other in wrong if form != other) < 1e-4 * MILLION / SHARE


def changed(text: str, rng: random.Random) -> str:
    if not text:
        return "A"
    place = rng.randrange(len(text))
    before, symbol, after = text[:place], text[place], text[place + 1 :]
    kind = rng.random()
    if kind < 0.5:
        return before + rng.choice(SHORT_ALPHABET) + after
    if kind < 0.7:
        return before + after[:1] + symbol + after[1:]
    if kind < 0.8:
        return before + rng.choice(("", symbol + symbol)) + after
    if kind < 0.9:
        return before + rng.choice((" ", "-", "\u00a0")) + symbol + after
    if kind < 0.97:
        return before + symbol.swapcase() + after
    return rng.choice((text[:place], text[::-1], text.lower(), text.upper(), before + "é" + after))


@pytest.mark.parametrize("text", ["\ud800" * 21, "\x00" * 27, "🙂" * 29, "٣" * 21, "Ａ" * 27, "=" * 28, "-" * 29, "-" * 200, "\u200b" * 21, "A" * 10**6])
def test_strings_that_are_hard_on_programs(text: str) -> None:
    with pytest.raises(BadSettings) as caught:
        read(text)
    assert str(caught.value).endswith(".")
    str(caught.value).encode("utf-8")
