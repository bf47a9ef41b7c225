"""Settings as TOML, as sd-scripts reads it. What sd-scripts has no word for (the task, and sample prompts, which it wants in a file) is in a comment."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

from lib_refonly.errors import BadSettings
from lib_refonly.training.kohya import config, toml_text
from lib_refonly.training.kohya.goals import GOALS
from lib_refonly.training.kohya.settings import KohyaSettings
from lib_refonly.ui.training_fields import TASKS, Chosen

_MARK = "# refonly: "
_LARGEST = 1 << 20
_LONGEST_PROMPTS = 20_000


def written(chosen: Chosen, settings: KohyaSettings) -> str:
    """The file. Raises: BadSettings: what the goal needs is missing, or does not fit."""
    about = {"task": chosen.task, "goal": chosen.goal, "sample_prompts": settings.sample_prompts}
    values = config.config(chosen.aim, replace(settings, sample_prompts=""), Path(config.OUT))
    return f"{_MARK}{json.dumps(about)}\n{toml_text.written(values)}"


def read(path: Path, chosen: Chosen) -> tuple[Chosen, KohyaSettings]:
    """What a file holds; one that does not say its goal is read as what is chosen.

    Raises:
        BadSettings: it is no TOML, too large, or has keys or values that the goal's script does not take.
    """
    try:
        data = path.read_bytes() if path.stat().st_size <= _LARGEST else b""
    except OSError as error:
        raise BadSettings(f"The file can't be read: {error.strerror or error}.") from error
    if not data:
        raise BadSettings("This file is empty, or too large for settings.")
    task, goal, prompts = _about(data)
    told = replace(chosen, task=task, goal=goal) if goal else chosen
    if not told.goal:
        raise BadSettings("Choose above what is to be trained, then load its settings.")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / config.CONFIG).write_bytes(data)
        settings = config.read(Path(folder), told.goal)
    return told, replace(settings, sample_prompts=prompts or settings.sample_prompts)


def _about(data: bytes) -> tuple[str, str, str]:
    """Task, goal and sample prompts of the comment; "" for what it does not say, or says wrongly: it may be anybody's file."""
    line = data.split(b"\n", 1)[0].decode("utf-8", "replace")
    try:
        told = json.loads(line.removeprefix(_MARK)) if line.startswith(_MARK) else {}
    except (ValueError, RecursionError):
        told = {}
    told = told if isinstance(told, dict) else {}
    task, goal, prompts = (told.get(name) if isinstance(told.get(name), str) else "" for name in ("task", "goal", "sample_prompts"))
    known = task in TASKS and goal in GOALS
    return (str(task), str(goal), str(prompts)[:_LONGEST_PROMPTS]) if known else ("", "", "")
