"""What becomes of a job's finished files: into the folder where they are used, tried, or downloaded. The layout is in `training_results`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadModel, BadSettings
from lib_refonly.training.finished import EXPORT, Finished, finished, stamps
from lib_refonly.training.jobs import results
from lib_refonly.training.jobs.house import JobHouse
from lib_refonly.training.jobs.record import Job
from lib_refonly.ui import markup, shim
from lib_refonly.ui.training_host import Place, TrainingHost
from lib_refonly.ui.training_panel import TrainingPanel
from lib_refonly.ui.training_results import results_list, shown, title
from lib_refonly.ui.training_session import TrainingSession
from lib_refonly.ui.troubles import guarded

Updates = dict[Any, Any]
Put = Callable[..., None]
_LARGEST_DOWNLOAD = 2_000_000_000
_TRY = "window.refonlyTry?.(values[0]);"


class ResultEvents:
    """Handlers of the results' part. A file is known by its name in the job's folder; it is looked up among what lies there."""

    def __init__(self, panel: TrainingPanel, house: JobHouse, host: TrainingHost) -> None:
        self.panel, self.part, self.house, self.host = panel, panel.results, house, host

    def wire(self) -> None:
        """Connect the events."""
        p, r, safe = self.panel, self.part, guarded(self.part.said)
        chosen, about = [p.session, p.jobs.job, r.which], [r.name, r.put, r.trial, r.fetch, r.file, r.said]
        shim.on(r.which.change, safe(self.choose), chosen, about)
        shim.on(r.put.click, partial(safe(self.put_in), False), [*chosen, r.name], [r.said, r.parcel])
        shim.on(r.trial.click, partial(safe(self.put_in), True), [*chosen, r.name], [r.said, r.parcel])
        shim.on(r.fetch.click, safe(self.fetch), chosen, [r.said, r.file])
        shim.after_script(r.parcel.change, f"if (values[0]) {_TRY}", None, [r.parcel], [])

    @property
    def shown(self) -> list[Any]:
        """What a look at a job changes."""
        r = self.part
        return [r.box, r.listed, r.which, r.name, r.put, r.trial, r.fetch, r.file]

    def show(self, session: TrainingSession, job: Job, folder: Path, put: Put) -> None:
        """The part, for the job that is looked at. put: as in `JobEvents.refresh`."""
        r, found = self.part, self._found(session, job)
        names = tuple((title(one), _name(one, folder)) for one in found)
        put("results box", r.box, shim.update(visible=bool(found)), bool(found))
        value = session.which if session.which in {name for _, name in names} else names[0][1] if names else ""
        if session.is_new("results of", job.id):
            value = names[0][1] if names else ""
        if session.is_new("results", (job.id, *((one.path, one.size, one.sample) for one in found))) or value != session.which:
            put("results list", r.listed, results_list(found))
            put("results which", r.which, shim.titled_choices(r.which, names) | {"value": value}, (names, value))
        session.which = value
        if found and session.is_new("result", (job.id, value)):  # not again: a name that is being typed stays
            one = next(one for one, (_, name) in zip(found, names, strict=True) if name == value)
            for component, update in self._about(one, job).items():
                put(f"result {component.elem_id}", component, update, object())

    def choose(self, session: TrainingSession, job: str | None, which: str | None) -> Updates:
        """Another file is looked at."""
        if not job or not which or which == session.which:
            return {self.part.said: shim.update()}
        one, kept = self._one(session, job, which)
        session.which = which
        session.is_new("result", (job, which))
        return self._about(one, kept) | {self.part.said: ""}

    def _about(self, one: Finished, job: Job) -> Updates:
        r, place = self.part, self.host.place(one)
        there = place.there if place else ""
        return {
            r.name: shim.update(value=_proposed(one, job), visible=place is not None),
            r.put: shim.update(value=f"Put it into {place.into}" if place else "", visible=place is not None),
            r.trial: shim.update(value=f"Try it {there}", visible=bool(there)),
            r.fetch: shim.update(visible=place is None and one.path.is_file()),
            r.file: shim.update(value=None, visible=False),
        }

    def put_in(self, trial: bool, session: TrainingSession, job: str | None, which: str | None, name: str | None) -> Updates:
        """Into its place, and tried there. What is there already is not put there again."""
        one, kept = self._one(session, job, which)
        place = self.host.place(one)
        if place is None:
            raise BadModel("There is no place for this file here. Download it.")
        placed, picture = self._placed(one, kept, place, (name or "").strip() or _proposed(one, kept))
        self.host.list_anew(one, placed)
        session.sent += 1  # or the same file, tried again, would be no change
        parcel = {"number": session.sent} | (self.host.trial(one, placed) if trial else {"listed": True})
        said = [f"It is in {place.into}, as {placed.name}{'' if picture else ', without a picture'}. The job keeps its own."]
        said += [f"Go on {place.there}."] if trial else [place.then]
        return {self.part.said: markup.message(" ".join(filter(None, said)), "done"), self.part.parcel: json.dumps(parcel)}

    def _placed(self, one: Finished, job: Job, place: Place, name: str) -> tuple[Path, bool]:
        """Where it is now, and whether a picture goes with it."""
        folder = self.house.folder_of(job.id)
        whole = one.sample if one.path.is_file() and shown(one.sample, 8) else None
        placed = results.copy_in(one.path, place.folder, [folder, place.folder], name=name, thumbnail=whole)
        return placed, whole is not None

    def fetch(self, session: TrainingSession, job: str | None, which: str | None) -> Updates:
        """A file to download."""
        one, _ = self._one(session, job, which)
        if one.size > _LARGEST_DOWNLOAD:
            raise BadSettings(f"The file is too large for a download. It is here: {one.path}")
        path = session.files.write(one.path.name, one.path.read_bytes())
        told = markup.message("The file is ready: press the button above to download it.", "done")
        return {self.part.said: told, self.part.file: shim.update(value=str(path), visible=True)}

    def _one(self, session: TrainingSession, job: str | None, which: str | None) -> tuple[Finished, Job]:
        if not job or not which:
            raise BadSettings("Choose a finished file first.")
        kept, folder = self.house.get(job), self.house.folder_of(job)
        one = next((one for one in self._found(session, kept) if _name(one, folder) == which), None)
        if one is None:
            raise BadSettings("This file is not there any more. Press Refresh.")
        return one, kept

    def _found(self, session: TrainingSession, job: Job) -> list[Finished]:
        folder = self.house.folder_of(job.id)
        key = (job.id, len(session.progress(self.house, job.id).samples), *stamps(folder))
        return session.made("finished", key, lambda: finished(folder))


def _name(one: Finished, folder: Path) -> str:
    return one.path.relative_to(folder).as_posix()


def _proposed(one: Finished, job: Job) -> str:
    """The file's own name; our own trainers call all of theirs alike, so the job's title stands for it there."""
    own = one.path.name == EXPORT or (one.path.parent.name == EXPORT and one.kind in ("adapter", "stylecode"))
    titled = re.sub(r"[^\w .()+-]+", " ", job.title).strip(" .-")[:60].strip()
    return titled if own and titled else one.path.stem
