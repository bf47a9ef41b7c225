"""The last stage: every pair becomes a sample, and samples go into shards, each of which can be written by anyone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.training.dataset.clean import BLUEPRINT, PICTURE
from lib_refonly.training.dataset.shards import Found, TarFiles, write_tar
from lib_refonly.training.dataset.spread import Workers
from lib_refonly.training.dataset.stages import Item, Made, fingerprint, mark, read_mark, remove_others
from lib_refonly.training.dataset.vectors import Tell
from lib_refonly.training.dataset.window import Pairs

FOLDER, MANIFEST = "shards", "manifest.json"
REFERENCE, TARGET, LINES, ABOUT = "reference.png", "target.png", "blueprint.png", "json"


class Pictures:
    """The kept pictures' files, by their keys, out of the chunks that hold them."""

    def __init__(self) -> None:
        self._chunk_of: dict[str, Made] = {}
        self._files = TarFiles()

    def add(self, chunks: Iterable[Made]) -> None:
        """What these hold."""
        self._chunk_of |= {item.key: chunk for chunk in chunks for item in chunk.items if not item.reason}

    def read(self, key: str, ending: str) -> bytes:
        """Raises: OSError: a chunk is gone."""
        return self._files.read(*self.found(key, ending))

    def found(self, key: str, ending: str) -> Found:
        """Where that lies."""
        chunk = self._chunk_of[key]
        return Found(chunk.path, chunk.places[f"{key}.{ending}"])

    def digest(self, key: str) -> str:
        """Of the chunk that holds the picture."""
        return self._chunk_of[key].sha256

    def __enter__(self) -> Pictures:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.__exit__()


def write_shards(out: Path, rows: Sequence[Item], pairs: Pairs, pictures: Pictures, size: int, seed: int, work: Workers, tell: Tell) -> tuple[int, int]:
    """Write OUT/shards/NNNNN.tar of `size` samples each and OUT/manifest.json, or go on with them. Returns how many shards and samples.

    A sample has reference.png (b of a pair), target.png (a), blueprint.png (the target's lines) and json (both files' names, the cosine). The order is
    drawn from `seed`, so that neighbours in a shard have nothing in common; readers need no large shuffle buffer. The manifest is written last.

    Raises:
        CannotWrite. Whatever the workers raise.
    """
    folder, manifest = out / FOLDER, out / MANIFEST
    folder.mkdir(exist_ok=True)
    order = np.random.default_rng(seed).permutation(len(pairs.a))
    starts = range(0, len(order), size)
    paths = [folder / f"{number:05}.tar" for number in range(len(starts))]

    def units() -> Iterator[tuple[Path, str, list[_Sample]]]:
        for path, start in zip(paths, starts, strict=True):
            samples = [_sample(start + place, rows, pairs, pictures, int(pair)) for place, pair in enumerate(order[start : start + size])]
            made_of = fingerprint(start, [(sample.known, *sample.chunks) for sample in samples])
            if read_mark(path, made_of) is None:
                manifest.unlink(missing_ok=True)  # it would speak of shards that are no more
            yield path, made_of, samples

    shards: dict[int, dict[str, Any]] = {}
    for number, known in work(_make_shard, units()):
        count = min(size, len(order) - starts[number])
        shards[number] = {"file": f"{FOLDER}/{paths[number].name}", "samples": count, "bytes": known["bytes"], "sha256": known["sha256"]}
        tell(len(shards) / len(starts), "writing shards")
    remove_others(folder, paths)
    written = {"format": "refonly shards 1", "samples": len(order), "shards": [shards[number] for number in range(len(starts))]}
    write_atomically(manifest, (json.dumps(written, indent=1) + "\n").encode())
    return len(starts), len(order)


class _Sample(NamedTuple):
    """key: its name. known: what its json says. chunks: digests of those that hold its pictures. files: by ending."""

    key: str
    known: Mapping[str, Any]
    chunks: tuple[str, str]
    files: Mapping[str, Found]


def _sample(number: int, rows: Sequence[Item], pairs: Pairs, pictures: Pictures, pair: int) -> _Sample:
    target, reference = rows[int(pairs.a[pair])], rows[int(pairs.b[pair])]
    known = {"reference": reference.about["file"], "target": target.about["file"], "cosine": round(float(pairs.cosine[pair]), 6)}
    files = {REFERENCE: pictures.found(reference.key, PICTURE), TARGET: pictures.found(target.key, PICTURE), LINES: pictures.found(target.key, BLUEPRINT)}
    return _Sample(f"{number:09}", known, (pictures.digest(reference.key), pictures.digest(target.key)), files)


def _make_shard(path: Path, made_of: str, samples: Sequence[_Sample]) -> dict[str, Any]:
    """One shard, and what its mark says."""
    with TarFiles() as tars:

        def contents() -> Iterable[tuple[str, Mapping[str, bytes]]]:
            for sample in samples:
                files = {ending: tars.read(*found) for ending, found in sample.files.items()}
                yield sample.key, {**files, ABOUT: json.dumps(sample.known).encode()}

        known = read_mark(path, made_of)
        if known is None:
            write_tar(path, contents())
            known = mark(path, made_of)
        return known


def examples(pictures: Pictures, keys: Sequence[str]) -> dict[str, tuple[bytes, bytes]]:
    """(picture, blueprint) as PNG, by key."""
    return {key: (pictures.read(key, PICTURE), pictures.read(key, BLUEPRINT)) for key in keys}


def chunks_of(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    """Portions of `size`, the last one smaller."""
    return (list(items[start : start + size]) for start in range(0, len(items), size))
