"""A style as a command names it: a code, a card or another picture that holds one, or a style of the library. And a model by its name."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lib_refonly.errors import BadPicture, BadSettings
from lib_refonly.studio.commands.pairing import PICTURES

if TYPE_CHECKING:
    from lib_refonly.stylecode.codes import Code, CodeModel


def code_given(text: str) -> Code:
    """Raises: BadSettings: it is none of these, or its model is not here. BadPicture: the picture can't be read, or holds no code."""
    from lib_refonly.stylecode.card_reader import is_code
    from lib_refonly.stylecode.codes import read
    from lib_refonly.stylecode.shelf import known

    text = text.strip()
    models = known()
    if is_code(text):
        return read(text, models)
    if _is_picture(text):
        return read(_on_card(Path(text)), models)
    try:
        return read(_saved(text), models)
    except BadSettings as missing:
        try:
            return read(text, models)  # mistyped: its own error says where
        except BadSettings as error:
            raise BadSettings(f"{error} {missing}") from None


def weighted(text: str) -> tuple[Code, float]:
    """'CODE:WEIGHT' or 'CODE'. Neither codes nor names of styles have colons; a file's name may.

    Raises:
        BadSettings: as `code_given`, or a weight that is no number.
    """
    name, colon, tail = text.rpartition(":")
    if not colon or _is_file(text):
        return code_given(text), 1.0
    try:
        weight = float(tail)
    except ValueError:
        if _is_picture(text):  # a colon of the file's own, as in C:\card.png
            return code_given(text), 1.0
        raise BadSettings(f"{text}: the weight {tail!r} is no number.") from None
    if not math.isfinite(weight):
        raise BadSettings(f"{text}: the weight {tail!r} is no number.")
    return code_given(name), weight


def model_named(name: str | None) -> CodeModel:
    """A model by its lasting name or its title; without one, the first that is here. Raises: BadSettings: it is not known."""
    from lib_refonly.stylecode.shelf import known

    models = known()
    found = next((model for model in models if name is None or name.casefold() in (model.name.casefold(), model.title.casefold())), None)
    if found is None:
        raise BadSettings(f"There is no stylecode model {name!r}. Known: {', '.join(model.name for model in models)}.")
    return found


def _saved(name: str) -> str:
    from lib_refonly.stylecode.library import Library, library_file

    library = Library(library_file())
    if library.problem:
        print(library.problem, file=sys.stderr)
    return library.get(name).code


def _on_card(path: Path) -> str:
    from lib_refonly.imaging.decode import read_source
    from lib_refonly.stylecode.card_reader import read_card

    found = read_card(read_source(path))
    if found is None:
        raise BadPicture(f"{path.name} holds no stylecode, neither in its metadata nor as a QR code.")
    return found


def _is_picture(text: str) -> bool:
    return Path(text).suffix.lower() in PICTURES or _is_file(text)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a name, or none
        return False
