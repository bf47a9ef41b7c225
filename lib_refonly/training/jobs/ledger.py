"""The folder of all jobs: which there are, and changing their records while other programs do the same."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from lib_refonly.errors import BadSettings, CannotWrite
from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.locks import held
from lib_refonly.training.jobs import names, record
from lib_refonly.training.jobs.ending import standing
from lib_refonly.training.jobs.process import Identity, alive
from lib_refonly.training.jobs.record import Job

_LOCK, _WORKER = ".jobs.lock", ".worker.json"
_PATIENCE = 30.0
"""Seconds that one waits for another program; records are changed in milliseconds."""


class Listing(NamedTuple):
    """Jobs in the order of their submission. problems: the name of what can't be read -> why not, in a sentence."""

    jobs: tuple[Job, ...]
    problems: dict[str, str]


class Ledger:
    """Records in `folder`, which is made when something is written. Reading needs no lock: records are replaced whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(os.path.abspath(folder))

    def place(self, name: str) -> Path:
        """The folder of a job. Raises: BadSettings: no such job, a name that is none, a link."""
        folder = self.folder / names.checked(name)
        if not folder.is_dir() or os.path.realpath(folder) != os.path.join(os.path.realpath(self.folder), name):
            raise BadSettings(f"There is no job {name}. `studio.py jobs` lists them.")
        return folder

    def read(self, name: str) -> Job:
        """The record as it was written. Raises: BadSettings."""
        return record.load(self.place(name))

    def look(self, name: str) -> Job:
        """The job as it stands at this moment. Raises: BadSettings."""
        folder = self.place(name)
        return standing(record.load(folder), folder)

    def survey(self) -> Listing:
        """All jobs as they stand. One that can't be read is a problem and hides no other."""
        jobs: list[Job] = []
        problems: dict[str, str] = {}
        for name in self._names():
            try:
                jobs.append(self.look(name))
            except BadSettings as error:
                problems[name] = str(error)
        return Listing(tuple(sorted(jobs, key=lambda job: (job.created, job.id))), problems)

    def _names(self) -> list[str]:
        """Folders with a record; runs that were begun without the queue lie here too, and are not ours."""
        try:
            with os.scandir(self.folder) as entries:
                own = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)]
        except OSError:
            return []
        return sorted(name for name in own if os.path.lexists(self.folder / name / record.FILE))

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Nobody else changes a record meanwhile. Raises: CannotWrite."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with held(self.folder / _LOCK, _PATIENCE) as mine:
                if not mine:
                    raise CannotWrite(f"Another program is holding the jobs in {self.folder}. Try again in a moment.")
                yield
        except OSError as error:
            raise CannotWrite(f"The folder of the jobs, {self.folder}, can't be written to: {error.strerror or error}.") from error

    def worker(self) -> Identity | None:
        """The worker that runs, if any."""
        path = self.folder / _WORKER
        try:
            if path.is_symlink() or not stat.S_ISREG(path.stat().st_mode):
                return None
            found = json.loads(path.read_bytes())
            identity = Identity(int(found["pid"]), float(found["born"]), str(found["boot"]))
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        return identity if alive(identity) else None

    def write_worker(self, identity: Identity | None) -> None:
        """Say who works, or that nobody does any more; while `changing`. Raises: CannotWrite."""
        if identity is not None:
            write_atomically(self.folder / _WORKER, json.dumps(identity.__dict__).encode())
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.folder / _WORKER)
