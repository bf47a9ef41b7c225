"""A lock between processes: the system gives it back when its holder ends, however that happens."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _take(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _take(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


_SECONDS_BETWEEN = 0.02


@contextmanager
def held(path: Path, patience: float) -> Iterator[bool]:
    """Hold the lock file for the length of a `with`; False when another process still had it after `patience` seconds."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        yield _taken(handle, time.monotonic() + patience)
    finally:
        os.close(handle)


def _taken(handle: int, until: float) -> bool:
    while True:
        try:
            _take(handle)
            return True
        except OSError:
            if time.monotonic() >= until:
                return False
            time.sleep(_SECONDS_BETWEEN)
