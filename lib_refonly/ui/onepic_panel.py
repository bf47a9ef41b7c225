"""The ONE-PIC page, in the studio and in a WebUI: what is where. The canvas on the left, what is asked for and what was painted on the right.

The canvas itself is `javascript/refonly_onepic.js`. What happens is in `onepic_events`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.project import Project, blank
from lib_refonly.onepic.settings import AUTO, NONE, TINY, TINY_SIDE, OnePicPaintSettings
from lib_refonly.onepic.tasks import TASKS, project_of, task_named, task_or_none
from lib_refonly.settings import specs
from lib_refonly.ui import markup, shim
from lib_refonly.ui.settings_form import SettingsForm, component
from lib_refonly.ui.style_panel import Work
from lib_refonly.ui.style_session import StyleSession

COMPOSER = "refonly-onepic-composer"
FIRST_TASK = "colorize"
FREE = ("Free canvas", "")
"""A canvas for no task: title and value."""
TABS = ("txt2img", "img2img")
"""A WebUI's own tabs that paint."""
_LONGEST_SEED = 2**32 - 1
_HALF = 210
"""px; two dropdowns share a line where there is room for both."""

Titled = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Choices:
    """What can be chosen, as (title, name): asked anew whenever the page is opened. Without `bases` the host's own checkpoint paints.

    `here`: what `panel_size` knows the host's by.
    """

    bases: Callable[[], Titled]
    loras: Callable[[], Titled]
    here: Callable[[], str] = str


def installed() -> Choices:
    """The studio's: what lies in the folders of models. The module that looks there imports torch, so it is asked late."""

    def bases() -> Titled:
        from lib_refonly.onepic import shelf

        return [(name, name) for name in shelf.bases()]

    def loras() -> Titled:
        from lib_refonly.onepic import shelf

        return [(file.title or file.name, file.name) for file in shelf.loras()]

    return Choices(bases, loras)


@dataclass(frozen=True)
class Shown:
    """What was painted last, as files. targets: panel number (from 0) and picture."""

    targets: tuple[tuple[int, Path], ...]
    canvas: Path


class OnePicSession(StyleSession):
    """One tab's memory: its files, its job, and what it shows. `copy.deepcopy` gives a NEW session, as for the Styles page."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: Shown | None = None
        self.index = 0  # which of the shown targets
        self.sent = 0  # how often the canvas went to another tab
        self.said: tuple[Any, ...] = (FIRST_TASK, "", "", 1, True)  # the task, and what else is in `AskedPart.of_project`, as the canvas' JSON had them last

    def __deepcopy__(self, memo: dict[int, Any]) -> OnePicSession:
        return OnePicSession()


@dataclass
class CanvasPart:
    """`project`: the canvas as JSON, written by the composer; `sent`: read by it. `about`: what the task is. `repeat` fills panels that show the same,
    `example` all of them.
    """

    task: Any
    about: Any
    example: Any
    project: Any
    sent: Any
    repeat: Any
    tips: Any


@dataclass
class AskedPart:
    """What is wanted. `form` has the settings; the others are the project's own. `control`: shown in a WebUI alone, which may have a ControlNet."""

    prompt: Any
    negative: Any
    reuse: Any
    control: Any
    form: SettingsForm

    @property
    def of_project(self) -> list[Any]:
        """What a project says too."""
        return [self.prompt, self.negative, self.reuse, self.control]


@dataclass
class Easel:
    """What was painted. `several`: thumbnails, where there is more than one target. `into` and `put`: the result becomes a panel's picture."""

    blank: Any
    results: Any
    picture: Any
    several: Any
    save: Any
    into: Any
    put: Any
    canvas: Any
    save_canvas: Any

    @property
    def shown(self) -> list[Any]:
        return [self.blank, self.results, self.picture, self.several, self.save, self.canvas, self.save_canvas]


@dataclass
class SendingPart:
    """In a WebUI: the canvas goes to one of its own tabs. `buttons` by the tab's name. `parcel`: what goes, as JSON for javascript/refonly_send.js."""

    buttons: dict[str, Any]
    parcel: Any


@dataclass
class OnePicPanel:
    """Every component of the page that an event reads or writes."""

    session: Any
    canvas: CanvasPart
    asked: AskedPart
    work: Work
    easel: Easel
    sending: SendingPart | None = None


def build_onepic_panel(hosted: bool = False) -> OnePicPanel:
    """Lay the page out. `hosted`: the host's checkpoint paints, and no model is to be chosen."""
    session = gr.State(OnePicSession())
    with gr.Row(elem_id="refonly-onepic-page", elem_classes=["refonly-page"]):
        with gr.Column(scale=7, min_width=320, elem_id="refonly-onepic-left", elem_classes=["refonly-section"]):
            canvas = _canvas(hosted)
        with gr.Column(scale=5, min_width=320, elem_id="refonly-onepic-right", elem_classes=["refonly-section"]):
            asked = _asked(hosted)
            work = _work()
            sending = _sending() if hosted else None
            easel = _easel()
    return OnePicPanel(session, canvas, asked, work, easel, sending)


# --- the canvas ---------------------------------------------------------------------------------------------------------------------------------------


def _canvas(hosted: bool) -> CanvasPart:
    choices = [*((task.title, task.name) for task in TASKS), FREE]
    task = shim.titled_dropdown(choices, FIRST_TASK, "Task", "refonly-onepic-task", info="What the panels are for. Choosing one lays them out.")
    about = gr.HTML(about_task(FIRST_TASK), elem_id="refonly-onepic-about", elem_classes=["refonly-said"])
    with gr.Row():
        example = gr.Button("Show me an example", size="sm", elem_id="refonly-onepic-example", scale=0, min_width=160)
    gr.HTML(f'{_LOOKS}<div id="{COMPOSER}" class="refonly-onepic" data-target="#refonly-onepic-project" data-source="#refonly-onepic-sent"></div>')
    first = project_for(FIRST_TASK, "" if hosted else TINY)
    with gr.Column(elem_classes=["refonly-onepic-wire"]):
        project = gr.Textbox(first.written(), label="Project", elem_id="refonly-onepic-project")
        sent = gr.Textbox("", label="Sent to the canvas", elem_id="refonly-onepic-sent")
    repeat = gr.Button("Put the same picture into its other panels", visible=False, size="sm", elem_id="refonly-onepic-repeat")
    tips = gr.HTML("", elem_id="refonly-onepic-tips", elem_classes=["refonly-said"])
    return CanvasPart(task, about, example, project, sent, repeat, tips)


# Beside the composer's: it comes with the panel, into every host.
_LOOKS = """<style>.gradio-container.gradio-container {
  #refonly-onepic-about ul { display: grid; grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 2px 16px; padding: 0; list-style: none; }
  #refonly-onepic-about li p { color: var(--body-text-color-subdued); }
  #refonly-onepic-about b { margin-right: 4px; color: var(--body-text-color); }
  #refonly-onepic-tips ul { list-style: disc outside; margin: 0; padding: 0 0 0 18px; }
  :is(#refonly-onepic-about, #refonly-onepic-tips) li p { display: block; margin: 0; }
  :is(#refonly-onepic-picture, #refonly-onepic-canvas) :is(.image-frame, img) { width: 100%; }
  #refonly-onepic-back { align-items: flex-end; }
}</style>"""


def about_task(name: str) -> str:
    """What a task is, and what belongs into its panels; HTML."""
    task = task_or_none(name)
    if task is None:
        return markup.hint("Panels as you like them: what is marked as target is painted, the model looks at the rest.")
    return markup.hint(task.help) + _list([f"<b>{number}</b> {escape(spec.hint)}" for number, spec in enumerate(task.panels, 1) if spec.hint])


def tips_list(tips: Sequence[str]) -> str:
    """HTML."""
    return _list([escape(tip) for tip in tips])


def _list(lines: Sequence[str]) -> str:
    rows = "".join(f"<li><p>{line}</p></li>" for line in lines)
    return f'<ul class="refonly-notes">{rows}</ul>' if rows else ""


def project_for(task: str, model: str) -> Project:
    """The empty panels of a task, in the size that suits the model."""
    width, height = panel_size(task, model)
    return blank(Layout(2, 2), width, height) if task_or_none(task) is None else project_of(task_named(task), width, height)


def panel_size(task: str, model: str) -> tuple[int, int]:
    """(width, height) px of a panel: the task's own, but for the embedded checkpoint what it can paint."""
    if model == TINY:
        return TINY_SIDE, TINY_SIDE
    found = task_or_none(task)
    return (512, 512) if found is None else (found.width, found.height)


# --- what is asked for --------------------------------------------------------------------------------------------------------------------------------


def _asked(hosted: bool) -> AskedPart:
    known, form = specs(Project), SettingsForm(OnePicPaintSettings, "refonly-onepic")
    hint = task_named(FIRST_TASK).prompt_hint
    prompt = gr.Textbox("", label=known["prompt"].label, lines=2, placeholder=hint, elem_id="refonly-onepic-prompt")
    with gr.Row():
        _choices(form, hosted)
    with gr.Accordion("Settings", open=False, elem_id="refonly-onepic-settings"):
        negative = gr.Textbox("", label=known["negative"].label, info=known["negative"].help, elem_id="refonly-onepic-negative")
        reuse = component("context-reuse", replace(known["reuse"], label="Context reuse"), int, 1, "refonly-onepic")
        with gr.Group(visible=hosted):
            control = component("control-alone", known["control_alone"], bool, True, "refonly-onepic")
        with gr.Row():
            form.make("lora_strength", "steps")
        form.make("cfg", "lines_back", "flats")
        with gr.Row():
            info = specs(OnePicPaintSettings)["seed"].help
            seed = gr.Number(0, label="Seed", info=info, precision=0, minimum=0, maximum=_LONGEST_SEED, elem_id="refonly-onepic-seed")
            form.take("seed", seed)
            form.make("sampler")
    return AskedPart(prompt, negative, reuse, control, form)


def _choices(form: SettingsForm, hosted: bool) -> None:
    known = specs(OnePicPaintSettings)
    here: Titled = [] if hosted else [(TINY, TINY)]
    about, fixed = known["model"].help, {"visible": not hosted, "min_width": _HALF}
    model = shim.titled_dropdown(here, "" if hosted else TINY, known["model"].label, "refonly-onepic-model", info=about, **fixed)
    about = known["lora"].help.partition(". ")[0] + "."  # the rest is too long for half a line
    lora = shim.titled_dropdown(lora_choices(()), AUTO, known["lora"].label, "refonly-onepic-lora", info=about, min_width=_HALF)
    form.take("model", model)
    form.take("lora", lora)


def lora_choices(loras: Titled) -> list[tuple[str, str]]:
    """For the dropdown: what is always there, then the files."""
    return [("For the task", AUTO), ("None", NONE), *loras]


# --- work and results ---------------------------------------------------------------------------------------------------------------------------------


def _work() -> Work:
    with gr.Row(elem_classes=["refonly-actions"]):
        go = gr.Button("Paint", variant="primary", elem_id="refonly-onepic-go", scale=4, min_width=120)
        stop = gr.Button("Stop", interactive=False, elem_id="refonly-onepic-stop", scale=1, min_width=90)
    message = gr.HTML("", elem_id="refonly-onepic-message", elem_classes=["refonly-said"])
    return Work(go, stop, message, gr.HTML("", elem_id="refonly-onepic-progress", elem_classes=["refonly-said"]))


def _sending() -> SendingPart:
    with gr.Row(elem_id="refonly-onepic-send"):
        buttons = {tab: gr.Button(f"Send the canvas to {tab}", size="sm", elem_id=f"refonly-onepic-to-{tab}") for tab in TABS}
    with gr.Column(elem_classes=["refonly-onepic-wire"]):
        return SendingPart(buttons, gr.Textbox("", label="Parcel", elem_id="refonly-onepic-parcel"))


def _easel() -> Easel:
    nothing = gr.HTML(_BLANK, elem_id="refonly-onepic-blank")
    with gr.Column(visible=False, elem_id="refonly-onepic-results") as results, gr.Tabs(elem_id="refonly-onepic-views"):
        with gr.Tab("Result", id="result"):
            picture = shim.picture_view("Result", "refonly-onepic-picture")
            several = shim.thumbnails("Results", "refonly-onepic-several", 4, visible=False, object_fit="contain", height="auto")
            save = shim.download_button("Save the picture", "refonly-onepic-save", variant="primary")
            with gr.Row(elem_id="refonly-onepic-back"):
                first = into_choices(project_for(FIRST_TASK, ""))
                into = shim.titled_dropdown(first, "1", "Into the canvas, as context", "refonly-onepic-into", scale=2, min_width=150)
                put = gr.Button("Put it there", elem_id="refonly-onepic-put", scale=1, min_width=130)
        with gr.Tab("Whole canvas", id="canvas"):
            canvas = shim.picture_view("Whole canvas", "refonly-onepic-canvas")
            save_canvas = shim.download_button("Save the canvas", "refonly-onepic-save-canvas")
    return Easel(nothing, results, picture, several, save, into, put, canvas, save_canvas)


def into_choices(project: Project) -> list[tuple[str, str]]:
    """(title, number from 1) of each panel that a result may be put into."""
    return [(f"Panel {number}" + (f", {panel.label}" if panel.label else ""), str(number)) for number, panel in enumerate(project.panels, 1)]


_BLANK = (
    '<div class="refonly-blank"><svg viewBox="0 0 120 84" aria-hidden="true" focusable="false">'
    '<rect x="24" y="6" width="34" height="34" rx="5"/><rect x="62" y="6" width="34" height="34" rx="5"/>'
    '<rect x="24" y="44" width="34" height="34" rx="5"/><rect x="62" y="44" width="34" height="34" rx="5" class="refonly-filled"/>'
    '<circle cx="41" cy="21" r="6"/><circle cx="79" cy="21" r="6"/><circle cx="41" cy="59" r="6"/><circle cx="79" cy="59" r="6" class="refonly-cut"/></svg>'
    "<p>The target appears here.</p><p>Fill the panels, then press Paint.</p></div>"
)
