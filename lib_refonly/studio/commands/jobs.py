"""`studio.py jobs`: trainings that run apart from the terminal and the page, one after the other."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_refonly.errors import BadSettings

if TYPE_CHECKING:
    from lib_refonly.training.jobs.house import JobHouse
    from lib_refonly.training.jobs.progress import Progress
    from lib_refonly.training.jobs.record import Job

ROOT = Path(__file__).resolve().parents[3]
HOUSE = Path(os.environ.get("REFONLY_JOBS_DIR") or ROOT / ".runs")
PROGRAM = (sys.executable, str(ROOT / "studio.py"))
CONFIG = "config.toml"
"""The copy of the configuration in a job's folder: a job goes on as it began, whatever becomes of the original."""
_LARGEST = 1 << 20
_ASKS = {"stop": "save and end", "pause": "save and end, to go on later", "save": "save now, and go on", "sample": "paint a sample now, and go on"}

_EPILOG = """examples:
  studio.py jobs                                       what there is, and how far it is
  studio.py jobs start lib_refonly/training/recipes/tiny-vae.toml --title "My VAE"
  studio.py jobs show 20260131-120000-my-vae
  studio.py jobs pause 20260131-120000-my-vae
  studio.py jobs resume 20260131-120000-my-vae         also after a crash or a power cut

A job goes on when this terminal is closed. Of an ID its beginning is enough, where no other begins so. --json prints one object."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command and its actions."""
    raw = argparse.RawDescriptionHelpFormatter
    text = "Trainings that run by themselves: queue them, look at them, stop them, go on with them."
    parser = commands.add_parser("jobs", help="queued trainings: start, show, stop, resume", description=text, epilog=_EPILOG, formatter_class=raw)
    _add_common(parser, HOUSE, False)
    parser.set_defaults(run=list_jobs)
    actions = parser.add_subparsers(metavar="ACTION")
    _action(actions, "list", list_jobs, "list them (what happens without an action, too)")
    _action(actions, "show", show, "how far a job is, or why it ended").add_argument("id", metavar="ID")
    action = _action(actions, "start", start, "queue a training: what `studio.py train CONFIG.toml` does, in the job's own folder")
    action.add_argument("config", type=Path, metavar="CONFIG.toml")
    action.add_argument("--title", default="", metavar="TEXT", help="what lists show (default: the configuration's name)")
    add_places(action)
    for what, text in _ASKS.items():
        _action(actions, what, ask, text).add_argument("id", metavar="ID")
        actions.choices[what].set_defaults(what=what)
    _action(actions, "resume", resume, "go on with a job that was paused, or failed, or whose process is gone").add_argument("id", metavar="ID")
    _action(actions, "remove", remove, "delete a job that does not run, with all that it made").add_argument("id", metavar="ID")


def _action(actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: Any, text: str) -> argparse.ArgumentParser:
    action = actions.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
    _add_common(action, argparse.SUPPRESS, argparse.SUPPRESS)
    action.set_defaults(run=run)
    return action


def add_places(parser: argparse.ArgumentParser) -> None:
    """For settings that the Train page saved: what may lie elsewhere on this machine, and how many train."""
    parser.add_argument("--pictures", default="", metavar="FOLDER", help="train on these pictures instead of the file's (settings saved on the Train page)")
    parser.add_argument("--checkpoint", default="", metavar="FILE", help="train this checkpoint instead of the file's (settings saved on the Train page)")
    several = "accelerate's own file, for several cards or machines (settings saved on the Train page)"
    parser.add_argument("--accelerate", type=Path, default=None, metavar="FILE", help=several)


def _add_common(parser: argparse.ArgumentParser, folder: Any, as_json: Any) -> None:
    """On both sides of the action; where it is not given there, what was given before it stays."""
    parser.add_argument("--folder", type=Path, default=folder, metavar="HOUSE", help="folder of all jobs (default .runs beside studio.py)")
    parser.add_argument("--json", action="store_true", default=as_json, help="print one JSON object")


def list_jobs(arguments: argparse.Namespace) -> int:
    """What there is, in the order of submission; what can't be read is told on stderr."""
    house = _house(arguments)
    house.wake()
    jobs, problems = house.list()
    if arguments.json:
        print(json.dumps({"jobs": [_row(job) for job in jobs], "problems": problems}))
        return 0
    for job in jobs:
        print(f"{job.id}  {_state(job, house)}\n    {job.title} ({job.kind})")
    for problem in problems.values():
        print(problem, file=sys.stderr)
    if not jobs:
        print("There are no jobs. `studio.py jobs start CONFIG.toml` queues one.")
    return 0


def show(arguments: argparse.Namespace) -> int:
    """One job: how far, how fast, why it ended, and the last lines of its log. Raises: BadSettings: there is none."""
    house = _house(arguments)
    job = _job(house, arguments.id)
    progress, lines = house.progress(job.id), house.log(job.id)
    if arguments.json:
        print(json.dumps({**_row(job), "progress": _progress_row(progress), "log": lines[-20:]}))
        return 0
    print(f"{job.id}  {_state(job, house)}\n{job.title} ({job.kind}), in {house.folder_of(job.id)}")
    for text in (course(progress), *progress.report, progress.problem, job.explanation, "".join(f"Result: {one}\n" for one in job.results).rstrip()):
        if text:
            print(text)
    if job.state in ("failed", "lost", "running", "stopping") and lines:
        print("\n".join(["Its last lines:", *(f"    {line}" for line in lines[-8:])]))
    return 0


def start(arguments: argparse.Namespace) -> int:
    """Queue a training. Raises: BadSettings: the configuration is wrong. CannotWrite."""
    from lib_refonly.imaging.infotext import write_atomically
    from lib_refonly.studio.commands import saved_settings
    from lib_refonly.training.cli import read

    if saved_settings.is_saved(arguments):
        kind, maker, environment, about = saved_settings.submission(arguments)
        print(about, file=sys.stderr)
        return _tell(_house(arguments).submit(arguments.title or arguments.config.stem, kind, maker, env=environment), arguments, "is queued")
    kind = read(arguments.config)["run"]["kind"]
    text = arguments.config.read_bytes()
    if len(text) > _LARGEST:
        raise BadSettings(f"{arguments.config} is too large for a configuration.")

    def argv(folder: Path) -> list[str]:
        write_atomically(folder / CONFIG, text)
        return [*PROGRAM, "train", str(folder / CONFIG), "--folder", str(folder)]

    return _tell(_house(arguments).submit(arguments.title or arguments.config.stem, kind, argv), arguments, "is queued")


def ask(arguments: argparse.Namespace) -> int:
    """Ask a job to stop, pause, save or sample. Raises: BadSettings: it does not run."""
    house = _house(arguments)
    job = house.ask(_job(house, arguments.id).id, arguments.what)
    return _tell(job, arguments, f"is asked to {arguments.what}" if job.state in ("running", "stopping") else f"is {job.state}")


def resume(arguments: argparse.Namespace) -> int:
    """Queue a job again. Raises: BadSettings: it runs, or is done."""
    house = _house(arguments)
    return _tell(house.resume(_job(house, arguments.id).id), arguments, "is queued")


def remove(arguments: argparse.Namespace) -> int:
    """Delete a job. Raises: BadSettings: it runs. CannotWrite."""
    house = _house(arguments)
    job = _job(house, arguments.id)
    house.remove(job.id)
    return _tell(job, arguments, "is removed")


def _house(arguments: argparse.Namespace) -> JobHouse:
    from lib_refonly.training.jobs.house import JobHouse

    return JobHouse(arguments.folder)


def _job(house: JobHouse, text: str) -> Job:
    """The job with that ID, or the only one whose ID begins so."""
    jobs = house.list().jobs
    beginning = [job for job in jobs if text and job.id.startswith(text)]
    if any(job.id == text for job in jobs) or len(beginning) != 1:
        return house.get(text)
    return beginning[0]


def _tell(job: Job, arguments: argparse.Namespace, what: str) -> int:
    print(json.dumps(_row(job)) if arguments.json else f"{job.id} {what}.")
    return 0


def _row(job: Job) -> dict[str, Any]:
    names = ("id", "title", "kind", "state", "asked", "argv", "cwd", "created", "begun", "ended", "exit_code", "explanation", "results")
    return {name: getattr(job, name) for name in names}


def _progress_row(progress: Progress) -> dict[str, Any]:
    names = ("step", "steps", "seconds", "left", "lr", "memory", "memory_gpu", "saved", "losses", "samples", "problem", "stage", "stage_done", "report")
    return {name: getattr(progress, name) for name in names} | {"curves": {name: progress.curve(name) for name in progress.curves}}


def _state(job: Job, house: JobHouse) -> str:
    if job.state not in ("running", "stopping"):
        return job.state
    told = course(house.progress(job.id))
    return f"{job.state}: {told}" if told else job.state


def course(progress: Progress) -> str:
    """How far, how fast, and how it learns, in one line."""
    if progress.stage:
        return f"{progress.stage}, {progress.stage_done:.0%}"
    if not progress.step and progress.seconds is None:
        return ""
    parts = [f"step {progress.step}{f' of {progress.steps}' if progress.steps else ''}"]
    parts += [f"{progress.seconds:.3g} s a step"] if progress.seconds else []
    parts += [f"{_clock(progress.left)} left"] if progress.left else []
    parts += [f"{name} {value:.4g}" for name, value in progress.losses.items()]
    parts += [f"memory {progress.memory / 1e9:.1f} GB"] if progress.memory else []
    parts += [f"graphics card {progress.memory_gpu / 1e9:.1f} GB"] if progress.memory_gpu else []
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
