"""One setup at a time: a second start waits for the first instead of installing into the same folder."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
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


@contextmanager
def only_one(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file `path`; the system gives it back when the process ends, however it does. `on_wait` is called once if taken."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        waiting = False
        while True:
            try:
                _take(handle)
                break
            except OSError:
                if not waiting:
                    on_wait()
                waiting = True
                time.sleep(0.5)
        yield
    finally:
        os.close(handle)
