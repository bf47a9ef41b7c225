"""Writing a drawing set record by record. Killed at any moment, it goes on after the last record that was told as finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lib_refonly.errors import BadSettings, CannotWrite
from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.training.drawings.dataset import DESCRIPTION, DONE, META, finished

SIZES = (64, 1024)
_CHECKPOINT = 20
"""Records between two marks of how many are finished."""
_OURS = (DESCRIPTION, DONE, META, "pictures.npy", "alpha.npy", "blueprint.npy")
Picture = NDArray[np.uint8]


class Records:
    """The records of a set of `count` in `out`, whose arrays have `shapes` (of one record, without S).

    description: what the set is made of; plain JSON with "size" and "count". anew: a set of something else that lies there is thrown away.
    `done` counts what is finished, `meta` has what was told of it.

    Raises:
        BadSettings: `out` holds another set, and not `anew`. CannotWrite: disk full, no permission.
    """

    def __init__(self, out: Path, description: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], anew: bool = False) -> None:
        self.out, self._count = out, int(description["count"])
        try:
            self._prepare(dict(description), anew)
            whole = all((out / f"{name}.npy").exists() for name in shapes)
            self.done = finished(out) if whole else 0
            self.meta = self._kept_meta()
            self._arrays = {name: self._array(name, (self._count, *shape)) for name, shape in shapes.items()}
            self._file = (out / META).open("a", encoding="utf-8")
        except OSError as error:
            raise CannotWrite(f"{out} can't be written to ({error.strerror or error}). Make room, or choose another folder.") from error

    def _prepare(self, description: dict[str, Any], anew: bool) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / DESCRIPTION
        there = path.exists() or any((self.out / name).exists() for name in _OURS)
        if there and (not path.exists() or json.loads(path.read_text("utf-8")) != description):
            if not anew:
                raise BadSettings(f"{self.out} holds another data set ({DESCRIPTION} differs). Choose an empty folder.")
            for one in (*(self.out / name for name in _OURS), *self.out.glob("latents-*")):
                one.unlink(missing_ok=True)
        write_atomically(path, json.dumps(description, indent=1).encode())

    def _kept_meta(self) -> list[dict[str, Any]]:
        """Lines after the last mark are those of records that will be written again."""
        path = self.out / META
        lines = path.read_bytes().splitlines(keepends=True)[: self.done] if path.exists() else []
        write_atomically(path, b"".join(lines))
        return [json.loads(line) for line in lines]

    def _array(self, name: str, shape: tuple[int, ...]) -> np.memmap:
        path = self.out / f"{name}.npy"
        if self.done:
            return np.lib.format.open_memmap(path, "r+")
        return np.lib.format.open_memmap(path, "w+", np.uint8, shape)

    def add(self, meta: Mapping[str, Any], **arrays: Picture) -> None:
        """The next record; an array may be shorter than its place, in its first dimension."""
        for name, array in arrays.items():
            self._arrays[name][self.done][: len(array)] = array
        self._file.write(json.dumps(meta) + "\n")
        self.done += 1
        self.meta.append(dict(meta))
        if self.done % _CHECKPOINT == 0:
            self.flush()

    def flush(self) -> None:
        """Down to the disk, and then tell it. Raises: CannotWrite."""
        try:
            self._file.flush()
            for array in self._arrays.values():
                array.flush()
        except OSError as error:
            raise CannotWrite(f"{self.out} can't be written to ({error.strerror or error}). Make room; what is finished is kept.") from error
        write_atomically(self.out / DONE, json.dumps({"done": self.done}).encode())

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()
        self._file.close()


def check_size(size: int) -> None:
    """Raises: BadSettings: the networks can't work at that size."""
    if not SIZES[0] <= size <= SIZES[1] or size % 64:
        raise BadSettings(f"Pictures of {size} px can't be trained on. Choose a whole multiple of 64, from {SIZES[0]} to {SIZES[1]}.")


def padded(picture: Picture, size: int) -> Picture:
    """uint8 [H, W] or [H, W, 3] -> [size, size, ...]: whole, in the middle of a black square."""
    h, w = picture.shape[:2]
    side = max(h, w)
    square = np.zeros((side, side, *picture.shape[2:]), np.uint8)
    square[(side - h) // 2 : (side - h) // 2 + h, (side - w) // 2 : (side - w) // 2 + w] = picture
    return scaled(square, size)


def cropped(picture: Image.Image, size: int) -> Picture:
    """RGB -> uint8 [size, size, 3]: its middle, as large as it goes."""
    side, (w, h) = min(picture.size), picture.size
    left, top = (w - side) // 2, (h - side) // 2
    return scaled(np.asarray(picture.convert("RGB").crop((left, top, left + side, top + side))), size)


def scaled(square: Picture, size: int) -> Picture:
    """uint8 [S, S, ...] -> [size, size, ...]; areas are averaged when it becomes smaller."""
    if square.shape[0] == size:
        return square
    way = cv2.INTER_AREA if square.shape[0] > size else cv2.INTER_LANCZOS4
    return np.asarray(cv2.resize(np.ascontiguousarray(square), (size, size), interpolation=way), np.uint8)


def outside_of_black(picture: Picture) -> Picture:
    """uint8 [S, S, 3] -> alpha [S, S]: 0 where black runs in from the border, 255 elsewhere."""
    dark = cv2.copyMakeBorder((picture.max(axis=2) == 0).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    cv2.floodFill(dark, None, (0, 0), 2)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return np.where(dark[1:-1, 1:-1] == 2, 0, 255).astype(np.uint8)
