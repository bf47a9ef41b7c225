"""The Colour page: what is where. What happens on a click is in `colour_events`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.studio.session_history import Session
from lib_refonly.ui import markup, shim
from lib_refonly.ui.samples import Sample
from lib_refonly.ui.settings_form import SettingsForm

REFERENCES = 4

# Every field of RefOnlySettings stands in exactly one of these groups (a test holds it to that).
SEEN = ("lines", "polarity", "line_block", "line_c", "background", "fit")
MAIN = ("count", "seed", "reference_strength", "blueprint_strength", "lines_back", "paper")
ADVANCED = {
    "Painting": ("size", "steps", "sampler", "flats"),
    "Guidance": ("guidance", "blueprint_guidance"),
    "When they act": ("reference_start", "reference_end", "blueprint_start", "blueprint_end"),
}
GO, GOING = "Colour", "Colouring"


@dataclass
class Slot:
    """One reference: its picture, its weight, and where on the drawing it acts."""

    picture: Any
    weight: Any
    mask: Any


@dataclass
class ColourPanel:
    """Every component of the page that an event reads or writes."""

    session: Any
    form: SettingsForm
    slots: list[Slot] = field(default_factory=list)
    lines: Any = None
    model: Any = None
    message: Any = None
    offer: Any = None
    go: Any = None
    stop: Any = None
    samples: Any = None
    model_view: Any = None
    new_seed: Any = None
    keep_seed: Any = None
    read_zone: Any = None
    stage: Any = None
    results: Any = None
    picture: Any = None
    painting: Any = None
    layer: Any = None
    compare: Any = None
    save_picture: Any = None
    save_layer: Any = None
    variations: Any = None
    history: Any = None
    empty: Any = None

    @property
    def inputs(self) -> list[Any]:
        """What a colouring reads: session, drawing, pictures, weights, masks, model, settings. `colour_events.Asked` takes it apart."""
        slots = self.slots
        return [self.session, self.lines, *(s.picture for s in slots), *(s.weight for s in slots), *(s.mask for s in slots), self.model, *self.form.inputs]

    @property
    def shown(self) -> list[Any]:
        """The components that show one result, in the order of `colour_events.show`."""
        return [self.picture, self.painting, self.layer, self.compare, self.save_picture, self.save_layer]


def build_colour_panel(samples: Sequence[Sample], cards: Sequence[Path], models: Sequence[tuple[str, str]]) -> ColourPanel:
    """Lay the page out. `cards` are the samples' thumbnails; `models` are (title, name) of those that can be used; the first is chosen."""
    panel = ColourPanel(session=gr.State(Session()), form=SettingsForm(RefOnlySettings, "refonly"))
    with gr.Row(elem_id="refonly-colour", elem_classes=["refonly-page"]):
        with gr.Column(scale=5, min_width=320, elem_id="refonly-left"):
            _zones(panel)
            _actions(panel)
            _samples(panel, samples, cards)
            _seen(panel)
            _settings(panel, models)
        with gr.Column(scale=6, min_width=320, elem_id="refonly-right"):
            _stage(panel)
            _history(panel)
    return panel


def _zones(panel: ColourPanel) -> None:
    with gr.Row(elem_id="refonly-zones", elem_classes=["refonly-zones"]):
        first = shim.picture_zone("Reference", "refonly-reference-1", 300, "# The character in colour\nDrop, paste, or click to choose")
        panel.lines = shim.picture_zone("Line art", "refonly-lines-file", 300, "# The drawing to colour\nDrop, paste, or click to choose")
    with gr.Accordion("More references, weights and masks", open=False, elem_id="refonly-more"):
        gr.HTML('<p class="refonly-hint">Up to four pictures decide the colours together. A mask is white where its reference acts on the drawing.</p>')
        panel.slots = [_slot(number, first if number == 1 else None) for number in range(1, REFERENCES + 1)]


def _slot(number: int, picture: Any) -> Slot:
    with gr.Row(elem_classes=["refonly-slot"]):
        if picture is None:
            picture = shim.picture_zone(f"Reference {number}", f"refonly-reference-{number}", 150, "Drop, paste, or click", webcam=False)
        with gr.Column(min_width=140):
            reset = shim.supported(gr.Slider.__init__, buttons=[])
            weight = gr.Slider(0, 2, value=1, step=0.05, label=f"Weight {number}", elem_id=f"refonly-weight-{number}", **reset)
        mask = shim.picture_zone(f"Mask {number}", f"refonly-mask-{number}", 150, "White where it acts", webcam=False)
    return Slot(picture, weight, mask)


def _actions(panel: ColourPanel) -> None:
    panel.message = gr.HTML("", elem_id="refonly-message")
    panel.offer = gr.Button("Use the settings inside this picture", visible=False, elem_id="refonly-offer", size="sm")
    with gr.Row(elem_id="refonly-actions"):
        panel.go = gr.Button(GO, variant="primary", elem_id="refonly-go", scale=4, min_width=120)
        panel.stop = gr.Button("Stop", variant="secondary", elem_id="refonly-stop", scale=1, min_width=90, interactive=False)


def _samples(panel: ColourPanel, samples: Sequence[Sample], cards: Sequence[Path]) -> None:
    with gr.Column(visible=bool(samples), elem_id="refonly-samples-box", elem_classes=["refonly-section"]):
        gr.HTML(markup.heading("Try a sample"))
        value = [str(path) for path in cards]
        panel.samples = shim.thumbnails("Samples", "refonly-samples", 3, value=value, object_fit="contain", height="auto")


def _seen(panel: ColourPanel) -> None:
    with gr.Column(elem_classes=["refonly-section"], elem_id="refonly-seen"):
        gr.HTML(markup.heading("What the model will see"))
        panel.model_view = gr.HTML(markup.model_view(None), elem_id="refonly-model-view")
        with gr.Accordion("Adjust what it sees", open=False, elem_id="refonly-adjust"):
            with gr.Row():
                panel.form.make("lines", "polarity")
            with gr.Row():
                panel.form.make("line_block", "line_c")
            with gr.Row():
                panel.form.make("background", "fit")


def _settings(panel: ColourPanel, models: Sequence[tuple[str, str]]) -> None:
    form = panel.form
    with gr.Column(elem_classes=["refonly-section"], elem_id="refonly-settings"):
        gr.HTML(markup.heading("Settings"))
        panel.model = gr.Dropdown(choices=list(models), value=models[0][1] if models else None, label="Model", elem_id="refonly-model")
        with gr.Row():
            form.make("count")
            with gr.Column(min_width=200):
                form.make("seed")
                with gr.Row(elem_id="refonly-seed-buttons"):
                    panel.new_seed = gr.Button("New each time", size="sm", elem_id="refonly-seed-new", min_width=80)
                    panel.keep_seed = gr.Button("Keep this one", size="sm", elem_id="refonly-seed-keep", min_width=80)
        with gr.Row():
            form.make("reference_strength", "blueprint_strength")
        with gr.Row():
            form.make("lines_back", "paper")
        _advanced(panel)


def _advanced(panel: ColourPanel) -> None:
    with gr.Accordion("Advanced", open=False, elem_id="refonly-advanced"):
        for heading, names in ADVANCED.items():
            gr.HTML(f'<h3 class="refonly-subheading">{heading}</h3>')
            for left, right in zip(names[::2], names[1::2], strict=True):
                with gr.Row():
                    panel.form.make(left, right)
    with gr.Accordion("Read the settings of an earlier picture", open=False, elem_id="refonly-read"):
        panel.read_zone = shim.picture_zone("Read settings", "refonly-read-zone", 150, "Drop a PNG that was saved here", webcam=False)


def _stage(panel: ColourPanel) -> None:
    with gr.Column(elem_id="refonly-result", elem_classes=["refonly-section"]):
        panel.empty = gr.HTML(_EMPTY, elem_id="refonly-empty")
        panel.stage = gr.HTML("", elem_id="refonly-stage")
        with gr.Column(visible=False, elem_id="refonly-results") as panel.results:
            with gr.Tabs(elem_id="refonly-views"):
                with gr.Tab("Picture", id="picture"):
                    panel.picture = shim.picture_view("Picture", "refonly-picture")
                with gr.Tab("Before / after", id="compare"):
                    panel.compare = gr.HTML("", elem_id="refonly-compare")
                with gr.Tab("Colour layer", id="layer"):
                    panel.layer = shim.picture_view("Colour layer", "refonly-layer")
                with gr.Tab("Painting", id="painting"):
                    panel.painting = shim.picture_view("Painting without the line art", "refonly-painting")
            with gr.Row(elem_id="refonly-downloads"):
                panel.save_picture = shim.download_button("Save picture", "refonly-save-picture", variant="primary")
                panel.save_layer = shim.download_button("Save colour layer", "refonly-save-layer")
        panel.variations = shim.thumbnails("Variations", "refonly-variations", 4, visible=False, object_fit="contain", height="auto")


def _history(panel: ColourPanel) -> None:
    with gr.Column(elem_classes=["refonly-section"], elem_id="refonly-history-box", visible=True):
        gr.HTML(markup.heading("This session", "Click a picture to bring its pictures and settings back."))
        panel.history = shim.thumbnails("History of this session", "refonly-history", 6, object_fit="contain", height="auto")


_EMPTY = (
    '<div class="refonly-blank"><svg viewBox="0 0 120 84" aria-hidden="true" focusable="false">'
    '<rect x="4" y="14" width="44" height="56" rx="6"/><rect x="72" y="14" width="44" height="56" rx="6" class="refonly-filled"/>'
    '<circle cx="26" cy="34" r="9"/><path d="M12 62c2-12 26-12 28 0"/>'
    '<circle cx="94" cy="34" r="9" class="refonly-cut"/><path d="M80 62c2-12 26-12 28 0" class="refonly-cut"/>'
    '<path d="M54 42h10m-4-4 4 4-4 4"/></svg>'
    "<p>The coloured drawing appears here.</p><p>Add a reference and a drawing, then press Colour.</p></div>"
)
