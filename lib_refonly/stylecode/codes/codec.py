"""Reading and writing codes. What is not surely right is refused, in a sentence that points at what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from lib_refonly.errors import BadSettings
from lib_refonly.stylecode.codes import reed_solomon, v1
from lib_refonly.stylecode.codes.known import FINGERPRINT, RELEASED, TINY, CodeModel
from lib_refonly.stylecode.codes.levels import DIMENSIONS, balanced, latent_of, levels_of, remainder

Form = Literal["v1", "short", "long"]
_LETTERS = v1.ALPHABET[:62]
SHORT_ALPHABET, LONG_ALPHABET = _LETTERS + "-_", _LETTERS + "+_"
"""base64url; and the same without the hyphen, which groups a long code."""
SHORT, LONG = DIMENSIONS + 1, 1 + FINGERPRINT + DIMENSIONS + reed_solomon.CHECKS
_LONG_VERSION = 18  # "S"
_GROUP = 5
_LONGEST = 200
_AROUND = "\"'`“”‘’„«»<>()[]"
_NUMBERS = {alphabet: {symbol: i for i, symbol in enumerate(alphabet)} for alphabet in (v1.ALPHABET, SHORT_ALPHABET, LONG_ALPHABET)}
_PUBLISHED = (RELEASED, TINY)
"""Whose codes are called by name also where the model itself is not here."""


@dataclass(frozen=True)
class Code:
    """`latent`: 20 numbers. `notes`: what was taken away or corrected, in words."""

    latent: tuple[float, ...]
    model: CodeModel
    form: Form
    notes: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        return write_short(self.latent, self.model)

    @property
    def long(self) -> str:
        return write_long(self.latent, self.model)


def write_short(latent: Sequence[float], model: CodeModel) -> str:
    """20 numbers -> 21 symbols. Raises: BadSettings: other than 20 finite numbers, or of no style that the model can have made: nobody could read them."""
    levels = levels_of(latent)
    if model.normalised and not balanced(latent_of(levels)):
        raise BadSettings("These numbers are no style: their mean must be 0 and their variance 1.")
    return "".join(SHORT_ALPHABET[level] for level in levels) + model.sign


def write_long(latent: Sequence[float], model: CodeModel) -> str:
    """20 numbers -> 29 symbols in groups of five. Raises: BadSettings: other than 20 finite numbers."""
    symbols = reed_solomon.with_checks([_LONG_VERSION, *model.fingerprint, *levels_of(latent)])
    text = "".join(LONG_ALPHABET[symbol] for symbol in symbols)
    return "-".join(text[i : i + _GROUP] for i in range(0, len(text), _GROUP))


def read(text: str, known: Iterable[CodeModel] = (RELEASED, TINY)) -> Code:
    """A code of any form, made by one of the models `known`.

    Raises:
        BadSettings: it is none, was mistyped, or belongs to a model that is not known; the text says which, and where.
    """
    known = tuple(known)
    if len(text) > _LONGEST:
        raise BadSettings("This is too long for a stylecode.")
    bare, notes = _bare(text)
    for length, form in ((v1.LENGTH, _read_v1), (SHORT, _read_short)):
        if len(bare) == length:
            return form(bare, known, notes)
    ungrouped = bare.replace("-", "")
    if len(ungrouped) == LONG:
        return _read_long(ungrouped, known, notes)
    hyphens = f" ({len(bare) - len(ungrouped)} of them hyphens)" if ungrouped != bare else ""
    raise BadSettings(f"A stylecode has {SHORT}, {v1.LENGTH} or {LONG} symbols; this one has {len(bare)}{hyphens}. Copy it once more, all of it.")


def _bare(text: str) -> tuple[str, list[str]]:
    """Without spaces, quotes and base64's padding."""
    bare = re.sub(r"\s", "", text).strip(_AROUND)
    notes = ["Spaces or quotes around or inside it were left out."] if bare != text else []
    if len(bare) == v1.LENGTH + 1 and bare.endswith("="):
        return bare[:-1], [*notes, "The padding sign at its end was left out."]
    return bare, notes


def _levels(text: str, alphabet: str) -> list[int]:
    numbers = _NUMBERS[alphabet]
    for place, symbol in enumerate(text, 1):
        if symbol not in numbers:
            raise BadSettings(f"{symbol!r}, symbol {place} of the code, is none that a stylecode can have.")
    return [numbers[symbol] for symbol in text]


def _read_v1(text: str, known: tuple[CodeModel, ...], notes: list[str]) -> Code:
    plain = text.replace("-", "+").replace("_", "/")
    if plain != text:
        notes.append("- and _ were read as + and /.")
    _levels(plain, v1.ALPHABET)
    steps = v1.steps_of(plain)
    if steps is None:
        place = (v1.wrong_symbol(plain) or 0) + 1
        raise BadSettings(
            "This has the length of a code of the first version, but none can have been written so: "
            f"symbol {place}, {text[place - 1]!r}, is wrong, or in the wrong case. Copy it once more."
        )
    return Code(v1.latent_of_steps(steps), _among(RELEASED, known), "v1", tuple(notes))


def _read_short(text: str, known: tuple[CodeModel, ...], notes: list[str]) -> Code:
    levels, sign = _levels(text[:-1], SHORT_ALPHABET), text[-1]
    if remainder(levels):
        raise BadSettings("The code does not add up: a symbol was mistyped, or two changed places. Copy it once more.")
    owners = [model for model in known if model.sign == sign]
    if not owners:
        _refuse_published(known, [model for model in _PUBLISHED if model.sign == sign])
        raise BadSettings(f"Its last symbol, {sign!r}, is the sign of a stylecode model that is not here. Here: {_names(known)}.")
    if len(owners) > 1:
        raise BadSettings(f"Its last symbol, {sign!r}, is the sign of several models here ({_names(owners)}). Ask for the long form of the code.")
    latent = latent_of(levels)
    if owners[0].normalised and not balanced(latent):
        raise BadSettings("The code's numbers are out of balance: a symbol was mistyped. Copy it once more.")
    return Code(latent, owners[0], "short", tuple(notes))


def _read_long(text: str, known: tuple[CodeModel, ...], notes: list[str]) -> Code:
    found = reed_solomon.corrected(_levels(text, LONG_ALPHABET))
    if found is None:
        raise BadSettings("More than one symbol of the code is wrong. Copy it once more, or ask whoever made it.")
    symbols, place = found
    if symbols[0] != _LONG_VERSION:
        raise BadSettings("The code is of a form that this version does not know. Update the extension.")
    if place is not None:
        notes.append(f"Symbol {place + 1} was {text[place]!r}; it must be {LONG_ALPHABET[symbols[place]]!r}, and was read so.")
    mark, levels = tuple(symbols[1 : 1 + FINGERPRINT]), symbols[1 + FINGERPRINT : -reed_solomon.CHECKS]
    owner = next((model for model in known if model.fingerprint == mark), None)
    if owner is None:
        _refuse_published(known, [model for model in _PUBLISHED if model.fingerprint == mark])
        raise BadSettings(f"The code was made by a stylecode model that is not here. Here: {_names(known)}.")
    return Code(latent_of(levels), owner, "long", tuple(notes))


def _among(model: CodeModel, known: tuple[CodeModel, ...]) -> CodeModel:
    if model not in known:
        _refuse_published(known, [model])
    return model


def _refuse_published(known: tuple[CodeModel, ...], owners: list[CodeModel]) -> None:
    for model in owners:
        raise BadSettings(f"The code is one of {model}, which is not here. Here: {_names(known)}.")


def _names(models: Iterable[CodeModel]) -> str:
    return ", ".join(map(str, models)) or "none"
