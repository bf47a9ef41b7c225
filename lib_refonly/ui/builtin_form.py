"""The Train page's fields for the built-in small model, which this program trains itself: what is laid out, and the file that they are saved in."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import gradio as gr

from lib_refonly.errors import BadSettings
from lib_refonly.settings import specs
from lib_refonly.training import builtin_settings as builtin
from lib_refonly.training.builtin_settings import TASKS, BuiltinSettings
from lib_refonly.training.kohya import toml_text
from lib_refonly.ui import markup
from lib_refonly.ui.settings_form import SettingsForm, component

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FAMILY, TITLE = "builtin", "The built-in small model"
PREFIX = "refonly-train-small"
FIRST_TASK = "character"
_HINT = "It comes with this program and needs no graphics card: a few minutes on a processor. It paints simple drawings, and is there to try things out."
_BASIC = (("name", "steps"), ("rank", "alpha"), ("vectors", "begin"), ("prompts",), ("sample_every", "save_every"))
_MORE = ("size", "batch", "lr", "seed", "whole", "mirror", "drop_text", "thin", "noisy", "offset")
_MARK = "# refonly-small: "
_LARGEST = 1 << 20
_WIDEST_SLIDER, _HALF = 1000, 260


class BuiltinForm(SettingsForm):
    """One component a field. The trigger word's is hidden: it stands with the pictures."""

    def __init__(self) -> None:
        super().__init__(BuiltinSettings, PREFIX)
        here = builtin.fields_of(TASKS[FIRST_TASK][0])
        with gr.Column(visible=False) as self.box:
            gr.HTML(markup.hint(_HINT))
            for names in _BASIC:
                with gr.Row():
                    for name in names:
                        self._lay(name, name in here)
            with gr.Accordion("More settings", open=False, elem_id=f"{PREFIX}-more"), gr.Row():
                for name in _MORE:
                    self._lay(name, name in here)
            self._lay("word", False)

    def _lay(self, name: str, visible: bool) -> None:
        spec = specs(BuiltinSettings)[name]
        if spec.maximum is not None and spec.maximum > _WIDEST_SLIDER:  # a box, whose numbers are checked by the settings, in words
            spec = replace(spec, minimum=None, maximum=None, step=None)
        value = getattr(TASKS[FIRST_TASK][1], name)
        if name == "prompts":
            made: Any = gr.Textbox(value, label=spec.label, info=spec.help, lines=2, elem_id=f"{PREFIX}-prompts")
        else:
            made = component(name, spec, get_type_hints(BuiltinSettings)[name], value, PREFIX)
        made.visible, made.min_width = visible, _HALF
        self.take(name, made)

    def updates(self, task: str, values: Sequence[Any], update: Any) -> dict[Any, Any]:
        """The components with these values, of which the task's are shown."""
        here = builtin.fields_of(TASKS[task][0])
        return {self[name]: update(value=value, visible=name in here) for name, value in zip(self.fields, values, strict=True)}

    def known(self, task: str, values: Sequence[Any], word: str) -> BuiltinSettings:
        """What the components hold, of the fields that the task has, with the trigger word. Raises: BadSettings."""
        kind, first = TASKS[task]
        here = builtin.fields_of(kind)
        shown = [value if name in here else getattr(first, name) for name, value in zip(self.fields, values, strict=True)]
        return builtin.worded(kind, self.read(shown), word)


@dataclass(frozen=True)
class Loaded:
    """What a file holds: the task, the settings, and the folder of the pictures."""

    task: str
    settings: BuiltinSettings
    folder: str


def written(task: str, settings: BuiltinSettings, folder: str) -> str:
    """A file of `studio.py train`, with the task in a comment. Raises: BadSettings: no folder is given, or a setting can't be written."""
    given = folder.strip().strip('"')
    if not given:
        raise BadSettings("Give the pictures' folder in step 1 first: the file names it.")
    return f"{_MARK}{json.dumps({'task': task})}\n{toml_text.written(builtin.tables(TASKS[task][0], settings, Path(given)))}"


def read(path: Path) -> Loaded | None:
    """What `written` wrote; None: this is no file of `studio.py train`.

    Raises:
        BadSettings: it trains something else, or has what the page has no field for.
    """
    try:
        text = path.read_bytes().decode("utf-8") if path.stat().st_size <= _LARGEST else ""
        tables = tomllib.loads(text)
    except (OSError, ValueError):  # which is said where sd-scripts' files are read
        return None
    if not isinstance(tables.get("run"), dict):
        return None
    kind, settings = builtin.read(tables)
    fitting = [task for task, (made, _) in TASKS.items() if made == kind]
    task = _task(text)
    return Loaded(task if task in fitting else fitting[0], settings, str(tables["run"].get("data", "")))


def _task(text: str) -> str:
    """That of the comment; "" where it says none: it may be anybody's file."""
    line = text.partition("\n")[0]
    try:
        told = json.loads(line.removeprefix(_MARK)) if line.startswith(_MARK) else {}
    except (ValueError, RecursionError):
        return ""
    return str(told.get("task", "")) if isinstance(told, dict) else ""
