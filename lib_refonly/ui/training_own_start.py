"""From the Train page to a job that makes the painter's own RefOnly or stylecode model, from the folder of pictures on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.studio.commands.jobs import CONFIG, PROGRAM, ROOT
from lib_refonly.training.jobs.house import JobHouse
from lib_refonly.training.jobs.record import Job
from lib_refonly.training.kohya import toml_text
from lib_refonly.training.own.recipe import OwnModel, OwnStyle, recipe
from lib_refonly.training.pictures import ENDINGS, PictureFolder

_SET = "set"


def start_own(house: JobHouse, title: str, settings: OwnModel, folder: str, only: bool = False) -> Job:
    """Queue what `studio.py dataset train` does: the set, what the trainer reads of it, its latents, the training. only: the set alone.

    Raises:
        BadSettings: the folder can't be trained on, or what is chosen does not go together. BadModel: the model to start from. CannotWrite.
    """
    pictures = PictureFolder(folder).path
    _check(pictures, settings)
    settings = replace(settings, title=settings.title.strip() or title.strip() or pictures.name)

    def argv(job: Path) -> list[str]:
        write_atomically(job / CONFIG, toml_text.written(recipe(settings, pictures, job, only)).encode())
        return [*PROGRAM, "dataset", "train", str(job / CONFIG), "--folder", str(job)]

    kind = _SET if only else next(name for name in recipe(settings, pictures, Path("job")) if name not in ("run", "prepare", "loop"))
    return house.submit(title.strip() or f"{settings.title}{': the set' * only}", kind, argv, cwd=ROOT)


def _check(pictures: Path, settings: OwnModel) -> None:
    """What can be told at once. Raises: BadSettings."""
    from lib_refonly.training.own.pairs import is_set
    from lib_refonly.training.own.styles import check_folders

    if isinstance(settings, OwnStyle):
        check_folders(pictures)
    elif not is_set(pictures) and not _has_pictures(pictures):
        raise BadSettings(f"There are no pictures in {pictures}, nor in its subfolders. Add some (PNG, JPEG, WebP), then start again.")


def _has_pictures(folder: Path) -> bool:
    return any(name.lower().endswith(ENDINGS) for _, _, names in os.walk(folder) for name in names)
