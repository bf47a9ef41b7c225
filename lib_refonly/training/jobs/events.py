"""What a trainer tells, one JSON object a line in events.jsonl: added to by one process, read by any, whole or from where one was."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = "events.jsonl"
ENDS = ("done", "stopped")
"""The last that a trainer tells, when all is saved. Whoever ends without one of them has failed or was killed."""
CHUNK = 8 << 20
"""Bytes read at a time. A longer line is garbage."""
_LONGEST = 1 << 20

Event = dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """What was read. offset: bytes, where to go on. skipped: lines that were no events. begun_anew: the file is shorter than it was, so all was read."""

    events: list[Event]
    offset: int
    skipped: int = 0
    begun_anew: bool = False


def append(path: Path, event: Event) -> None:
    """Add one line by one write, so that lines of several processes don't mix. Numbers that are none (nan, inf) become null.

    Raises:
        OSError: the disk is full, or the folder gone.
    """
    line = json.dumps({name: _plain(value) for name, value in event.items()}, allow_nan=False, default=str) + "\n"
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(path, flags, 0o644)
    try:
        size = os.lseek(handle, 0, os.SEEK_END)
        if size:
            os.lseek(handle, size - 1, os.SEEK_SET)
            line = line if os.read(handle, 1) == b"\n" else "\n" + line  # a killed process' half line must not take this one along
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read(path: Path, offset: int = 0) -> Batch:
    """The events from byte `offset` on, up to the last whole line; at most CHUNK bytes, so ask again until nothing comes. No file is no events."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return Batch([], 0)
    with open(handle, "rb") as file:
        anew = offset > os.fstat(handle).st_size
        offset = 0 if anew else offset
        file.seek(offset)
        data = file.read(CHUNK)
    end = data.rfind(b"\n") + 1
    if not end and len(data) == CHUNK:
        return Batch([], offset + CHUNK, 1, anew)
    lines = [line for line in data[:end].split(b"\n") if line.strip()]
    found = [event for event in map(_event, lines) if event is not None]
    return Batch(found, offset + end, len(lines) - len(found), anew)


def read_all(path: Path, offset: int = 0) -> Batch:
    """All events from byte `offset` on."""
    found: list[Event] = []
    skipped, anew = 0, False
    while True:
        batch = read(path, offset)
        found += batch.events
        skipped, anew = skipped + batch.skipped, anew or batch.begun_anew
        if batch.offset == offset:
            return Batch(found, offset, skipped, anew)
        offset = batch.offset


def _event(line: bytes) -> Event | None:
    if len(line) > _LONGEST:
        return None
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("event"), str) else None
