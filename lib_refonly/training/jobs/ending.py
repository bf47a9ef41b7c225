"""How a job stands and how it ended, from what is on the disk and which processes there are. Any program that looks finds the same."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from lib_refonly.training.jobs import events, log
from lib_refonly.training.jobs.explain import explain
from lib_refonly.training.jobs.process import alive
from lib_refonly.training.jobs.record import ACTIVE, DONE, FAILED, LOST, PAUSED, RUNNING, STOPPING, Job, problem

_MOST_RESULTS = 1000
_KILLED = (-9, 137)
_ON = "Resume goes on from what was saved last."
_WHY = {"minutes": "its time limit was reached", "signal": "the system or another program asked it to end", "pause": "as asked", "stop": "as asked"}
_WHILE = "while the pictures were prepared"


def standing(job: Job, folder: Path) -> Job:
    """The job as it is at this moment. A record is true of a job at rest; one that runs has a process, or a worker that is about to tell its end."""
    if job.state not in ACTIVE:
        return job
    if alive(job.process) or alive(job.worker):
        return replace(job, state=STOPPING if job.asked else RUNNING)
    return ended(job, folder, None)


def ended(job: Job, folder: Path, exit_code: int | None, forced: bool = False) -> Job:
    """The job when its process is gone. exit_code: None when nobody was there to hear it. forced: it was ended because it did not stop by itself."""
    told = events.read_all(folder / events.FILE, job.events_from).events
    last = next((event for event in reversed(told) if event["event"] in (*events.ENDS, "start", "resume")), {"event": ""})
    state, words = _verdict(job, last, folder, exit_code, forced)
    found = dict.fromkeys((*job.results, *(event["file"] for event in told if event["event"] == "result" and isinstance(event.get("file"), str))))
    results = tuple(one for one in found if not problem(replace(job, results=(one,))))[:_MOST_RESULTS]
    return replace(job, state=state, worker=None, exit_code=exit_code, explanation=words, results=results, ended=time.time())


def _verdict(job: Job, last: events.Event, folder: Path, exit_code: int | None, forced: bool) -> tuple[str, str]:
    """The state, and the sentences for it."""
    what = last["event"]
    if what == "done":
        return DONE, ""
    if what == "stopped" or (exit_code == 0 and not forced):
        why = "stop" if job.asked == "stop" else str(last.get("why") or job.asked)  # it may have heard of the pause that was asked before, and gone
        return _stopped(why, last, what == "stopped")
    if forced:
        return FAILED, f"It did not stop within {job.grace:g} s of being asked, and was ended. {_ON}"
    if exit_code is None:
        return LOST, f"Its process is gone without having said how it ended, as after a power cut. {_ON}"
    return LOST if exit_code in _KILLED else FAILED, str(explain(log.tail(folder), exit_code))


def _stopped(why: str, last: events.Event, told: bool) -> tuple[str, str]:
    """It ended well. Whether it may go on is the asker's wish; who was not asked has reached its end, unless it says that it has not."""
    if told and isinstance(last.get("what"), str):
        state = DONE if why == "stop" else PAUSED
        return state, f"Stopped {_WHILE} ({last['what'] or 'nothing is done yet'}): {_WHY.get(why, why)}. Resume goes on from there."
    where = f" at step {last['step']}" if told and isinstance(last.get("step"), int) else ""
    if why == "stop":
        return DONE, f"Stopped{where} as asked; what was learnt until then is saved."
    if why == "pause" or told:
        return PAUSED, f"Stopped{where}: {_WHY.get(why, why or 'it did not say why')}. Resume goes on from there."
    return DONE, ""
