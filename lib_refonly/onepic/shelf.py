"""Which ONE-PIC LoRAs there are, and the checkpoints that the studio paints canvases with. Headers and configs only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadModel
from lib_refonly.models.registry import EMBEDDED, user_folder
from lib_refonly.models.weights import read_header
from lib_refonly.onepic.settings import AUTO, NONE
from lib_refonly.onepic.tasks import TASKS

FOLDER = "onepic"
"""Of the embedded models, and of the painter's models folder."""


@dataclass(frozen=True)
class LoraFile:
    """`task`, `layout`, `title`, `side` (px of a panel): what it was trained for; empty where the file does not say."""

    name: str
    path: Path
    task: str
    layout: str
    title: str
    side: int = 0


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
        return described(path.stem, path, read_header(path).metadata)
    except (BadModel, OSError):
        return None


def described(name: str, path: Path, metadata: Mapping[str, Any]) -> LoraFile:
    """A LoRA with what its file's metadata say of it."""
    about = told(metadata)
    side = about.get("size")
    return LoraFile(name, path, *(str(about.get(key, "")) for key in ("task", "layout", "title")), side=side if isinstance(side, int) and side > 0 else 0)


def told(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a LoRA of ours says of itself: task, layout, panels, title, size; empty for others. A WebUI may have read the JSON already."""
    value = metadata.get("refonly_onepic", "{}")
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def choose(task: str, layout: str, wanted: str, there: Sequence[LoraFile]) -> LoraFile | None:
    """The LoRA that is wanted (`settings.OnePicPaintSettings.lora`) for a canvas of a task, if any.

    Raises:
        BadModel: it is not among those that are there.
    """
    if wanted == AUTO:
        tasks = [name for name in (task, next((one.like for one in TASKS if one.name == task), "")) if name]
        return next((file for name in tasks for file in there if (file.task, file.layout) == (name, layout)), None)
    for file in there:
        if file.name == wanted:
            return file
    if wanted in ("", NONE):
        return None
    has = f"There is: {', '.join(file.name for file in there)}." if there else "There is none."
    raise BadModel(f"The LoRA {wanted} is not installed. {has} LoRAs belong into the folder {FOLDER} of your models folder.")


def bases() -> dict[str, Path]:
    """Text-to-image models in diffusers' folder layout by name; the embedded one is first."""
    folders = [folder for root in (EMBEDDED, user_folder()) if root.is_dir() for folder in sorted(root.iterdir())]
    found: dict[str, Path] = {}
    for folder in folders:
        if (folder / "text_encoder").is_dir() and (folder / "unet" / "config.json").is_file():
            found.setdefault(folder.name, folder)
    return found
