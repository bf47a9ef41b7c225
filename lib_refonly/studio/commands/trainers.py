"""`studio.py trainers`: other people's trainers, each in an environment of its own."""

from __future__ import annotations

import argparse
import json
import sys

_TEXT = """Trainers that are not part of this program: list them, install one, remove one.

Nothing is fetched or installed unless you ask for it here. Each lives in an environment of its own, so that neither the studio nor a WebUI is touched."""

_EPILOG = """examples:
  studio.py trainers list
  studio.py trainers install sd-scripts --from v0.10.1
  studio.py trainers install sd-scripts --from ../sd-scripts --python python3.11 --torch 2.7.1+cu128
  studio.py trainers remove sd-scripts

An installation that was stopped goes on when it is started again."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command and its actions."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser("trainers", help="list, install or remove trainers (sd-scripts)", description=_TEXT, epilog=_EPILOG, formatter_class=raw)
    parser.set_defaults(run=list_trainers, json=False)
    actions = parser.add_subparsers(metavar="ACTION")
    action = actions.add_parser("list", help="list them (what happens without an action, too)")
    action.add_argument("--json", action="store_true", help="print one JSON object")
    action.set_defaults(run=list_trainers)

    action = actions.add_parser(
        "install", help="install one, or go on installing it", description="Make an environment and fill it with the trainer's packages."
    )
    action.add_argument("name", choices=("sd-scripts",), metavar="NAME", help="sd-scripts")
    action.add_argument("--from", required=True, dest="source", metavar="FOLDER|TAG", help="a folder that holds it, or the version to fetch, such as v0.10.1")
    action.add_argument("--python", default="", metavar="PY", help="the Python that makes the environment, 3.10 to 3.13 (default: the one of this program)")
    action.add_argument("--torch", default="", metavar="VERSION", help="such as 2.7.1+cu128 (default: the one that this program has)")
    action.set_defaults(run=install)

    action = actions.add_parser("remove", help="remove one with its environment; a folder that you named stays")
    action.add_argument("name", choices=("sd-scripts",), metavar="NAME", help="sd-scripts")
    action.set_defaults(run=remove)


def list_trainers(arguments: argparse.Namespace) -> int:
    """What is installed, or how to install it."""
    import dataclasses

    from lib_refonly.training.kohya import installed

    found = installed.listed()
    if arguments.json:
        print(json.dumps({"trainers": [dataclasses.asdict(one) for one in found]}, ensure_ascii=False))
        return 0
    for one in found:
        print(f"{one.name}: {one.version}, commit {one.commit[:12]}, torch {one.torch}\n    {one.folder}\n    {one.python}")
    if not found:
        print(f"{installed.SD_SCRIPTS}: not installed. {installed.HOW}")
    return 0


def install(arguments: argparse.Namespace) -> int:
    """Install one. What happens is told line by line."""
    from lib_refonly.studio.trainers import sd_scripts

    done = sd_scripts.install(sd_scripts.Wish(arguments.source, arguments.python, arguments.torch), _say)
    print(f"{done.name} {done.version} is installed: {done.python}")
    return 0


def remove(arguments: argparse.Namespace) -> int:
    """Remove one."""
    from lib_refonly.studio.trainers import sd_scripts

    sd_scripts.remove(_say)
    print(f"{arguments.name} is removed.")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
