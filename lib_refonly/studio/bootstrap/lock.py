"""One setup at a time: a second start waits for the first instead of installing into the same folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lib_refonly.locks import held


@contextmanager
def only_one(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file `path`, for which is waited as long as it takes. `on_wait` is called once if it is taken."""
    with held(path, 0.0) as mine:
        if mine:
            yield
            return
    on_wait()
    with held(path, math.inf):
        yield
