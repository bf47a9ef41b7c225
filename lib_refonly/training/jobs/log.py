"""What a job prints: log.txt, kept from filling the disk, and read back as text whatever is in it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

FILE, EARLIER = "log.txt", "log.1.txt"
LARGEST = 4 << 20
"""Bytes of log.txt; what was before is in log.1.txt, which is no larger."""
TAIL = 64 << 10
LONGEST_LINE = 400
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_UNREADABLE = 0.2
"""Share of a line's characters that are no text: a line with more is left out."""


def cap(folder: Path, largest: int = LARGEST) -> None:
    """Put a log that has grown too large aside, and begin anew. The job's own handle only ever adds at the end, so it goes on writing there."""
    path = folder / FILE
    try:
        if path.stat().st_size <= largest:
            return
        with open(os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)), "r+b") as file:
            file.seek(-min(largest, file.seek(0, os.SEEK_END)), os.SEEK_END)
            (folder / EARLIER).unlink(missing_ok=True)
            try:
                with open(folder / EARLIER, "xb") as earlier:
                    shutil.copyfileobj(file, earlier, 1 << 20) if largest > 1 << 20 else earlier.write(file.read(largest))
            finally:
                file.truncate(0)
    except OSError:  # no log yet; or no room for the earlier part, and then it is gone
        return


def tail(folder: Path, size: int = TAIL) -> list[str]:
    """The last lines as text: no colours, of progress bars only the last state, binary rubbish left out, long lines cut."""
    return cleaned(_end(folder / FILE, size)) or cleaned(_end(folder / EARLIER, size))


def _end(path: Path, size: int) -> bytes:
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            file.seek(-min(size, file.seek(0, os.SEEK_END)), os.SEEK_END)
            return file.read(size)
    except OSError:
        return b""


def cleaned(data: bytes) -> list[str]:
    """Lines that can be shown; repetitions once."""
    found: list[str] = []
    for raw in data.decode("utf-8", "replace").split("\n"):
        line = _line(raw)
        if line and line not in found[-1:]:
            found.append(line)
    return found


def _line(raw: str) -> str:
    """What a terminal would show in the end."""
    last = next((part for part in reversed(_ESCAPES.sub("", raw).split("\r")) if part.strip()), "")
    shown = "".join(c if c.isprintable() else " " for c in last.replace("\t", "    ")).rstrip()
    lost = sum(c == "\ufffd" or (not c.isprintable() and not c.isspace()) for c in last)
    if not shown.strip() or lost > _UNREADABLE * len(last):
        return ""
    return shown if len(shown) <= LONGEST_LINE else f"{shown[: LONGEST_LINE - 1]}…"
