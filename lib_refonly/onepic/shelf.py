"""Which ONE-PIC LoRAs there are, and the checkpoints that the studio paints canvases with. Headers and configs only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadModel
from lib_refonly.models.registry import EMBEDDED, user_folder
from lib_refonly.models.weights import read_header

FOLDER = "onepic"
"""Of the embedded models, and of the painter's models folder."""


@dataclass(frozen=True)
class LoraFile:
    """`task`, `layout`, `title`: what it was trained for; empty where the file does not say."""

    path: Path
    task: str
    layout: str
    title: str

    @property
    def name(self) -> str:
        return self.path.stem


def loras(folders: Iterable[Path] | None = None) -> list[LoraFile]:
    """The installed LoRAs, the embedded ones first. Files that can't be read are passed over; a link that leads out of its folder is not followed."""
    found: dict[str, LoraFile] = {}
    for folder in (EMBEDDED / FOLDER, user_folder() / FOLDER) if folders is None else folders:
        for path in sorted(folder.glob("*.safetensors")) if folder.is_dir() else ():
            if path.resolve().is_relative_to(folder.resolve()) and (file := _read(path)) is not None:
                found.setdefault(file.name, file)
    return list(found.values())


def _read(path: Path) -> LoraFile | None:
    try:
        about = told(read_header(path).metadata)
    except (BadModel, OSError):
        return None
    return LoraFile(path, *(str(about.get(key, "")) for key in ("task", "layout", "title")))


def told(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What a LoRA of ours says of itself: task, layout, panels, title, size; empty for others."""
    try:
        value = json.loads(metadata.get("refonly_onepic", "{}"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def find(name: str) -> LoraFile:
    """Raises: BadModel: it is not installed."""
    there = loras()
    for file in there:
        if file.name == name:
            return file
    has = f"There is: {', '.join(file.name for file in there)}." if there else "There is none."
    raise BadModel(f"The LoRA {name} is not installed. {has} LoRAs belong into the folder {FOLDER} of your models folder.")


def made_for(task: str, layout: str) -> LoraFile | None:
    """The LoRA for a task's canvas, if there is one."""
    return next((file for file in loras() if task and file.task == task and file.layout == layout), None)


def bases() -> dict[str, Path]:
    """Text-to-image models in diffusers' folder layout by name; the embedded one is first."""
    folders = [folder for root in (EMBEDDED, user_folder()) if root.is_dir() for folder in sorted(root.iterdir())]
    found: dict[str, Path] = {}
    for folder in folders:
        if (folder / "text_encoder").is_dir() and (folder / "unet" / "config.json").is_file():
            found.setdefault(folder.name, folder)
    return found
