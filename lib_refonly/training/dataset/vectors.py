"""A file of embeddings, memory-mapped: checked once from end to end, then read block by block as unit vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lib_refonly.errors import BadSettings

Tell = Callable[[float, str], None]
"""Called with the share that is done (0..1) and what is being done."""
Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

_FEWEST = 2
_CHECKED_BYTES = 64 * 2**20
"""Read at a time while the file is checked."""


class Embeddings:
    """One vector a picture, float32 or float16 [N, D], on disk.

    Only what `unit` returns is in memory, and 4 bytes a picture. `digest` tells files with other numbers apart.

    Raises:
        BadSettings: no such file, no .npy, not 2-D, other numbers, fewer than two rows, NaN or infinite values, a row of zeros.
    """

    def __init__(self, path: Path, tell: Tell | None = None) -> None:
        self.path = path
        self._rows = _mapped(path)
        self.count, self.width = self._rows.shape
        self._scale, self.digest = _checked(path, self._rows, tell or (lambda *_: None))

    def unit(self, rows: Rows | slice) -> Floats:
        """These rows at length 1, float32 [len(rows), D], in memory."""
        part = np.array(self._rows[rows], np.float32, order="C")
        part *= self._scale[rows, None]
        return part


def _mapped(path: Path) -> NDArray[np.floating]:
    try:
        rows = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise BadSettings(f"There is no file {path}.") from None
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, OverflowError) as error:
        raise BadSettings(f"{path} is no .npy file that can be read ({str(error)[:100]}). Save it by numpy.save.") from error
    if rows.ndim != 2 or rows.dtype.kind != "f" or rows.dtype.itemsize not in (2, 4):
        raise BadSettings(f"{path} holds {rows.dtype} {list(rows.shape)}. Embeddings are float32 or float16 [pictures, width].")
    if len(rows) < _FEWEST or rows.shape[1] < 1:
        raise BadSettings(f"{path} holds {len(rows)} embeddings of width {rows.shape[1]}. Pairs need at least {_FEWEST}.")
    return rows


def _checked(path: Path, rows: NDArray[np.floating], tell: Tell) -> tuple[Floats, str]:
    """1 / length of every row, and a digest of all numbers."""
    scale, digest = np.empty(len(rows), np.float32), hashlib.blake2b(str((rows.shape, rows.dtype.str)).encode(), digest_size=16)
    step = max(1, _CHECKED_BYTES // (rows.shape[1] * 4))
    for start in range(0, len(rows), step):
        raw = np.ascontiguousarray(rows[start : start + step])
        digest.update(raw.data)
        part = raw.astype(np.float32)
        # In float64: the square of a large float32 would be infinite, that of a small one 0.
        square = np.einsum("ij,ij->i", part, part, dtype=np.float64)
        for wrong, what in ((~np.isfinite(square), "has values that are no numbers (NaN or infinite)"), (square == 0, "is all zeros")):
            if wrong.any():
                row = start + int(wrong.argmax())
                raise BadSettings(f"{path}: row {row} {what}, {int(wrong.sum())} or more such rows in all. Embed these pictures again, or leave them out.")
        scale[start : start + step] = 1 / np.sqrt(square)
        tell((start + len(raw)) / len(rows), "checking the embeddings")
    return scale, digest.hexdigest()
