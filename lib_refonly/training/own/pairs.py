"""From a set that `dataset build` made to the drawing set that the RefOnly and adapter trainers read.

Two pictures that were paired become one record, whichever of them was whose reference: trainers take either side for the target. Some pictures are held
out: no record with one of them is trained on, so the sample sheets show targets that the model has not seen.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import statistics
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.lineart import adaptive_lines
from lib_refonly.training.dataset.build import BUILD, ROWS
from lib_refonly.training.dataset.samples import ABOUT, FOLDER, LINES, MANIFEST, REFERENCE, TARGET
from lib_refonly.training.dataset.vectors import Tell
from lib_refonly.training.jobs.names import inside
from lib_refonly.training.own.records import Picture, Records, check_size, outside_of_black, padded
from lib_refonly.training.pictures import PictureFolder

HELDOUT = "heldout"
"""Folder in the training set's own, which holds a set of the same layout."""
LEAST = 10
"""Records below which nothing but these pictures would be learnt."""
_MOST_HELD_OUT, _SHARE_HELD_OUT = 10, 0.05
GROUP = "own"


@dataclass(frozen=True)
class Bridged:
    """records, heldout: of the two sets. captions: pictures in them that have one. notes: sentences on what is worth knowing."""

    records: int
    heldout: int
    captions: int
    notes: tuple[str, ...] = ()

    def sentence(self, what: str = "pairs") -> str:
        """For the terminal and the page."""
        return f"{self.records} {what} to train on, {self.heldout} held out for the sample sheets; {self.captions} pictures have a caption."


def is_set(folder: Path) -> bool:
    """Whether `dataset build` wrote, or is writing, this folder."""
    return (folder / BUILD).is_file() and not (folder / BUILD).is_symlink()


def from_set(source: Path, out: Path, size: int, captions: Path | None = None, anew: bool = False, tell: Tell | None = None) -> Bridged:
    """Make the drawing set of the set in `source`, or go on making it; its pictures are `size` px. `out`/heldout is a further one.

    Args:
        captions: the folder that the pictures came from; NAME.txt beside a picture is its caption. None: no picture has one.
        anew: throw away what was made of something else.

    Raises:
        BadSettings: `source` is no finished set, has too few pairs, or pictures too small; `out` holds something else. CannotWrite.
    """
    check_size(size)
    tell = tell or (lambda *_: None)
    shards, digest = _shards(source)
    _check_pictures(source, size)
    plan, texts = _planned(source, shards), _Captions(captions)
    shapes = {"pictures": (2, size, size, 3), "alpha": (2, size, size), "blueprint": (2, size, size)}
    told = {"set": digest, "size": size, "captions": captions is not None}
    with contextlib.ExitStack() as stack:
        sets = {part: stack.enter_context(Records(out / part, told | {"count": plan.count(part)}, shapes, anew)) for part in ("", HELDOUT) if plan.count(part)}
        for number, (key, files) in enumerate(_samples(source, shards)):
            part, slot = plan.places.get(key, ("", -1))
            if slot >= sets[part].done:
                _add(sets[part], key, files, size, key in plan.swapped, texts)
            tell((number + 1) / plan.samples, "fitting pairs")
        seen = {name: text for one in sets.values() for meta in one.meta for name, text in zip(meta["files"], (meta["caption"], meta["captionB"]), strict=True)}
    return Bridged(plan.count(""), plan.count(HELDOUT), sum(map(bool, seen.values())), (plan.note,) if plan.note else ())


def _shards(source: Path) -> tuple[list[tuple[str, int]], str]:
    """(file, bytes) of every shard, and a digest of the list. Raises: BadSettings."""
    if not is_set(source):
        raise BadSettings(f"{source} is no data set. Make one of a folder of pictures first: studio.py dataset build PICTURES --out {source}")
    try:
        text = (source / MANIFEST).read_bytes()
        known = json.loads(text)
        if known["format"] != "refonly shards 1":
            raise BadSettings(f"{source} was made by another version of this program. Make it anew.")
        shards = [(f"{FOLDER}/{Path(one['file']).name}", int(one["bytes"])) for one in known["shards"]]
    except FileNotFoundError:
        raise BadSettings(f"{source} is not finished. Go on with it first: studio.py dataset build PICTURES --out {source}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadSettings(f"{source / MANIFEST} can't be read ({type(error).__name__}). Make the set anew.") from error
    for file, size in shards:
        path = inside(source, file)
        if not path.is_file() or path.stat().st_size != size:
            raise BadSettings(f"{path} is missing or damaged. Give the same `studio.py dataset build` again, which mends it.")
    return shards, hashlib.sha256(text).hexdigest()


def _check_pictures(source: Path, size: int) -> None:
    try:
        sides = [max(json.loads(line)["size"]) for line in (source / ROWS).read_text("utf-8").splitlines()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadSettings(f"{source / ROWS} can't be read ({type(error).__name__}). Make the set anew.") from error
    usual = statistics.median(sides) if sides else 0
    if sides and 2 * usual < size:
        raise BadSettings(
            f"Half of the pictures are no larger than {usual:g} px, and would have to be enlarged more than twice for {size} px. Choose a smaller size."
        )


@dataclass(frozen=True)
class _Plan:
    """What becomes of the samples. places: of a sample, by its key, the part ("" to train on, or HELDOUT) and the record's number there.

    swapped: samples whose reference is the picture that is held out; it comes first in the record. samples: of all shards.
    """

    places: dict[str, tuple[str, int]]
    swapped: frozenset[str]
    samples: int
    note: str = ""

    def count(self, part: str) -> int:
        return sum(there == part for there, _ in self.places.values())


def _planned(source: Path, shards: list[tuple[str, int]]) -> _Plan:
    """Raises: BadSettings: too few pairs."""
    first: dict[tuple[str, str], str] = {}
    pairs: dict[str, tuple[str, str]] = {}
    count = 0
    for key, files in _samples(source, shards):
        count += 1
        both = files.names()
        if first.setdefault((min(both), max(both)), key) == key:
            pairs[key] = both
    if len(pairs) < LEAST:
        raise BadSettings(
            f"There are only {len(pairs)} pairs of similar pictures in this set; at least {LEAST} are needed. Add pictures that show the same "
            "characters again, or lower the least similarity, which finds more pairs and more wrong ones."
        )
    return _split(pairs, count)


def _split(pairs: dict[str, tuple[str, str]], count: int) -> _Plan:
    """Some pictures are held out, with one pair each; their other pairs are in neither part. Which ones depends on their names alone."""
    pictures = sorted({name for both in pairs.values() for name in both}, key=lambda name: hashlib.blake2b(os.fsencode(name)).digest())
    away = pictures[: min(_MOST_HELD_OUT, max(1, int(_SHARE_HELD_OUT * len(pictures))))]
    train = [key for key, both in pairs.items() if not {*away} & {*both}]
    if len(train) < LEAST:
        note = "There are too few pairs to hold some out: the sample sheets show pictures that are trained on."
        return _Plan({key: ("", slot) for slot, key in enumerate(pairs)}, frozenset(), count, note)
    held: dict[str, str] = {}
    for name in away:
        key = next((key for key, both in pairs.items() if name in both and key not in held), None)
        if key is not None:
            held[key] = name
    places = {key: ("", slot) for slot, key in enumerate(train)} | {key: (HELDOUT, slot) for slot, key in enumerate(key for key in pairs if key in held)}
    return _Plan(places, frozenset(key for key, name in held.items() if pairs[key][0] != name), count)


class _Files:
    """One sample's files, read when they are wanted."""

    def __init__(self, tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> None:
        self._tar, self._members = tar, members

    def read(self, ending: str) -> bytes:
        """Raises: BadSettings: the shard is damaged."""
        try:
            file = self._tar.extractfile(self._members[ending])
            return file.read() if file is not None else b""
        except (OSError, tarfile.TarError, KeyError) as error:
            raise _damaged(self._tar.name, error) from error

    def names(self) -> tuple[str, str]:
        """The files that target and reference were made of, relative to the pictures' folder. Raises: BadSettings."""
        try:
            told = json.loads(self.read(ABOUT))
            return str(told["target"]), str(told["reference"])
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(self._tar.name, error) from error

    def picture(self, ending: str, mode: str) -> Picture:
        """Raises: BadSettings."""
        try:
            return np.asarray(Image.open(io.BytesIO(self.read(ending)), formats=("PNG",)).convert(mode))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise _damaged(self._tar.name, error) from error


def _damaged(path: Any, error: Exception) -> BadSettings:
    return BadSettings(f"{path} is damaged ({type(error).__name__}). Remove it and give the same `studio.py dataset build` again.")


def _samples(source: Path, shards: list[tuple[str, int]]) -> Iterator[tuple[str, _Files]]:
    """(key, files) of every sample, shard by shard. Only what is asked for is read. Raises: BadSettings: a shard is damaged."""
    for file, _ in shards:
        path = inside(source, file)
        try:
            with tarfile.open(path, "r:") as tar:
                for key, members in itertools.groupby(tar, lambda member: member.name.partition(".")[0]):
                    yield key, _Files(tar, {member.name.partition(".")[2]: member for member in members})
        except (OSError, tarfile.TarError) as error:
            raise _damaged(path, error) from error


def _add(records: Records, key: str, files: _Files, size: int, swapped: bool, texts: _Captions) -> None:
    """Target and reference, the held-out one first, with the lines of both: the target's are the set's, the reference's are found the same way."""
    names = files.names()
    pictures = [files.picture(TARGET, "RGB"), files.picture(REFERENCE, "RGB")]
    lines = [files.picture(LINES, "L"), 255 - adaptive_lines(pictures[1])]
    if swapped:
        names, pictures, lines = names[::-1], pictures[::-1], lines[::-1]
    fitted = np.stack([padded(one, size) for one in pictures])
    meta = {"id": key, "group": GROUP, "style": GROUP, "attributes": {}, "files": names, "caption": texts.of(names[0]), "captionB": texts.of(names[1])}
    records.add(
        meta, pictures=fitted, alpha=np.stack([outside_of_black(one) for one in fitted]), blueprint=np.stack([padded(one, size) for one in lines])
    )  # fmt: skip


class _Captions:
    """Of pictures, by their paths in `folder`; none without a folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder.resolve() if folder else None

    def of(self, name: str) -> str:
        """Raises: BadSettings: a caption can't be read, or lies elsewhere."""
        if self._folder is None:
            return ""
        path = inside(self._folder, name)
        return PictureFolder(path.parent).caption(path.name) if path.parent.is_dir() else ""
