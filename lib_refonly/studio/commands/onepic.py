"""`studio.py onepic`: canvases of several panels, made, looked at and painted from the terminal."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_refonly.errors import BadPicture, BadSettings
from lib_refonly.onepic.settings import AUTO, NONE, TINY_SIDE, OnePicPaintSettings
from lib_refonly.studio.commands.bar import Bar
from lib_refonly.studio.commands.options import add_settings, read_settings

if TYPE_CHECKING:
    from lib_refonly.onepic.project import Project
    from lib_refonly.onepic.tasks import Task
    from lib_refonly.studio.onepic_jobs import Finished

_SIZE = re.compile(r"(\d{1,5})[xX×](\d{1,5})")
_LAYOUT = re.compile(r"\d+[xX×]\d+")
_OF_PROJECT = ("prompt", "negative", "reuse")

_EPILOG = """examples:
  studio.py onepic tasks                               what canvases are good for
  studio.py onepic new edit -o try.json --example
  studio.py onepic new colorize -o girl.json --size 128x128 --panel 1=girl.png --panel 2=sketch.png
  studio.py onepic compose girl.json -o seen.png --marked
  studio.py onepic paint girl.json -o done.png --prompt "a girl with curls" --seed 7
  studio.py onepic new 1x3 -o free.json --panel 1=left.png --panel 3=right.png

A project is a .json that holds its pictures; the studio's page opens and saves the same files. The embedded model paints panels of 128x128 px.
Several targets are OUT-1.png, OUT-2.png ... --json prints one object."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command and its actions."""
    raw = argparse.RawDescriptionHelpFormatter
    text = "ONE-PIC: several panels in one canvas; the model looks at the context and paints the target."
    parser = commands.add_parser("onepic", help="canvases of several panels: new, compose, paint", description=text, epilog=_EPILOG, formatter_class=raw)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    _add_making(actions)
    _add_paint(actions)


def _add_making(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    _action(actions, "tasks", list_tasks, "list what canvases are made for, with their panels")

    action = _action(actions, "new", new, "make a project of pictures")
    action.add_argument("task", metavar="TASK|LAYOUT", help="a task of `onepic tasks`, or rows x columns such as 1x3, whose last panel is the target")
    action.add_argument("-o", "--out", type=Path, required=True, metavar="PROJECT.json")
    action.add_argument("--size", metavar="WxH", help="of a panel, in pixels (default: the task's own, or 512x512; an example's: 128x128)")
    action.add_argument("--panel", action="append", default=[], metavar="N=PICTURE", help="what panel N (from 1) shows, and the panels that repeat it")
    action.add_argument("--example", action="store_true", help="with the built-in drawings in all panels, to try a task")
    action.add_argument("--prompt", metavar="TEXT", help="what the target shows")
    action.add_argument("--negative", metavar="TEXT", help="what it should not show")

    action = _action(actions, "compose", compose, "write what the model will see of a project")
    action.add_argument("project", type=Path, metavar="PROJECT.json")
    action.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.png")
    action.add_argument("--marked", action="store_true", help="with stripes over what will be painted, and lines between the panels")


def _add_paint(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    action = _action(actions, "paint", paint, "paint a project's targets")
    action.add_argument("project", type=Path, metavar="PROJECT.json")
    action.add_argument("-o", "--out", type=Path, required=True, metavar="OUT.png", help="the target; several are OUT-1.png, OUT-2.png ...")
    action.add_argument("--canvas", type=Path, metavar="OUT.png", help="also write all panels together")
    action.add_argument("--prompt", metavar="TEXT", help="instead of the project's")
    action.add_argument("--negative", metavar="TEXT", help="instead of the project's")
    action.add_argument("--reuse", metavar="N", help="look at the context in every Nth step only; instead of the project's")
    action.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute (default auto)")
    add_settings(
        action.add_argument_group("painting", f"--lora takes the name of one that is installed, a .safetensors file, {AUTO!r} or {NONE!r}"),
        OnePicPaintSettings,
        {},
    )


def _action(actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: Any, text: str) -> argparse.ArgumentParser:
    action = actions.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
    action.add_argument("--json", action="store_true", help="print one JSON object")
    action.set_defaults(run=run)
    return action


# --- what there is ------------------------------------------------------------------------------------------------------------------------------------


def list_tasks(arguments: argparse.Namespace) -> int:
    """The tasks with their layouts and panels."""
    from lib_refonly.onepic.tasks import TASKS

    if arguments.json:
        print(json.dumps({"tasks": [_task_row(task) for task in TASKS]}))
        return 0
    for task in TASKS:
        panels = ", ".join(f"{number} {spec.label}{' (target)' if spec.role == 'target' else ''}" for number, spec in enumerate(task.panels, 1))
        print(f"{task.name}: {task.title}\n    {task.layout.name}, {task.width} x {task.height} px: {panels}")
    return 0


def _task_row(task: Task) -> dict[str, object]:
    panels = [{"role": one.role, "label": one.label, "hint": one.hint, "same_as": None if one.same_as is None else one.same_as + 1} for one in task.panels]
    size = {"width": task.width, "height": task.height}
    return {"name": task.name, "title": task.title, "layout": task.layout.name, **size, "panels": panels, "prompt": task.prompt_hint, "help": task.help}


# --- projects -----------------------------------------------------------------------------------------------------------------------------------------


def new(arguments: argparse.Namespace) -> int:
    """Raises: BadSettings: no such task, layout, size or panel. BadPicture, CannotWrite."""
    from lib_refonly.imaging.infotext import write_atomically
    from lib_refonly.onepic.tips import tips

    pictures = [_panel(text) for text in arguments.panel]
    _check_target("-o", arguments.out, ".json", [path for _, path in pictures])
    project = _laid_out(arguments.task, arguments.size, arguments.example)
    asked = {name: getattr(arguments, name) for name in ("prompt", "negative") if getattr(arguments, name) is not None}
    project = dataclasses.replace(_filled(project, pictures), **asked)
    write_atomically(arguments.out, project.written().encode())
    _tell(arguments.json, [arguments.out], tips(project), task=project.task, layout=project.layout.name, width=project.width, height=project.height)
    return 0


def _laid_out(name: str, size: str | None, with_example: bool) -> Project:
    from lib_refonly.onepic.examples import example
    from lib_refonly.onepic.layout import Layout
    from lib_refonly.onepic.project import blank
    from lib_refonly.onepic.tasks import project_of, task_named

    width, height = (None, None) if size is None else _size(size)
    if with_example:
        return example(task_named(name), width or TINY_SIDE, height or TINY_SIDE)
    if _LAYOUT.fullmatch(name):
        return blank(Layout.named(name.lower().replace("×", "x")), width or 512, height or 512)
    return project_of(task_named(name), width, height)


def _size(text: str) -> tuple[int, int]:
    found = _SIZE.fullmatch(text)
    if found is None:
        raise BadSettings(f"--size {text}: say width and height, as 512x768.")
    return int(found[1]), int(found[2])


def _panel(text: str) -> tuple[int, Path]:
    number, equals, path = text.partition("=")
    if not (equals and path and number.strip().isdecimal()):
        raise BadSettings(f"--panel {text}: say the panel's number and its picture, as 1=girl.png.")
    return int(number), Path(path)


def _filled(project: Project, pictures: Sequence[tuple[int, Path]]) -> Project:
    from lib_refonly.onepic.tasks import TASKS, filled

    task = next((one for one in TASKS if one.name == project.task), None)
    for number, path in pictures:
        data = _picture(path)
        project.layout.place(number - 1)
        if task is not None:
            project = filled(project, task, number - 1, data)
        else:
            panels = list(project.panels)
            panels[number - 1] = dataclasses.replace(panels[number - 1], picture=data)
            project = dataclasses.replace(project, panels=tuple(panels))
    return project


def _picture(path: Path) -> bytes:
    from lib_refonly.imaging.decode import decode, read_source

    try:
        data = read_source(path)
        decode(data)
    except BadPicture as error:
        raise BadPicture(f"{path.name}: {error}") from error
    return data


def _read(path: Path) -> Project:
    """Raises: BadSettings: no such file, or no project. BadPicture: a picture inside it."""
    from lib_refonly.onepic.project import LONGEST, Project

    if not path.is_file():
        raise BadSettings(f"{path}: there is no such project.")
    try:
        if path.stat().st_size > LONGEST:
            raise BadSettings(f"{path} is larger than {LONGEST // 2**20} MB, and no project that can be read.")
        return Project.read(path.read_bytes())
    except OSError as error:
        raise BadSettings(f"{path} cannot be read: {error.strerror or error}.") from error


def compose(arguments: argparse.Namespace) -> int:
    """Raises: BadSettings, BadPicture, CannotWrite."""
    from lib_refonly.imaging.infotext import save_png
    from lib_refonly.onepic.compose import composed
    from lib_refonly.onepic.tips import tips

    _check_target("-o", arguments.out, ".png", [arguments.project])
    project = _read(arguments.project)
    seen = composed(project)
    picture = seen.preview() if arguments.marked else seen.canvas
    save_png(arguments.out, picture)
    _tell(arguments.json, [arguments.out], tips(project), task=project.task, layout=project.layout.name, width=picture.width, height=picture.height)
    return 0


# --- painting -----------------------------------------------------------------------------------------------------------------------------------------


def paint(arguments: argparse.Namespace) -> int:
    """Raises: BadSettings, BadPicture, BadModel, CannotWrite."""
    from lib_refonly.imaging.infotext import save_png
    from lib_refonly.onepic.shelf import loras
    from lib_refonly.onepic.tips import of_lora, tips
    from lib_refonly.studio.onepic_jobs import infotext

    _check_outputs(arguments)
    settings = read_settings(OnePicPaintSettings, arguments)
    project = _asked(_read(arguments.project), arguments)
    project.check_ready()
    done = _painted(project, settings, arguments.device)
    files = _names(arguments.out, len(done.targets))
    for path, (number, picture) in zip(files, done.targets.items(), strict=True):
        save_png(path, picture, infotext(project, settings, done.lora, number))
    if arguments.canvas:
        save_png(arguments.canvas, done.canvas, infotext(project, settings, done.lora))
    told = {name: getattr(project, name) for name in _OF_PROJECT}
    more = {"canvas": str(arguments.canvas) if arguments.canvas else None, "panels": [number + 1 for number in done.targets], **told}
    facts = f"seed {settings.seed}, {f'LoRA {done.lora}' if done.lora else 'no LoRA'}, {done.seconds:.1f} s"
    written = [*files, *([arguments.canvas] if arguments.canvas else [])]
    settings_told = dataclasses.asdict(settings)
    known = [*tips(project), *(tip for file in loras() if file.name == done.lora for tip in of_lora(project, file.name, file.side))]
    _tell(arguments.json, written, known, facts, **more, settings=settings_told, lora=done.lora, seconds=round(done.seconds, 3))
    return 0


def _asked(project: Project, arguments: argparse.Namespace) -> Project:
    """With the prompts and the reuse of the command line."""
    given = {name: getattr(arguments, name) for name in _OF_PROJECT if getattr(arguments, name) is not None}
    if "reuse" in given:
        try:
            given["reuse"] = int(given["reuse"])
        except ValueError:
            raise BadSettings(f"--reuse {given['reuse']}: a whole number is expected here.") from None
    return dataclasses.replace(project, **given)


def _painted(project: Project, settings: OnePicPaintSettings, device: str) -> Finished:
    from lib_refonly.studio.onepic_engine import OnePicEngine
    from lib_refonly.studio.onepic_jobs import finished

    bar = Bar(sys.stderr, sys.stderr.isatty(), 1)
    file = _lora_file(settings.lora)
    try:
        return finished(OnePicEngine(device, file), project, settings, lambda done, steps: bar.show(done / steps, f"step {done} of {steps}"))
    finally:
        bar.clear()


def _lora_file(text: str) -> Path | None:
    """The file that --lora names; None for a name. Raises: BadSettings: there is no such file."""
    if not (text.endswith(".safetensors") or "/" in text or "\\" in text):
        return None
    path = Path(text).expanduser()
    if not path.is_file():
        raise BadSettings(f"--lora {text}: there is no such file.")
    return path


# --- files and words ----------------------------------------------------------------------------------------------------------------------------------


def _names(out: Path, count: int) -> list[Path]:
    return [out] if count == 1 else [out.with_name(f"{out.stem}-{number}{out.suffix}") for number in range(1, count + 1)]


def _check_outputs(arguments: argparse.Namespace) -> None:
    from lib_refonly.onepic.layout import MOST_PANELS

    _check_target("-o", arguments.out, ".png", [arguments.project])
    if arguments.canvas:
        _check_target("--canvas", arguments.canvas, ".png", [arguments.project])
        if arguments.canvas.absolute() in (path.absolute() for path in (arguments.out, *_names(arguments.out, MOST_PANELS))):
            raise BadSettings("-o and --canvas would write the same file. Name another one.")


def _check_target(option: str, out: Path, ending: str, inputs: Iterable[Path]) -> None:
    if out.suffix.lower() != ending or out.is_dir():
        raise BadSettings(f"{option} {out}: name a file that ends in {ending}.")
    if not out.parent.is_dir():
        raise BadSettings(f"{option} {out}: the folder {out.parent} does not exist.")
    if any(out.exists() and path.exists() and out.samefile(path) for path in inputs):
        raise BadSettings(f"{option} {out} is one of the files to read: it would be overwritten. Name another file.")


def _tell(as_json: bool, files: Sequence[Path], tips: Sequence[str], facts: str = "", **more: object) -> None:
    """What was written and what is worth knowing. The tips go to the error stream, where they are in nobody's way."""
    if as_json:
        print(json.dumps({"files": [str(path) for path in files], **more, "tips": list(tips)}))
        return
    for number, path in enumerate(files):
        print(f"{path}  ({facts})" if facts and not number else path)
    for tip in tips:
        print(f"  {tip}", file=sys.stderr)
