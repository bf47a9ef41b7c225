"""What all canvases of a training set have in common: the file `onepic.json` beside them, and what the trained LoRA says of itself. No torch."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadSettings
from lib_refonly.onepic.layout import Layout

FILE = "onepic.json"
TARGET, CAPTION = "target", "caption"
_NAME = re.compile(r"[\w-]{1,40}")
_GRID = re.compile(r"\d+x\d+")


@dataclass(frozen=True)
class Canvases:
    """panels: rows of names, one of which is "target"; a name that stands twice is the same picture twice. width, height: of a panel, px.

    Raises:
        BadSettings: rows of unequal length, no target or several, a name that no folder and no column can have, or no layout.
    """

    panels: tuple[tuple[str, ...], ...]
    width: int = 512
    height: int = 512
    task: str = ""
    title: str = ""

    def __post_init__(self) -> None:
        wrong = [name for name in self.names if name == CAPTION or not _NAME.fullmatch(name)]
        if wrong:
            raise BadSettings(f"A panel can't be called {wrong[0][:40]!r}. Take letters, digits, - and _, and not {CAPTION!r}.")
        if len({len(row) for row in self.panels}) != 1 or self.names.count(TARGET) != 1:
            raise BadSettings(f"Panels are rows of equal length with one {TARGET}, such as reference,lines/lines,{TARGET}.")
        if any(type(side) is not int or side < 8 or side % 8 for side in (self.width, self.height)):
            raise BadSettings(f"A panel of {self.width} x {self.height} px can't be trained on. Both sides have to be multiples of 8.")
        self.layout.place(0)

    @classmethod
    def named(cls, text: str, width: int, height: int, task: str = "", title: str = "") -> Canvases:
        """From `reference,lines/lines,target`: names by commas, rows by slashes; or from ROWSxCOLUMNS, which numbers the panels and makes the last the target.

        Raises:
            BadSettings: as the class itself.
        """
        if not _GRID.fullmatch(text.strip()):
            return cls(tuple(tuple(name.strip() for name in row.split(",")) for row in text.split("/")), width, height, task, title)
        layout = Layout.named(text.strip())
        names = [*(str(number) for number in range(1, layout.panels)), TARGET]
        return cls(tuple(tuple(names[row * layout.columns :][: layout.columns]) for row in range(layout.rows)), width, height, task, title)

    @property
    def names(self) -> list[str]:
        """Of all panels, row by row."""
        return [name for row in self.panels for name in row]

    @property
    def layout(self) -> Layout:
        return Layout(len(self.panels), len(self.panels[0]))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px of a whole canvas."""
        return self.layout.size(self.width, self.height)

    @property
    def target_cells(self) -> tuple[slice, slice]:
        """Rows and columns of the target among a canvas' latent cells of 8 px."""
        left, top, right, bottom = self.layout.box(self.names.index(TARGET), self.width // 8, self.height // 8)
        return slice(top, bottom), slice(left, right)

    def written(self) -> str:
        """JSON that `read` makes the same of."""
        size = self.width if self.width == self.height else [self.width, self.height]
        return json.dumps({"task": self.task, "layout": self.layout.name, "panels": self.panels, "title": self.title, "size": size}, ensure_ascii=False)

    @classmethod
    def read(cls, folder: Path) -> Canvases:
        """What was written into a folder of canvases. Raises: BadSettings: it is no such folder, or its file was damaged."""
        path = folder / FILE
        try:
            told: Any = json.loads(path.read_text(encoding="utf-8"))
            size = told["size"] if isinstance(told["size"], list) else [told["size"]] * 2
            return cls(tuple(tuple(row) for row in told["panels"]), *size, task=told["task"], title=told["title"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BadSettings(f"{path}: this is no folder of canvases ({type(error).__name__}). Make one with: studio.py data canvases") from error
