"""Axes for the host's X/Y/Z plot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_type_hints

from lib_refonly.refonly.panel import PanelSettings, UnitSettings
from lib_refonly.settings import from_mapping, specs
from lib_refonly.stylecode.settings import StyleSettings
from lib_refonly.ui.request import PanelRequest

PREFIX = "[RefOnly] "
_AXES = ("strength", "line_strength", "line_start", "line_end", "model", "preprocessor", "line_c", "fitting", "passes")
_STYLE, _STYLE_AXES = "style ", ("code", "strength", "start", "end")
_ATTRIBUTE = "refonly_axes"


def overridden(p: Any, request: PanelRequest) -> PanelRequest:
    """The request with what the plot's present cell says. "weight" is the first unit's.

    Raises:
        BadSettings: a value out of range.
    """
    told = dict(getattr(p, _ATTRIBUTE, {}))
    weight = told.pop("weight", None)
    style = {name: told.pop(_STYLE + name) for name in _STYLE_AXES if _STYLE + name in told}
    if style:  # an axis asks for a style, whether the panel's is on or not
        request = replace(request, style=from_mapping(StyleSettings, vars(request.style) | style | {"enabled": True}))
    if told:
        kept = {name: getattr(request.settings, name) for name in specs(PanelSettings)}
        request = replace(request, settings=from_mapping(PanelSettings, kept | told))
    if weight is not None and request.units:
        first, *rest = request.units
        settings = from_mapping(UnitSettings, vars(first.settings) | {"weight": weight})
        request = replace(request, units=(replace(first, settings=settings), *rest))
    return request


def asks(p: Any) -> bool:
    """Whether the plot's present cell asks for a style, which needs nothing else."""
    return any(name.startswith(_STYLE) for name in getattr(p, _ATTRIBUTE, {}))


def add_axes() -> None:
    """Once, also when the host reloads its scripts."""
    from modules import scripts

    for data in scripts.scripts_data:
        if data.script_class.__module__ in ("xyz_grid.py", "scripts.xyz_grid") and hasattr(data.module, "axis_options"):
            options = data.module.axis_options
            if not any(option.label.startswith(PREFIX) for option in options):
                options.extend(_options(data.module))
            return


def _options(module: Any) -> list[Any]:
    known, hints = specs(PanelSettings), get_type_hints(PanelSettings)
    made = []
    for name in _AXES:
        choices = known[name].choices
        extra = {"choices": lambda values=choices: list(values)} if choices else {}
        made.append(module.AxisOption(PREFIX + known[name].label, hints[name], _apply(name), **extra))
    for name in _STYLE_AXES:
        made.append(module.AxisOption(PREFIX + specs(StyleSettings)[name].label, get_type_hints(StyleSettings)[name], _apply(_STYLE + name)))
    return [*made, module.AxisOption(f"{PREFIX}{specs(UnitSettings)['weight'].label} 1", float, _apply("weight"))]


def _apply(name: str) -> Callable[[Any, Any, Any], None]:
    def apply(p: Any, value: Any, _: Any) -> None:
        setattr(p, _ATTRIBUTE, getattr(p, _ATTRIBUTE, {}) | {name: value})

    return apply
