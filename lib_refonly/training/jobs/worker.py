"""Runs the waiting jobs of a house one after the other, apart from whoever queued them: `python -m lib_refonly.training.jobs.worker FOLDER`.

It may be killed at any moment. A job that runs goes on by itself; the next worker looks after it, and whoever looks finds how it stands.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from lib_refonly.errors import BadSettings, CannotWrite
from lib_refonly.locks import held
from lib_refonly.training.jobs import asks, events, log, process, record
from lib_refonly.training.jobs.ending import ended
from lib_refonly.training.jobs.ledger import Ledger
from lib_refonly.training.jobs.process import Identity
from lib_refonly.training.jobs.record import ACTIVE, FAILED, RUNNING, WAITING, Job

_LOCK = ".worker.lock"
_PATIENCE = 10.0
"""Seconds to wait for a worker that is about to end; and those between asking a job's processes to end and ending them."""
_TICK = 0.1
_TRIES, _SECONDS_BETWEEN = 5, 1.0
"""How often the end of a job is written when the disk is full: the job's own leavings may be gone in a moment."""


class Worker:
    """The one worker of a house. patience: seconds between SIGTERM and the end by force."""

    def __init__(self, folder: Path, patience: float = _PATIENCE) -> None:
        self._ledger, self._patience = Ledger(folder), patience
        me = Identity.of(os.getpid())
        assert me is not None
        self._me = me

    def run(self) -> None:
        """Work until nothing waits; at once back when another worker is at it."""
        self._ledger.folder.mkdir(parents=True, exist_ok=True)
        with held(self._ledger.folder / _LOCK, _PATIENCE) as mine:
            if not mine:
                return
            with self._ledger.changing():
                self._ledger.write_worker(self._me)
            while self._one():
                pass

    def _one(self) -> bool:
        """One job, from where it stands to its end. False: nothing is left to do, and whoever comes next has to start a worker."""
        with self._ledger.changing():
            job = self._next()
            if job is None:
                self._ledger.write_worker(None)
                return False
            child = None if job.state in ACTIVE else self._begin(job)
        if job.state in ACTIVE or child is not None:
            self._see_through(job.id, child)
        return True

    def _next(self) -> Job | None:
        """What already runs comes first: two trainers at a time have no room on one graphics card."""
        jobs = [self._ledger.read(job.id) for job in self._ledger.survey().jobs]
        running = [job for job in jobs if job.state in ACTIVE]
        waiting = sorted((job for job in jobs if job.state == WAITING), key=lambda job: (job.queued, job.id))
        return next(iter(running + waiting), None)

    def _begin(self, job: Job) -> subprocess.Popen[bytes] | None:
        """Start a waiting job. None: it could not be started, which is written."""
        folder = self._ledger.place(job.id)
        size = (folder / events.FILE).stat().st_size if (folder / events.FILE).is_file() else 0
        job = replace(
            job, state=RUNNING, asked="", process=None, worker=self._me, begun=time.time(), ended=0.0, events_from=size, explanation="", exit_code=None
        )
        record.save(job, folder)
        asks.Asks(folder).clear()
        if not process.clear_away(folder):
            return self._not_started(job, folder, "Processes of its earlier run are still there and can't be ended. Restart the computer, then resume.")
        try:
            child = process.start(job.argv, Path(job.cwd), {**job.env, process.JOB_FOLDER: str(folder)}, folder / log.FILE)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return self._not_started(job, folder, f"It could not be started ({job.argv[0]}: {reason}). Install the trainer again, or put its folder back.")
        record.save(replace(job, process=Identity.of(child.pid)), folder)
        return child

    def _not_started(self, job: Job, folder: Path, why: str) -> None:
        record.save(replace(job, state=FAILED, worker=None, explanation=why, ended=time.time()), folder)

    def _see_through(self, name: str, child: subprocess.Popen[bytes] | None) -> None:
        """Stay with a job until it is gone, and write how it ended. child: None for a job that an earlier worker started."""
        folder, ending = self._ledger.place(name), _Ending(self._patience)
        while True:
            job = record.load(folder)
            gone = not process.alive(job.process) if child is None else child.poll() is not None
            if gone:
                break
            log.cap(folder)
            ending.see_to(job, folder)
            time.sleep(_TICK)
        if ending.forced or job.process is None:
            process.clear_away(folder)
        log.cap(folder)
        self._write_end(name, folder, None if child is None else child.returncode, ending.forced)

    def _write_end(self, name: str, folder: Path, code: int | None, forced: bool) -> None:
        for left in range(_TRIES - 1, -1, -1):
            try:
                with self._ledger.changing():
                    record.save(ended(self._ledger.read(name), folder, code, forced), folder)
                return
            except CannotWrite:
                if not left:
                    raise
                time.sleep(_SECONDS_BETWEEN)


class _Ending:
    """Sees to it that a job that was asked to stop does: after its grace SIGTERM, and then by force. By a clock that nobody sets."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._asked: float | None = None
        self._told = False
        self.forced = False

    def see_to(self, job: Job, folder: Path) -> None:
        if not job.asked:
            return
        now = time.monotonic()
        self._asked = now if self._asked is None else self._asked
        late = now - self._asked - job.grace
        if late >= self._patience:
            self.forced = True
            process.end(job.process, folder, at_once=True)
        elif late >= 0 and not self._told:
            self._told = self.forced = True
            process.end(job.process, folder, at_once=False)


def main() -> int:
    """The one argument is the folder of the house."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return BadSettings.exit_code
    Worker(Path(sys.argv[1])).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
