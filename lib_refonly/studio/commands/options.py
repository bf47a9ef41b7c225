"""Command-line options made from a settings class: said once, in its specs."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from lib_refonly.settings import Spec, from_mapping, specs

S = TypeVar("S")
_DEST = "setting_"  # a field may have the name of another argument of the command


def add_settings(parser: argparse._ArgumentGroup, cls: type, aliases: Mapping[str, str]) -> None:
    """One option a field: `line_block` becomes `--line-block`. `aliases` gives a field a further option name."""
    hints, defaults = get_type_hints(cls), {f.name: f.default for f in dataclasses.fields(cls)}
    for name, spec in specs(cls).items():
        flags = ["--" + name.replace("_", "-")] + ([aliases[name]] if name in aliases else [])
        words = {"help": _help(spec, defaults[name]), "dest": _DEST + name, "default": None}
        if hints[name] is bool:
            parser.add_argument(*flags, action=argparse.BooleanOptionalAction, **words)
        elif spec.choices is not None:
            parser.add_argument(*flags, choices=spec.choices, **words)
        else:
            parser.add_argument(*flags, metavar={int: "N", float: "X"}.get(hints[name], "TEXT"), **words)


def read_settings(cls: type[S], arguments: argparse.Namespace) -> S:
    """The settings that the options say; what was not given keeps its default.

    Raises:
        BadSettings: a value that is no number, or outside its range.
    """
    given: dict[str, Any] = {name: getattr(arguments, _DEST + name) for name in specs(cls)}
    return from_mapping(cls, {name: value for name, value in given.items() if value is not None})


def _help(spec: Spec, default: Any) -> str:
    limits = f"{_number(spec.minimum)} to {_number(spec.maximum)}, " if spec.minimum is not None and spec.maximum is not None else ""
    shown = _number(default) if isinstance(default, int | float) and not isinstance(default, bool) else str(default)
    return f"{spec.help} ({limits}default {shown})".replace("%", "%%")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"
