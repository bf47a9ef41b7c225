"""The folder `checkpoint` of a run: replaced as a whole, so that a kill, a power cut or a full disk at any moment leaves a whole one.

A new one is written beside it. Its last file, step.json, says that it is whole; before that is written, everything else is on the disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

from lib_refonly.imaging.infotext import write_atomically

KEPT, FRESH, OLD = "checkpoint", "checkpoint.new", "checkpoint.old"
MARK = "step.json"


def begin(folder: Path) -> Path:
    """An empty folder to write the next checkpoint into. Raises: OSError."""
    discard(folder)
    fresh = folder / FRESH
    fresh.mkdir(parents=True)
    return fresh


def discard(folder: Path) -> None:
    """Give up what was begun; its room on the disk is free again."""
    shutil.rmtree(folder / FRESH, ignore_errors=True)


def commit(folder: Path, step: int) -> None:
    """Put what was begun into the place of the checkpoint. Raises: OSError, CannotWrite: it is not whole; the one before is untouched."""
    fresh, kept, old = (folder / name for name in (FRESH, KEPT, OLD))
    for path in fresh.rglob("*"):
        _to_disk(path)
    write_atomically(fresh / MARK, json.dumps({"step": step}).encode())
    _to_disk(fresh)
    shutil.rmtree(old, ignore_errors=True)
    if kept.exists():
        os.replace(kept, old)
    os.replace(fresh, kept)
    _to_disk(folder)
    shutil.rmtree(old, ignore_errors=True)


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint, wherever it lies at this moment; None when nothing was saved yet."""
    return next((folder / name for name in (FRESH, KEPT, OLD) if (folder / name / MARK).is_file()), None)


def settle(folder: Path) -> Path | None:
    """Put the newest whole checkpoint into its place, whenever the run was killed. None: nothing was saved yet. Raises: OSError."""
    kept, found = folder / KEPT, newest(folder)
    if found is None:
        return None
    if found != kept:
        shutil.rmtree(kept, ignore_errors=True)
        os.replace(found, kept)
        _to_disk(folder)
    for name in (FRESH, OLD):
        shutil.rmtree(folder / name, ignore_errors=True)
    return kept


def step_of(checkpoint: Path) -> int:
    """The step that was saved."""
    return int(json.loads((checkpoint / MARK).read_text(encoding="utf-8"))["step"])


def _to_disk(path: Path) -> None:
    """Files can be lost in a power cut until this was done; on Windows folders can't be opened, and need not be."""
    with contextlib.suppress(*([PermissionError] if os.name == "nt" else [])):
        handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
