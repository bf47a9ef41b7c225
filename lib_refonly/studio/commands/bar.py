"""A progress bar for the terminal: one line that is drawn over and over."""

from __future__ import annotations

import shutil
import time
import unicodedata
from typing import TextIO

_WIDTH = 24
_SECONDS_BETWEEN = 0.1


class Bar:
    """Shows how much of `total` drawings is done. A bar that is not `enabled` writes nothing at all."""

    def __init__(self, stream: TextIO, enabled: bool, total: int) -> None:
        self._stream, self._enabled, self._total = stream, enabled, total
        self._begun = time.monotonic()
        self._drawn = 0.0
        self._shown = False

    def show(self, done: float, name: str) -> None:
        """`done` drawings (with a fraction for the one at hand, which is called `name`)."""
        now = time.monotonic()
        if not self._enabled or (self._shown and now - self._drawn < _SECONDS_BETWEEN):
            return
        share = min(max(done / self._total, 0.0), 1.0)
        left = f", {_clock((now - self._begun) * (1 - share) / share)} left" if share > 0.02 else ""
        filled = round(share * _WIDTH)
        line = f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {min(int(done) + 1, self._total)}/{self._total}{left}  {name}"
        self._stream.write("\r\x1b[K" + cut(line, shutil.get_terminal_size().columns - 1))
        self._stream.flush()
        self._drawn, self._shown = now, True

    def clear(self) -> None:
        """Take the bar away, before anything else is written to the terminal."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False


def cut(text: str, columns: int) -> str:
    """As much of `text` as fits into that many terminal columns (Chinese and Japanese characters take two, combining ones none)."""
    used = 0
    for position, character in enumerate(text):
        used += 0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > columns:
            return text[:position]
    return text


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
