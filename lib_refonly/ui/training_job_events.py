"""The Train page's jobs: what is shown of them, and what is asked of them. The layout is in `training_panel`."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadSettings
from lib_refonly.training.jobs.asks import ENDING
from lib_refonly.training.jobs.house import JobHouse
from lib_refonly.training.jobs.names import inside
from lib_refonly.training.jobs.progress import Progress
from lib_refonly.training.jobs.record import ACTIVE, DONE, FAILED, LOST, PAUSED, WAITING, Job
from lib_refonly.ui import markup, shim
from lib_refonly.ui.training_host import TrainingHost
from lib_refonly.ui.training_panel import TrainingPanel
from lib_refonly.ui.training_result_events import ResultEvents
from lib_refonly.ui.training_results import shown
from lib_refonly.ui.training_session import TrainingSession
from lib_refonly.ui.training_view import job_card, job_list, log_view
from lib_refonly.ui.troubles import guarded

Updates = dict[Any, Any]
_TOLD = {
    "stop": "It is asked to save and end.",
    "pause": "It is asked to save and pause. Resume goes on from there.",
    "save": "It is asked to save, and goes on.",
    "sample": "It is asked for a sample picture, and goes on.",
}


class JobEvents:
    """Handlers of the list of jobs. What they show is read anew from the house, so every tab, and every program, sees the same."""

    def __init__(self, panel: TrainingPanel, house: JobHouse, host: TrainingHost | None = None) -> None:
        self.panel, self.part, self.house, self.host = panel, panel.jobs, house, host or TrainingHost()
        self.results = ResultEvents(panel, house, self.host)

    def wire(self, opened: Any) -> None:
        """Connect the events; `opened` is that of the page or the tab being opened."""
        p, j = self.panel, self.part
        inputs, shown = [p.session, j.job], self.shown
        for event in (opened, j.refresh.click):
            shim.on(event, guarded(j.said)(self.open), inputs, shown)
        shim.on(j.job.change, guarded(j.said)(self.choose), inputs, shown)
        if j.timer is not None:
            shim.on(j.timer.tick, guarded(j.said)(self.refresh), inputs, shown)
        shim.on(j.poll.click, guarded(j.said)(self.refresh), inputs, shown)
        shim.on(p.free.click, guarded(p.notice)(self.free), None, [p.notice])
        self.results.wire()
        for what, button in j.asks.items():
            shim.on(button.click, partial(guarded(j.said)(self.ask), what), inputs, shown)
        shim.on(j.resume.click, guarded(j.said)(self.resume), inputs, shown)
        shim.on(j.remove.click, guarded(j.said)(self.remove), inputs, shown)

    @property
    def shown(self) -> list[Any]:
        """All components that the list and the job's card change."""
        j = self.part
        buttons = [*j.asks.values(), j.resume, j.remove]
        timer = [j.timer] if j.timer is not None else []
        return [self.panel.notice, self.panel.free, j.room, j.listed, j.job, j.box, j.card, j.log, j.said, *buttons, *timer, *self.results.shown]

    def free(self) -> Updates:
        """Make room on the graphics card."""
        return {self.panel.notice: markup.message(self.host.make_room(), "done")}

    def open(self, session: TrainingSession, chosen: str | None) -> Updates:
        """The page is on show, or a painter wants to see it as it is: everything is sent."""
        session.forget_shown()
        self.house.wake()
        return self.refresh(session, chosen)

    def choose(self, session: TrainingSession, chosen: str | None) -> Updates:
        """Another job is looked at."""
        other = session.is_new("told of", chosen or "")
        return self.refresh(session, chosen) | ({self.part.said: ""} if other else {})

    def refresh(self, session: TrainingSession, chosen: str | None) -> Updates:
        """What is different from what the page shows."""
        j, (jobs, problems) = self.part, self.house.list()
        now = next((job for job in jobs if job.id == chosen), None) or _first(jobs)
        progress = {job.id: session.progress(self.house, job.id) if job is now else self.house.progress(job.id) for job in jobs if job.state in ACTIVE}
        made: Updates = {}

        def put(part: str, component: Any, value: Any, key: Any = None) -> None:
            if session.is_new(part, value if key is None else key):
                made[component] = value

        session.is_new("told of", now.id if now else "")
        put("list", j.listed, job_list(jobs, progress, problems, now.id if now else ""))
        titles = tuple((_title(job), job.id) for job in reversed(jobs))
        put("jobs", j.job, shim.titled_choices(j.job, titles) | {"value": now.id if now else ""}, (titles, now.id if now else ""))
        put("box", j.box, shim.update(visible=now is not None), now is not None)
        self._put_host(any(job.state in ACTIVE for job in jobs), put)
        if now is not None:
            put("state", j.said, "", (now.id, now.state))  # what was said of it before is over
            self._put_job(session, now, progress.get(now.id), put)
        if j.timer is not None:
            busy = any(job.state in (*ACTIVE, WAITING) for job in jobs)
            put("timer", j.timer, shim.update(active=busy), busy)
        return made or {j.said: shim.update()}  # gradio takes an empty dict for no answer

    def _put_job(self, session: TrainingSession, job: Job, progress: Progress | None, put: Any) -> None:
        j, folder = self.part, self.house.folder_of(job.id)
        progress = progress or session.progress(self.house, job.id)
        lines = self.house.log(job.id)
        sample = _sample(session, folder, progress)
        put("card", j.card, job_card(job, progress, sample, lines, str(folder)))
        self.results.show(session, job, folder, put)
        put("log", j.log, log_view(lines))
        active = job.state in ACTIVE
        for what, button in j.asks.items():
            may = _may(job, what)
            put(f"ask {what}", button, shim.update(interactive=may), may)
        again = job.state in (PAUSED, FAILED, LOST) or (job.state == DONE and bool(job.explanation))
        put("resume", j.resume, shim.update(interactive=again), again)
        word = "Really remove it, with its results?" if session.sure == job.id else "Remove"
        put("remove", j.remove, shim.update(value=word, interactive=not active), (word, active))

    def _put_host(self, active: bool, put: Any) -> None:
        """What the program around the page has to say."""
        told = "".join(markup.message(note, "warning") for note in self.host.notes())
        told += markup.message(self.host.busy if active else "", "warning")
        put("notice", self.panel.notice, told)
        put("free", self.panel.free, shim.update(visible=active and bool(self.host.busy)), active)
        put("room", self.part.room, markup.message(self.host.room if active else "", "note"))

    def ask(self, what: str, session: TrainingSession, chosen: str | None) -> Updates:
        """Stop, pause, save or sample."""
        job = self.house.ask(_needed(chosen), what)
        told = _TOLD[what] if job.state in ACTIVE else job.explanation
        return self.refresh(session, chosen) | {self.part.said: markup.message(told, "note")}

    def resume(self, session: TrainingSession, chosen: str | None) -> Updates:
        """Go on with it."""
        self.house.resume(_needed(chosen))
        return self.refresh(session, chosen) | {self.part.said: markup.message("It is in the queue again, and goes on from what was saved last.", "done")}

    def remove(self, session: TrainingSession, chosen: str | None) -> Updates:
        """Delete it, on the second click."""
        name = _needed(chosen)
        if session.sure != name:
            session.sure = name
            return self.refresh(session, chosen) | {self.part.said: markup.message("Its folder is deleted with all that it made. Press again.", "warning")}
        session.sure = ""
        self.house.remove(name)
        return self.refresh(session, "") | {self.part.said: markup.message("It is removed.", "done")}


def _may(job: Job, what: str) -> bool:
    """Whether it is of use to ask that now. Who has asked for a pause may still want to stop."""
    if job.state == WAITING:
        return what in ENDING
    return job.state in ACTIVE and (not job.asked or (what == "stop" and job.asked == "pause"))


def _needed(chosen: str | None) -> str:
    if not chosen:
        raise BadSettings("Choose a job first.")
    return chosen


def _first(jobs: Any) -> Job | None:
    """What a page shows that was just opened: what runs, else the newest."""
    running = [job for job in jobs if job.state in ACTIVE]
    return next(iter(running or reversed(jobs)), None)


def _title(job: Job) -> str:
    return f"{job.title or job.kind}, {time.strftime('%d %b %H:%M:%S', time.localtime(job.created))}"


def _sample(session: TrainingSession, folder: Path, progress: Progress) -> str:
    """The newest sample picture as data. One that is not there, not whole yet, or leads out of the folder is none."""
    if not progress.samples:
        return ""
    try:
        path = inside(folder, progress.samples[-1])
        told = path.stat()
    except (BadSettings, OSError, ValueError):
        return ""
    return session.made("sample", (str(path), told.st_mtime_ns, told.st_size), lambda: shown(path, 512))
