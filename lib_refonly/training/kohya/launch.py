"""How a training by sd-scripts is started, and what came of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_refonly.errors import BadModel
from lib_refonly.models.weights import read_header
from lib_refonly.training.kohya import options, states
from lib_refonly.training.kohya.config import CONFIG, DATASET, OUT, Pictures, write
from lib_refonly.training.kohya.goals import GOALS
from lib_refonly.training.kohya.installed import Installed
from lib_refonly.training.kohya.settings import KohyaSettings

ROOT = Path(__file__).resolve().parents[3]
SHIM = Path(__file__).with_name("shim.py")
_STEP = re.compile(r"-step(\d{8})$")


@dataclass(frozen=True)
class Result:
    """One finished file. makes: "lora", "embedding" or "checkpoint". step: 0 is not known. last: not an in-between one. metadata: its own."""

    path: Path
    makes: str
    step: int
    last: bool
    metadata: dict[str, str]


def argv(trainer: Installed, goal: str, job: Path, accelerate_config: Path | None = None, precision: str = "no", threads: int = 1) -> list[str]:
    """The program and its arguments; the same to begin and to go on. Everything else is in the job's files.

    accelerate_config: accelerate's own file, for several cards or machines; without one it is a single process. precision: `mixed_precision` of the settings.
    """
    job = job.absolute()
    several = ["--config_file", str(accelerate_config)]
    single = ["--num_processes", "1", "--num_machines", "1", "--mixed_precision", precision, "--dynamo_backend", "no"]
    how = several if accelerate_config is not None else [*single, "--num_cpu_threads_per_process", str(threads)]
    files = ["--config_file", str(job / CONFIG), "--dataset_config", str(job / DATASET)]
    return [trainer.python, "-m", "accelerate.commands.launch", *how, str(SHIM), "--goal", GOALS[goal].name, "--job", str(job), *files]


def maker(
    trainer: Installed, goal: str, settings: KohyaSettings, pictures: Sequence[Pictures] | Path, accelerate_config: Path | None = None
) -> Callable[[Path], list[str]]:
    """What a house of jobs is given: called with the new job's folder, it writes the two files there and returns the command.

    Raises (when called):
        BadSettings: what the installed sd-scripts does not know, or what the goal lacks. CannotWrite.
    """

    def made(job: Path) -> list[str]:
        write(job, goal, settings, pictures, options.of(trainer))
        return argv(trainer, goal, job, accelerate_config, settings.mixed_precision)

    return made


def environment(trainer: Installed) -> dict[str, str]:
    """What is added to the environment. Whether the Hugging Face hub may be asked stays as it is there (HF_HUB_OFFLINE)."""
    return {
        "PYTHONPATH": os.pathsep.join((trainer.folder, str(ROOT))),
        "PYTHONIOENCODING": "utf-8",
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def results(job: Path, goal: str) -> list[Result]:
    """The models in a job's folder, the last one first, then by their steps. Files that a crash cut off are left out."""
    found = []
    for path in (job / OUT).glob("*.safetensors"):
        if path.is_symlink() or not path.is_file():
            continue
        try:
            metadata = read_header(path).metadata
        except (BadModel, OSError):
            continue
        numbered = _STEP.search(path.stem)
        told = metadata.get("ss_steps", "")
        step = int(numbered[1]) if numbered else int(told) if told.isdecimal() else 0
        found.append(Result(path, GOALS[goal].makes, step, numbered is None, metadata))
    return sorted(found, key=lambda one: (one.last, one.step), reverse=True)


def saved_step(job: Path) -> int:
    """The step that a job would go on from; 0: from the beginning."""
    return next((step for step, _ in states.whole(job / OUT)), 0)
