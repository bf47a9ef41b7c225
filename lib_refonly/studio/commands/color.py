"""`studio.py color`: colour drawings like a reference, one or a folder of them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lib_refonly.errors import BadModel, BadPicture, BadSettings, CannotWrite, Interrupted, Offline, PainterError
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.studio.commands.failures import sentence, write_log
from lib_refonly.studio.commands.model_choice import read_model, store_with
from lib_refonly.studio.commands.options import read_settings
from lib_refonly.studio.commands.pairing import Pair, outputs, pair, refuse_collisions
from lib_refonly.studio.commands.reporting import Reporter, Row

if TYPE_CHECKING:
    from PIL.Image import Image

    from lib_refonly.studio.requests import ColorRequest, ColorResult, OnProgress, Progress

_ENDS_ALL = (BadModel, CannotWrite, Interrupted, Offline)
"""What would befall every further drawing too."""


class Painter(Protocol):
    """What this command needs of an engine."""

    def color(self, request: ColorRequest, on_progress: OnProgress | None) -> Iterator[ColorResult]: ...


@dataclass(frozen=True)
class Task:
    """The command's arguments, read and checked."""

    settings: RefOnlySettings
    model: str
    model_place: Path | None
    also: tuple[tuple[Path, float], ...]
    reference_weight: float
    layer: bool
    resume: bool

    def references(self, pair: Pair) -> list[tuple[Path, float]]:
        """Every reference of one drawing with its weight."""
        return [(pair.reference, self.reference_weight), *self.also]


def run(arguments: argparse.Namespace, engine: Painter | None) -> int:
    """Colour what the arguments say. Without an `engine`, the real one is made when the first drawing needs it.

    Raises:
        PainterError: before anything is coloured (names, settings), or when nothing further can be (disk, model, network, interrupt).
    """
    task = read_task(arguments)
    pairing = pair(arguments.reference, arguments.lines, arguments.out)
    refuse_collisions(pairing.pairs, [path for path, _ in task.also], task.settings.count, task.layer)
    if arguments.lines.is_dir():
        _make_folder(arguments.out)
    shows_bar = arguments.progress if arguments.progress is not None else sys.stderr.isatty()
    reporter = Reporter(arguments.json, shows_bar, len(pairing.pairs))
    for path in pairing.unpaired:
        reporter.say(f"{path}: no picture of that name in the other folder; left out.")
    begun, code = time.monotonic(), Interrupted.exit_code
    try:
        code = _run_all(pairing.pairs, task, reporter, _Engine(engine, task, arguments.device))
    finally:
        reporter.summary(pairing.unpaired, time.monotonic() - begun, code)
    return code


def read_task(arguments: argparse.Namespace) -> Task:
    """Raises: BadSettings, BadPicture (a further reference that is not there)."""
    settings = read_settings(RefOnlySettings, arguments)
    also = tuple(read_weighted(text) for text in arguments.also_reference)
    for path, _ in also:
        if not path.is_file():
            raise BadPicture(f"{path}: there is no such picture (--also-reference).")
    name, place = read_model(arguments.model)
    return Task(settings, name, place, also, arguments.reference_weight, arguments.layer, arguments.resume)


def read_weighted(text: str) -> tuple[Path, float]:
    """'FILE:WEIGHT' or 'FILE'. A file whose own name ends like a weight is taken for the file.

    Raises:
        BadSettings: a weight below 0 or not finite.
    """
    name, colon, tail = text.rpartition(":")
    if not colon or Path(text).exists():
        return Path(text), 1.0
    try:
        weight = float(tail)
    except ValueError:  # a colon of the file's own, as in C:\face.png
        return Path(text), 1.0
    if not 0 <= weight < float("inf"):
        raise BadSettings(f"--also-reference {text}: the weight has to be 0 or more.")
    return Path(name), weight


class _Engine:
    """The engine given, or the real one: made late, since it takes seconds to load and a finished folder needs none."""

    def __init__(self, engine: Painter | None, task: Task, device: str) -> None:
        self._engine, self._device, self._place = engine, device, task.model_place

    def get(self) -> Painter:
        """Raises: BadModel: the model's folder or file is none."""
        if self._engine is None:
            from lib_refonly.studio.engine import Engine

            self._engine = Engine(store_with(self._place), self._device)
        return self._engine


def _run_all(pairs: Sequence[Pair], task: Task, reporter: Reporter, engine: _Engine) -> int:
    """Every drawing in turn. One that fails is reported and does not stop the others, unless they would fail too. Returns the exit code."""
    for index, one in enumerate(pairs):
        reporter.bar.show(index, one.lines.name)
        try:
            todo = _look(one, task)
            if todo.why is None:
                finished = str(todo.files[0][0])
                reporter.row(Row(str(one.lines), str(one.reference), "skipped", finished, notes=("finished before",)))
                continue
            _paint(todo, index, task, reporter, engine.get())
        except _ENDS_ALL as error:
            reporter.failed(one, error, str(error))
            if index + 1 < len(pairs):
                reporter.say(f"Stopped: {len(pairs) - index - 1} more would meet the same. Once that is mended, --resume goes on from here.")
            return error.exit_code
        except PainterError as error:
            reporter.failed(one, error, str(error))
        except Exception as error:  # a fault of ours in one drawing must not cost an animator the night's other 499
            reporter.failed(one, None, sentence(error, write_log(error)))
    return reporter.exit_code()


@dataclass(frozen=True)
class _Todo:
    """One drawing: its files, its fingerprint, and why it is made (None: it is finished; "": it was never made)."""

    pair: Pair
    files: list[tuple[Path, Path | None]]
    job: str
    why: str | None


def _look(one: Pair, task: Task) -> _Todo:
    from lib_refonly.studio.commands.resume import fingerprint, why_redo_all

    job = fingerprint(task.settings, task.model, one.lines, task.references(one))
    files = outputs(one.out, task.settings.count, task.layer)
    why = why_redo_all([path for both in files for path in both if path is not None], job) if task.resume else ""
    return _Todo(one, files, job, why)


def _paint(todo: _Todo, index: int, task: Task, reporter: Reporter, engine: Painter) -> None:
    from lib_refonly.imaging.decode import open_picture
    from lib_refonly.imaging.infotext import save_png
    from lib_refonly.studio.commands.resume import tag
    from lib_refonly.studio.requests import ColorRequest, Reference

    one = todo.pair
    references = tuple(Reference(_open(open_picture, path), weight) for path, weight in task.references(one))
    request = ColorRequest(references, _open(open_picture, one.lines), task.settings, task.model)

    def on_progress(progress: Progress) -> None:
        reporter.bar.show(index + (progress.index + progress.step / progress.steps) / progress.count, one.lines.name)

    notes = (f"made again: {todo.why}",) if todo.why else ()
    begun = time.monotonic()
    for (picture, layer), result in zip(todo.files, engine.color(request, on_progress), strict=True):
        save_png(picture, result.picture, tag(result.infotext, todo.job))
        if layer is not None:
            save_png(layer, result.colour_layer, tag(result.infotext, todo.job))
        now = time.monotonic()
        reporter.row(
            Row(
                file=str(one.lines),
                reference=str(one.reference),
                status="done",
                out=str(picture),
                layer=str(layer) if layer else None,
                seed=result.seed,
                seconds=round(now - begun, 3),
                notes=notes + result.prepared.notes,
            )
        )
        begun = now


def _open(open_picture: Callable[[Path], Image], path: Path) -> Image:
    """A reader of many pictures wants to know which one was bad."""
    try:
        return open_picture(path)
    except BadPicture as error:
        raise BadPicture(f"{path.name}: {error}") from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"The folder {folder} cannot be made: {error.strerror or error}.") from error
