"""What can be chosen in the panel, what of it fits the loaded checkpoint, and the one model that is kept in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadModel
from lib_refonly.models.registry import ModelStore
from lib_refonly.refonly.hosted import HostedModel, HostedParts, load_hosted, read_hosted
from lib_refonly.webui.host import Checkpoint


@dataclass(frozen=True)
class Choice:
    """One line of the panel's model list. `stamp` changes when the file does."""

    name: str
    title: str
    path: Path
    stamp: float


def choices(store: ModelStore) -> list[Choice]:
    """The installed models."""
    return [Choice(entry.name, entry.title, entry.path, _stamp(entry.path)) for entry in store.entries() if entry.installed and entry.path]


def _stamp(path: Path) -> float:
    return max(file.stat().st_mtime for file in ([path, *path.glob("*/*")] if path.is_dir() else [path]))


def problem(choice: Choice, checkpoint: Checkpoint) -> str:
    """Why a model can't be used with the loaded checkpoint, in a sentence; "" when it can."""
    try:
        parts = _parts(choice.path, choice.stamp)
        if checkpoint.latents is None:
            return f"{choice.title} needs a Stable Diffusion 1.x or 2.x checkpoint; {checkpoint.name} has another kind of VAE."
        if hasattr(checkpoint.unet, "label_emb") or checkpoint.latents != parts.latents:
            return f"{choice.title} does not fit {checkpoint.name}: their VAEs make different latents. {_wanted(parts)}"
        checkpoint.anatomy()
    except BadModel as error:
        return str(error)
    return ""


def _wanted(parts: HostedParts) -> str:
    small = parts.latents.ends[1][0] < 512
    return "It needs the small example checkpoint (the RefOnly tab installs it)." if small else "Load any Stable Diffusion 1.x or 2.x checkpoint."


def fitting(store: ModelStore, checkpoint: Checkpoint) -> Iterator[Choice]:
    return (choice for choice in choices(store) if not problem(choice, checkpoint))


def find(store: ModelStore, name: str, checkpoint: Checkpoint) -> Choice:
    """The model called `name` ("" = the first that fits), which fits the loaded checkpoint.

    Raises:
        BadModel: there is none, or it does not fit; the text says why.
    """
    if not name:
        first = next(fitting(store, checkpoint), None)
        if first is None:
            raise BadModel(_nothing_fits(store, checkpoint))
        return first
    chosen = next((choice for choice in choices(store) if choice.name == name), None)
    if chosen is None:
        raise BadModel(f"There is no model {name[:80]!r}. There is: {', '.join(choice.name for choice in choices(store)) or 'none'}.")
    why = problem(chosen, checkpoint)
    if why:
        raise BadModel(why)
    return chosen


def _nothing_fits(store: ModelStore, checkpoint: Checkpoint) -> str:
    reasons = [problem(choice, checkpoint) for choice in choices(store)]
    return reasons[0] if reasons else "No Reference Only model is installed. The RefOnly tab says where to get one."


@lru_cache(maxsize=32)
def _parts(path: Path, stamp: float) -> HostedParts:
    return read_hosted(path)


@lru_cache(maxsize=1)
def loaded(choice: Choice, unet_class: type, dtype: Any) -> HostedModel:
    """In memory; the one that was used last is kept there."""
    return load_hosted(_parts(choice.path, choice.stamp), unet_class, dtype)
