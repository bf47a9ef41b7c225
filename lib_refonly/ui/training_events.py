"""The Train page: pictures, goal and start; what happens. The layout is in `training_panel`, the jobs are in `training_job_events`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadSettings
from lib_refonly.training.jobs.house import JobHouse
from lib_refonly.training.jobs.record import Job
from lib_refonly.training.kohya.settings import KohyaSettings
from lib_refonly.training.pictures import SILENT, UNREADABLE, PictureFolder, Seen, duplicates
from lib_refonly.ui import builtin_form, markup, shim, training_own, training_toml
from lib_refonly.ui.caption_panel import Captioners, CaptionEvents
from lib_refonly.ui.training_checkpoints import CheckpointEvents
from lib_refonly.ui.training_fields import FAMILIES, OURS, RECIPE, TASKS, Chosen, carried_over, fields_of, smallest
from lib_refonly.ui.training_host import TrainingHost
from lib_refonly.ui.training_job_events import JobEvents
from lib_refonly.ui.training_own_start import start_own
from lib_refonly.ui.training_panel import TrainingPanel
from lib_refonly.ui.training_session import TrainingSession
from lib_refonly.ui.training_start import make_canvases, missing_trainer, start_builtin, start_recipe, start_training
from lib_refonly.ui.training_view import MOST_SHOWN, picture_facts, picture_grid
from lib_refonly.ui.troubles import explain, guarded

Updates = dict[Any, Any]
_EVERY = 10
"""Pictures between two lines of progress."""
_LONGEST_NAME = 60


class TrainingEvents:
    """Handlers of one page. They return {component: update}; what belongs to one tab is in its `TrainingSession`.

    Args:
        house: where jobs are queued.
        captioners: who can write captions here besides installed taggers, such as a WebUI's interrogators.
        host: the program that the page stands in.
    """

    def __init__(self, panel: TrainingPanel, house: JobHouse, captioners: Captioners = list, host: TrainingHost | None = None) -> None:
        self.panel, self.house, self.host = panel, house, host or TrainingHost()
        self.jobs = JobEvents(panel, house, self.host)
        self.captions = CaptionEvents(panel.pictures.captions, captioners, self._looked, self._write_edits)

    def wire(self, opened: Any) -> None:
        """Connect every event of the page; `opened` is that of the page or the tab being opened."""
        self._wire_pictures()
        self.captions.wire(opened, self.panel.pictures, self.panel.session, self.panel.goal.form["resolution"])
        self._wire_goal(opened)
        p, g, j = self.panel, self.panel.goal, self.panel.jobs
        given = [p.pictures.folder, p.pictures.word, j.title, g.own.recipe]
        asked = [p.session, p.pictures.edits, *given, *g.chosen, *g.form.inputs, *g.builtin.inputs, *g.own.inputs]
        shim.on(j.start.click, guarded(j.message)(self.start), asked, [j.message, *self.jobs.shown])
        shim.on(g.own.only.click, guarded(g.message)(self.make_set), [p.session, p.pictures.folder, j.title, *g.own.inputs], [g.message, *self.jobs.shown])
        self.jobs.wire(opened)

    def _wire_pictures(self) -> None:
        p, part, size = self.panel, self.panel.pictures, self.panel.goal.form["resolution"]
        shown = [part.look, part.message, part.facts, part.grid]
        for event in (part.look.click, part.folder.submit):
            shim.on(event, self.look, [p.session, part.edits, part.folder, size], shown)
        shim.on(part.add.click, self.add_word, [p.session, part.edits, part.word, size], shown)
        shim.on(part.edits.change, guarded(part.message)(self.edit), [p.session, part.edits], [part.message, part.facts], live=True)

    def _wire_goal(self, opened: Any) -> None:
        p, g = self.panel, self.panel.goal
        safe, filled = guarded(g.message), [p.session, *g.chosen, *g.form.inputs, *g.builtin.inputs]
        where = [p.pictures.folder, p.pictures.word]
        shown = [g.message, *g.chosen, g.training, g.scripts, g.own.box, *g.own.shown, g.canvases.box, g.missing, *g.form.holders, *g.form.inputs]
        shown += [g.builtin.box, *g.builtin.inputs]
        if p.checkpoint is not None:
            CheckpointEvents(p, self.host, self.choose, filled, shown).wire(opened)
        for box in g.chosen:
            event = getattr(box, "input", None) or box.change
            shim.on(event, safe(self.choose), filled, shown)
        shim.on(opened, lambda task, family: {g.missing: _missing(task, family)}, [g.task, g.family], [g.missing])
        shim.on(g.save.click, safe(self.save), [p.session, *where, *filled[1:]], [g.message, g.file])
        shim.on(g.load.upload, safe(self.load), [p.session, g.load, *g.chosen], [*shown, *where])
        c, size = g.canvases, g.form["resolution"]
        wanted = [p.pictures.folder, c.panels, size, c.out, c.task, p.jobs.title]
        shim.on(c.make.click, safe(self.make_canvases), wanted, [g.message, p.pictures.folder])

    # --- pictures -------------------------------------------------------------------------------------------------------------------------------------

    def look(self, session: TrainingSession, edits: str, folder: str, resolution: str) -> Iterator[Updates]:
        """Open every picture of the folder, telling how far it is."""
        part = self.panel.pictures
        yield {part.look: shim.update(interactive=False), part.message: ""}
        try:
            self._write_edits(session, edits)
            yield from self._looked(session, PictureFolder(folder), resolution)
        except Exception as error:
            yield {part.message: explain(error)}
        finally:
            yield {part.look: shim.update(interactive=True)}

    def _looked(self, session: TrainingSession, folder: PictureFolder, resolution: str) -> Iterator[Updates]:
        part, count, seen = self.panel.pictures, len(folder.names()), list[Seen]()
        for number, one in enumerate(folder.look(smallest(resolution), MOST_SHOWN), 1):
            seen.append(one)
            if number % _EVERY == 0:
                yield {part.message: markup.progress_line(f"Picture {number} of {count}", number / max(1, count))}
        session.looked(folder, duplicates(seen))
        yield {part.message: "", part.facts: picture_facts(session.seen), part.grid: picture_grid(session.seen, session.look)}

    def edit(self, session: TrainingSession, edits: str) -> Updates:
        """Captions were edited in the page: write them."""
        if edits and session.folder is None:
            raise BadSettings("This caption is not saved: the page was opened before the studio was started anew. Copy it, then look at the folder again.")
        part, changed = self.panel.pictures, self._write_edits(session, edits)
        if not changed:
            return {part.message: shim.update()}  # gradio takes an empty dict for no answer
        return {part.message: markup.message(f"Saved: {', '.join(changed)}", "done"), part.facts: picture_facts(session.seen)}

    def _write_edits(self, session: TrainingSession, edits: str) -> list[str]:
        """The names whose captions are others now. Edits of an earlier look are over: they were written when it ended."""
        with session.lock:
            known = {one.name: number for number, one in enumerate(session.seen)}
            changed = []
            for name, text in _edited(edits, session.look).items():
                if session.folder is not None and name in known and session.seen[known[name]].caption != " ".join(text.split()):
                    written = session.folder.write(name, text)
                    session.seen[known[name]] = _captioned(session.seen[known[name]], written)
                    changed.append(name)
            return changed

    def add_word(self, session: TrainingSession, edits: str, word: str, resolution: str) -> Iterator[Updates]:
        """The trigger word before every caption, then a new look."""
        part = self.panel.pictures
        try:
            if session.folder is None:
                raise BadSettings("Look at a folder first.")
            self._write_edits(session, edits)
            count = session.folder.add_word(word or "")
            yield from self._looked(session, session.folder, resolution)
            told = f"{count} caption{' begins' if count == 1 else 's begin'} with it now." if count else "Every caption begins with it already."
            yield {part.message: markup.message(told, "done")}
        except Exception as error:
            yield {part.message: explain(error)}

    # --- goal -----------------------------------------------------------------------------------------------------------------------------------------

    def choose(self, session: TrainingSession, *values: Any) -> Updates:
        """Another task, family or card: fields of that goal, filled for it. What the painter changed stays."""
        g, (chosen, form, small) = self.panel.goal, self._taken(values)
        if chosen.builtin:
            new = builtin_form.TASKS[chosen.task][1]
            kept = carried_over(g.builtin, small, session.small, new)
            session.small = new
            return self._builtin_shape(chosen) | g.builtin.updates(chosen.task, kept, shim.update) | {g.message: ""}
        if chosen.task in OURS:
            return {g.training: shim.update(visible=False), g.own.box: shim.update(visible=True), g.missing: "", g.message: "", **g.own.shape(chosen.task)}
        shape = self._shape(chosen)
        try:
            new = chosen.preset()
        except BadSettings as error:
            return shape | {g.message: explain(error)}
        filled = carried_over(g.form, form, session.preset, new)
        session.preset = new
        return shape | self._filled(chosen, filled) | {g.message: ""}

    def _shape(self, chosen: Chosen) -> Updates:
        """What of the page belongs to the goal."""
        g = self.panel.goal
        here = fields_of(chosen.aim)
        held = [*g.form.rows, *g.form.groups]
        return {
            g.training: shim.update(visible=True),
            **{part: shim.update(visible=True) for part in (g.scripts, g.card)},
            **{part: shim.update(visible=False) for part in (g.builtin.box, g.own.box)},
            g.canvases.box: shim.update(visible=chosen.aim.kind == "onepic"),
            g.missing: _missing(TASKS[chosen.task]),
            g.family: shim.update(choices=chosen.families, value=FAMILIES[chosen.aim.family]),
            g.few: shim.update(visible=chosen.may_be_few),
            **{holder: shim.update(visible=bool(here & {*names})) for names, holder in held},
            **{g.form[name]: shim.update(visible=name in here) for name in g.form.fields},
        }

    def _builtin_shape(self, chosen: Chosen) -> Updates:
        """The same for the built-in small model, which needs no graphics card and no sd-scripts."""
        g = self.panel.goal
        return {
            **{part: shim.update(visible=True) for part in (g.training, g.builtin.box)},
            **{part: shim.update(visible=False) for part in (g.scripts, g.card, g.own.box)},
            g.family: shim.update(choices=chosen.families, value=builtin_form.TITLE),
            g.missing: "",
        }

    def _filled(self, chosen: Chosen, values: Sequence[Any]) -> Updates:
        form, here = self.panel.goal.form, fields_of(chosen.aim)
        return {form[name]: shim.update(value=value, visible=name in here) for name, value in zip(form.fields, values, strict=True)}

    def save(self, session: TrainingSession, folder: str, word: str, *values: Any) -> Updates:
        """The settings as a file to download."""
        g, (chosen, form, small) = self.panel.goal, self._taken(values)
        if chosen.builtin:
            known = g.builtin.known(chosen.task, small, word)
            path = session.files.write(f"{known.name[:_LONGEST_NAME]}.toml", builtin_form.written(chosen.task, known, folder).encode())
            told = "The file is made: press the button above to download it. It runs with studio.py train FILE.toml."
            return {g.message: markup.message(told, "done"), g.file: shim.update(value=str(path), visible=True)}
        settings = g.form.known(chosen.aim, form)
        path = session.files.write(f"{settings.output_name[:_LONGEST_NAME]}.toml", training_toml.written(chosen, settings, folder, word).encode())
        text = "The file is made: press the button above to download it. It runs with studio.py train FILE.toml; sd-scripts takes it, too."
        told = markup.message(text, "done")
        return {g.message: told, g.file: shim.update(value=str(path), visible=True)}

    def load(self, session: TrainingSession, file: Any, *values: Any) -> Updates:
        """The settings of a file into the page."""
        g, path = self.panel.goal, Path(str(getattr(file, "name", file)))
        own = builtin_form.read(path)
        if own is not None:
            return self._loaded_builtin(session, own)
        chosen, file = training_toml.read(path, Chosen.of(*values))
        text = "The settings are loaded. Look at the paths of the checkpoint and the pictures: they may be others here."
        unused = f" Not used, since they are no settings here: {', '.join(file.left_out)}." if file.left_out else ""
        told = markup.message(text + unused, "done")
        where = {box: value for box, value in ((self.panel.pictures.folder, file.pictures), (self.panel.pictures.word, file.word)) if value}
        titles = {g.task: TASKS[chosen.task], g.few: shim.update(value=chosen.aim.kind == "chosen", visible=chosen.may_be_few)}
        return self._shape(chosen) | titles | self._filled(chosen, g.form.write(file.settings)) | where | {g.message: told}

    def _loaded_builtin(self, session: TrainingSession, own: builtin_form.Loaded) -> Updates:
        p, g, chosen = self.panel.pictures, self.panel.goal, Chosen(own.task, builtin=True)
        session.small = builtin_form.TASKS[own.task][1]
        told = markup.message("The settings are loaded. Look at the pictures' folder in step 1: it may be another one here.", "done")
        shown = g.builtin.updates(own.task, g.builtin.write(own.settings), shim.update)
        return self._builtin_shape(chosen) | shown | {g.task: TASKS[own.task], g.message: told, p.folder: own.folder, p.word: own.settings.word}

    def make_canvases(self, folder: str, panels: str, resolution: str, out: str, task: str, title: str) -> Updates:
        """ONE-PIC's canvases of the pictures; their folder takes the place of the pictures'."""
        path, count, notes = make_canvases(folder, panels, resolution, out, task or "", title)
        told = markup.message(f"{count} canvases are made. Their folder stands in step 1 now.", "done")
        return {self.panel.goal.message: told + "".join(map(markup.hint, notes)), self.panel.pictures.folder: str(path)}

    def _taken(self, values: Sequence[Any]) -> tuple[Chosen, Sequence[Any], Sequence[Any]]:
        """What is chosen, sd-scripts' fields and the built-in small model's."""
        g = self.panel.goal
        first, second = len(g.chosen), len(g.chosen) + len(g.form.fields)
        return Chosen.of(*values[:first]), values[first:second], values[second:]

    # --- start ----------------------------------------------------------------------------------------------------------------------------------------

    def start(self, session: TrainingSession, edits: str, folder: str, word: str, title: str, recipe: str, *values: Any) -> Updates:
        """A job in the queue."""
        self._write_edits(session, edits)
        own, values = values[-len(self.panel.goal.own.inputs) :], values[: -len(self.panel.goal.own.inputs)]
        chosen, form, small = self._taken(values)
        if chosen.builtin:
            job = start_builtin(self.house, title, chosen.task, self.panel.goal.builtin.known(chosen.task, small, word), folder)
        elif chosen.task in training_own.TASKS:
            job = start_own(self.house, title, self.panel.goal.own.known(chosen.task, own), folder)
        elif chosen.task == RECIPE:
            job = start_recipe(self.house, title, recipe)
        else:
            settings: KohyaSettings = self.panel.goal.form.known(chosen.aim, form)
            job = start_training(self.house, title, chosen, settings, folder, word)
        return self._queued(session, job) | {self.panel.jobs.message: _in_queue(job)}

    def make_set(self, session: TrainingSession, folder: str, title: str, *own: Any) -> Updates:
        """A job that makes the set of pairs and trains nothing."""
        goal = self.panel.goal
        job = start_own(self.house, title, goal.own.known(training_own.REFONLY, own), folder, only=True)
        return self._queued(session, job) | {goal.message: _in_queue(job)}

    def _queued(self, session: TrainingSession, job: Job) -> Updates:
        return self.jobs.refresh(session, job.id) | {self.panel.jobs.said: ""}


def _in_queue(job: Job) -> str:
    return markup.message(f"{job.title or job.id} is in the queue.", "done")


def _edited(edits: str, look: int) -> dict[str, str]:
    """The captions by the pictures' names, as the page wrote them. Anything else is nothing."""
    try:
        told = json.loads(edits or "{}")
    except (ValueError, RecursionError):
        return {}
    captions = told.get("captions") if isinstance(told, dict) and told.get("look") == str(look) else None
    return {name: text for name, text in captions.items() if isinstance(text, str)} if isinstance(captions, dict) else {}


def _captioned(one: Seen, caption: str) -> Seen:
    kept = tuple(flaw for flaw in one.flaws if flaw not in (SILENT, UNREADABLE))
    return replace(one, caption=caption, flaws=kept if caption else (*kept, SILENT))


def _missing(task: str, family: str = "") -> str:
    return "" if task in [TASKS[name] for name in OURS] or family == builtin_form.TITLE else markup.message(missing_trainer(), "warning")
