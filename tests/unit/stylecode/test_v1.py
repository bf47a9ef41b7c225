"""The released code's own form against what that code computed: every row, level and odd input of the golden pack."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_refonly.errors import BadSettings
from lib_refonly.stylecode.codes import RELEASED, TINY, read, write_v1
from lib_refonly.stylecode.codes.v1 import ALPHABET, LENGTH, latent_of_steps, steps_of, wrong_symbol
from tests.unit.stylecode.latents import anything

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[2] / "golden" / "stylecodes_golden" / "codes_v1.json").read_text("utf-8"))
ODD = GOLDEN["odd_inputs"]
DEMO = "Aj8dPwAACD8rECAlCC8UGzU/HwI"
SAYS: dict[str, str] = {
    "empty": "this one has 0",
    "lower": "symbol 1, 'a', is wrong, or in the wrong case",
    "upper": "symbol 3, '8'|symbol 2, 'J'",
    "urlsafe_plus_to_minus": "symbol 1, '-', is wrong",
    "short_20_symbols": "this one has 20",
    "20_symbols_and_digit": "does not add up",
    "minus_1_symbol": "this one has 26",
    "plus_1_digit": "this one has 28",
    "longer": "this one has 31",
    "nonascii": "'é', symbol 1 of the code",
    "high_bytes": "symbol 1, '/', is wrong",
    "swap": "symbol 1, 'j', is wrong",
    "last_bits_set": "symbol 27, 'J', is wrong",
}
"""What the author's code fails on, or takes by mistake, and what is said here."""
READ = {
    "padded": ("padding",),
    "leading_space": ("Spaces or quotes",),
    "trailing_newline": ("Spaces or quotes",),
    "inner_space": ("Spaces or quotes",),
    "quotes": ("Spaces or quotes",),
    "urlsafe_slash_to_underscore": ("- and _",),
    "one_typo": (),
}
"""What is read, and of what a note is made. A typo that makes another right code cannot be told: this form has no check."""


@pytest.mark.parametrize("row", GOLDEN["rows"], ids=lambda row: row["name"])
def test_rows(row: dict[str, Any]) -> None:
    """Some rows are codes that were found somewhere: no numbers that they were made from are known."""
    code: str = row["code"]
    if row["input"] is not None:
        assert write_v1(row["input"], row["dtype"]) == code
    assert list(steps_of(code) or b"") == row["q"]
    known = read(code)
    assert list(known.latent) == row["decoded"]
    assert (known.model, known.form, known.notes) == (RELEASED, "v1", ())
    assert write_v1(known.latent) == row["recode"]


@pytest.mark.parametrize("level", GOLDEN["levels"], ids=lambda level: level["level"])
def test_levels(level: dict[str, Any]) -> None:
    q = level["level"]
    (value,) = set(latent_of_steps(bytes([q] * 20)))
    assert value == level["decoded"]
    assert list(steps_of(write_v1([value] * 20, "float32")) or b"") == [level["reencode_f32"]] * 20
    assert list(steps_of(write_v1([value] * 20, "float16")) or b"") == [level["reencode_f16"]] * 20
    inside = (level["bin_lo"] + level["bin_hi"]) / 2 if q < 63 else 1.5
    assert list(steps_of(write_v1([inside] * 20)) or b"") == [q] * 20


def test_the_drift_is_the_released_codes() -> None:
    again = {q: (steps_of(write_v1(latent_of_steps(bytes([q] * 20)))) or b"")[0] for q in range(64)}
    assert [[q, new] for q, new in again.items() if q != new] == GOLDEN["drift_reencode_f32"]


def test_every_odd_input_is_spoken_of_here() -> None:
    assert SAYS.keys() | READ.keys() == ODD.keys()
    assert not SAYS.keys() & READ.keys()


@pytest.mark.parametrize("name", SAYS)
def test_odd_inputs_that_are_refused(name: str) -> None:
    with pytest.raises(BadSettings, match=SAYS[name]):
        read(ODD[name]["code"])


@pytest.mark.parametrize("name", READ)
def test_odd_inputs_that_are_read(name: str) -> None:
    """The numbers are the author's for the code that was meant, or for this very one."""
    code = read(ODD[name]["code"])
    meant = ODD[name] if name == "one_typo" else next(row for row in GOLDEN["rows"] if row["code"] == DEMO)
    assert list(code.latent) == meant["decoded"]
    assert len(code.notes) == len(READ[name])
    assert all(note.startswith(begin) or begin in note for note, begin in zip(code.notes, READ[name], strict=True))


@given(anything)
def test_any_numbers_are_written_and_read(latent: list[float]) -> None:
    code = write_v1(latent)
    assert len(code) == LENGTH
    assert write_v1([max(-1.0, min(1.0, x)) for x in latent]) == code
    assert wrong_symbol(code) is None
    assert read(code).latent == latent_of_steps(steps_of(code) or b"")


@given(st.binary(min_size=20, max_size=20))
def test_only_what_can_have_been_written_is_read(steps: bytes) -> None:
    """A wrong symbol is pointed at, and nothing but the 64^20 codes is read."""
    import base64

    text = base64.b64encode(steps).decode().rstrip("=")
    if max(steps) <= 63:
        assert steps_of(text) == steps
        return
    assert steps_of(text) is None
    first = next(i for i, step in enumerate(steps) if step > 63)
    assert wrong_symbol(text) == 8 * first // 6
    with pytest.raises(BadSettings, match=f"symbol {8 * first // 6 + 1}, "):
        read(text)


def test_single_slips_that_are_noticed() -> None:
    """This form has no check, but 42 of its 162 bits are always nought. By them 59 % of the wrong symbols are noticed, whatever the code is:
    of the 27 symbols 21 have two such bits, which 15 of 63 wrong ones have too, and six have none."""
    rng = random.Random(0)
    expected = (21 * 15 + 6 * 63) / (27 * 63)
    for _ in range(5):
        code = write_v1([rng.gauss(0, 1) for _ in range(20)])
        wrong = [code[:i] + symbol + code[i + 1 :] for i in range(LENGTH) for symbol in ALPHABET.replace(code[i], "")]
        assert sum(steps_of(text) is not None for text in wrong) / len(wrong) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("text", ["", DEMO[:-1], DEMO + "A", "é" + DEMO[1:], DEMO[:-1] + "J"])
def test_no_steps(text: str) -> None:
    assert steps_of(text) is None


def test_what_is_no_style() -> None:
    with pytest.raises(BadSettings, match="20 numbers, not 19"):
        write_v1([0.0] * 19)
    with pytest.raises(BadSettings, match="must be numbers"):
        write_v1([math.nan] * 20)
    assert write_v1([math.inf, -math.inf] * 10, "float16") == write_v1([1.0, -1.0] * 10)


def test_where_the_released_model_is_not_known() -> None:
    with pytest.raises(BadSettings, match=r"one of StyleCodes \(SD 1\.5, the author's\), which is not here"):
        read(DEMO, [TINY])
