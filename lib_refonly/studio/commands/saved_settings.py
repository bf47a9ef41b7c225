"""Settings that the Train page saved for sd-scripts, on the command line: trained at once (`train`) or queued (`jobs start`)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lib_refonly.errors import BadSettings
from lib_refonly.studio.commands.bar import Bar

if TYPE_CHECKING:
    from lib_refonly.training.jobs.progress import Progress
    from lib_refonly.training.kohya.installed import Installed
    from lib_refonly.training.kohya.saved import Saved

INSTALL = "python3 studio.py trainers install sd-scripts --from v0.10.1"
_OURS_ALONE = ("pictures", "checkpoint", "accelerate")


def is_saved(arguments: argparse.Namespace) -> bool:
    """Whether the file is one of these. Raises: BadSettings: it is none, and what only such a file has is given."""
    from lib_refonly.training.kohya.saved import is_saved

    if is_saved(arguments.config):
        return True
    given = [f"--{name}" for name in _OURS_ALONE if getattr(arguments, name)]
    if given:
        raise BadSettings(f"{' and '.join(given)}: only for settings that the Train page saved. A recipe names its folders itself.")
    return False


def train(arguments: argparse.Namespace) -> int:
    """Train in the foreground, or go on. Raises: PainterError: see `foreground.train`, `saved.here` and `saved.pictures_for`."""
    from lib_refonly.training.kohya import foreground, launch, saved

    if arguments.export:
        raise BadSettings("--export is for recipes: sd-scripts writes its results itself, at its end and at every save.")
    trainer, wanted, several = _trainer(), _here(arguments), _several(arguments)
    what = saved.pictures_for(wanted.goal, wanted.pictures, wanted.word)
    folder = (arguments.folder or arguments.config.parent / arguments.config.stem).absolute()
    with foreground.working_in(folder):
        argv = launch.maker(trainer, wanted.goal, wanted.settings, what, several)(folder)
        print(_about(wanted, folder), flush=True)
        bar = Bar(sys.stderr, sys.stderr.isatty(), 1)
        try:
            progress = foreground.train(folder, argv, launch.environment(trainer), _teller(bar), arguments.minutes)
        finally:
            bar.clear()
    for result in launch.results(folder, wanted.goal):
        print(result.path)
    rest = " The same command goes on from there." if progress.ended == "stopped" else ""
    print(f"{wanted.goal}: step {progress.step} of {wanted.settings.max_train_steps}.{rest}")
    return 0


def submission(arguments: argparse.Namespace) -> tuple[str, Callable[[Path], list[str]], dict[str, str], str]:
    """What `JobHouse.submit` is given: the kind, the maker of the command, the environment; and what to tell. Raises: as `train`."""
    from lib_refonly.training.kohya import launch, saved

    trainer, wanted, several = _trainer(), _here(arguments), _several(arguments)
    what = saved.pictures_for(wanted.goal, wanted.pictures, wanted.word)
    maker = launch.maker(trainer, wanted.goal, wanted.settings, what, several)
    return wanted.goal, maker, launch.environment(trainer), _about(wanted, None)


def _several(arguments: argparse.Namespace) -> Path | None:
    if arguments.accelerate is not None and not arguments.accelerate.is_file():
        raise BadSettings(f"{arguments.accelerate} is no file. Make one with accelerate config, or begin with those in docs/accelerate.")
    return arguments.accelerate and arguments.accelerate.absolute()


def _trainer() -> Installed:
    from lib_refonly.training.kohya import installed

    try:
        return installed.find()
    except BadSettings as error:
        raise BadSettings(f"{str(error).partition(installed.HOW)[0].strip()} These settings are for sd-scripts. Install it with: {INSTALL}") from error


def _here(arguments: argparse.Namespace) -> Saved:
    from lib_refonly.training.kohya import saved

    source = arguments.config.absolute()
    wanted = saved.here(saved.read(source), source, arguments.pictures, arguments.checkpoint, getattr(arguments, "steps", None))
    if not wanted.settings.pretrained_model_name_or_path:
        raise BadSettings("The file names no checkpoint. Name yours with --checkpoint FILE.")
    if not wanted.pictures or not Path(wanted.pictures).is_dir():
        missing = f"The pictures' folder {wanted.pictures} is not on this machine." if wanted.pictures else "The file names no folder of pictures."
        raise BadSettings(f"{missing} Name yours with --pictures FOLDER.")
    return wanted


def _about(wanted: Saved, folder: Path | None) -> str:
    """What is read and what is written, before anything is: the file may be somebody else's."""
    from lib_refonly.training.kohya import goals, saved

    s = wanted.settings
    word = f" (trigger word: {wanted.word})" if wanted.word else ""
    lines = [f"{goals.GOALS[wanted.goal].title}, {s.max_train_steps} steps", f"Pictures: {wanted.pictures}{word}"]
    lines += [f"{label}: {path}" for label, path in saved.paths(s)]
    lines += [f"Encoded pictures are kept beside them, as .npz: {wanted.pictures}"] * s.cache_latents_to_disk
    lines += [f"Not used, since it is no setting here: {', '.join(wanted.left_out)}"] * bool(wanted.left_out)
    return "\n".join([*lines, *([f"Everything is written to: {folder}"] if folder else [])])


def _teller(bar: Bar) -> Callable[[Progress, str], None]:
    """A bar on a terminal; elsewhere a line each tenth."""
    from lib_refonly.studio.commands.jobs import course

    last = [-1, ""]

    def tell(progress: Progress, waiting: str) -> None:
        bar.show(progress.step / progress.steps if progress.steps else 0.0, waiting or course(progress) or "getting ready")
        tenth = progress.step * 10 // progress.steps if progress.steps else -1
        if not sys.stderr.isatty() and (waiting != last[1] or (tenth != last[0] and not waiting)):
            print(waiting or course(progress), file=sys.stderr, flush=True)
        last[:] = tenth, waiting

    return tell
