"""What a painter reads when the memory is not enough. No torch here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import cv2

from lib_refonly.errors import OutOfMemory

_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "insufficient memory")
"""How PyTorch (CUDA and MPS, Linux, Windows) and OpenCV say it."""


@contextlib.contextmanager
def memory_errors(less: str) -> Iterator[None]:
    """Raises: OutOfMemory: whatever ran out of memory inside. `less`: what needs less."""
    try:
        yield
    except (MemoryError, RuntimeError, cv2.error) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error).lower() for words in _NO_MEMORY):
            raise
        raise OutOfMemory(f"The device has no memory left. Take {less}.") from error
