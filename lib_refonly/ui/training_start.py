"""From what the Train page holds to a job in the queue."""

from __future__ import annotations

from pathlib import Path

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.studio.commands.jobs import CONFIG, PROGRAM, ROOT
from lib_refonly.training.builtin_settings import BuiltinSettings
from lib_refonly.training.cli import read
from lib_refonly.training.jobs.house import JobHouse
from lib_refonly.training.jobs.record import Job
from lib_refonly.training.kohya import installed, launch
from lib_refonly.training.kohya.canvases import Canvases
from lib_refonly.training.kohya.saved import pictures_for
from lib_refonly.training.kohya.settings import KohyaSettings
from lib_refonly.training.pictures import PictureFolder
from lib_refonly.ui import builtin_form
from lib_refonly.ui.training_fields import Chosen

INSTALL = "python3 studio.py trainers install sd-scripts --from v0.10.1"
_LARGEST = 1 << 20


def missing_trainer() -> str:
    """How to get sd-scripts, in a sentence; nothing when it is there."""
    try:
        installed.find()
    except BadSettings:
        return f"sd-scripts, which does the training, is not installed (or no longer there). In a terminal, in this program's folder, type: {INSTALL}"
    return ""


def start_training(house: JobHouse, title: str, chosen: Chosen, settings: KohyaSettings, folder: str, word: str) -> Job:
    """Queue a training by sd-scripts. word: the caption of pictures that have none.

    Raises:
        BadSettings: sd-scripts is missing; the pictures or a setting can't be trained with; the text says what to do. CannotWrite.
    """
    chosen.preset()  # says when the card is too small
    PictureFolder(folder)  # says when there is none, before anything else is wrong
    wrong = missing_trainer()
    if wrong:
        raise BadSettings(wrong)
    trainer = installed.find()
    what = pictures_for(chosen.goal, folder, word)
    maker = launch.maker(trainer, chosen.goal, settings, what)
    return house.submit(title.strip() or settings.output_name, chosen.goal, maker, env=launch.environment(trainer))


def start_recipe(house: JobHouse, title: str, path: str) -> Job:
    """Queue what `studio.py train` does. Raises: BadSettings: the file is none, or no recipe. CannotWrite."""
    given = Path(path.strip().strip('"')).expanduser()
    if not path.strip() or not given.is_absolute() or not given.is_file():
        raise BadSettings("Give the whole path of a recipe, a .toml file as those in lib_refonly/training/recipes.")
    if given.stat().st_size > _LARGEST:
        raise BadSettings(f"{given.name} is too large for a recipe.")
    try:
        kind, text = read(given)["run"]["kind"], given.read_bytes()
    except ValueError:
        raise BadSettings(f"{given.name} is no text in UTF-8. Choose a recipe.") from None
    return _queued(house, title.strip() or given.stem, str(kind), text)


def start_builtin(house: JobHouse, title: str, task: str, settings: BuiltinSettings, folder: str) -> Job:
    """Queue what the built-in small model is to be taught. Raises: BadSettings: no folder, or no pictures in it. CannotWrite."""
    pictures = PictureFolder(folder)
    if not pictures.names():
        raise BadSettings(f"There are no pictures in {pictures.path}. Add some (PNG, JPEG, WebP), then start again.")
    text = builtin_form.written(task, settings, str(pictures.path))
    return _queued(house, title.strip() or settings.name, builtin_form.TASKS[task][0], text.encode())


def _queued(house: JobHouse, title: str, kind: str, text: bytes) -> Job:
    """A job that does what `studio.py train` does with this file."""

    def argv(folder: Path) -> list[str]:
        write_atomically(folder / CONFIG, text)
        return [*PROGRAM, "train", str(folder / CONFIG), "--folder", str(folder)]

    return house.submit(title, kind, argv, cwd=ROOT)


def make_canvases(source: str, panels: str, resolution: str, out: str, task: str, title: str) -> tuple[Path, int, list[str]]:
    """ONE-PIC's canvases of the painter's pictures: their folder, how many, and notes. Raises: BadSettings: all that is wrong. CannotWrite."""
    from lib_refonly.training.panel_files import build  # imports torch

    pictures = PictureFolder(source)
    target = Path(out.strip().strip('"')).expanduser()
    if not out.strip() or not target.is_absolute():
        raise BadSettings("Give the whole path of an empty or new folder for the canvases.")
    sides = [int(part) for part in resolution.split(",") if part.strip().isdecimal()]
    if len(sides) not in (1, 2):
        raise BadSettings("Size of a panel: say width and height, as 512,512.")
    try:
        made = Canvases.named(panels, sides[0], sides[-1], task, title)
        count, notes = build(pictures.path, made, target)
    except OSError as error:
        raise BadSettings(f"{target} can't be used: {error.strerror or error}. Choose another folder.") from error
    return target.resolve(), count, notes
