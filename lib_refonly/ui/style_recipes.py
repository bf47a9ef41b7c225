"""Which nine styles a grid shows, and a style in words. Pure: neither gradio nor pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lib_refonly.errors import BadSettings
from lib_refonly.stylecode.asked import Style, mixed, read_style
from lib_refonly.stylecode.codes import CodeModel, blend, write_long, write_short
from lib_refonly.stylecode.codes.levels import latent_of, levels_of

MIDDLE = 4
_TOWARDS = (3, 5, 1, 7)
"""Where each style of a mixture pulls the middle to: left, right, up, down."""
_LEAN = 0.5
_WORDS = ((0.02, "the same style"), (0.15, "hardly apart"), (0.4, "close"), (0.75, "related"), (1.25, "have little in common"), (2.1, "opposites"))


@dataclass(frozen=True)
class Cell:
    """One style of a grid. `title`: what stands on its picture."""

    title: str
    style: Style

    @property
    def code(self) -> str:
        return shortest(self.style)


def shortest(style: Style) -> str:
    """The short code, or the long one where only that can hold these numbers."""
    try:
        return write_short(style.latent, style.model)
    except BadSettings:
        return write_long(style.latent, style.model)


def rounded(latent: Sequence[float], model: CodeModel) -> Style:
    """As its code says it: what is painted now is what the code paints later."""
    return Style(latent_of(levels_of(latent)), model)


def mix_of(rows: Sequence[tuple[str, float]], known: Sequence[CodeModel], named: Callable[[str], str | None]) -> tuple[Style, list[Style]]:
    """The mixture of the rows that say a code, and each row's own style.

    Raises:
        BadSettings: fewer than two, a wrong code (the text says in which row), or styles that can't be mixed.
    """
    styles: list[tuple[Style, float]] = []
    for number, (text, weight) in enumerate(rows, 1):
        if (text or "").strip():
            try:
                styles.append((read_style(text, known, named), float(weight or 0)))
            except BadSettings as error:
                raise BadSettings(f"Style {number}: {error}") from None
    if len(styles) < 2:
        raise BadSettings("A mixture needs two styles: give two codes or names.")
    return mixed(styles), [style for style, _ in styles]


def mix_cells(mixture: Style, parts: Sequence[Style], amount: float) -> list[Cell]:
    """The mixture in the middle. On the cross the mixture leaning to each of its parts; the places that are left are variations."""
    leaning = dict(zip(_TOWARDS, enumerate(parts, 1), strict=False))
    cells, variation = [], 0
    for place in range(9):
        if place == MIDDLE:
            cells.append(Cell("The mixture", rounded(mixture.latent, mixture.model)))
        elif place in leaning:
            number, part = leaning[place]
            cells.append(Cell(f"More of {number}", rounded(blend.interpolate(mixture.latent, part.latent, _LEAN), mixture.model)))
        else:
            variation += 1
            cells.append(Cell(f"Variation {variation}", _varied(mixture, amount, variation)))
    return cells


def like_cells(style: Style, amount: float, number: int) -> list[Cell]:
    """More like this: the style in the middle, around it eight that `amount` (0 to 1) leads away to. The same for the same number."""
    around = iter(range(number, number + 8))
    return [Cell("This style", style) if place == MIDDLE else _numbered(style, amount, next(around)) for place in range(9)]


def random_cells(number: int, model: CodeModel) -> list[Cell]:
    """Nine styles that have nothing to do with each other: those of `number` and the eight numbers after it."""
    return [Cell(str(one), rounded(blend.random_style(one), model)) for one in range(number, number + 9)]


def from_the_middle(count: int = 9) -> list[int]:
    """In which order a grid is painted."""
    return [MIDDLE, *(place for place in range(count) if place != MIDDLE)]


def apart(one: Style, other: Style) -> tuple[float, str]:
    """How far two styles are from each other: 0 to 2, and in words.

    Raises:
        BadSettings: they are of different models, whose numbers mean different things.
    """
    if one.model != other.model:
        raise BadSettings(f"Codes of different models can't be compared by their numbers: {one.model}, {other.model}.")
    far = max(0.0, blend.distance(one.latent, other.latent))
    return far, next(words for limit, words in _WORDS if far <= limit)


def _varied(style: Style, amount: float, number: int) -> Style:
    return rounded(blend.mutate(style.latent, amount, number), style.model)


def _numbered(style: Style, amount: float, number: int) -> Cell:
    return Cell(str(number), _varied(style, amount, number))
