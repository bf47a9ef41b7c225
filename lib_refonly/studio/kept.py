"""A small memory for what is slow to compute and asked for again."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from PIL import Image

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """The `limit` values that were used last. Any thread may ask; two that ask at once may both compute."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of `key`, made now if it is not there."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._limit:
                self._values.popitem(last=False)
        return value

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._values.clear()


def digest(picture: Image.Image) -> bytes:
    """Equal for pictures that look the same, whatever file or object they come from."""
    width, height = picture.size
    return hashlib.blake2b(picture.convert("RGBA").tobytes(), digest_size=16, salt=width.to_bytes(8, "big") + height.to_bytes(8, "big")).digest()
