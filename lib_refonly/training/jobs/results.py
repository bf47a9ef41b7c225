"""A finished file goes where the WebUI looks for it: whole, never over another one, with its picture beside it."""

from __future__ import annotations

import contextlib
import filecmp
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from lib_refonly.errors import BadSettings, CannotWrite
from lib_refonly.training.jobs.names import checked_file, within

THUMBNAILS = (".png", ".preview.png")
"""What a picture beside a model may be called, after the model's name without its ending."""


def move_in(
    source: Path, target: Path, roots: Sequence[Path], *, name: str = "", thumbnail: Path | None = None, ending: str = ".preview.png", replace: bool = False
) -> Path:
    """Move `source` into the folder `target`; returns where it is. It is there whole, or not at all, and until then where it was.

    roots: folders, in one of which each of the paths has to lie. name: without the ending; "" keeps it. A name that is taken gets a number, unless
    `replace` says that the file may be overwritten. thumbnail: a PNG to copy beside it, as the name and `ending` (one of THUMBNAILS).

    Raises:
        BadSettings: a path outside `roots`, a name that is none, no such file. CannotWrite: disk full, no permission.
    """
    source, target = within(source, roots), within(target, roots)
    picture = None if thumbnail is None else within(thumbnail, roots)
    for one in (source, *([picture] if picture else [])):
        if not one.is_file():
            raise BadSettings(f"{one.name} is not there (any more).")
    if ending not in THUMBNAILS:
        raise BadSettings(f"{ending!r} is no ending for a thumbnail. It is one of {', '.join(THUMBNAILS)}.")
    stem = checked_file(name or source.stem)
    try:
        target.mkdir(parents=True, exist_ok=True)
        placed = _both(source, picture, target, stem, ending, replace)
        source.unlink()
    except OSError as error:
        raise CannotWrite(f"{source.name} could not be moved to {target}: {error.strerror or error}. It is still in {source.parent}.") from error
    return placed


def copy_in(source: Path, target: Path, roots: Sequence[Path], *, name: str = "", thumbnail: Path | None = None) -> Path:
    """Copy `source`, a file or a model's folder, into the folder `target`; returns where it is. It is there whole, or not at all, and stays where it was.

    What is there already under that name, or under that name and a number, is not copied once more. `roots`, `name`, `thumbnail`: as for `move_in`.

    Raises:
        BadSettings: a path outside `roots`, a name that is none, no such file, a folder with links. CannotWrite: disk full, no permission.
    """
    source, target = within(source, roots), within(target, roots)
    picture = None if thumbnail is None else within(thumbnail, roots)
    if not source.exists():
        raise BadSettings(f"{source.name} is not there (any more).")
    if source.is_dir() and any(path.is_symlink() for path in source.rglob("*")):
        raise BadSettings(f"{source.name} has links in it, which are not followed.")
    stem = checked_file(name or (source.name if source.is_dir() else source.stem))
    try:
        target.mkdir(parents=True, exist_ok=True)
        there = _there(source, target, stem)
        if there is not None:
            return there
        return _placed_folder(source, target, stem) if source.is_dir() else _both(source, picture, target, stem, THUMBNAILS[-1], False)
    except OSError as error:
        raise CannotWrite(f"{source.name} could not be copied to {target}: {error.strerror or error}. It is still in {source.parent}.") from error


def _numbered(stem: str, suffix: str) -> Iterator[str]:
    return (f"{stem if number == 1 else f'{stem}-{number}'}{suffix}" for number in range(1, 10_000))


def _there(source: Path, target: Path, stem: str) -> Path | None:
    """The same content, among those of that name that stand in a row."""
    for name in _numbered(stem, "" if source.is_dir() else source.suffix):
        found = target / name
        if not os.path.lexists(found):
            return None
        if _same(source, found):
            return found
    return None


def _same(one: Path, other: Path) -> bool:
    if not one.is_dir() or not other.is_dir():
        return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)
    names, others = ({path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} for folder in (one, other))
    return names == others and all(filecmp.cmp(one / name, other / name, shallow=False) for name in names)


def _placed_folder(source: Path, target: Path, stem: str) -> Path:
    passing = target / f".{secrets.token_hex(8)}.part"
    try:
        shutil.copytree(source, passing)
        for name in _numbered(stem, ""):
            if not os.path.lexists(target / name):
                os.rename(passing, target / name)
                return target / name
        raise FileExistsError(17, "too many folders have that name", stem)
    finally:
        shutil.rmtree(passing, ignore_errors=True)


def _both(source: Path, picture: Path | None, target: Path, stem: str, ending: str, replace: bool) -> Path:
    """The picture is on the disk before the file has its name: when the disk is too full for both, neither is there."""
    passing = _copied(picture, target) if picture else None
    try:
        placed = _place(source, target, stem, replace)
        if passing:
            os.replace(passing, placed.with_name(f"{placed.stem}{ending}"))
        return placed
    finally:
        if passing:
            passing.unlink(missing_ok=True)


def _place(source: Path, target: Path, stem: str, replace: bool) -> Path:
    passing = _copied(source, target)
    try:
        if replace:
            os.replace(passing, target / f"{stem}{source.suffix}")
            return target / f"{stem}{source.suffix}"
        for name in _numbered(stem, source.suffix):
            free = target / name
            if not any(free.with_name(f"{free.stem}{ending}").exists() for ending in THUMBNAILS) and _took(passing, free):
                return free
        raise FileExistsError(17, "too many files have that name", stem)
    finally:
        passing.unlink(missing_ok=True)


def _copied(source: Path, folder: Path) -> Path:
    """On the folder's own disk and down to it, so that what follows is one step."""
    passing = folder / f".{secrets.token_hex(8)}.part"
    try:
        with open(source, "rb") as reader, open(passing, "xb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
    except BaseException:  # Ctrl-C too: nothing half-written stays
        with contextlib.suppress(OSError):
            passing.unlink()
        raise
    return passing


def _took(passing: Path, name: Path) -> bool:
    """Give the file its name unless it is taken, in one step where the file system knows links, else after reserving the name."""
    try:
        os.link(passing, name)
        return True
    except FileExistsError:
        return False
    except OSError:
        pass
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    os.replace(passing, name)
    return True
