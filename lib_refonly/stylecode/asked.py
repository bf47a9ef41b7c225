"""What a painter typed for a style -> 20 numbers: a code, a name from the library, or several with weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lib_refonly.errors import BadSettings
from lib_refonly.stylecode.codes import blend
from lib_refonly.stylecode.codes.codec import Code, read, write_long
from lib_refonly.stylecode.codes.known import CodeModel

_WEIGHT = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)")
Named = Callable[[str], "str | None"]
"""The code of a style in the library; None: there is none of that name."""


@dataclass(frozen=True)
class Style:
    """`notes`: what was corrected in the codes on the way."""

    latent: tuple[float, ...]
    model: CodeModel
    notes: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """The long form, of a mixture too."""
        return write_long(self.latent, self.model)


def read_style(text: str, known: Sequence[CodeModel], named: Named = lambda _: None) -> Style:
    """ "CODE", "name", "CODE:2 name:1".

    Raises:
        BadSettings: a code is wrong, or codes of different models are to be mixed.
    """
    text = text.strip()
    if not text:
        raise BadSettings("Stylecode is switched on, but has no code. Paste one, or switch it off.")
    stored = named(text)
    if stored is not None:
        return _of([(read(stored, known), 1.0)])
    parts = [_weighted(part) for part in re.split(r"[\s,]+", text)]
    if len(parts) > 1 and all(_is_code(token, known) or named(token) is not None for token, _ in parts):
        return _of([(_one(token, known, named), weight) for token, weight in parts])
    token, weight = _weighted(text)
    return _of([(_one(token, known, named), weight)])


def mixed(styles: Sequence[tuple[Style, float]]) -> Style:
    """Several styles as one. Raises: BadSettings: of different models, or they cancel each other out."""
    if len(styles) == 1:
        return styles[0][0]
    models = {style.model for style, _ in styles}
    if len(models) > 1:
        raise BadSettings(f"Codes of different models can't be mixed: {', '.join(map(str, models))}.")
    latent = blend.mix([style.latent for style, _ in styles], [weight for _, weight in styles])
    return Style(latent, models.pop(), tuple(note for style, _ in styles for note in style.notes))


def _of(codes: Sequence[tuple[Code, float]]) -> Style:
    return mixed([(Style(code.latent, code.model, code.notes), weight) for code, weight in codes])


def _one(token: str, known: Sequence[CodeModel], named: Named) -> Code:
    stored = named(token)
    return read(token if stored is None else stored, known)


def _is_code(token: str, known: Sequence[CodeModel]) -> bool:
    try:
        return bool(read(token, known))
    except BadSettings:
        return False


def _weighted(part: str) -> tuple[str, float]:
    """ "CODE:2", also Midjourney's "CODE::2"."""
    token, colon, weight = part.rpartition(":")
    return (token.rstrip(":"), float(weight)) if colon and _WEIGHT.fullmatch(weight) else (part, 1.0)
