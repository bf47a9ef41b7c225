"""What may be called a job's folder or file, and which paths are followed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from lib_refonly.errors import BadSettings

LONGEST = 80
"""Characters of a job's name."""
_NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{LONGEST - 1}}}")
_NOT_ON_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_NOT_IN_FILES = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')
_LONGEST_FILE = 200


def checked(name: str) -> str:
    """The name of a job. Raises: BadSettings: it could lead somewhere else, or no system-wide file name."""
    if not _NAME.fullmatch(name) or ".." in name or name.endswith(".") or _NOT_ON_WINDOWS.fullmatch(name):
        raise BadSettings(f"{name[:LONGEST]!r} is no job's name. `studio.py jobs` lists them.")
    return name


def checked_file(name: str) -> str:
    """The name of a file that painters choose: any language, but no path. Raises: BadSettings."""
    wrong = _NOT_IN_FILES.search(name) or name != name.strip(" .") or ".." in name or name.startswith("-") or _NOT_ON_WINDOWS.fullmatch(name)
    if wrong or not name or not name.isprintable() or len(name) > _LONGEST_FILE:
        raise BadSettings(f"{name[:_LONGEST_FILE]!r} can't be a file's name. Use letters, digits, spaces, hyphens and underscores.")
    return name


def slug(title: str) -> str:
    """What of a title can stand in a folder's name."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-") or "job"


def inside(folder: Path, name: str) -> Path:
    """A path below `folder`, none of whose parts leads out of it. Raises: BadSettings."""
    path = folder / name
    if not _within(os.path.realpath(path), os.path.realpath(folder)):
        raise BadSettings(f"{name!r} in {folder.name} leads out of its folder, and is not followed.")
    return path


def within(path: Path, roots: Iterable[Path]) -> Path:
    """`path` with its links resolved. Raises: BadSettings: it lies under none of the roots."""
    real = os.path.realpath(path)
    if not any(_within(real, os.path.realpath(root)) for root in roots):
        raise BadSettings(f"{path} lies outside the folders that may be used here.")
    return Path(real)


def _within(real: str, root: str) -> bool:
    try:
        return os.path.commonpath((real, root)) == root
    except ValueError:  # two drives
        return False
