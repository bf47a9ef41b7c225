"""The colour command's arguments, read and checked."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from lib_refonly.errors import BadPicture, BadSettings
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.studio.commands.model_choice import read_model
from lib_refonly.studio.commands.options import read_settings
from lib_refonly.studio.commands.pairing import Pair


@dataclass(frozen=True)
class Task:
    """What is to be done to every drawing."""

    settings: RefOnlySettings
    model: str
    model_place: Path | None
    also: tuple[tuple[Path, float], ...]
    reference_weight: float
    layer: bool
    resume: bool

    def references(self, pair: Pair) -> list[tuple[Path, float]]:
        """Every reference of one drawing with its weight."""
        return [(pair.reference, self.reference_weight), *self.also]


def read_task(arguments: argparse.Namespace) -> Task:
    """Raises: BadSettings, BadPicture (a further reference that is not there)."""
    settings = read_settings(RefOnlySettings, arguments)
    also = tuple(read_weighted(text) for text in arguments.also_reference)
    for path, _ in also:
        if not path.is_file():
            raise BadPicture(f"{path}: there is no such picture (--also-reference).")
    name, place = read_model(arguments.model)
    return Task(settings, name, place, also, arguments.reference_weight, arguments.layer, arguments.resume)


def read_weighted(text: str) -> tuple[Path, float]:
    """'FILE:WEIGHT' or 'FILE'. A file whose own name ends like a weight is taken for the file.

    Raises:
        BadSettings: a weight below 0 or not finite.
    """
    name, colon, tail = text.rpartition(":")
    if not colon or Path(text).exists():
        return Path(text), 1.0
    try:
        weight = float(tail)
    except ValueError:  # a colon of the file's own, as in C:\face.png
        return Path(text), 1.0
    if not 0 <= weight < float("inf"):
        raise BadSettings(f"--also-reference {text}: the weight has to be 0 or more.")
    return Path(name), weight
