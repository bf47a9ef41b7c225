"""Pairs as a table: Parquet, or .csv for spreadsheets. Columns `a` and `b` (row numbers of the embeddings, int64) and `cosine` (float32)."""

from __future__ import annotations

import contextlib
import csv
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lib_refonly.errors import BadSettings, CannotWrite
from lib_refonly.training.dataset.optional import needed
from lib_refonly.training.dataset.window import Pairs

SUFFIXES = (".parquet", ".csv")
_COLUMNS = ("a", "b", "cosine")
_TYPES = (np.int64, np.int64, np.float32)


def check_name(path: Path) -> None:
    """Before hours of work: can a table of this name be written?

    Raises:
        BadSettings: another ending, a folder, no such folder. PainterError: no pyarrow.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BadSettings(f"{path}: pairs are written as {' or '.join(SUFFIXES)}.")
    if path.is_dir() or not path.parent.is_dir():
        raise BadSettings(f"{path} is a folder. Name a file." if path.is_dir() else f"There is no folder {path.parent}. Make it first.")
    if path.suffix.lower() == ".parquet":
        needed("pyarrow.parquet")


def write_pairs(path: Path, parts: Iterable[Pairs], folder: Path | None = None) -> None:
    """Write one part after the other in `folder` (default: beside `path`, on whose disk it lies), then move it there whole. The same pairs give the same bytes.

    Raises:
        CannotWrite: disk full, read-only. What was there before is untouched.
    """
    write = _write_parquet if path.suffix.lower() == ".parquet" else _write_csv
    put_in_place(path, lambda passing: write(passing, parts), folder)


def put_in_place(path: Path, write: Callable[[Path], None], folder: Path | None = None) -> None:
    """Let `write` make a file under a passing name in `folder` (default: beside `path`), and move it to `path` when it is whole.

    Raises:
        CannotWrite: nothing half-written is left.
    """
    passing = (folder or path.parent) / f".{secrets.token_hex(8)}.part"
    try:
        try:
            write(passing)
            passing.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                passing.unlink()
            raise
    except OSError as error:
        raise CannotWrite(f"{path} could not be written ({error.strerror or error}). Make room or choose another folder, then start again.") from error


def _write_parquet(path: Path, parts: Iterable[Pairs]) -> None:
    arrow, parquet = needed("pyarrow"), needed("pyarrow.parquet")
    schema = arrow.schema([(name, arrow.from_numpy_dtype(kind)) for name, kind in zip(_COLUMNS, _TYPES, strict=True)])
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in parts:
            writer.write_table(arrow.table(dict(zip(_COLUMNS, part, strict=True)), schema=schema))


def _write_csv(path: Path, parts: Iterable[Pairs]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for part in parts:
            writer.writerows(zip(part.a.tolist(), part.b.tolist(), (f"{cosine:.6f}" for cosine in part.cosine.tolist()), strict=True))


def read_pairs(path: Path) -> Pairs:
    """The whole table.

    Raises:
        BadSettings: it is none.
    """
    try:
        columns = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
        a, b, cosine = columns
        return Pairs(np.asarray(a, np.int64), np.asarray(b, np.int64), np.asarray(cosine, np.float32))
    except (OSError, ValueError, KeyError) as error:  # pyarrow's own are ValueErrors and KeyErrors
        raise BadSettings(f"{path} is no table of pairs ({str(error)[:100]}).") from error


def _read_parquet(path: Path) -> Iterator[Any]:
    table = needed("pyarrow.parquet").read_table(path, columns=list(_COLUMNS))
    return (table[name].to_numpy() for name in _COLUMNS)


def _read_csv(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return ([kind(row[name]) for row in rows] for name, kind in zip(_COLUMNS, _TYPES, strict=True))
