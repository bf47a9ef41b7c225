"""The contract of the stages, and running them chunk by chunk: what a chunk came to is there whole or not at all, and is not made twice.

A stage is a function of one `Item`, which depends on nothing but the item and the stage's own settings. So chunks can be made anywhere, in any order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.training.dataset.shards import Place, file_digest, write_tar


@dataclass(frozen=True)
class Item:
    """One picture on its way.

    key: from its path, 16 hexadecimal digits. about: what is known of it, plain JSON; "file" is its path within the source. reason: why it was thrown
    out; "" while it is kept. picture: while the stages run. files: what is kept of it, by ending ("png", "blueprint.png").
    """

    key: str
    about: Mapping[str, Any]
    reason: str = ""
    picture: Image.Image | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)

    def out(self, reason: str) -> Item:
        """The same, thrown out."""
        return replace(self, reason=reason, picture=None, files={})

    def knowing(self, **about: Any) -> Item:
        """The same, with more known about it."""
        return replace(self, about={**self.about, **about})


class Stage(Protocol):
    """`settings`, plain JSON, names everything that the result depends on besides the item: when they change, chunks are made anew."""

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def __call__(self, item: Item) -> Item: ...


def fingerprint(*parts: Any) -> str:
    """Of plain JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read_mark(path: Path, made_of: str = "") -> dict[str, Any] | None:
    """What stands beside a finished file (`mark`); None when the file or the mark is missing, cut off, or (`made_of`) made of something else."""
    try:
        known = json.loads(_beside(path).read_text("utf-8"))
        return known if known["bytes"] == path.stat().st_size and made_of in ("", known["of"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def mark(path: Path, made_of: str, **about: Any) -> dict[str, Any]:
    """Say that `path` is finished, what it was made of, and its SHA-256. Raises: CannotWrite."""
    known = {"of": made_of, "bytes": path.stat().st_size, "sha256": file_digest(path), **about}
    write_atomically(_beside(path), json.dumps(known).encode())
    return known


def remove_others(folder: Path, kept: Iterable[Path]) -> None:
    """Remove files that an earlier build of more chunks made: those with a mark, no others."""
    names = {path.name for path in kept}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in names and _beside(path).is_file():
            path.unlink()
            _beside(path).unlink()


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".json")


@dataclass(frozen=True)
class Made:
    """A finished chunk: its tar, its digest, and its items (without pictures and files); `places`: where in the tar a kept item's files lie."""

    path: Path
    sha256: str
    items: tuple[Item, ...]
    places: Mapping[str, Place]


def make_chunk(path: Path, items: Sequence[Item], stages: Sequence[Stage]) -> Made:
    """Run the stages over the items, one after the other, and keep what came of them in `path` (.tar); a finished chunk is read instead.

    Raises:
        CannotWrite. Whatever a stage raises: nothing is kept of the chunk then.
    """
    made_of = fingerprint([dict(stage.settings) for stage in stages], [(item.key, dict(item.about)) for item in items])
    known = read_mark(path, made_of)
    if known is None:
        done: list[Item] = []

        def samples() -> Iterable[tuple[str, Mapping[str, bytes]]]:
            for item in items:
                item = _through(item, stages)
                if not item.reason:
                    yield item.key, item.files
                done.append(replace(item, picture=None, files={}))

        places = write_tar(path, samples())
        known = mark(path, made_of, items=[(item.key, dict(item.about), item.reason) for item in done], places=places)
    kept = tuple(Item(key, about, reason) for key, about, reason in known["items"])
    return Made(path, known["sha256"], kept, {name: Place(*place) for name, place in known["places"].items()})


def _through(item: Item, stages: Sequence[Stage]) -> Item:
    for stage in stages:
        if item.reason:
            break
        item = stage(item)
    return item
