"""The panel inside a WebUI's txt2img and img2img: what is where. It knows gradio, and nothing of the WebUI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import gradio as gr

from lib_refonly.refonly.panel import PREPROCESSORS, UNITS, PanelSettings, UnitSettings
from lib_refonly.ui import markup, shim
from lib_refonly.ui.settings_form import SettingsForm

FIRST = "The first that fits"


class Accordion(Protocol):
    """A checkbox that is an accordion's header, as A1111 has."""

    def __call__(self, value: bool, **kwargs: Any) -> AbstractContextManager[Any]: ...


@dataclass(frozen=True)
class Answers:
    """What the panel asks while it is being filled in. `models`: (title, name) of what can be chosen now. `look`: what the UNet will see, as HTML."""

    models: Callable[[], Sequence[tuple[str, str]]]
    preprocessors: Callable[[], Sequence[str]]
    look: Callable[..., str]
    presets: Callable[[], Sequence[str]]
    load_preset: Callable[[str], dict[str, Any]]
    save_preset: Callable[..., str]
    delete_preset: Callable[[str], str]


@dataclass
class HostPanel:
    """`inputs` are the script's arguments, in the order of `refonly.panel.names`."""

    enabled: Any
    form: SettingsForm
    drawing: Any = None
    units: list[tuple[Any, Any, SettingsForm]] = field(default_factory=list)

    @property
    def inputs(self) -> list[Any]:
        of_units = [one for picture, mask, form in self.units for one in (picture, mask, *form.inputs)]
        return [*self.form.inputs, self.drawing, *of_units]


def build_host_panel(prefix: str, accordion: Accordion, answers: Answers, is_img2img: bool, units: int = UNITS) -> HostPanel:
    """Lay the panel out. Called several times for one page: ids differ by `prefix` alone. `units`: how many of the four are shown."""
    head = accordion(False, label="Reference Only", elem_id=f"{prefix}-panel")
    panel = HostPanel(head, SettingsForm(PanelSettings, prefix))
    panel.form.take("enabled", head)
    with head, gr.Column(elem_classes=["refonly-host"]):
        with gr.Row():
            with gr.Column(min_width=240):
                text = "Empty takes the picture of img2img" if is_img2img else "Drop, paste, or click"
                panel.drawing = shim.picture_zone("Line drawing", f"{prefix}-drawing", 240, text, webcam=False)
            with gr.Column(min_width=240):
                _units(panel, prefix, units)
        _main(panel, prefix, answers)
        _lines(panel, answers)
        _more(panel, prefix, answers)
        look = gr.Button("Show what the model will see", size="sm", elem_id=f"{prefix}-look")
        view = gr.HTML("", elem_id=f"{prefix}-view")
        shim.on(look.click, answers.look, panel.inputs, [view])
    return panel


def _units(panel: HostPanel, prefix: str, shown: int) -> None:
    with gr.Tabs(elem_id=f"{prefix}-units"):
        for number in range(1, UNITS + 1):
            with gr.Tab(f"Reference {number}" if number == 1 else str(number), **shim.supported(gr.Tab.__init__, visible=number <= shown)):
                name = f"{prefix}-unit-{number}"
                picture = shim.picture_zone(f"Reference {number}", f"{name}-picture", 200, "The character in colour", webcam=False)
                form = SettingsForm(UnitSettings, name)
                form.make("weight")
                with gr.Accordion("When and where it acts", open=False, elem_id=f"{name}-more"):
                    with gr.Row():
                        form.make("start", "end")
                    mask = shim.picture_zone(f"Mask {number}", f"{name}-mask", 150, "White where it acts", webcam=False)
                    form.make("blocks")
            panel.units.append((picture, mask, form))


def _main(panel: HostPanel, prefix: str, answers: Answers) -> None:
    with gr.Row():
        model = gr.Dropdown(
            choices=_models(answers), value="", label="Model", elem_id=f"{prefix}-model", **shim.supported(gr.Dropdown.__init__, filterable=True)
        )
        panel.form.take("model", model)
        refresh = gr.Button("Refresh", size="sm", elem_id=f"{prefix}-refresh", min_width=80)
    with gr.Row():
        panel.form.make("strength", "line_strength")
    shim.on(refresh.click, lambda: shim.update(choices=_models(answers)), None, [model])


def _models(answers: Answers) -> list[tuple[str, str]]:
    return [(FIRST, ""), *answers.models()]


def _lines(panel: HostPanel, answers: Answers) -> None:
    prefix = panel.form.prefix
    with gr.Accordion("Lines", open=False, elem_id=f"{prefix}-lines"):
        with gr.Row():
            choices = [*PREPROCESSORS, *answers.preprocessors()]
            panel.form.take("preprocessor", gr.Dropdown(choices=choices, value=choices[0], label="Preprocessor", elem_id=f"{prefix}-preprocessor"))
            panel.form.make("polarity")
        for pair in (("line_block", "line_c"), ("line_start", "line_end")):
            with gr.Row():
                panel.form.make(*pair)
        panel.form.make("fitting")


def _more(panel: HostPanel, prefix: str, answers: Answers) -> None:
    with gr.Accordion("More", open=False, elem_id=f"{prefix}-more"):
        with gr.Row():
            panel.form.make("background", "fit")
        with gr.Row():
            panel.form.make("passes", "must")
        _presets(panel, prefix, answers)


def _presets(panel: HostPanel, prefix: str, answers: Answers) -> None:
    with gr.Row():
        chosen = gr.Dropdown(choices=list(answers.presets()), value=None, label="Preset", elem_id=f"{prefix}-preset")
        name = gr.Textbox(label="New preset", elem_id=f"{prefix}-preset-name", max_lines=1)
        save = gr.Button("Save", size="sm", elem_id=f"{prefix}-preset-save", min_width=60)
        delete = gr.Button("Delete", size="sm", elem_id=f"{prefix}-preset-delete", min_width=60)
    message = gr.HTML("", elem_id=f"{prefix}-preset-message")
    # Presets hold the panel's own settings: pictures and units belong to a job.
    kept = [panel.form[field] for field in panel.form.fields if field != "enabled"]

    def load(preset: str | None) -> list[Any]:
        values = answers.load_preset(preset) if preset else {}
        return [shim.update(value=values[field]) if field in values else shim.update() for field in panel.form.fields if field != "enabled"]

    def keep(wanted: str, *values: Any) -> list[Any]:
        said = answers.save_preset(wanted, dict(zip((f for f in panel.form.fields if f != "enabled"), values, strict=True)))
        return [shim.update(choices=list(answers.presets())), markup.message(said, "error" if said else "done")]

    def drop(preset: str | None) -> list[Any]:
        said = answers.delete_preset(preset) if preset else ""
        return [shim.update(choices=list(answers.presets()), value=None), markup.message(said)]

    shim.on(chosen.change, load, [chosen], kept)
    shim.on(save.click, keep, [name, *kept], [chosen, message])
    shim.on(delete.click, drop, [chosen], [chosen, message])
