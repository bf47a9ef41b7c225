"""The Train page, in the studio and in a WebUI: pictures, goal, start, and below them the jobs. What happens is in `training_events`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lib_refonly.onepic.tasks import TASKS as ONEPIC_TASKS
from lib_refonly.ui import markup, shim
from lib_refonly.ui.builtin_form import BuiltinForm
from lib_refonly.ui.caption_panel import CaptionPart, build_caption_part
from lib_refonly.ui.training_fields import CARDS, FAMILIES, FIRST_CARD, FIRST_FAMILY, FIRST_TASK, PREFIX, RECIPE, TASKS, TrainingForm
from lib_refonly.ui.training_host import TrainingHost
from lib_refonly.ui.training_own import OwnPart, build_own_part
from lib_refonly.ui.training_results import ResultsPart, build_results_part
from lib_refonly.ui.training_session import TrainingSession

SECONDS = 2.0
"""Between two looks at jobs that run."""
_AWAY = "Trainings are set up on the machine itself, since they need paths on it. Open the studio there without --listen, or use studio.py jobs in a terminal."
_STEPS = ["refonly-section", "refonly-train-step"]


@dataclass
class PicturesPart:
    """Step 1. `edits`: hidden; the captions that were edited, as JSON, written by the page."""

    folder: Any
    look: Any
    message: Any
    facts: Any
    word: Any
    add: Any
    captions: CaptionPart
    grid: Any
    edits: Any


@dataclass
class CanvasesPart:
    """For ONE-PIC: canvases are made of the pictures. `box` holds it all."""

    box: Any
    task: Any
    panels: Any
    out: Any
    make: Any


@dataclass
class GoalPart:
    """Step 2. `training` holds what is for a family of checkpoints: `scripts` what is sd-scripts', `builtin` what is the built-in small model's; `own` what
    this program trains itself."""

    task: Any
    family: Any
    card: Any
    old: Any
    few: Any
    training: Any
    scripts: Any
    builtin: BuiltinForm
    own: OwnPart
    canvases: CanvasesPart
    form: TrainingForm
    advanced: Any
    missing: Any
    message: Any
    save: Any
    file: Any
    load: Any

    @property
    def chosen(self) -> list[Any]:
        """What `Chosen.of` takes."""
        return [self.task, self.family, self.card, self.old, self.few]


@dataclass
class JobsPart:
    """Step 3 and the jobs. `timer`: None where gradio has none. `poll`: hidden; javascript/refonly_train.js presses it when the page comes into sight, and
    again and again where there is no timer."""

    title: Any
    start: Any
    message: Any
    room: Any
    listed: Any
    job: Any
    refresh: Any
    timer: Any
    poll: Any
    card: Any
    log: Any
    box: Any
    said: Any
    asks: dict[str, Any]
    resume: Any
    remove: Any


@dataclass
class TrainingPanel:
    """Every component of the page that an event reads or writes. checkpoint: a WebUI's list; None elsewhere. free: makes room on the graphics card."""

    session: Any
    notice: Any
    free: Any
    pictures: PicturesPart
    goal: GoalPart
    jobs: JobsPart
    results: ResultsPart
    checkpoint: Any = None


def build_training_panel(local: bool = True, host: TrainingHost | None = None) -> TrainingPanel | None:
    """Lay the page out. `local`: the painter sits at this machine. Else there is nothing to wire, and the page says why."""
    checkpoint = None
    with gr.Column(elem_id=f"{PREFIX}-page", elem_classes=["refonly-page", "refonly-train"]):
        if not local:
            gr.HTML(markup.heading("Train") + markup.message(_AWAY, "note"), elem_id=f"{PREFIX}-away")
            return None
        session = gr.State(TrainingSession())
        notice = _box("notice")
        free = gr.Button("Free the graphics card's memory now", size="sm", visible=False, elem_id=f"{PREFIX}-free")
        with gr.Column(elem_classes=_STEPS):
            pictures = _pictures()
        with gr.Column(elem_classes=_STEPS):
            goal = _goal()
            if host is not None and host.has_checkpoints:
                with goal.training, goal.form.rows[0][1]:  # beside the field that it fills
                    label, info = "One of this WebUI's checkpoints", "Fills in its path, and its family above."
                    checkpoint = shim.titled_dropdown([], "", label, f"{PREFIX}-checkpoint", info=info, min_width=300)
        with gr.Column(elem_classes=_STEPS):
            jobs, results = _start()
    return TrainingPanel(session, notice, free, pictures, goal, jobs, results, checkpoint)


def _box(name: str, text: str = "") -> Any:
    return gr.HTML(text, elem_id=f"{PREFIX}-{name}", elem_classes=["refonly-train-box"])


def _pictures() -> PicturesPart:
    hint = "A folder with 15 to 50 pictures of what is to be learnt. A caption says what else is in a picture; it is a text file beside it."
    gr.HTML(markup.heading("1. Pictures", hint))
    with gr.Row(elem_classes=["refonly-train-line"]):
        folder = gr.Textbox(label="Folder on this machine", placeholder="/home/me/pictures/miho", max_lines=1, elem_id=f"{PREFIX}-folder", scale=5)
        look = gr.Button("Look", variant="secondary", elem_id=f"{PREFIX}-look", scale=1, min_width=100)
    message, facts = _box("pictures-message"), _box("facts")
    with gr.Row(elem_classes=["refonly-train-line"]):
        info = "The word that will stand for it in prompts; one that means nothing yet, such as mihoxyz."
        word = gr.Textbox(label="Trigger word", info=info, max_lines=1, elem_id=f"{PREFIX}-word", scale=4)
        add = gr.Button("Put it before all captions", elem_id=f"{PREFIX}-add-word", scale=1, min_width=220)
    captions = build_caption_part()
    grid = _box("grid")
    with gr.Column(elem_classes=["refonly-onepic-wire"]):
        edits = gr.Textbox("", label="Edited captions", elem_id=f"{PREFIX}-edits")
    return PicturesPart(folder, look, message, facts, word, add, captions, grid, edits)


def _goal() -> GoalPart:
    gr.HTML(markup.heading("2. Goal", "What it is to become. The rest is filled in for your graphics card, and can be changed."))
    task = gr.Radio(list(TASKS.values()), value=TASKS[FIRST_TASK], label="What is trained", elem_id=f"{PREFIX}-task")
    form = TrainingForm()
    with gr.Column() as training:
        with gr.Row():
            families = [FAMILIES[name] for name in FAMILIES]
            family = gr.Radio(families, value=FAMILIES[FIRST_FAMILY], label="Family of the checkpoint", elem_id=f"{PREFIX}-family", min_width=300)
            card = gr.Radio(list(CARDS.values()), value=CARDS[FIRST_CARD], label="Memory of the graphics card", elem_id=f"{PREFIX}-card", min_width=300)
        with gr.Column() as scripts:
            with gr.Row():
                info = "It computes in fp16 then, not in bf16."
                old = gr.Checkbox(False, label="The card is from before 2020", info=info, elem_id=f"{PREFIX}-old", min_width=300)
                info = "Faster and smaller; which ones is said under Advanced, in Network's options."
                few = gr.Checkbox(False, label="Only some modules of the model", info=info, elem_id=f"{PREFIX}-few", min_width=300)
            form.lay_basic()
            canvases = _canvases()
            with gr.Accordion("Advanced", open=False, elem_id=f"{PREFIX}-advanced") as advanced:
                form.lay_advanced()
        builtin = BuiltinForm()
        with gr.Row():
            save = gr.Button("Save the settings as TOML", size="sm", elem_id=f"{PREFIX}-save")
            load = gr.UploadButton("Load settings", size="sm", file_types=[".toml"], elem_id=f"{PREFIX}-load")
        file = shim.download_button("Download the TOML file", f"{PREFIX}-file", visible=False)
    own = build_own_part(RECIPE)
    message, missing = _box("goal-message"), _box("missing")
    return GoalPart(task, family, card, old, few, training, scripts, builtin, own, canvases, form, advanced, missing, message, save, file, load)


def _canvases() -> CanvasesPart:
    with gr.Column(visible=False, elem_classes=["refonly-train-group"]) as box:
        hint = "ONE-PIC is trained on canvases. The folder of step 1 needs a subfolder for each panel, with files of the same names: lines/1.png, target/1.png."
        gr.HTML(markup.heading("Canvases", hint))
        with gr.Row():
            info = "Names by commas, rows by slashes; one is called target. Their size is that of Advanced."
            panels = gr.Textbox("reference,lines/lines,target", label="Panels", info=info, max_lines=1, elem_id=f"{PREFIX}-panels", min_width=300)
            tasks = [("Another one", ""), *((one.title, one.name) for one in ONEPIC_TASKS)]
            info = "The ONE-PIC page takes the LoRA for it by itself."
            task = shim.titled_dropdown(tasks, "", "Which task", f"{PREFIX}-onepic-task", info=info, min_width=300)
        with gr.Row(elem_classes=["refonly-train-line"]):
            out = gr.Textbox(label="Folder for the canvases", info="An empty or a new one.", max_lines=1, elem_id=f"{PREFIX}-canvases", scale=4)
            make = gr.Button("Make the canvases", elem_id=f"{PREFIX}-make-canvases", scale=1, min_width=180)
    return CanvasesPart(box, task, panels, out, make)


def _start() -> tuple[JobsPart, ResultsPart]:
    gr.HTML(markup.heading("3. Start", "It runs by itself: this page may be closed, and the job is found again. Jobs run one after the other."))
    with gr.Row(elem_classes=["refonly-train-line"]):
        title = gr.Textbox(label="Title", placeholder="What the list shows", max_lines=1, elem_id=f"{PREFIX}-title", scale=4)
        start = gr.Button("Start", variant="primary", elem_id=f"{PREFIX}-start", scale=1, min_width=180)
    message, room = _box("start-message"), _box("room")
    make_timer: Callable[..., Any] | None = getattr(gr, "Timer", None)
    timer = None if make_timer is None else make_timer(SECONDS, active=False)
    poll = gr.Button("Look again", elem_id=f"{PREFIX}-poll", elem_classes=["refonly-hidden", *(["refonly-train-timed"] if timer is not None else [])])
    listed = _box("jobs")
    with gr.Column(visible=False, elem_id=f"{PREFIX}-job-box", elem_classes=["refonly-section"]) as box:
        with gr.Row(elem_classes=["refonly-train-line"]):
            job = shim.titled_dropdown([], "", "Job to look at", f"{PREFIX}-job", scale=4)
            refresh = gr.Button("Refresh", elem_id=f"{PREFIX}-refresh", scale=1, min_width=120)
        with gr.Row(elem_classes=["refonly-train-asks"]):
            asks = {what: gr.Button(text, size="sm", min_width=92, elem_id=f"{PREFIX}-ask-{what}") for what, text in _ASKS.items()}
            resume = gr.Button("Resume", size="sm", min_width=92, elem_id=f"{PREFIX}-resume")
            remove = gr.Button("Remove", size="sm", min_width=92, elem_id=f"{PREFIX}-remove")
        said, card = _box("job-message"), _box("job-card")
        results = build_results_part()
        with gr.Accordion("Log", open=False, elem_id=f"{PREFIX}-log-box"):
            log = gr.HTML("", elem_id=f"{PREFIX}-log")
    return JobsPart(title, start, message, room, listed, job, refresh, timer, poll, card, log, box, said, asks, resume, remove), results


_ASKS = {"stop": "Stop and save", "pause": "Pause", "save": "Save now", "sample": "Sample now"}
