"""Writing TOML: strings, numbers, booleans, lists of them, tables and lists of tables. `tomllib` reads back what was given."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from lib_refonly.errors import BadSettings

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def written(table: Mapping[str, Any]) -> str:
    """A whole file. Plain values come first, then tables, as TOML needs it.

    Raises:
        BadSettings: something that TOML has no word for, such as None or half of a surrogate pair.
    """
    return "\n".join(_table(table, ())) + "\n"


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {name: value for name, value in table.items() if not _is_table(value) and not _is_tables(value)}
    lines = [f"{key(name)} = {value_text(value)}" for name, value in plain.items()]
    for name, value in table.items():
        here = (*path, name)
        head = ".".join(map(key, here))
        if _is_table(value):
            lines += ["", f"[{head}]", *_table(value, here)]
        elif _is_tables(value):
            for one in value:
                lines += ["", f"[[{head}]]", *_table(one, here)]
    return lines


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(one, Mapping) for one in value)


def key(name: str) -> str:
    """A name, in quotes where it needs them."""
    return name if _BARE.fullmatch(name) else text(name)


def value_text(value: Any) -> str:
    """One value, on one line. Raises: BadSettings."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else {True: "nan", False: "inf" if value > 0 else "-inf"}[math.isnan(value)]
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    if isinstance(value, Mapping):  # within a list that is not of tables alone
        return "{" + ", ".join(f"{key(name)} = {value_text(one)}" for name, one in value.items()) + "}"
    raise BadSettings(f"{value!r} can't be written into a settings file.")


def text(value: str) -> str:
    """A string in quotes: one line, everything that is no printable character escaped. Raises: BadSettings."""
    return '"' + "".join(map(_character, value)) + '"'


def _character(one: str) -> str:
    code = ord(one)
    if one in _SHORT:
        return _SHORT[one]
    if 0xD800 <= code <= 0xDFFF:
        raise BadSettings("A setting holds a broken character (half of a pair). Type the text again.")
    if one.isprintable():
        return one
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
