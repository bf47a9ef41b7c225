"""A folder of drawings: its files, and how they are read."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lib_refonly.errors import BadSettings

DESCRIPTION = "dataset.json"
DONE = "done.json"
META = "meta.jsonl"
# name of the array file -> trailing shape after [N, 2, S, S]
ARRAYS: dict[str, tuple[int, ...]] = {"pictures": (3,), "alpha": (), "blueprint": ()}


class DrawingSet:
    """Reads a folder that `build` wrote, or is still writing: only finished records are seen.

    N is the number of finished records, S the side in pixels. The arrays are memory-mapped, uint8, read-only:
    ``pictures`` [N,2,S,S,3] drawings A and B on black, ``alpha`` [N,2,S,S], ``blueprints`` [N,2,S,S] white lines on black.
    ``meta`` is a list of N dictionaries with id, style, group, caption, captionB, attributes, digest.

    Raises:
        BadSettings: the folder is not a data set.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        try:
            self.description: dict[str, Any] = json.loads((self.folder / DESCRIPTION).read_text("utf-8"))
        except OSError as error:
            raise BadSettings(f"{self.folder} is no data set. Make one with: studio.py data build --out {self.folder}") from error
        self._length = finished(self.folder)

    def __len__(self) -> int:
        return self._length

    @property
    def size(self) -> int:
        return int(self.description["size"])

    @cached_property
    def pictures(self) -> NDArray[np.uint8]:
        return self._array("pictures")

    @cached_property
    def alpha(self) -> NDArray[np.uint8]:
        return self._array("alpha")

    @cached_property
    def blueprints(self) -> NDArray[np.uint8]:
        return self._array("blueprint")

    @cached_property
    def meta(self) -> list[dict[str, Any]]:
        with (self.folder / META).open(encoding="utf-8") as lines:
            return [json.loads(line) for line, _ in zip(lines, range(self._length), strict=False)]

    def _array(self, name: str) -> NDArray[np.uint8]:
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")[: self._length]


def finished(folder: Path) -> int:
    """How many records of a folder are complete; 0 when it is not begun."""
    try:
        return int(json.loads((folder / DONE).read_text("utf-8"))["done"])
    except FileNotFoundError:
        return 0
