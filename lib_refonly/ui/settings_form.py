"""From a settings class to its form: one function turns one `Spec` into one component, one table says where each field goes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_type_hints

import gradio as gr

from lib_refonly.settings import Spec, from_mapping, specs
from lib_refonly.ui.shim import supported

_FEW = 4  # choices that fit as radio buttons
_NARROWEST = 210  # pixels; two settings share a line where there is room for both


def component(name: str, spec: Spec, hint: type, default: Any, prefix: str) -> Any:
    """The widget for one setting. `elem_id` is `prefix-name`; the help becomes the info line."""
    common = {"label": spec.label, "info": spec.help, "value": default, "elem_id": f"{prefix}-{name.replace('_', '-')}", "min_width": _NARROWEST}
    if hint is bool:
        return gr.Checkbox(**common)
    if spec.choices is not None:
        few = len(spec.choices) <= _FEW
        return (gr.Radio if few else gr.Dropdown)(choices=list(spec.choices), **common)
    if hint in (int, float) and None not in (spec.minimum, spec.maximum, spec.step):
        reset = supported(gr.Slider.__init__, buttons=["reset"])
        return gr.Slider(minimum=spec.minimum or 0, maximum=spec.maximum or 0, step=spec.step, **reset, **common)
    if hint in (int, float):
        return gr.Number(precision=0 if hint is int else None, minimum=spec.minimum, maximum=spec.maximum, **common)
    return gr.Textbox(**common)


class SettingsForm:
    """The components of one settings class, by field name, in the order of the fields once all are made.

    The layout calls `make` for a few fields at a time, wherever they belong; events use `inputs` and `read`.
    """

    def __init__(self, settings: type, prefix: str) -> None:
        self.settings = settings
        self.prefix = prefix
        self._made: dict[str, Any] = {}
        self._specs = specs(settings)
        self._hints = get_type_hints(settings)
        self._defaults = {f.name: f.default for f in dataclasses.fields(settings)}

    def make(self, *names: str) -> list[Any]:
        """Create the widgets of these fields here, in the layout that is open."""
        for name in names:
            self._made[name] = component(name, self._specs[name], self._hints[name], self._defaults[name], self.prefix)
        return [self._made[name] for name in names]

    def take(self, name: str, component: Any) -> None:
        """Use a widget that the layout made itself: one whose choices are not known beforehand."""
        self._made[name] = component

    @property
    def fields(self) -> list[str]:
        """The names of all settings, in their order."""
        return list(self._specs)

    def __getitem__(self, name: str) -> Any:
        return self._made[name]

    @property
    def missing(self) -> list[str]:
        """Fields that no layout has made yet."""
        return [name for name in self._specs if name not in self._made]

    @property
    def inputs(self) -> list[Any]:
        """Every component, in the order of the fields. All must have been made."""
        return [self._made[name] for name in self._specs]

    def read(self, values: Sequence[Any]) -> Any:
        """What the components hold -> settings.

        Raises:
            BadSettings: a value out of range, or an emptied number field.
        """
        return from_mapping(self.settings, {name: self._default_if_empty(name, v) for name, v in zip(self._specs, values, strict=True)})

    def write(self, settings: Any) -> list[Any]:
        """Settings -> the value of each component, in the order of `inputs`."""
        return [getattr(settings, name) for name in self._specs]

    def write_known(self, values: Mapping[str, Any], current: Sequence[Any]) -> list[Any]:
        """Like `write`, for a part of the fields; the others keep their `current` value. Checked before anything is shown.

        Raises:
            BadSettings: a value that does not fit.
        """
        mixed = dict(zip(self._specs, current, strict=True)) | dict(values)
        return self.write(self.read([mixed[name] for name in self._specs]))

    def elem_ids(self, names: Iterable[str]) -> list[str]:
        """The element ids of these fields, for scripts and tests."""
        return [self._made[name].elem_id for name in names]

    def _default_if_empty(self, name: str, value: Any) -> Any:
        return self._defaults[name] if value is None else value
