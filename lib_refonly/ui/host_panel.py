"""The panel inside a WebUI's txt2img and img2img: what is where. It knows gradio, and nothing of the WebUI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import gradio as gr

from lib_refonly.errors import PainterError
from lib_refonly.refonly.panel import PREPROCESSORS, UNITS, PanelSettings, UnitSettings
from lib_refonly.stylecode.settings import StyleSettings
from lib_refonly.ui import markup, shim
from lib_refonly.ui.settings_form import SettingsForm

FIRST = "The first that fits"
_HALF = 240  # pixels; two of them stand side by side in a WebUI's column


class Accordion(Protocol):
    """Makes a checkbox that is entered like the accordion whose header it is, as A1111's is."""

    def __call__(self, value: bool, **kwargs: Any) -> Any: ...


@dataclass(frozen=True)
class Answers:
    """What the panel asks while it is being filled in. `models`: (title, name) of what can be chosen now. `look`: what the UNet will see, as HTML.
    `read_code`: what is to be said of a code that was typed, as HTML. `make_code`: a zone's picture -> the code of its style, and what is to be said.
    `read_canvas`: what is to be said of a ONE-PIC project, as HTML."""

    models: Callable[[], Sequence[tuple[str, str]]]
    preprocessors: Callable[[], Sequence[str]]
    look: Callable[..., str]
    presets: Callable[[], Sequence[str]]
    load_preset: Callable[[str], dict[str, Any]]
    save_preset: Callable[..., str]
    delete_preset: Callable[[str], str]
    read_code: Callable[[str], str] = lambda _: ""
    make_code: Callable[[Any], tuple[str, str]] = lambda _: ("", "")
    read_canvas: Callable[[str], str] = lambda _: ""


@dataclass
class HostPanel:
    """`inputs` are the script's arguments, in the order of `refonly.panel.names`."""

    enabled: Any
    form: SettingsForm
    style: SettingsForm
    drawing: Any = None
    canvas: Any = None
    presets: Any = None
    units: list[tuple[Any, Any, SettingsForm]] = field(default_factory=list)

    @property
    def inputs(self) -> list[Any]:
        of_units = [one for picture, mask, form in self.units for one in (picture, mask, *form.inputs)]
        return [*self.form.inputs, self.drawing, *of_units, *self.style.inputs, self.canvas]


def build_host_panel(prefix: str, accordion: Accordion, answers: Answers, is_img2img: bool, units: int = UNITS) -> HostPanel:
    """Lay the panel out. Called several times for one page: ids differ by `prefix` alone. `units`: how many of the four are shown."""
    head = accordion(False, label="Reference Only", elem_id=f"{prefix}-panel")
    panel = HostPanel(head, SettingsForm(PanelSettings, prefix), SettingsForm(StyleSettings, f"{prefix}-style"))
    panel.form.take("enabled", head)
    with head, gr.Column(elem_classes=["refonly-host"]):
        with gr.Row():
            with gr.Column(min_width=_HALF):
                label = "Line drawing (empty: the picture above)" if is_img2img else "Line drawing"
                panel.drawing = shim.picture_zone(label, f"{prefix}-drawing", 260, "Drop, paste, or click", webcam=False)
                panel.form.make("line_strength")
            with gr.Column(min_width=_HALF):
                _units(panel, prefix, units)
        models = _main(panel, prefix, answers)
        _lines(panel, answers)
        presets = _more(panel, prefix, answers)
        look = gr.Button("Show what the model will see", size="sm", elem_id=f"{prefix}-look")
        view = gr.HTML("", elem_id=f"{prefix}-view", elem_classes=["refonly-seen"])
    _style(panel, prefix, accordion, answers)
    _canvas(panel, prefix, answers)
    shim.on(look.click, answers.look, panel.inputs, [view])
    # The lists of a page that is loaded anew are those of the WebUI's start.
    shim.on(head.change, lambda: [models(), presets()], None, [panel.form["model"], panel.presets])
    return panel


def _style(panel: HostPanel, prefix: str, accordion: Accordion, answers: Answers) -> None:
    """A stylecode has an accordion of its own: it acts with or without references."""
    head = accordion(False, label="Stylecode", elem_id=f"{prefix}-style-panel")
    panel.style.take("enabled", head)
    with head, gr.Column(elem_classes=["refonly-host"]):
        with gr.Row():
            with gr.Column(min_width=_HALF):
                picture = shim.picture_zone("A picture in that style", f"{prefix}-style-picture", 160, "Drop, paste, or click", webcam=False)
            with gr.Column(min_width=_HALF):
                panel.style.make("code", "strength")
        read = gr.HTML("", elem_id=f"{prefix}-style-read", elem_classes=["refonly-said"])
        with gr.Accordion("When and where it acts", open=False, elem_id=f"{prefix}-style-more"):
            with gr.Row():
                panel.style.make("start", "end")
            with gr.Row():
                panel.style.make("reach", "passes")
    shim.on(picture.change, lambda given: answers.make_code(given) if given else (shim.update(), ""), [picture], [panel.style["code"], read])
    shim.on(panel.style["code"].input, answers.read_code, [panel.style["code"]], [read], live=True)


def _canvas(panel: HostPanel, prefix: str, answers: Answers) -> None:
    """What the ONE-PIC tab sent here. The text is the project; nobody reads it, so the page says in a line what it is."""
    with gr.Row(elem_classes=["refonly-canvas"], elem_id=f"{prefix}-canvas-row"):
        panel.canvas = gr.Textbox(value="", label="ONE-PIC canvas", elem_id=f"{prefix}-canvas", elem_classes=["refonly-hidden"], max_lines=1)
        said = gr.HTML("", elem_id=f"{prefix}-canvas-said", elem_classes=["refonly-said"])
        drop = gr.Button("Without the canvas", size="sm", visible=False, elem_id=f"{prefix}-canvas-drop", elem_classes=["refonly-small"])

    def look(text: str) -> list[Any]:
        return [answers.read_canvas(text) if text else "", shim.update(visible=bool(text))]

    shim.on(panel.canvas.change, look, [panel.canvas], [said, drop], live=True)
    shim.on(drop.click, lambda: ["", "", shim.update(visible=False)], None, [panel.canvas, said, drop])


def _units(panel: HostPanel, prefix: str, shown: int) -> None:
    with gr.Tabs(elem_id=f"{prefix}-units"):
        for number in range(1, shown + 1):
            with gr.Tab(f"Reference {number}" if number == 1 else str(number)):
                _unit(panel, f"{prefix}-unit-{number}", number)
    with gr.Column(visible=False):  # arguments stand in their places, however many units are shown
        for number in range(shown + 1, UNITS + 1):
            _unit(panel, f"{prefix}-unit-{number}", number)


def _unit(panel: HostPanel, name: str, number: int) -> None:
    picture = shim.picture_zone(f"Reference {number}", f"{name}-picture", 200, "The character in colour", webcam=False)
    form = SettingsForm(UnitSettings, name)
    form.make("weight")
    with gr.Accordion("When and where it acts", open=False, elem_id=f"{name}-more"):
        form.make("start", "end")
        mask = shim.picture_zone(f"Mask {number} (white: here)", f"{name}-mask", 160, "White where it acts", webcam=False)
        form.make("blocks")
    panel.units.append((picture, mask, form))


def _main(panel: HostPanel, prefix: str, answers: Answers) -> Callable[[], Any]:
    """Returns what brings the list of models up to date."""

    def models() -> shim.Titled:
        try:
            return [(FIRST, ""), *answers.models()]
        except PainterError:  # a checkpoint that nothing fits: the run says so, and the panel stays
            return [(FIRST, "")]

    def now() -> Any:
        return shim.titled_choices(model, models())

    with gr.Row(elem_classes=["refonly-line"]):
        with gr.Column(min_width=_HALF), gr.Row(elem_classes=["refonly-line"]):
            model = shim.titled_dropdown(models(), "", "Model", f"{prefix}-model", scale=4, min_width=120)
            refresh = gr.Button("Refresh", size="sm", elem_id=f"{prefix}-refresh", elem_classes=["refonly-small"], scale=1, min_width=80)
        with gr.Column(min_width=_HALF):
            panel.form.make("strength")
    panel.form.take("model", model)
    shim.on(refresh.click, now, None, [model])
    return now


def _lines(panel: HostPanel, answers: Answers) -> None:
    prefix = panel.form.prefix
    with gr.Accordion("Lines", open=False, elem_id=f"{prefix}-lines"):
        with gr.Row():
            choices = [(name, name) for name in (*PREPROCESSORS, *answers.preprocessors())]
            panel.form.take("preprocessor", shim.titled_dropdown(choices, PREPROCESSORS[0], "Preprocessor", f"{prefix}-preprocessor", min_width=_HALF))
            panel.form.make("polarity")
        for pair in (("line_block", "line_c"), ("line_start", "line_end")):
            with gr.Row():
                panel.form.make(*pair)
        panel.form.make("fitting")


def _more(panel: HostPanel, prefix: str, answers: Answers) -> Callable[[], Any]:
    with gr.Accordion("More", open=False, elem_id=f"{prefix}-more"):
        with gr.Row():
            panel.form.make("background", "fit")
        with gr.Row():
            panel.form.make("passes", "must")
        return _presets(panel, prefix, answers)


def _presets(panel: HostPanel, prefix: str, answers: Answers) -> Callable[[], Any]:
    """Returns what brings the list of presets up to date."""
    with gr.Row(elem_classes=["refonly-line"]):
        chosen = gr.Dropdown(choices=list(answers.presets()), value=None, label="Preset", elem_id=f"{prefix}-preset", scale=4, min_width=120)
        delete = gr.Button("Delete", size="sm", elem_id=f"{prefix}-preset-delete", elem_classes=["refonly-small"], scale=1, min_width=80)
        name = gr.Textbox(label="New preset", elem_id=f"{prefix}-preset-name", max_lines=1, scale=4, min_width=120)
        save = gr.Button("Save", size="sm", elem_id=f"{prefix}-preset-save", elem_classes=["refonly-small"], scale=1, min_width=80)
    said = gr.HTML("", elem_id=f"{prefix}-preset-message", elem_classes=["refonly-said"])
    # Presets hold the panel's own settings: pictures and units belong to a job.
    fields = [field for field in panel.form.fields if field != "enabled"]
    kept = [panel.form[field] for field in fields]

    def load(preset: str | None) -> list[Any]:
        values = answers.load_preset(preset) if preset else {}
        return [shim.update(value=values[field]) if field in values else shim.update() for field in fields]

    def keep(wanted: str, *values: Any) -> list[Any]:
        error = answers.save_preset(wanted, dict(zip(fields, values, strict=True)))
        if error:
            return [shim.update(), shim.update(), markup.message(error)]
        return [shim.update(choices=list(answers.presets()), value=wanted.strip()), "", markup.message(f"{wanted.strip()} is saved.", "done")]

    def drop(preset: str | None) -> list[Any]:
        if not preset:
            return [shim.update(), markup.message("Choose the preset that is to be deleted.")]
        error = answers.delete_preset(preset)
        done = markup.message(error) if error else markup.message(f"{preset} is deleted.", "done")
        return [shim.update(choices=list(answers.presets()), value=None), done]

    def now() -> Any:
        return shim.update(choices=list(answers.presets()))

    shim.on(chosen.focus, now, None, [chosen])
    shim.on(chosen.change, load, [chosen], kept, live=True)
    shim.on(save.click, keep, [name, *kept], [chosen, name, said])
    shim.on(delete.click, drop, [chosen], [chosen, said])
    panel.presets = chosen
    return now
