"""The last stage: every pair becomes a sample, and samples go into shards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.training.dataset.clean import BLUEPRINT, PICTURE
from lib_refonly.training.dataset.shards import TarFiles, write_tar
from lib_refonly.training.dataset.stages import Item, Made, fingerprint, mark, read_mark, remove_others
from lib_refonly.training.dataset.vectors import Tell
from lib_refonly.training.dataset.window import Pairs

FOLDER, MANIFEST = "shards", "manifest.json"
REFERENCE, TARGET, LINES, ABOUT = "reference.png", "target.png", "blueprint.png", "json"


class Pictures:
    """The kept pictures' files, by their keys, out of the chunks that hold them."""

    def __init__(self, chunks: Sequence[Made]) -> None:
        self._chunk_of = {item.key: chunk for chunk in chunks for item in chunk.items if not item.reason}
        self._files = TarFiles()

    def read(self, key: str, ending: str) -> bytes:
        """Raises: OSError: a chunk is gone."""
        chunk = self._chunk_of[key]
        return self._files.read(chunk.path, chunk.places[f"{key}.{ending}"])

    def digest(self, key: str) -> str:
        """Of the chunk that holds the picture."""
        return self._chunk_of[key].sha256

    def __enter__(self) -> Pictures:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.__exit__()


def write_shards(out: Path, rows: Sequence[Item], pairs: Pairs, pictures: Pictures, size: int, seed: int, tell: Tell) -> tuple[int, int]:
    """Write OUT/shards/NNNNN.tar of `size` samples each and OUT/manifest.json, or go on with them. Returns how many shards and samples.

    A sample has reference.png (b of a pair), target.png (a), blueprint.png (the target's lines) and json (both files' names, the cosine). The order is
    drawn from `seed`, so that neighbours in a shard have nothing in common; readers need no large shuffle buffer. The manifest is written last.

    Raises:
        CannotWrite.
    """
    folder, manifest = out / FOLDER, out / MANIFEST
    folder.mkdir(exist_ok=True)
    order = np.random.default_rng(seed).permutation(len(pairs.a))
    shards = []
    for number, start in enumerate(range(0, len(order), size)):
        path, chosen = folder / f"{number:05}.tar", order[start : start + size]
        described = [_described(rows, pairs, int(place)) for place in chosen]
        made_of = fingerprint(start, [(known, pictures.digest(one.key), pictures.digest(other.key)) for one, other, known in described])
        known = read_mark(path, made_of)
        if known is None:
            manifest.unlink(missing_ok=True)  # it would speak of shards that are no more
            write_tar(path, ((f"{start + place:09}", _files(pictures, *sample)) for place, sample in enumerate(described)))
            known = mark(path, made_of)
        shards.append({"file": f"{FOLDER}/{path.name}", "samples": len(chosen), "bytes": known["bytes"], "sha256": known["sha256"]})
        tell((start + len(chosen)) / len(order), "writing shards")
    remove_others(folder, [folder / f"{number:05}.tar" for number in range(len(shards))])
    write_atomically(manifest, (json.dumps({"format": "refonly shards 1", "samples": len(order), "shards": shards}, indent=1) + "\n").encode())
    return len(shards), len(order)


def _described(rows: Sequence[Item], pairs: Pairs, place: int) -> tuple[Item, Item, dict[str, Any]]:
    """(reference, target, what its json says)."""
    target, reference = rows[int(pairs.a[place])], rows[int(pairs.b[place])]
    return reference, target, {"reference": reference.about["file"], "target": target.about["file"], "cosine": round(float(pairs.cosine[place]), 6)}


def _files(pictures: Pictures, reference: Item, target: Item, known: Mapping[str, Any]) -> dict[str, bytes]:
    return {
        REFERENCE: pictures.read(reference.key, PICTURE), TARGET: pictures.read(target.key, PICTURE),
        LINES: pictures.read(target.key, BLUEPRINT), ABOUT: json.dumps(known).encode(),
    }  # fmt: skip


def examples(pictures: Pictures, keys: Sequence[str]) -> dict[str, tuple[bytes, bytes]]:
    """(picture, blueprint) as PNG, by key."""
    return {key: (pictures.read(key, PICTURE), pictures.read(key, BLUEPRINT)) for key in keys}


def chunks_of(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    """Portions of `size`, the last one smaller."""
    return (list(items[start : start + size]) for start in range(0, len(items), size))
