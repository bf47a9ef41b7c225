"""The Styles page, in the studio and in a WebUI: what is where. The style on the left is the one that all parts on the right take from and give to.

What happens is in `style_events`, and for the library in `style_library_events`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from lib_refonly.studio.style_engine import StylePaintSettings
from lib_refonly.ui import markup, shim
from lib_refonly.ui.settings_form import SettingsForm
from lib_refonly.ui.style_library_panel import LibraryPart, build_library_part
from lib_refonly.ui.style_session import StyleSession

PICTURES, ROWS = 3, 4
FIRST_ROWS = 2
_PROMPT = "A girl with long hair, looking at the viewer"
_BUILT_IN_PROMPT = "storybook character, long wavy green hair, dark skin, smiling"
_BUILT_IN_INFO = "The built-in model was trained on descriptions like this one, and paints little else: a kind of drawing, hair, skin, a mood."
_LONGEST_SEED = 2**32 - 1


@dataclass
class Work:
    """A button that begins a job, the one that stops it, and what is to be said of it."""

    go: Any
    stop: Any
    message: Any
    progress: Any

    @property
    def all(self) -> list[Any]:
        return [self.go, self.stop, self.message, self.progress]


@dataclass
class CurrentPart:
    """The style that all parts share. `form` has everything but the prompt; `drafts`: steps of each picture in a grid."""

    code: Any
    said: Any
    short: Any
    long: Any
    read_zone: Any
    prompt: Any
    form: SettingsForm
    drafts: Any
    work: Work
    blank: Any
    picture: Any
    make_card: Any
    card: Any
    save_card: Any

    @property
    def painted(self) -> list[Any]:
        """What a painting reads beside the codes: `StyleEvents._wish` takes it apart."""
        return [self.prompt, self.drafts, *self.form.inputs]


@dataclass
class PicturesPart:
    zones: list[Any]
    work: Work


@dataclass
class MixPart:
    """`rows`: the block, the code, the weight, and the button that puts the current style there."""

    rows: list[tuple[Any, Any, Any, Any]]
    more: Any
    amount: Any
    live: Any
    said: Any
    code: Any
    take: Any
    work: Work
    grid: Any

    @property
    def asked(self) -> list[Any]:
        return [*(code for _, code, _, _ in self.rows), *(weight for _, _, weight, _ in self.rows), self.amount]


@dataclass
class ExplorePart:
    """`random` is a second button beside `work.go`: nine styles by number."""

    number: Any
    new_number: Any
    random: Any
    take: Any
    amount: Any
    work: Work
    grid: Any


@dataclass
class ComparePart:
    codes: list[Any]
    current: list[Any]
    said: Any
    work: Work
    pictures: list[Any]


@dataclass
class StylePanel:
    """Every component of the page that an event reads or writes."""

    session: Any
    current: CurrentPart
    pictures: PicturesPart
    mix: MixPart
    explore: ExplorePart
    compare: ComparePart
    library: LibraryPart


def build_style_panel(built_in: bool = False) -> StylePanel:
    """Lay the page out. `built_in`: codes begin with the small built-in model, and so does the prompt, in words that it knows."""
    session = gr.State(StyleSession())
    with gr.Row(elem_id="refonly-styles", elem_classes=["refonly-page"]):
        with gr.Column(scale=5, min_width=320, elem_id="refonly-styles-current", elem_classes=["refonly-section"]):
            current = _current(built_in)
        with gr.Column(scale=6, min_width=320, elem_id="refonly-styles-right"), gr.Tabs(elem_id="refonly-styles-parts"):
            with gr.Tab("Pictures", id="pictures"), _part():
                pictures = _pictures()
            with gr.Tab("Mix", id="mix"), _part():
                mix = _mix()
            with gr.Tab("Explore", id="explore"), _part():
                explore = _explore()
            with gr.Tab("Compare", id="compare"), _part():
                compare = _compare()
            with gr.Tab("Library", id="library"), _part():
                library = build_library_part()
    return StylePanel(session, current, pictures, mix, explore, compare, library)


def _part() -> Any:
    return gr.Column(elem_classes=["refonly-section", "refonly-styles-part"])


def _work(name: str, label: str, variant: Any = "primary") -> Work:
    with gr.Row(elem_classes=["refonly-actions"]):
        go = gr.Button(label, variant=variant, elem_id=f"{name}-go", scale=4, min_width=120)
        stop = gr.Button("Stop", interactive=False, elem_id=f"{name}-stop", scale=1, min_width=90)
    message = gr.HTML("", elem_id=f"{name}-message", elem_classes=["refonly-said"])
    return Work(go, stop, message, gr.HTML("", elem_id=f"{name}-progress", elem_classes=["refonly-said"]))


# --- the current style --------------------------------------------------------------------------------------------------------------------------------


def _current(built_in: bool) -> CurrentPart:
    gr.HTML(markup.heading("Style", "The short code of a picture's style. Paste one, or make, mix and find one in the parts of this page."))
    info = "A code, a name from your library, or several with weights: CODE:2 NAME:1"
    code = shim.copy_box("Code", "refonly-styles-code", value="", info=info, placeholder="Paste a code, or drop a share card below")
    said = gr.HTML("", elem_id="refonly-styles-said", elem_classes=["refonly-said"])
    short = shim.copy_box("Short form", "refonly-styles-short", interactive=False, visible=False)
    sentence = "For print and reading out: it corrects a wrong sign, and names its model."
    long = shim.copy_box("Long form", "refonly-styles-long", info=sentence, interactive=False, visible=False)
    drop = "Drop a share card here, to read its code"
    read_zone = shim.picture_zone("A picture with a code inside", "refonly-styles-read-zone", 60, drop, webcam=False, show_label=False)
    text, info = (_BUILT_IN_PROMPT, _BUILT_IN_INFO) if built_in else (_PROMPT, None)
    prompt = gr.Textbox(text, label="Prompt", info=info, lines=2, elem_id="refonly-styles-prompt")
    form = SettingsForm(StylePaintSettings, "refonly-styles")
    form.make("strength")
    drafts = _settings(form)
    work = _work("refonly-styles", "Preview")
    blank = gr.HTML(_BLANK, elem_id="refonly-styles-blank")
    picture = shim.picture_view("Preview", "refonly-styles-picture", visible=False)
    card = shim.picture_view("Share card", "refonly-styles-card", visible=False)
    with gr.Row(elem_id="refonly-styles-sharing"):
        make_card = gr.Button("Make a share card", visible=False, elem_id="refonly-styles-make-card", min_width=130)
        save_card = shim.download_button("Save the card", "refonly-styles-save-card", visible=False, min_width=130)
    return CurrentPart(code, said, short, long, read_zone, prompt, form, drafts, work, blank, picture, make_card, card, save_card)


def _settings(form: SettingsForm) -> Any:
    with gr.Accordion("Settings", open=False, elem_id="refonly-styles-settings"):
        form.make("negative", "reach")
        for pair in (("start", "end"), ("steps", "cfg"), ("width", "height")):
            with gr.Row():
                form.make(*pair)
        info = "The same number paints the same picture."
        seed = gr.Number(0, label="Seed", info=info, precision=0, minimum=0, maximum=_LONGEST_SEED, elem_id="refonly-styles-seed")
        form.take("seed", seed)
        info = "The nine pictures of a grid are drafts, and need fewer steps."
        return gr.Slider(1, 50, value=10, step=1, label="Steps of drafts", info=info, elem_id="refonly-styles-drafts")


_BLANK = (
    '<div class="refonly-blank"><svg viewBox="0 0 120 84" aria-hidden="true" focusable="false">'
    '<rect x="34" y="8" width="52" height="52" rx="6" class="refonly-filled"/><circle cx="60" cy="30" r="9" class="refonly-cut"/>'
    '<path d="M46 56c2-13 26-13 28 0" class="refonly-cut"/><path d="M30 74h8m6 0h14m6 0h6m6 0h14"/></svg>'
    "<p>The style's picture appears here.</p><p>Give a code, then press Preview.</p></div>"
)


# --- the parts ----------------------------------------------------------------------------------------------------------------------------------------


def _pictures() -> PicturesPart:
    hint = "One picture, or up to three whose common style is wanted. A share card, or a picture that holds a code, gives its own code at once."
    gr.HTML(markup.heading("A picture's style as a code", hint))
    zones = []
    with gr.Row(elem_id="refonly-styles-zones"):
        for number in range(1, PICTURES + 1):
            text = "Drop, paste,\nor click" if number == 1 else "One more,\nif you like"
            zones.append(shim.picture_zone(f"Picture {number}", f"refonly-styles-picture-{number}", 220, text, webcam=number == 1, min_width=110))
    work = _work("refonly-styles-make", "Make the code")
    return PicturesPart(zones, work)


def _mix() -> MixPart:
    hint = "Two to four codes or names. Weights are shares; one below 0 leads away from its style."
    gr.HTML(markup.heading("A mixture of styles", hint))
    rows = [_mix_row(number) for number in range(1, ROWS + 1)]
    more = gr.Button("One more style", size="sm", elem_id="refonly-styles-mix-more")
    said = gr.HTML("", elem_id="refonly-styles-mix-said", elem_classes=["refonly-said"])
    with gr.Row(elem_classes=["refonly-styles-line"]):
        code = shim.copy_box("The mixture's code", "refonly-styles-mix-code", interactive=False, scale=4, min_width=180)
        take = gr.Button("Use it", size="sm", elem_id="refonly-styles-mix-take", elem_classes=["refonly-small"], scale=1, min_width=80)
    with gr.Row():
        info = "How far the corners lead away from the mixture."
        amount = gr.Slider(0.05, 0.8, value=0.3, step=0.05, label="Variation", info=info, elem_id="refonly-styles-mix-amount", min_width=200)
        live_info = "Nine pictures anew each time a slider is let go."
        live = gr.Checkbox(True, label="Paint while I mix", info=live_info, elem_id="refonly-styles-mix-live", min_width=200)
    work = _work("refonly-styles-mix", "Paint the nine")
    hint = "In the middle the mixture, on the cross the mixture leaning to each style, in the corners variations. A click takes that style."
    return MixPart(rows, more, amount, live, said, code, take, work, _grid("The mixture and around it", "refonly-styles-mix-grid", hint))


def _mix_row(number: int) -> tuple[Any, Any, Any, Any]:
    name = f"refonly-styles-mix-{number}"
    with gr.Row(visible=number <= FIRST_ROWS, elem_classes=["refonly-styles-line"], elem_id=f"{name}-row") as row:
        code = gr.Textbox(label=f"Style {number}", value="", placeholder="Code or name", max_lines=1, elem_id=f"{name}-code", scale=4, min_width=130)
        current = gr.Button("Current", size="sm", elem_id=f"{name}-current", elem_classes=["refonly-small"], scale=1, min_width=76)
        weight = gr.Slider(-1, 2, value=1, step=0.05, label=f"Weight {number}", elem_id=f"{name}-weight", scale=5, min_width=160)
    return row, code, weight, current


def _grid(label: str, elem_id: str, hint: str) -> Any:
    grid = shim.thumbnails(label, elem_id, 3, object_fit="cover", height="auto")
    gr.HTML(f'<p class="refonly-hint">{hint}</p>')
    return grid


def _explore() -> ExplorePart:
    gr.HTML(markup.heading("Find a style", "A number always gives the same styles, on every machine."))
    with gr.Row(elem_classes=["refonly-styles-line"]):
        number = gr.Number(1, label="Number", precision=0, minimum=0, elem_id="refonly-styles-explore-number", scale=3, min_width=110)
        new_number = gr.Button("New number", size="sm", elem_id="refonly-styles-explore-new", elem_classes=["refonly-small"], scale=1, min_width=110)
        take = gr.Button("Use its style", size="sm", elem_id="refonly-styles-explore-take", elem_classes=["refonly-small"], scale=1, min_width=110)
    random = gr.Button("Nine random styles", elem_id="refonly-styles-explore-random")
    info = "How far eight styles lead away from the current one: 0 the same, 1 nothing like it."
    amount = gr.Slider(0.05, 1, value=0.35, step=0.05, label="Difference", info=info, elem_id="refonly-styles-explore-amount")
    work = _work("refonly-styles-explore", "More like the current style", "secondary")
    grid = _grid("Nine styles", "refonly-styles-explore-grid", "A click takes that style. Then ask for more like it.")
    return ExplorePart(number, new_number, random, take, amount, work, grid)


def _compare() -> ComparePart:
    gr.HTML(markup.heading("Two styles side by side", "With the prompt, the seed and the settings on the left."))
    codes, current, pictures = [], [], []
    for letter in "AB":
        name = f"refonly-styles-compare-{letter.lower()}"
        with gr.Row(elem_classes=["refonly-styles-line"]):
            codes.append(gr.Textbox(label=f"Style {letter}", value="", placeholder="Code or name", max_lines=1, elem_id=f"{name}-code", scale=4, min_width=160))
            current.append(gr.Button("Current", size="sm", elem_id=f"{name}-current", elem_classes=["refonly-small"], scale=1, min_width=90))
    said = gr.HTML("", elem_id="refonly-styles-compare-said", elem_classes=["refonly-said"])
    work = _work("refonly-styles-compare", "Compare")
    with gr.Row(elem_id="refonly-styles-compare-pictures"):
        for letter in "AB":
            with gr.Column(min_width=140):
                pictures.append(shim.picture_view(f"Style {letter}", f"refonly-styles-compare-{letter.lower()}-picture", visible=False))
    return ComparePart(codes, current, said, work, pictures)
