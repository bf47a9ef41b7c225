"""Presets of the panel: one JSON file, written whole or not at all. A damaged one is kept aside."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadSettings, PainterError
from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.refonly.panel import PanelSettings
from lib_refonly.settings import from_mapping

_LONGEST = 80


class Presets:
    """Names and settings. The file is read anew each time: several WebUIs may use it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> list[str]:
        return sorted(self._read(), key=str.lower)

    def get(self, name: str) -> dict[str, Any]:
        """The settings of a preset; those that this version does not know, or that do not fit, are left out."""
        kept = {}
        for field, value in self._read().get(name, {}).items():
            try:
                kept[field] = getattr(from_mapping(PanelSettings, {field: value}), field)
            except PainterError:
                continue
        return kept

    def save(self, name: str, values: Mapping[str, Any]) -> None:
        """Raises: BadSettings: no name, or values that do not fit. CannotWrite: disk full, no permission."""
        name = name.strip()
        if not 0 < len(name) <= _LONGEST:
            raise BadSettings(f"Give the preset a name of up to {_LONGEST} letters.")
        from_mapping(PanelSettings, values)
        self._write(self._read() | {name: dict(values)})

    def delete(self, name: str) -> None:
        """Raises: CannotWrite: disk full, no permission."""
        self._write({other: values for other, values in self._read().items() if other != name})

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            content = json.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError):
            content = None
        if isinstance(content, dict) and all(isinstance(values, dict) for values in content.values()):
            return content
        aside = self.path.with_suffix(".damaged.json")
        if self.path.is_file() and not aside.exists():
            os.replace(self.path, aside)
        return {}

    def _write(self, presets: Mapping[str, Mapping[str, Any]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(presets, indent=1, ensure_ascii=False).encode())
