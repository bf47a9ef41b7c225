"""From a folder with a subfolder for each style to what the stylecode trainer reads: one record a style, its pictures as views."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib_refonly.errors import BadPicture, BadSettings
from lib_refonly.imaging.background import on_background
from lib_refonly.imaging.decode import open_picture
from lib_refonly.training.dataset.vectors import Tell
from lib_refonly.training.own.pairs import HELDOUT, Bridged
from lib_refonly.training.own.records import Records, check_size, cropped
from lib_refonly.training.pictures import PictureFolder

LEAST_STYLES, LEAST_VIEWS = 4, 2
"""Styles, and pictures of one: the style is read from one picture and painted in another."""
MOST_VIEWS = 64
_MOST_HELD_OUT, _STYLES_FOR_ONE = 6, 8
_NAMED = 5


@dataclass(frozen=True)
class _Style:
    """A subfolder and its pictures' names."""

    folder: PictureFolder
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.folder.path.name


def from_folders(source: Path, out: Path, size: int, anew: bool = False, tell: Tell | None = None) -> Bridged:
    """Make the styled set of the pictures in `source`'s subfolders, or go on making it. Pictures are cropped to squares of `size` px and keep their ground.

    NAME.txt beside a picture is its caption. `out`/heldout has the styles that are held out. anew: throw away what was made of something else.

    Raises:
        BadSettings: too few styles or pictures, a caption that can't be read, or `out` holds something else. CannotWrite.
    """
    check_size(size)
    styles, notes = _styles(source)
    parts = _split(styles)
    most = min(MOST_VIEWS, max(len(one.names) for one in styles))
    listing = hashlib.sha256(json.dumps([(one.name, [_state(one.folder.path / name) for name in one.names]) for one in styles]).encode()).hexdigest()
    left_out: list[str] = []
    done, captions, total = [0, 0], 0, sum(len(one.names) for one in styles)
    looked = 0
    with contextlib.ExitStack() as stack:
        for at, part in enumerate(("", HELDOUT)):
            if not parts[part]:
                continue
            told = {"styles": listing, "size": size, "count": len(parts[part]), "views": most}
            records = stack.enter_context(Records(out / part, told, {"pictures": (most, size, size, 3)}, anew))
            finished = {one["style"] for one in records.meta}
            for style in parts[part]:
                looked += len(style.names)
                if style.name not in finished:
                    left_out += _add(records, style, size)
                if tell:
                    tell(looked / total, "fitting styles")
            done[at], captions = records.done, captions + sum(bool(text) for one in records.meta for text in one["captions"])
    if done[0] < LEAST_STYLES - bool(parts[HELDOUT]):
        raise BadSettings(f"Only {done[0]} styles are left that have {LEAST_VIEWS} pictures which can be opened ({_listed(left_out)} can't). Mend them.")
    notes += [f"{len(left_out)} pictures could not be opened, and are left out: {_listed(left_out)}."] if left_out else []
    return Bridged(done[0], done[1], captions, tuple(notes))


def check_folders(source: Path) -> None:
    """Whether the subfolders can be styles. Raises: BadSettings: too few of them, or too few pictures in them."""
    _styles(source)


def _styles(source: Path) -> tuple[list[_Style], list[str]]:
    """By name, those with enough pictures; and what is worth saying of the others. Raises: BadSettings."""
    top = PictureFolder(source)
    try:
        with os.scandir(top.path) as entries:
            names = sorted(one.name for one in entries if one.is_dir(follow_symlinks=False) and not one.name.startswith("."))
    except OSError as error:
        raise BadSettings(f"{source} can't be read: {error.strerror or error}.") from error
    found = [_Style(one, tuple(one.names())) for one in (PictureFolder(top.path / name) for name in names)]
    styles = [one for one in found if len(one.names) >= LEAST_VIEWS]
    if len(styles) < LEAST_STYLES:
        raise BadSettings(
            f"A stylecode model is trained on a folder with one subfolder for each style. {source} has {len(styles)} subfolders with at least {LEAST_VIEWS} "
            f"pictures; at least {LEAST_STYLES} are needed, and more than {10 * LEAST_STYLES} are better."
        )
    notes = [f"{one.name}: fewer than {LEAST_VIEWS} pictures, left out." for one in found if len(one.names) < LEAST_VIEWS]
    notes += [f"{one.name}: {MOST_VIEWS} of its {len(one.names)} pictures are used." for one in styles if len(one.names) > MOST_VIEWS]
    notes += [f"{len(top.names())} pictures lie in no subfolder, and are left out."] if top.names() else []
    return [_Style(one.folder, _spread(one.names)) for one in styles], notes


def _spread(names: tuple[str, ...]) -> tuple[str, ...]:
    """At most MOST_VIEWS of them, from all over the list."""
    if len(names) <= MOST_VIEWS:
        return names
    return tuple(names[int(at)] for at in np.linspace(0, len(names) - 1, MOST_VIEWS))


def _split(styles: list[_Style]) -> dict[str, list[_Style]]:
    """One style of eight is held out, whichever it is by its name alone."""
    order = sorted(styles, key=lambda one: hashlib.blake2b(os.fsencode(one.name)).digest())
    away = {one.name for one in order[: min(_MOST_HELD_OUT, len(styles) // _STYLES_FOR_ONE)]}
    return {"": [one for one in styles if one.name not in away], HELDOUT: [one for one in styles if one.name in away]}


def _add(records: Records, style: _Style, size: int) -> list[str]:
    """One record more, unless too few of the style's pictures can be opened. Returns those that can't."""
    pictures, captions, broken = [], [], []
    for name in style.names:
        try:
            picture = open_picture(style.folder.path / name)
            pictures.append(cropped(on_background(picture, "white", picture.getchannel("A")) if picture.mode == "RGBA" else picture, size))
        except BadPicture:
            broken.append(f"{style.name}/{name}")
            continue
        captions.append(style.folder.caption(name))
    if len(pictures) >= LEAST_VIEWS:
        records.add({"style": style.name, "captions": captions}, pictures=np.stack(pictures))
    return broken


def _state(path: Path) -> list[object]:
    told = path.lstat()
    return [path.name, told.st_size, told.st_mtime_ns]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (" ..." if len(names) > _NAMED else "")
