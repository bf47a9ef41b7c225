"""Tar files of samples, as WebDataset reads them: files of one sample follow each other and share their name up to the first dot."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from lib_refonly.training.dataset.tables import put_in_place

_OPEN = 32
"""Tar files that are open at a time."""


class Place(NamedTuple):
    """Where a file's bytes lie in a tar file."""

    offset: int
    size: int


def write_tar(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> dict[str, Place]:
    """Write samples (key, files by ending) whole or not at all; the same samples give the same bytes. Returns the places of KEY.ENDING.

    Raises:
        CannotWrite: disk full, read-only.
    """
    places: dict[str, Place] = {}

    def write(passing: Path) -> None:
        with tarfile.open(passing, "w", format=tarfile.USTAR_FORMAT) as tar:
            for key, files in samples:
                for ending, data in files.items():
                    info = tarfile.TarInfo(f"{key}.{ending}")
                    info.size = len(data)
                    places[info.name] = Place(tar.offset + tarfile.BLOCKSIZE, len(data))
                    tar.addfile(info, io.BytesIO(data))

    put_in_place(path, write)
    return places


def file_digest(path: Path) -> str:
    """SHA-256, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


class Found(NamedTuple):
    """A file in a tar file."""

    tar: Path
    place: Place


class TarFiles:
    """Reads files out of many tar files, whose places are known, without going through them."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, BinaryIO] = OrderedDict()

    def read(self, path: Path, place: Place) -> bytes:
        """The bytes at `place` of `path`. Raises: OSError: the file is gone."""
        file = self._open.pop(path, None) or path.open("rb")
        self._open[path] = file
        if len(self._open) > _OPEN:
            self._open.popitem(last=False)[1].close()
        file.seek(place.offset)
        return file.read(place.size)

    def __enter__(self) -> TarFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()
