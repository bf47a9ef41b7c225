"""One job's record: job.json in its folder, written whole or not at all, read with suspicion."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.training.jobs import names
from lib_refonly.training.jobs.process import Identity

FILE = "job.json"
FORMAT, VERSION = "refonly-job", 1
LARGEST = 1 << 20
"""Bytes of a record."""
WAITING, RUNNING, STOPPING, PAUSED, DONE, FAILED, LOST = STATES = ("waiting", "running", "stopping", "paused", "done", "failed", "lost")
ACTIVE = (RUNNING, STOPPING)
GRACE = 60.0


@dataclass(frozen=True)
class Job:
    """What a job is, and how it stands.

    id: the name of its folder. argv: the program and its arguments, never a shell's line. env: added to the environment that is there.
    created, queued, begun, ended: seconds since 1970; 0 is not yet. grace: seconds it is given to stop by itself. asked: "", "stop" or "pause".
    events_from: where in events.jsonl this run of it begins, bytes. results: files and folders that it made, relative to its folder.
    """

    id: str
    title: str
    kind: str
    argv: tuple[str, ...]
    cwd: str
    created: float
    queued: float
    env: Mapping[str, str] = field(default_factory=dict)
    grace: float = GRACE
    state: str = WAITING
    asked: str = ""
    process: Identity | None = None
    worker: Identity | None = None
    events_from: int = 0
    begun: float = 0.0
    ended: float = 0.0
    exit_code: int | None = None
    explanation: str = ""
    results: tuple[str, ...] = ()

    def written(self) -> bytes:
        """As job.json."""
        return json.dumps({"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)}, ensure_ascii=False, indent=1).encode()


def save(job: Job, folder: Path) -> None:
    """Write job.json. Raises: CannotWrite: what was there before is untouched."""
    write_atomically(folder / FILE, job.written())


def load(folder: Path) -> Job:
    """The record in a job's folder.

    Raises:
        BadSettings: none, a damaged, another job's, a newer program's or another user's record. It is not touched.
    """
    name = names.checked(folder.name)
    data = _bytes(folder / FILE, name)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise BadSettings(f"The record of the job {name} is damaged (no JSON). Remove the folder, or put its {FILE} back.") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise BadSettings(f"{FILE} in {name} is no job's record.")
    version = found.get("version")
    if version != VERSION:
        raise BadSettings(f"The job {name} was made by another version of this program ({version!r}). Update this one.")
    wrong = [field.name for field in dataclasses.fields(Job) if not _CHECKS[field.name](found.get(field.name))]
    if wrong:
        raise BadSettings(f"The record of the job {name} is damaged ({', '.join(wrong)}). Remove the folder, or put its {FILE} back.")
    if found["id"] != name:
        raise BadSettings(f"{name} is a copy of the job {found['id'][: names.LONGEST]!r} under another name. Give it its own name again.")
    return _job(found)


def _bytes(path: Path, name: str) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        if path.is_symlink():
            raise BadSettings(f"The record of the job {name} is a link, and is not followed.")
        with open(os.open(path, flags), "rb") as file:
            told = os.fstat(file.fileno())
            if not stat.S_ISREG(told.st_mode) or told.st_size > LARGEST:
                raise BadSettings(f"{FILE} in {name} is no job's record.")
            _check_owner(told.st_uid, name)
            return file.read(LARGEST)
    except OSError as error:
        raise BadSettings(f"There is no job {name}, or its record can't be read ({error.strerror or error}).") from error


def _check_owner(owner: int, name: str) -> None:
    """A record says which program to start: only what we wrote ourselves is believed. Windows tells no owner here."""
    mine = getattr(os, "geteuid", None)
    if mine is not None and owner != mine():
        raise BadSettings(f"The job {name} is another user's, and is left alone.")


def _job(found: Mapping[str, Any]) -> Job:
    values = {field.name: found[field.name] for field in dataclasses.fields(Job)}
    values |= {name: tuple(values[name]) for name in ("argv", "results")}
    values |= {name: None if values[name] is None else Identity(**values[name]) for name in ("process", "worker")}
    return Job(**values)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _argument(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value


def _arguments(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_argument, value)) and bool(value[0])


def _environment(value: Any) -> bool:
    return isinstance(value, dict) and all(_argument(k) and k and "=" not in k and _argument(v) for k, v in value.items())


def _identity(value: Any) -> bool:
    if value is None:
        return True
    known = isinstance(value, dict) and set(value) == {"pid", "born", "boot"}
    return known and _whole(value["pid"]) and value["pid"] > 0 and _seconds(value["born"]) and _text(value["boot"])


def _below(value: Any) -> bool:
    """Paths that stay in the job's folder, whoever wrote them."""
    return isinstance(value, list | tuple) and all(
        _argument(one) and one and not os.path.isabs(one) and ".." not in one.replace("\\", "/").split("/") for one in value
    )


_CHECKS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("id", "title", "kind", "explanation"), _text),
    **dict.fromkeys(("created", "queued", "begun", "ended", "grace"), _seconds),
    **dict.fromkeys(("process", "worker"), _identity),
    "argv": _arguments,
    "cwd": lambda value: _argument(value) and os.path.isabs(value),
    "env": _environment,
    "state": lambda value: value in STATES,
    "asked": lambda value: value in ("", "stop", "pause"),
    "events_from": lambda value: _whole(value) and value >= 0,
    "exit_code": lambda value: value is None or _whole(value),
    "results": _below,
}


def problem(job: Job) -> str:
    """Which field can't be written so; "" when all can. What is refused here would not be read either."""
    told = dataclasses.asdict(job)
    return ", ".join(name for name, fits in _CHECKS.items() if not fits(told[name]))
