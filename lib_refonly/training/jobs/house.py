"""All jobs of one folder, as a page or a terminal handles them. Making this anew, in any program, finds what runs."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lib_refonly.errors import BadSettings, CannotWrite
from lib_refonly.training.jobs import asks, events, log, names, process, record
from lib_refonly.training.jobs.ledger import Ledger, Listing
from lib_refonly.training.jobs.process import Identity
from lib_refonly.training.jobs.progress import Progress
from lib_refonly.training.jobs.record import ACTIVE, DONE, GRACE, PAUSED, WAITING, Job

_ROOT = Path(__file__).resolve().parents[3]
_WORKER_LOG = ".worker.log"
_LARGEST_LOG = 1 << 20
_LONGEST_TITLE = 200

Argv = Sequence[str] | Callable[[Path], Sequence[str]]
"""A program and its arguments; or what makes them when the job's folder is known."""


class JobHouse:
    """The jobs in `folder`.

    Raises (by each method): BadSettings: there is no such job, or it is not in the state for that. CannotWrite: disk full, no permission.
    """

    def __init__(self, folder: Path) -> None:
        self._ledger = Ledger(folder)

    @property
    def folder(self) -> Path:
        return self._ledger.folder

    def submit(self, title: str, kind: str, argv: Argv, *, cwd: Path | None = None, env: Mapping[str, str] | None = None, grace: float = GRACE) -> Job:
        """Queue a job and see to it that somebody works. Its folder is where it writes; `process.JOB_FOLDER` tells it which.

        cwd: where it starts (here, when not said). env: added to the environment. grace: seconds it is given to stop by itself.
        """
        now, title = time.time(), _line(title)
        with self._ledger.changing():
            folder = self._new_folder(now, title)
            try:
                made = argv(folder) if callable(argv) else argv
                job = Job(folder.name, title, _line(kind), tuple(made), str((cwd or Path.cwd()).absolute()), now, now, dict(env or {}), float(grace))
                wrong = record.problem(job)
                if wrong:
                    raise BadSettings(f"This can't be made a job: {wrong}.")
                record.save(job, folder)
            except BaseException:  # a folder without a record is nobody's
                shutil.rmtree(folder, ignore_errors=True)
                raise
            self._see_to_a_worker()
        return job

    def list(self) -> Listing:
        """All jobs as they stand, in the order of submission."""
        return self._ledger.survey()

    def get(self, name: str) -> Job:
        """One job as it stands."""
        return self._ledger.look(name)

    def waiting(self) -> tuple[Job, ...]:
        """What has not begun yet, next first."""
        return tuple(sorted((job for job in self.list().jobs if job.state == WAITING), key=lambda job: (job.queued, job.id)))

    def folder_of(self, name: str) -> Path:
        """Where a job writes."""
        return self._ledger.place(name)

    def progress(self, name: str) -> Progress:
        """How far a job is, from all its events."""
        found = Progress()
        found.add(events.read_all(self.folder_of(name) / events.FILE).events)
        return found

    def log(self, name: str) -> list[str]:
        """The last lines that it printed, as text."""
        return log.tail(self.folder_of(name))

    def ask(self, name: str, what: str) -> Job:
        """Ask a job to stop, pause, save or sample. One that still waits is taken out of the queue by the first two. Returns it as it stands then."""
        with self._ledger.changing():
            folder, job = self._ledger.place(name), self._ledger.look(name)
            if job.state == WAITING and what in asks.ENDING:
                record.save(replace(job, state=PAUSED, explanation="It was taken out of the queue before it began."), folder)
            elif job.state in ACTIVE:
                asks.ask(folder, what)
                if what in asks.ENDING and job.asked != "stop":  # who wants to stop does not want to go on later
                    record.save(replace(job, asked=what), folder)
                self._see_to_a_worker()
            else:
                raise BadSettings(f"{name} is {job.state}: only a job that runs can be asked to {what}.")
        return self.get(name)

    def resume(self, name: str, argv: Sequence[str] | None = None) -> Job:
        """Queue a job again that was paused, failed, lost or stopped early. argv: instead of the one it had."""
        with self._ledger.changing():
            folder, job = self._ledger.place(name), self._ledger.look(name)
            if job.state in (*ACTIVE, WAITING) or (job.state == DONE and not job.explanation):
                raise BadSettings(f"{name} is {job.state}: there is nothing to go on with.")
            again = replace(job, state=WAITING, queued=time.time(), asked="", process=None, worker=None, explanation="", exit_code=None)
            again = replace(again, argv=again.argv if argv is None else tuple(argv))
            wrong = record.problem(again)
            if wrong:
                raise BadSettings(f"This can't be made a job: {wrong}.")
            record.save(again, folder)
            self._see_to_a_worker()
        return again

    def remove(self, name: str) -> None:
        """Delete a job that does not run, with all that lies in its folder. What links lead to stays."""
        with self._ledger.changing():
            folder, job = self._ledger.place(name), self._ledger.look(name)
            if job.state in ACTIVE:
                raise BadSettings(f"{name} is {job.state}: stop it first, then remove it.")
            doomed = self.folder / f".removed-{secrets.token_hex(8)}"
            folder.rename(doomed)  # a removal that is cut short leaves no half job in the list
        shutil.rmtree(doomed, ignore_errors=True)
        if doomed.exists():
            raise CannotWrite(f"{name} is out of the list, but {doomed} could not be deleted whole. Close what uses it, and delete it.")

    def wake(self) -> None:
        """See to it that somebody works if something waits or has to be ended: after a restart of the computer, say."""
        if any(job.state in (*ACTIVE, WAITING) for job in self.list().jobs):
            with self._ledger.changing():
                self._see_to_a_worker()

    def _new_folder(self, now: float, title: str) -> Path:
        stem = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{names.slug(title)}"
        for number in range(1, 10_000):
            folder = self.folder / (stem if number == 1 else f"{stem}-{number}")
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return folder
        raise CannotWrite("No free name for the job was found. Remove old jobs.")

    def _see_to_a_worker(self) -> None:
        """Under the ledger's lock, so that of two programs one starts it."""
        if self._ledger.worker() is not None:
            return
        path = self.folder / _WORKER_LOG
        if path.exists() and path.stat().st_size > _LARGEST_LOG:
            path.unlink()
        command = [sys.executable, "-m", "lib_refonly.training.jobs.worker", str(self.folder)]
        started = process.start(command, _ROOT, {process.JOB_FOLDER: ""}, path)
        self._ledger.write_worker(Identity.of(started.pid))
        threading.Thread(target=started.wait, daemon=True).start()  # or its number would stay taken after its end, as long as this program runs


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_LONGEST_TITLE]
