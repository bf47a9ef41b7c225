"""The Train page's settings as a file. What is in it, and how it runs on the command line, is in `training.kohya.saved`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lib_refonly.errors import BadSettings
from lib_refonly.training.kohya import saved
from lib_refonly.training.kohya.saved import Saved
from lib_refonly.training.kohya.settings import KohyaSettings
from lib_refonly.ui.training_fields import Chosen


def written(chosen: Chosen, settings: KohyaSettings, folder: str = "", word: str = "") -> str:
    """The file. Raises: BadSettings: what the goal needs is missing, or does not fit."""
    return saved.written(Saved(chosen.task, chosen.goal, settings, folder.strip().strip('"'), " ".join(word.split())))


def read(path: Path, chosen: Chosen) -> tuple[Chosen, Saved]:
    """What a file holds; one that does not say its goal is read as what is chosen.

    Raises:
        BadSettings: it is no TOML, too large, or has keys or values that the goal's script does not take.
    """
    try:
        told = saved.read(path, chosen.task, chosen.goal)
    except BadSettings:
        if not chosen.goal and not saved.is_saved(path):
            raise BadSettings("Choose above what is to be trained, then load its settings.") from None
        raise
    return replace(chosen, task=told.task, goal=told.goal), told
