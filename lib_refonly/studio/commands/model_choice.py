"""The model that a command names: one of the list, or a place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib_refonly.models.registry import ModelStore

HELP = "a name from `studio.py models`, a model folder, or a converted .safetensors"


def read_model(text: str) -> tuple[str, Path | None]:
    """(name, None) for a model of the list. (name, path) for a folder or a file: a text with a slash, or one that ends in .safetensors."""
    if not (text.endswith(".safetensors") or "/" in text or os.sep in text or text in (".", "..")):
        return text, None
    path = Path(text).expanduser().resolve()
    return (path.stem if path.suffix == ".safetensors" else path.name), path


def store_with(place: Path | None) -> ModelStore:
    """The model list, with what lies at `place` added.

    Raises:
        BadModel: there is no RefOnly model.
    """
    from lib_refonly.models.registry import ModelStore

    store = ModelStore()
    if place is not None:
        store.point_to(place)
    return store
