"""What one browser tab holds of the Styles page: what is being painted, what its grids show, its files. Gone when the tab's session ends."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from lib_refonly.errors import CannotWrite
from lib_refonly.imaging.infotext import png_bytes, write_atomically
from lib_refonly.ui.style_recipes import Cell

_EMPTY_TILE = (128, 128, 128, 36)
_KEEP = 100
"""Files of one tab: several grids, and what was saved from them."""


@dataclass
class Grid:
    """Nine styles and what has been painted of them."""

    cells: list[Cell] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    tile: Path | None = None

    def show(self, cells: list[Cell], tile: Path) -> None:
        """New styles, none of them painted yet."""
        self.cells, self.files, self.tile = cells, [tile] * len(cells), tile

    def painted(self, place: int) -> Path | None:
        return None if self.files[place] == self.tile else self.files[place]

    @property
    def shown(self) -> list[tuple[str, str]]:
        """For a gallery."""
        return [(str(path), cell.title) for path, cell in zip(self.files, self.cells, strict=True)]


@dataclass
class Job:
    """One press of a button. `wish`: what it is for. `quiet`: another took its place, so it says nothing at its end."""

    wish: Hashable = None
    stop: threading.Event = field(default_factory=threading.Event)
    quiet: bool = False


class StyleSession:
    """One tab's memory. `copy.deepcopy` gives a NEW session: that is how a page's per-tab state gets its own."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._numbers = itertools.count(1)
        self._places: deque[Path] = deque()
        self._jobs: dict[str, Job] = {}
        self.preview: tuple[str, Image.Image] | None = None  # a style's long code, and its picture
        self.mix, self.explore = Grid(), Grid()
        self.rows = 0  # of the mixture, beyond the first ones
        self.listed: list[str] = []  # names in the library's gallery, in their order
        self.chosen = ""  # a name of the library
        self.sure = ""  # what a second click would do

    def __deepcopy__(self, memo: dict[int, Any]) -> StyleSession:
        return StyleSession()

    def begin(self, part: str, wish: Hashable = None) -> Job:
        """A part of the page has one job: the one before ends at its next step, and silently."""
        self._replace(self._jobs.get(part))
        self._jobs[part] = job = Job(wish)
        return job

    def stop(self, part: str) -> None:
        """End the part's job at its next step."""
        if part in self._jobs:
            self._jobs[part].stop.set()

    def move_on(self, part: str, wish: Hashable) -> None:
        """End the part's job if it is for something else: a slider was moved meanwhile, and another job is about to come."""
        job = self._jobs.get(part)
        if job is not None and job.wish is not None and job.wish != wish:
            self._replace(job)

    def picture_of(self, code: str) -> Image.Image | None:
        """The preview, if it is one of this style. `code`: its long form."""
        return self.preview[1] if self.preview is not None and self.preview[0] == code else None

    def keep(self, picture: Image.Image, name: str, infotext: str = "") -> Path:
        """A picture as a PNG file of this tab. Raises: CannotWrite."""
        return self.write(f"{name}.png", png_bytes(picture, infotext))

    def empty_tile(self) -> Path:
        """What stands in a grid where nothing is painted yet."""
        return self.keep(Image.new("RGBA", (64, 64), _EMPTY_TILE), "not-yet")

    def write(self, name: str, data: bytes) -> Path:
        """A file of this tab; the oldest go. Each has a folder of its own, so that it has the name that it is saved under. Raises: CannotWrite."""
        try:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="refonly-styles-", ignore_cleanup_errors=True)
            folder = Path(self._folder.name) / f"{next(self._numbers):05d}"
            folder.mkdir()
        except OSError as error:
            raise CannotWrite(f"The temporary folder can't be written to ({error.strerror or error}). Free some disk space.") from error
        write_atomically(folder / name, data)
        self._places.append(folder)
        while len(self._places) > _KEEP:
            shutil.rmtree(self._places.popleft(), ignore_errors=True)
        return folder / name

    @staticmethod
    def _replace(job: Job | None) -> None:
        if job is not None:
            job.quiet = True
            job.stop.set()
