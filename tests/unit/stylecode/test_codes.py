"""Short and long codes: written, read, mistyped, and of other models."""

from __future__ import annotations

import random
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_refonly.errors import BadSettings
from lib_refonly.stylecode.codes import RELEASED, TINY, CodeModel, read, write_long, write_short
from lib_refonly.stylecode.codes.blend import normalised, random_style
from lib_refonly.stylecode.codes.codec import LONG, LONG_ALPHABET, SHORT, SHORT_ALPHABET
from lib_refonly.stylecode.codes.levels import balanced, latent_of, levels_of
from tests.unit.stylecode.latents import anything, some

MINE = CodeModel("somebody's model", "Somebody's", mark="x")
FREE = CodeModel("a model without a layer norm", mark="y", normalised=False)
numbers = st.integers(0, 10**9)
models = st.sampled_from([TINY, RELEASED, MINE])
KNOWN = (RELEASED, TINY, MINE)
DASHES = [5, 11, 17, 23, 29]


def accepted(text: str, known: tuple[CodeModel, ...] = (RELEASED, TINY)) -> bool:
    try:
        read(text, known)
    except BadSettings:
        return False
    return True


@given(some, models)
def test_what_was_written_is_read(numbers: list[float], model: CodeModel) -> None:
    """And written again it is the same code, in both forms and from one to the other."""
    style = normalised(numbers)
    short, long = write_short(style, model), write_long(style, model)
    assert (len(short), len(long.replace("-", "")), long[5::6]) == (SHORT, LONG, "-----")
    for text, form in ((short, "short"), (long, "long")):
        code = read(text, KNOWN)
        assert (code.model, code.form, code.notes) == (model, form, ())
        assert code.latent == latent_of(levels_of(style))
        assert (code.short, code.long) == (short, long)


@given(anything)
def test_a_model_without_a_layer_norm_has_codes_of_any_numbers(latent: list[float]) -> None:
    for text in (write_short(latent, FREE), write_long(latent, FREE)):
        assert read(text, [FREE]).latent == latent_of(levels_of(latent))


@given(anything)
def test_nothing_is_written_that_is_not_read(latent: list[float]) -> None:
    """Numbers that are no style are refused when their code is written, and not only by those who get it."""
    if balanced(latent_of(levels_of(latent))):
        assert read(write_short(latent, TINY)).model == TINY
        return
    with pytest.raises(BadSettings, match="are no style"):
        write_short(latent, TINY)


def test_a_style_of_noughts_is_none() -> None:
    with pytest.raises(BadSettings, match="mean must be 0 and their variance 1"):
        write_short([0.0] * 20, TINY)


@pytest.mark.parametrize("frame", ['"{}"', " {}\n", "`{}`", "“{}”", "„{}“", "<{}>", "({})", "[ '{}' ]", '" “{}” "', "\t\u00a0{}\r\n", "\u3000{}"])
@given(number=numbers)
def test_what_stands_around_it_is_left_out(frame: str, number: int) -> None:
    style = random_style(number)
    for text in (write_short(style, TINY), write_long(style, TINY)):
        code = read(frame.format(text))
        assert code.latent == read(text).latent
        assert code.notes == ("Spaces or quotes around or inside it were left out.",)


@given(numbers, st.data())
def test_spaces_and_hyphens_inside_a_long_code(number: int, data: st.DataObject) -> None:
    """Grouped otherwise, or not at all."""
    plain = write_long(random_style(number), TINY).replace("-", "")
    wanted = read(plain)
    for sign in ("-", " ", "\n", "--"):
        places = sorted(data.draw(st.sets(st.integers(0, LONG), max_size=12)), reverse=True)
        text = plain
        for place in places:
            text = text[:place] + sign + text[place:]
        assert read(text).latent == wanted.latent


def test_spaces_inside_a_short_code() -> None:
    code = write_short(random_style(3), TINY)
    assert read(f"{code[:7]} {code[7:14]} {code[14:]}").latent == read(code).latent


def test_the_forms_do_not_depend_on_whose_hands_the_code_goes_through() -> None:
    """Whole in a URL and a file's name, as a word; no hyphen but those that group."""
    for i in range(300):
        short, long = write_short(random_style(i), TINY), write_long(random_style(i), TINY)
        assert set(short) <= set(SHORT_ALPHABET)
        assert [place for place, symbol in enumerate(long) if symbol == "-"] == DASHES
    assert len(set(SHORT_ALPHABET)) == len(set(LONG_ALPHABET)) == 64
    assert not set('"<>&/\\?*:| ') & set(SHORT_ALPHABET + LONG_ALPHABET)


def test_it_needs_nothing_but_python() -> None:
    """Who wants to read codes needs neither torch nor numpy."""
    command = "import sys; import lib_refonly.stylecode.codes, lib_refonly.stylecode.codes.blend; print({m.partition('.')[0] for m in sys.modules})"
    out = subprocess.run([sys.executable, "-S", "-c", command], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "numpy", "PIL", "safetensors"} & set(eval(out))
    assert "lib_refonly" in out


# Short codes: the odds of a slip that is not noticed. The test with the modulus 17 misses a change of one level by 17, 34 or 51 (one to three of 63
# wrong symbols, 4.2 % on average) and a swap of two whose levels differ by that much; the balance of a style's numbers finds most of the former.
SINGLE, SINGLE_FREE, SWAP = 0.009, 0.043, 0.045


@pytest.mark.parametrize(("model", "odds"), [(TINY, SINGLE), (RELEASED, SINGLE_FREE)])
def test_single_slips_in_short_codes(model: CodeModel, odds: float) -> None:
    """All wrong symbols at all places, also at the sign's."""
    codes = [write_short(random_style(i), model) for i in range(60)]
    wrong = [code[:i] + symbol + code[i + 1 :] for code in codes for i in range(SHORT) for symbol in SHORT_ALPHABET.replace(code[i], "")]
    share = sum(map(accepted, wrong)) / len(wrong)
    assert odds / 2 < share < 1.2 * odds


@pytest.mark.parametrize("model", [TINY, RELEASED])
def test_swaps_of_neighbours_in_short_codes(model: CodeModel) -> None:
    codes = [write_short(random_style(i), model) for i in range(400)]
    swapped = [code[:i] + code[i + 1] + code[i] + code[i + 2 :] for code in codes for i in range(SHORT - 1) if code[i] != code[i + 1]]
    share = sum(map(accepted, swapped)) / len(swapped)
    assert SWAP / 2 < share < 1.15 * SWAP


def test_a_slip_by_one_level_is_always_noticed() -> None:
    """As is any change by less than 17: only a far wrong symbol can be missed."""
    code = write_short(random_style(1), TINY)
    for place in range(SHORT - 1):
        level = SHORT_ALPHABET.index(code[place])
        for other in range(max(0, level - 16), min(64, level + 17)):
            assert accepted(code[:place] + SHORT_ALPHABET[other] + code[place + 1 :]) == (other == level)


def test_what_cannot_stand_in_a_code_is_pointed_at() -> None:
    code = write_short(random_style(1), TINY)
    for place in (0, 7, 19):
        with pytest.raises(BadSettings, match=rf"'\+', symbol {place + 1} of the code"):
            read(code[:place] + "+" + code[place + 1 :])
    long = write_long(random_style(1), TINY).replace("-", "")
    with pytest.raises(BadSettings, match=r"'é', symbol 29 of the code"):
        read(long[:-1] + "é")


@pytest.mark.parametrize(("text", "count"), [("", "0"), ("A", "1"), ("A" * 20, "20"), ("A" * 22, "22"), ("A" * 28, "28"), ("A" * 30, "30")])
def test_a_wrong_length_is_told(text: str, count: str) -> None:
    with pytest.raises(BadSettings, match=f"21, 27 or 29 symbols; this one has {count}\\."):
        read(text)


def test_a_missing_symbol_of_a_grouped_code() -> None:
    with pytest.raises(BadSettings, match=r"this one has 33 \(5 of them hyphens\)"):
        read(write_long(random_style(1), TINY)[1:])
    with pytest.raises(BadSettings, match="too long"):
        read(" " * 300)


# Long codes.


@pytest.mark.parametrize("number", range(3))
def test_every_single_slip_in_a_long_code_is_corrected_and_named(number: int) -> None:
    """All wrong symbols at all places: the style is the one that was meant, and the note names the place and both symbols."""
    style = random_style(number)
    plain, wanted = write_long(style, TINY).replace("-", ""), latent_of(levels_of(style))
    for place in range(LONG):
        for symbol in LONG_ALPHABET.replace(plain[place], ""):
            code = read(plain[:place] + symbol + plain[place + 1 :])
            assert (code.latent, code.model, code.form) == (wanted, TINY, "long")
            assert code.notes == (f"Symbol {place + 1} was {symbol!r}; it must be {plain[place]!r}, and was read so.",)


def test_two_and_three_slips_in_a_long_code_are_refused() -> None:
    """25,000 draws; and every swap of two symbols, which is two slips."""
    rng = random.Random(0)
    codes = [write_long(random_style(i), TINY).replace("-", "") for i in range(50)]
    for draw in range(25000):
        text = [*rng.choice(codes)]
        for place in rng.sample(range(LONG), 2 + draw % 2):
            text[place] = rng.choice(LONG_ALPHABET.replace(text[place], ""))
        with pytest.raises(BadSettings, match="More than one symbol of the code is wrong"):
            read("".join(text))
    for code in codes[:5]:
        for a, b in combinations(range(LONG), 2):
            text = [*code]
            text[a], text[b] = text[b], text[a]
            assert accepted("".join(text)) == (code[a] == code[b])


def test_a_long_code_in_the_wrong_case_is_refused() -> None:
    for i in range(100):
        code = write_long(random_style(i), TINY)
        assert not accepted(code.lower())
        assert not accepted(code.upper())


# Whose code it is.


@given(numbers, models)
def test_a_code_says_whose_it_is(number: int, model: CodeModel) -> None:
    """Whichever order the models are known in, and never another's."""
    style = random_style(number)
    for text in (write_short(style, model), write_long(style, model)):
        for known in (KNOWN, KNOWN[::-1]):
            assert read(text, known).model == model
        others = tuple(other for other in KNOWN if other != model)
        with pytest.raises(BadSettings, match="which is not here|that is not here"):
            read(text, others)


@pytest.mark.parametrize("model", [TINY, RELEASED])
@pytest.mark.parametrize("write", [write_short, write_long])
def test_a_published_models_code_is_refused_by_name(model: CodeModel, write: object) -> None:
    text = write(random_style(1), model)  # type: ignore[operator]
    with pytest.raises(BadSettings) as caught:
        read(text, [MINE])
    assert str(model) in str(caught.value)
    assert "Here: Somebody's" in str(caught.value)


def test_without_any_model() -> None:
    with pytest.raises(BadSettings, match="Here: none"):
        read(write_long(random_style(1), MINE), [])


def test_two_models_with_one_sign() -> None:
    """The short form cannot tell them apart, and says so; the long one can."""
    twin, style = CodeModel("another model", "The other", mark="x"), random_style(1)
    with pytest.raises(BadSettings, match=r"several models here \(Somebody's, The other\)\. Ask for the long form"):
        read(write_short(style, MINE), [MINE, twin])
    for model in (MINE, twin):
        assert read(write_long(style, model), [MINE, twin]).model is model


def test_marks_and_fingerprints() -> None:
    """A model without a mark has one of its own, never those of the published two; its fingerprint is its name's."""
    models = [CodeModel(f"model {i}") for i in range(2000)]
    signs = {model.sign for model in models}
    assert len(signs) > 50
    assert not signs & {TINY.sign, RELEASED.sign}
    assert signs <= set(SHORT_ALPHABET)
    assert len({model.fingerprint for model in models}) >= 1999
    assert CodeModel("model 1", "A title").fingerprint == models[1].fingerprint
    assert all(0 <= symbol < 64 for model in models for symbol in model.fingerprint)
    assert write_long(random_style(0), TINY) == "ShrFn-kTuh0-kqdlJ-Xnpn0-ncZHH-n8tX"  # for good


def test_a_later_long_form_is_told() -> None:
    from lib_refonly.stylecode.codes.reed_solomon import with_checks

    symbols = with_checks([19, *TINY.fingerprint, *levels_of(random_style(1))])
    with pytest.raises(BadSettings, match="Update the extension"):
        read("".join(LONG_ALPHABET[symbol] for symbol in symbols))
