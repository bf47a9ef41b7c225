"""The states that a training by sd-scripts goes on from: folders NAME-...-state in its results. No torch."""

from __future__ import annotations

import json
from pathlib import Path

STEP_FILE = "refonly.json"
"""In each whole state: the step that it was saved after. A state without it was cut off, or is not ours."""
KEPT = 2
"""Steps whose states are kept: when all steps are trained and the model is not yet written, there has to be one to train the rest from."""


def whole(folder: Path) -> list[tuple[int, Path]]:
    """(step, folder) of each state in `folder` that was saved whole, the newest first."""
    found = []
    for path in folder.glob("*-state"):
        try:
            if path.is_symlink():
                continue
            step = int(json.loads((path / STEP_FILE).read_text(encoding="utf-8"))["step"])
            found.append((step, path.stat().st_mtime_ns, -len(path.name), path))  # written at one moment, the last one has the short name
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return [(step, path) for step, _, _, path in sorted(found, reverse=True)]


def spare(folder: Path) -> list[Path]:
    """The whole states that are not needed: all but the newest one of each of the last two steps."""
    kept: dict[int, Path] = {}
    for step, path in whole(folder):
        kept.setdefault(step, path)
    needed = list(kept.values())[:KEPT]
    return [path for _, path in whole(folder) if path not in needed]
