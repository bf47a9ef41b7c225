"""Typed settings: one dataclass per feature drives the page, the API, the infotext, X/Y/Z and the schema.

A feature's settings are a frozen dataclass whose fields are made with `setting()`. What a widget, a parser or a schema needs (label, help,
range, choices, the name in the infotext) is said once, there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from lib_refonly.errors import BadSettings

_KEY = "refonly"
S = TypeVar("S")


@dataclasses.dataclass(frozen=True)
class Spec:
    """What the outside needs to know of one setting. `infotext` is the key in the PNG's parameters ("" = not written)."""

    label: str
    help: str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] | None = None
    infotext: str = ""


def setting(default: Any, label: str, help: str, **spec: Any) -> Any:
    """A dataclass field with its `Spec`. `spec` takes minimum, maximum, step, choices and infotext."""
    return dataclasses.field(default=default, metadata={_KEY: Spec(label, help, **spec)})


def like(other: type, name: str) -> Any:
    """A field with the default and the `Spec` of another class' field: the same thing, wherever it is set."""
    return next(setting(f.default, **vars(f.metadata[_KEY])) for f in dataclasses.fields(other) if f.name == name)


def specs(settings: type | object) -> dict[str, Spec]:
    """Field name -> `Spec`, in the order of the fields."""
    return {f.name: f.metadata[_KEY] for f in dataclasses.fields(settings) if _KEY in f.metadata}  # type: ignore[arg-type]


def check(settings: Any) -> None:
    """Refuse values of the wrong type, outside their range, or not among the choices. Call it from `__post_init__`.

    Raises:
        BadSettings: names the label, the value and what is allowed.
    """
    hints = get_type_hints(type(settings))
    for name, spec in specs(settings).items():
        _check_one(getattr(settings, name), hints[name], spec)


def _check_one(value: Any, hint: Any, spec: Spec) -> None:
    if hint in (int, float):
        if isinstance(value, bool) or not isinstance(value, int | float) or (hint is int and isinstance(value, float) and not value.is_integer()):
            raise BadSettings(f"{spec.label}: {value!r} is not a {'whole ' if hint is int else ''}number.")
        if value != value or not (spec.minimum is None or value >= spec.minimum) or not (spec.maximum is None or value <= spec.maximum):
            raise BadSettings(f"{spec.label}: {value} is outside {spec.minimum:g} to {spec.maximum:g}.")
    elif not isinstance(value, hint):
        raise BadSettings(f"{spec.label}: {value!r} is not {hint.__name__}.")
    if spec.choices is not None and value not in spec.choices:
        raise BadSettings(f"{spec.label}: {value!r} is none of {', '.join(spec.choices)}.")


def from_mapping(cls: type[S], values: Mapping[str, Any]) -> S:
    """Build settings from JSON, an infotext or widgets: unknown names are refused, numbers and booleans given as text are read.

    Raises:
        BadSettings: an unknown name or a value that does not fit.
    """
    hints, known = get_type_hints(cls), specs(cls)
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise BadSettings(f"Unknown setting{'s' if len(unknown) > 1 else ''}: {', '.join(unknown)}. Known: {', '.join(known)}.")
    return cls(**{name: _read(value, hints[name], known[name]) for name, value in values.items()})


def _read(value: Any, hint: Any, spec: Spec) -> Any:
    try:
        if hint is bool and isinstance(value, str):
            return {"true": True, "false": False}[value.lower()]
        if hint is int and isinstance(value, str | float):
            return int(value) if isinstance(value, str) or value.is_integer() else value
        if hint is float and isinstance(value, str | int) and not isinstance(value, bool):
            return float(value)
    except (KeyError, ValueError):
        raise BadSettings(f"{spec.label}: {value!r} is not {'true or false' if hint is bool else 'a number'}.") from None
    return value


def schema(cls: type) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of one settings class."""
    hints, properties = get_type_hints(cls), {}
    defaults = {f.name: f.default for f in dataclasses.fields(cls)}
    kinds = {int: "integer", float: "number", bool: "boolean", str: "string"}
    for name, spec in specs(cls).items():
        one = {"type": kinds[hints[name]], "title": spec.label, "description": spec.help, "default": defaults[name]}
        limits = {
            "minimum": spec.minimum,
            "maximum": spec.maximum,
            "multipleOf": spec.step if hints[name] is int else None,
            "enum": spec.choices,
        }
        properties[name] = one | {k: list(v) if k == "enum" else v for k, v in limits.items() if v is not None}
    return {"type": "object", "title": cls.__name__, "properties": properties, "additionalProperties": False}
