"""The Train page's goals that this program trains itself: the painter's RefOnly and stylecode models, and recipes. `training_own_start` starts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_type_hints

import gradio as gr

from lib_refonly.settings import specs
from lib_refonly.training.own import recipe
from lib_refonly.ui import markup, shim
from lib_refonly.ui.settings_form import SettingsForm, component

REFONLY, STYLECODE = "own-refonly", "own-stylecode"
TASKS = {REFONLY: "My RefOnly model", STYLECODE: "My stylecode model"}
_PREFIX = "refonly-train"
_LINES = {
    REFONLY: (("start", "form"), ("title", "steps"), ("batch", "size"), ("lr", "cut")),
    STYLECODE: (("start", "title"), ("steps", "batch"), ("size", "lr")),
}
_ADVANCED = {
    REFONLY: (("low", "high"), ("per_picture", "smallest"), ("save_every", "sample_every"), ("train_encoder",)),
    STYLECODE: (("save_every", "sample_every"), ("train_encoder",)),
}
_HINTS = {
    REFONLY: "The folder of step 1 shows the same characters several times, in other poses; which pictures belong together is found by itself. A set that was "
    "made before (below, or by studio.py dataset build) can be given as well. A caption, NAME.txt beside a picture, is of use to adapters alone.",
    STYLECODE: "The folder of step 1 has one subfolder for each style, with 2 or more pictures each and, if you like, their captions beside them. "
    "Styles differ in a subfolder in nothing; what the pictures show should differ.",
}
_WIDEST_SLIDER = 1024
_HALF = 260


class OwnForm(SettingsForm):
    """The fields of one of the two goals; what there is to start from is looked up when the goal is chosen."""

    def __init__(self, task: str) -> None:
        self.task = task
        super().__init__(recipe.OwnRefOnly if task == REFONLY else recipe.OwnStyle, f"{_PREFIX}-{task}")

    def lay(self) -> None:
        """All fields, and what the pictures have to be."""
        gr.HTML(markup.hint(_HINTS[self.task]))
        self._lay(_LINES[self.task])
        with gr.Accordion("Advanced", open=False, elem_id=f"{self.prefix}-advanced"):
            self._lay(_ADVANCED[self.task])

    def _lay(self, lines: Sequence[Sequence[str]]) -> None:
        known, hints = specs(self.settings), get_type_hints(self.settings)
        for names in lines:
            with gr.Row():
                for name in names:
                    spec = known[name]
                    if name == "start":
                        first, more = str(self._defaults[name]), {"info": spec.help, "min_width": _HALF}
                        box = shim.titled_dropdown(self.starts(), first, spec.label, f"{self.prefix}-start", **more)
                    else:
                        wide = spec.maximum is None or spec.maximum > _WIDEST_SLIDER or spec.step is None
                        spec = replace(spec, minimum=None, maximum=None, step=None) if wide else spec  # a box; the settings check its number, in words
                        box = component(name, spec, hints[name], self._defaults[name], self.prefix)
                        box.min_width = _HALF
                    self.take(name, box)

    def starts(self) -> list[tuple[str, str]]:
        """(title, name) of the models that it can start from."""
        return recipe.refonly_starts() if self.task == REFONLY else recipe.style_starts()


@dataclass
class OwnPart:
    """`box` holds it all; of `boxes` that of the chosen goal is shown. `only`: the button that makes the set alone."""

    box: Any
    recipe: Any
    boxes: dict[str, Any]
    forms: dict[str, OwnForm]
    only: Any

    @property
    def inputs(self) -> list[Any]:
        """The fields of both goals, one after the other."""
        return [box for form in self.forms.values() for box in form.inputs]

    @property
    def shown(self) -> list[Any]:
        """What `shape` changes."""
        return [*self.boxes.values(), *(form["start"] for form in self.forms.values())]

    def shape(self, task: str) -> dict[Any, Any]:
        """The page for a goal; "" for none of them."""
        made = {box: shim.update(visible=name == task) for name, box in self.boxes.items()}
        form = self.forms.get(task)
        return made | ({form["start"]: shim.titled_choices(form["start"], form.starts())} if form else {})

    def known(self, task: str, values: Sequence[Any]) -> recipe.OwnModel:
        """What the fields of a goal hold; `values` are those of `inputs`. Raises: BadSettings."""
        at = 0
        for name, form in self.forms.items():
            if name == task:
                return form.read(values[at : at + len(form.fields)])
            at += len(form.fields)
        raise KeyError(task)


def build_own_part(other: str) -> OwnPart:
    """Lay it out. other: the task of recipes."""
    boxes, forms = {}, {name: OwnForm(name) for name in TASKS}
    only = None
    with gr.Column(visible=False) as box:
        for name, form in forms.items():
            with gr.Column(visible=False, elem_id=f"{_PREFIX}-{name}") as boxes[name]:
                form.lay()
                if name == REFONLY:
                    only = gr.Button("Make the set only", elem_id=f"{_PREFIX}-only")
                    gr.HTML(markup.hint("It shows how many pictures are kept, why others go, and which are pairs, and trains nothing. It is a job, too."))
        with gr.Column(visible=False) as boxes[other]:
            info = "The path of a .toml file as those in lib_refonly/training/recipes. It is trained by this program itself, without sd-scripts."
            given = gr.Textbox(label="Recipe", info=info, max_lines=1, elem_id=f"{_PREFIX}-recipe")
    return OwnPart(box, given, boxes, forms, only)
