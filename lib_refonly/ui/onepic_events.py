"""The ONE-PIC page: what happens. The layout is in `onepic_panel`.

A project says prompts and reuse too. What is painted with are the page's fields: a project that is opened brings its own into them, and one that is saved
gets theirs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.decode import open_picture
from lib_refonly.imaging.infotext import png_bytes
from lib_refonly.onepic.project import Project
from lib_refonly.onepic.settings import AUTO, TINY, OnePicPaintSettings
from lib_refonly.onepic.tasks import Task, filled, task_or_none
from lib_refonly.onepic.tips import in_words, tips
from lib_refonly.studio.desk import Desk
from lib_refonly.studio.jobs import Waiting
from lib_refonly.studio.onepic_jobs import CanvasPainter, Finished, Step, canvas_job, infotext
from lib_refonly.ui import markup, shim
from lib_refonly.ui.onepic_panel import (
    COMPOSER,
    Choices,
    OnePicPanel,
    OnePicSession,
    Shown,
    about_task,
    into_choices,
    lora_choices,
    panel_size,
    project_for,
    tips_list,
)
from lib_refonly.ui.style_work import stop
from lib_refonly.ui.troubles import explain, guarded

Updates = dict[Any, Any]
Parcel = Callable[[Project, OnePicPaintSettings], dict[str, Any]]
_PART = "paint"

_FIND = f"const root = (document.querySelector('gradio-app')?.shadowRoot ?? document).querySelector('#{COMPOSER}'), composer = window.refonlyOnePic;"
_FLUSH = f"{_FIND} if (root && composer?.flush) values[1] = composer.flush(root);"
"""For an event whose second input is the canvas: the composer writes a little late, and this is what it shows now."""
_REMEMBER = "const [prompt, negative, reuse, control_alone] = values; window.refonlyOnePicAsked = { prompt, negative, reuse: reuse || 1, control_alone };"
"""For an event whose inputs are what a project says too."""
_SAVE_ALL = f"""
  if (!window.refonlyOnePicSaves) document.addEventListener("click", (event) => {{
    {_FIND}
    const word = (name) => window.localization?.[composer.strings[name]] ?? composer.strings[name];
    const [button] = event.composedPath().filter((one) => one.matches?.("button"));
    if (!button || !root?.contains(button) || button.title !== word("save")) return;
    event.stopPropagation();
    const whole = JSON.stringify({{ ...composer.state(root), ...window.refonlyOnePicAsked }}, null, 1);
    const address = URL.createObjectURL(new Blob([whole], {{ type: "application/json" }}));
    Object.assign(document.createElement("a"), {{ href: address, download: "onepic.json" }}).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
    root.querySelector(".refonly-onepic-status").textContent = word("saved").replace("{{name}}", "onepic.json");
  }}, true);
  window.refonlyOnePicSaves = true;
"""
"""A project is saved with what is asked for beside the canvas. (In the composer's own state it would be a step to be undone.)"""


class OnePicEvents:
    """Handlers of one page. They return {component: update}; what belongs to one tab is in its `OnePicSession`, so tabs don't meet.

    Args:
        painter: the studio's engine, or a WebUI.
        choices: which checkpoints and LoRAs there are.
        parcel: a canvas and what is asked for, as the tabs of a WebUI take them.
    """

    def __init__(self, panel: OnePicPanel, painter: CanvasPainter, desk: Desk, choices: Choices, parcel: Parcel | None = None) -> None:
        self.panel, self.painter, self.desk, self.choices, self.parcel = panel, painter, desk, choices, parcel

    # --- wiring ---------------------------------------------------------------------------------------------------------------------------------------

    def wire(self, opened: Any) -> None:
        """Connect every event of the page; `opened` is that of the page or the tab being opened."""
        p, c, a = self.panel, self.panel.canvas, self.panel.asked
        looked = [p.session, c.project, *a.of_project, c.task, p.easel.into]
        shown = [c.tips, c.repeat, c.task, c.about, *a.of_project, p.easel.into]
        shim.on(c.project.change, self.look, looked, shown, live=True)
        shim.on(a.reuse.change, self.look, looked, shown, live=True)
        shim.after_script(opened, _SAVE_ALL, self.opened, looked, [*shown, p.work.message, a.form["model"], a.form["lora"]])
        for box in a.of_project:
            shim.after_script(box.change, _REMEMBER, None, a.of_project, [])
        self._wire_canvas()
        self._wire_painting()
        self._wire_sending()

    def _wire_canvas(self) -> None:
        p, c, model, message = self.panel, self.panel.canvas, self.panel.asked.form["model"], self.panel.work.message
        safe = guarded(message)
        shim.after_script(c.task.input, _FLUSH, safe(self.choose), [p.session, c.project, c.task, model], [message, c.sent, c.about, p.asked.prompt])
        shim.after_script(c.example.click, _FLUSH, safe(self.show_example), [p.session, c.project, c.task, model], [message, c.sent, p.asked.prompt])
        shim.after_script(model.input, _FLUSH, safe(self.fit_size), [p.session, c.project, model], [message, c.sent])
        shim.after_script(c.repeat.click, _FLUSH, safe(self.repeat), [p.session, c.project], [message, c.sent])
        shim.after_script(p.easel.put.click, _FLUSH, safe(self.put_back), [p.session, c.project, p.easel.into], [message, c.sent])

    def _wire_painting(self) -> None:
        p, a, work = self.panel, self.panel.asked, self.panel.work
        shim.after_script(work.go.click, _FLUSH, self.paint, [p.session, p.canvas.project, *a.of_project, *a.form.inputs], [*work.all, *p.easel.shown])
        shim.on(work.stop.click, lambda session: stop(session, _PART), [p.session], [work.stop], now=True)
        shim.on(p.easel.several.select, guarded(work.message)(self.pick), [p.session], [work.message, p.easel.picture, p.easel.save])

    def _wire_sending(self) -> None:
        p, a, sending = self.panel, self.panel.asked, self.panel.sending
        if sending is None:
            return
        for tab, button in sending.buttons.items():
            send = partial(guarded(p.work.message)(self.send), tab)
            shim.after_script(button.click, _FLUSH, send, [p.session, p.canvas.project, *a.of_project, *a.form.inputs], [p.work.message, sending.parcel])
        shim.after_script(sending.parcel.change, "if (values[0]) window.refonlyParcel?.(values[0]);", None, [sending.parcel], [])

    # --- the canvas -----------------------------------------------------------------------------------------------------------------------------------

    def opened(self, *looked: Any) -> Updates:
        """The page is on show: what can be chosen now, and what is to be said of the canvas."""
        form, seen = self.panel.asked.form, self.look(*looked)
        try:
            bases, loras = self.choices.bases(), self.choices.loras()
        except Exception as error:
            return seen | {self.panel.work.message: explain(error)}
        models = {form["model"]: shim.titled_choices(form["model"], bases)} if bases else {}
        return seen | models | {form["lora"]: shim.titled_choices(form["lora"], lora_choices(loras))}

    def look(self, session: OnePicSession, text: str, prompt: str, negative: str, reuse: float | None, control: bool, task: str, into: str) -> Updates:
        """The canvas has changed: advice, and what of the page follows a project that was opened."""
        c, a, box = self.panel.canvas, self.panel.asked, self.panel.easel.into
        try:
            project = Project.read(text)
            followed = self._follow(session, project, (task, prompt, negative, int(reuse or 1), control is not False))
            said = tips(replace(project, reuse=int(followed.get(a.reuse, reuse or 1))))
        except Exception as error:
            return {c.tips: explain(error, loud=False), c.repeat: shim.update(visible=False)}
        places = into_choices(project)
        kept = {} if any(number == into for _, number in places) else {"value": places[0][1]}
        seen = {c.tips: tips_list(said), c.repeat: _repeat_button(project), box: shim.titled_choices(box, places) | kept}
        return seen | followed

    def _follow(self, session: OnePicSession, project: Project, fields: tuple[Any, ...]) -> Updates:
        """What the project says anew, and the fields don't. No prompt in it is no reason to empty a field."""
        c, before = self.panel.canvas, session.said
        session.said = says = (project.task, project.prompt, project.negative, project.reuse, project.control_alone)
        always, boxes = (c.task, self.panel.asked.control), (c.task, *self.panel.asked.of_project)
        new = {box: now for box, now, old, field in zip(boxes, says, before, fields, strict=True) if now not in (old, field)}
        new = {box: value for box, value in new.items() if box in always or value not in ("", 1)}
        return new | ({c.about: about_task(project.task)} if c.task in new else {})

    def choose(self, session: OnePicSession, text: str, task: str, model: str) -> Updates:
        """A task was chosen: its panels, with the pictures that are there already."""
        project, found, note = Project.read(text), task_or_none(task), ""
        laid = replace(project, task="")
        if found is not None:
            laid, left = carried(project, project_for(task, model or self.choices.here()), found)
            many = f"{left} pictures have" if left > 1 else "1 picture has"
            note = f"{many} no place among these panels. Undo, above the canvas, brings everything back." if left else ""
        c, hint = self.panel.canvas, shim.update(placeholder=found.prompt_hint if found else "What the target shows")
        return {c.sent: laid.written(), c.about: about_task(task), self.panel.asked.prompt: hint, self.panel.work.message: markup.message(note, "note")}

    def show_example(self, session: OnePicSession, text: str, task: str, model: str) -> Updates:
        """The button that fills the task's panels, and the prompt."""
        from lib_refonly.onepic.examples import example  # it knows where models are

        old, found = Project.read(text), task_or_none(task)
        if found is None:
            raise BadSettings("A free canvas has no example. Choose a task first.")
        new = example(found, *panel_size(task, model or self.choices.here()))
        lost = any(panel.picture is not None for panel in old.panels)
        note = "Undo, above the canvas, brings back what was there." if lost else ""
        sent = {self.panel.canvas.sent: replace(asked_as(old, new), prompt=new.prompt).written(), self.panel.work.message: markup.message(note, "note")}
        return sent | {self.panel.asked.prompt: shim.update(value=new.prompt)}

    def fit_size(self, session: OnePicSession, text: str, model: str) -> Updates:
        """Another checkpoint was chosen: panels of a usual size get the one that suits it."""
        project, message = Project.read(text), {self.panel.work.message: ""}
        width, height = panel_size(project.task, model)
        others = {panel_size(project.task, one) for one in (TINY, "")} - {(width, height)}
        if (project.width, project.height) not in others:
            return message
        return message | {self.panel.canvas.sent: replace(project, width=width, height=height).written()}

    def repeat(self, session: OnePicSession, text: str) -> Updates:
        """The button that fills the panels which show another one's picture."""
        return {self.panel.canvas.sent: repeated(Project.read(text)).written(), self.panel.work.message: ""}

    def put_back(self, session: OnePicSession, text: str, into: str) -> Updates:
        """The result on show becomes a panel's picture; everything else of the panel stays."""
        project = Project.read(text)
        if session.shown is None:
            raise BadSettings("Nothing is painted yet. Press Paint first.")
        number = int(into) - 1
        project.layout.place(number)
        data = png_bytes(open_picture(session.shown.targets[session.index][1]))
        panels = list(project.panels)
        panels[number] = replace(panels[number], picture=data, fit="crop", zoom=1.0, x=0.0, y=0.0, mask=None)
        said = f"The result is in panel {into} now."
        return {self.panel.canvas.sent: replace(project, panels=tuple(panels)).written(), self.panel.work.message: markup.message(said, "done")}

    def send(self, tab: str, session: OnePicSession, text: str, *values: Any) -> Updates:
        """A button that sends the canvas to a tab of the WebUI."""
        project, settings = self._asked(text, *values)
        project.check_ready()
        assert self.parcel is not None
        assert self.panel.sending is not None
        session.sent += 1  # or the same canvas, sent again, would be no change
        parcel = {"tab": tab, "number": session.sent} | self.parcel(project, settings)
        said = markup.message(f"The canvas is in {tab}, below Stylecode, with its prompt, steps and CFG scale. Press Generate there.", "done")
        return {self.panel.sending.parcel: json.dumps(parcel), self.panel.work.message: said}

    def _asked(self, text: str, prompt: str, negative: str, reuse: float | None, control: bool, *values: Any) -> tuple[Project, OnePicPaintSettings]:
        project = replace(Project.read(text), prompt=prompt or "", negative=negative or "", reuse=int(reuse or 1), control_alone=control is not False)
        return project, self.panel.asked.form.read(values)

    # --- painting -------------------------------------------------------------------------------------------------------------------------------------

    def paint(self, session: OnePicSession, text: str, *values: Any) -> Iterator[Updates]:
        """The Paint button: stream the job into the page. The canvas stays as it is, whatever happens."""
        work, job = self.panel.work, session.begin(_PART)
        off = {work.go: shim.update(interactive=False), work.stop: shim.update(value="Stop", interactive=True)}
        yield off | {work.message: "", work.progress: markup.progress_line("Getting ready", 0)}
        end: Updates = {}
        try:
            project, settings = self._asked(text, *values)
            with closing(canvas_job(self.painter, project, settings, self.desk, job.stop)) as events:
                for event in events:
                    if isinstance(event, Finished):
                        end = self._painted(session, project, settings, event)
                    else:
                        yield {work.progress: _progress(event)}
        except Exception as error:
            end = {work.message: explain(error, loud=not job.quiet)}
        if not job.quiet:
            yield {work.go: shim.update(interactive=True), work.stop: shim.update(value="Stop", interactive=False), work.progress: ""} | end

    def _painted(self, session: OnePicSession, project: Project, settings: OnePicPaintSettings, event: Finished) -> Updates:
        """Write the pictures, and show the first target."""
        several = len(event.targets) > 1

        def keep(picture: Image.Image, what: str, number: int | None = None) -> Path:
            return session.keep(picture, f"onepic-{settings.seed}{what}", infotext(project, settings, event.lora, number, event.text))

        targets = tuple((number, keep(one, f"-panel-{number + 1}" if several else "", number)) for number, one in event.targets.items())
        session.shown, session.index = Shown(targets, keep(event.canvas, "-canvas")), 0
        return self._show(session, session.shown) | {self.panel.work.message: markup.hint(_summary(settings, event))}

    def _show(self, session: OnePicSession, shown: Shown) -> Updates:
        easel = self.panel.easel
        there = {easel.blank: shim.update(visible=False), easel.results: shim.update(visible=True)}
        thumbs = [(str(path), f"Panel {number + 1}") for number, path in shown.targets]
        canvas = {easel.canvas: str(shown.canvas), easel.save_canvas: str(shown.canvas)}
        return there | canvas | {easel.several: shim.update(value=thumbs, visible=len(thumbs) > 1)} | self._target(session, shown)

    def _target(self, session: OnePicSession, shown: Shown) -> Updates:
        path = str(shown.targets[session.index][1])
        return {self.panel.easel.picture: path, self.panel.easel.save: path}

    def pick(self, session: OnePicSession, event: gr.SelectData) -> Updates:
        """A click on one of several targets."""
        if session.shown is None or int(event.index) >= len(session.shown.targets):
            return {}
        session.index = int(event.index)
        return self._target(session, session.shown)


def carried(old: Project, new: Project, task: Task) -> tuple[Project, int]:
    """The task's panels with the old context's pictures in their order, each once; and how many found no place. What is asked for stays."""
    pictures = list(dict.fromkeys(panel.picture for panel in old.panels if panel.role == "context" and panel.picture is not None))
    places = [number for number, spec in enumerate(task.panels) if spec.role == "context" and spec.same_as is None]
    for number, picture in zip(places, pictures, strict=False):
        new = filled(new, task, number, picture)
    return asked_as(old, new), max(0, len(pictures) - len(places))


def asked_as(old: Project, new: Project) -> Project:
    """The new panels, and what is asked for as it was."""
    return replace(new, prompt=old.prompt, negative=old.negative, reuse=old.reuse, alone=old.alone, control_alone=old.control_alone)


def repeated(project: Project) -> Project:
    """Empty panels that show another one's picture in this task get it, lying as it does there."""
    task = task_or_none(project.task)
    if task is None or project.layout != task.layout:
        return project
    panels = list(project.panels)
    for number, spec in enumerate(task.panels):
        source = None if spec.same_as is None else panels[spec.same_as]
        if source is not None and source.picture is not None and panels[number].picture is None:
            panels[number] = replace(panels[number], picture=source.picture, fit=source.fit, zoom=source.zoom, x=source.x, y=source.y)
    return replace(project, panels=tuple(panels))


def _repeat_button(project: Project) -> Any:
    numbers = [str(number) for number, (old, new) in enumerate(zip(project.panels, repeated(project).panels, strict=True), 1) if old != new]
    label = f"Put the same picture into panel{'' if len(numbers) == 1 else 's'} {in_words(numbers)}"
    return shim.update(value=label, visible=True) if numbers else shim.update(visible=False)


def _progress(event: Waiting | Step) -> str:
    if isinstance(event, Waiting):
        return markup.progress_line("1 other job comes first" if event.ahead == 1 else f"{event.ahead} other jobs come first", 0)
    return markup.progress_line(f"Step {event.done} of {event.steps}" if event.done else "Getting ready", event.done / max(1, event.steps))


def _summary(settings: OnePicPaintSettings, event: Finished) -> str:
    why = ": none is installed for this task and layout" if settings.lora == AUTO else ""
    return f"Painted in {event.seconds:.1f} s, " + (f"with the LoRA {event.lora}." if event.lora else f"without a LoRA{why}.")
