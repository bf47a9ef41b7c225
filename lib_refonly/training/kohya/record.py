"""Which options sd-scripts' parsers have, as JSON: names, types, choices and defaults.

By the Python of sd-scripts' own environment, with PYTHONPATH holding this project:

    python -m lib_refonly.training.kohya.record SD_SCRIPTS_FOLDER [OUT.json]

Without OUT it prints. `options.json` is what it wrote for the version that this project was tried with.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lib_refonly.training.kohya.goals import SCRIPTS

_NO_VALUE = ("store_true", "store_false")


def option(action: argparse.Action) -> dict[str, Any]:
    """What can be known of one option of a parser. Its help text is not taken along."""
    kind = {"_StoreTrueAction": "store_true", "_StoreFalseAction": "store_false"}.get(type(action).__name__, "store")
    default = str(action.default) if isinstance(action.default, Path) else action.default
    named = getattr(action.type, "__name__", "str") if action.type is not None else "str"
    told = {
        "type": "bool" if kind in _NO_VALUE else named.lower().replace("path", "str"),
        "action": kind,
        "nargs": action.nargs if kind == "store" else None,
        "choices": None if action.choices is None else list(action.choices),
        "default": default,
        "required": action.required or None,
    }
    return {name: value for name, value in told.items() if value is not None}


def of_parser(parser: argparse.ArgumentParser) -> dict[str, dict[str, Any]]:
    """Its options by their name in a configuration file, without --help."""
    return {action.dest: option(action) for action in parser._actions if not isinstance(action, argparse._HelpAction)}


def of_dataset(sanitizer: Any) -> dict[str, dict[str, str]]:
    """What a dataset file may hold: the keys of `[general]`, `[[datasets]]` and `[[datasets.subsets]]` for folders of pictures, with their types."""
    dataset, subset = sanitizer.db_dataset_schema, sanitizer.db_subset_schema
    return {
        "general": {str(key): _kind(value) for key, value in sanitizer.general_schema.items()},
        "datasets": {str(key): _kind(value) for key, value in dataset.items()},
        "subsets": {str(key): _kind(value) for key, value in subset.items()},
    }


def _kind(validator: Any) -> str:
    if isinstance(validator, type):
        return validator.__name__
    if float in getattr(validator, "validators", ()):
        return "float"
    return "list" if isinstance(validator, list) or callable(validator) else "any"


def of_folder(folder: Path) -> dict[str, Any]:
    """All that is known of one sd-scripts. Imports its scripts, so it needs all their packages.

    Raises:
        ImportError: a package is missing, or the folder holds no sd-scripts.
    """
    sys.path.insert(0, str(folder))
    scripts = {name: of_parser(importlib.import_module(name).setup_parser()) for name in SCRIPTS}
    sanitizer = importlib.import_module("library.config_util").ConfigSanitizer
    told = {name: of_dataset(sanitizer(True, False, False, name != "train_textual_inversion")) for name in ("train_network", "train_textual_inversion")}
    return {"version": _version(folder), "dataset": told["train_network"], "dataset_embedding": told["train_textual_inversion"], "scripts": scripts}


def _version(folder: Path) -> str:
    command = ["git", "-C", str(folder), "describe", "--tags", "--always"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        return "unknown"


def written(told: dict[str, Any]) -> str:
    """JSON with one option a line; options that several scripts have alike stand there once, with the scripts' names."""
    rows: dict[str, list[str]] = {}
    for script, options in told["scripts"].items():
        for name, spec in options.items():
            rows.setdefault(json.dumps({"name": name} | spec, sort_keys=True), []).append(script)
    lines = [json.dumps(json.loads(row) | {"in": scripts}) for row, scripts in sorted(rows.items())]
    head = {key: value for key, value in told.items() if key != "scripts"}
    parts = [f'"{key}": {json.dumps(value)}' for key, value in head.items()]
    return "{\n" + ",\n".join([*parts, '"options": [\n' + ",\n".join(lines) + "\n]"]) + "\n}\n"


def main(argv: list[str]) -> None:
    text = written(of_folder(Path(argv[0]).resolve()))
    if len(argv) > 1:
        Path(argv[1]).write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
