"""How a canvas is divided: equal panels in rows and columns, numbered row by row from 0. Painters read numbers from 1."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lib_refonly.errors import BadSettings

MOST_SIDE, MOST_PANELS = 4, 9
_NAME = re.compile(r"([1-9])x([1-9])")


@dataclass(frozen=True)
class Layout:
    """1 to 4 rows and columns, 9 panels at most. Raises: BadSettings: anything else."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        if any(type(side) is not int or not 1 <= side <= MOST_SIDE for side in (self.rows, self.columns)) or self.panels > MOST_PANELS:
            raise BadSettings(f"A layout has 1 to {MOST_SIDE} rows, 1 to {MOST_SIDE} columns, and {MOST_PANELS} panels at most.")

    @classmethod
    def named(cls, name: str) -> Layout:
        """ROWSxCOLUMNS: "1x3" is one row of three. Raises: BadSettings: no such name, or too many panels."""
        match = _NAME.fullmatch(name)
        if not match:
            raise BadSettings(f"{name[:20]!r} is no layout. Write rows x columns, such as {', '.join(STANDARD)}.")
        return cls(int(match[1]), int(match[2]))

    @property
    def name(self) -> str:
        """ROWSxCOLUMNS, as `named` reads it."""
        return f"{self.rows}x{self.columns}"

    @property
    def panels(self) -> int:
        """How many."""
        return self.rows * self.columns

    @property
    def middle(self) -> int | None:
        """The panel in the centre; None where four or two panels meet there, and for a single panel."""
        return self.panels // 2 if self.rows % 2 and self.columns % 2 and self.panels > 1 else None

    def place(self, number: int) -> tuple[int, int]:
        """(row, column), from 0. Raises: BadSettings: the layout has no such panel."""
        if not 0 <= number < self.panels:
            raise BadSettings(f"The layout {self.name} has no panel {number + 1}.")
        return divmod(number, self.columns)

    def box(self, number: int, width: int, height: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) px of a panel, where each is `width` x `height` px. Raises: BadSettings: no such panel."""
        row, column = self.place(number)
        return column * width, row * height, (column + 1) * width, (row + 1) * height

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) px of the whole canvas, where each panel is `width` x `height` px."""
        return self.columns * width, self.rows * height

    def beside(self, number: int) -> tuple[int, ...]:
        """The panels that share a side with this one. Raises: BadSettings: no such panel."""
        row, column = self.place(number)
        return tuple(other for other in range(self.panels) if abs(row - other // self.columns) + abs(column - other % self.columns) == 1)


STANDARD = ("1x2", "2x1", "2x2", "1x3", "3x1")
"""What is offered first. Any other grid works as well."""
