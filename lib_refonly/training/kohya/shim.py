"""What is run instead of one of sd-scripts' entry scripts: the same training, with a job's flag files and events. Started again, it goes on.

In sd-scripts' own environment, with PYTHONPATH holding its folder and ours:

    accelerate launch lib_refonly/training/kohya/shim.py --goal lora-sd1 --job FOLDER --config_file config.toml --dataset_config dataset.toml

The job's folder is also what the environment variable REFONLY_JOB says; without one nothing is told, nothing can be asked, and a second start begins anew. All
other options are the entry script's.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadSettings, PainterError
from lib_refonly.training.kohya import hooks, states
from lib_refonly.training.kohya.goals import GOALS, Goal

JOB_FOLDER = "REFONLY_JOB"
"""As `training.jobs.process` has it, which needs what may not be in this environment."""


def own_arguments(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Ours, and what is left for the entry script."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--goal", choices=tuple(GOALS), required=True)
    parser.add_argument("--job", type=Path, default=os.environ.get(JOB_FOLDER))
    return parser.parse_known_args(argv)


def prepared(goal: Goal, watch: hooks.Watch) -> Callable[[], None]:
    """The training, ready to be begun: the options are read by sd-scripts' own parser.

    Raises:
        BadSettings: ONE-PIC without canvases.
    """
    script: Any = importlib.import_module(goal.script)
    train_util: Any = importlib.import_module("library.train_util")
    if goal.kind == "onepic":
        from lib_refonly.training.kohya import onepic_trainer

        args, canvases = onepic_trainer.read_arguments(script, train_util)
        trainer = onepic_trainer.trainer(getattr(script, goal.trainer), canvases, watch)
    else:
        parser = script.setup_parser()
        args = parser.parse_args()
        train_util.verify_command_line_training_args(args)
        args = train_util.read_config_from_file(args, parser)
        trainer = hooks.watched(getattr(script, goal.trainer), watch) if goal.trainer else script
        if not goal.trainer:
            hooks.watch_functions(train_util, importlib.import_module(goal.sampler), watch)
    if watch.job is not None and go_on(args, train_util, watch):
        return lambda: None
    return lambda: trainer.train(args)


def go_on(args: Any, train_util: Any, watch: hooks.Watch) -> bool:
    """From the newest whole state that an earlier sitting left, if any. Whether nothing is left to do.

    A state of the last step without the finished model is of no use, since sd-scripts has to train a step to write one: the one before it is taken. It counts
    anew after --resume, and is made to train what is left. (Its `skip_until_initial_step` counts right only within the first epoch.)
    """
    out, found = Path(args.output_dir), states.whole(Path(args.output_dir))
    enough = found[0][0] >= args.max_train_steps and not args.max_train_epochs if found else False
    if enough and (out / f"{args.output_name}.safetensors").is_file():
        watch.nothing_left(args, found[0][0])
        return True
    left = [one for one in found if args.max_train_epochs or one[0] < args.max_train_steps]
    if not left:
        return False
    step, folder = left[0]
    args.resume = str(folder)
    if hasattr(args, "initial_step"):
        args.initial_step = 0
    watch.goes_on(step)
    hooks.go_on_from(train_util, step)
    return False


def run(train: Callable[[], None], watch: hooks.Watch) -> None:
    """Train to the end or to where it was asked to stop.

    Raises:
        BadSettings: sd-scripts ended without a step, which it does in silence when it finds no pictures.
    """
    stopped = False
    try:
        train()
    except hooks.Stopped:
        stopped = True
    if not watch.trained:
        raise BadSettings("No step was trained: no pictures were found in the folders of the data set.")
    watch.end(stopped)


def main() -> None:
    ours, theirs = own_arguments(sys.argv[1:])
    sys.argv[1:] = theirs
    watch = hooks.Watch(ours.job)
    signal.signal(signal.SIGTERM, lambda *_: watch.ask("signal"))
    try:
        run(prepared(GOALS[ours.goal], watch), watch)
    except PainterError as error:
        print(f"studio.py: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
