"""`studio.py color`: colour drawings like a reference, one or a folder of them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from lib_refonly.errors import CannotWrite, Interrupted, PainterError
from lib_refonly.studio.commands.failures import sentence, write_log
from lib_refonly.studio.commands.model_choice import store_with
from lib_refonly.studio.commands.pairing import Pair, pair, refuse_collisions
from lib_refonly.studio.commands.reporting import Reporter, Row
from lib_refonly.studio.commands.task import Task, read_task

if TYPE_CHECKING:
    from lib_refonly.studio.commands.drawings import Drawing
    from lib_refonly.studio.groups import Failure, Painter
    from lib_refonly.studio.requests import ColorResult, Progress


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
    """Every drawing, in groups. One that fails is reported and does not stop the others, unless they would fail too. Returns the exit code."""
    from lib_refonly.studio.commands.drawings import Drawings
    from lib_refonly.studio.groups import ENDS_ALL, in_groups

    drawings = Drawings(task)

    def looked() -> Iterator[Drawing]:
        for index, one in enumerate(pairs):
            reporter.bar.show(index, one.lines.name)
            yield drawings.look(index, one)

    for group in in_groups(looked(), lambda drawing: drawing.requests):
        outcomes = _painted(group, reporter, engine)
        for drawing in group:
            own = islice(outcomes, len(drawing.requests))
            try:
                _finish(drawing, own, reporter)
            except ENDS_ALL as error:
                reporter.failed(drawing.pair, error, str(error))
                if left := len(pairs) - drawing.index - 1:
                    reporter.say(f"Stopped: {left} more would meet the same. Once that is mended, --resume goes on from here.")
                return error.exit_code
            except PainterError as error:
                reporter.failed(drawing.pair, error, str(error))
            except Exception as error:  # a fault of ours in one drawing must not cost an animator the night's other 499
                reporter.failed(drawing.pair, None, sentence(error, write_log(error)))
            for _ in own:  # variations that come after a fault: the next drawing must not be given them
                pass
    return reporter.exit_code()


def _painted(group: Sequence[Drawing], reporter: Reporter, engine: _Engine) -> Iterator[ColorResult | Failure]:
    """The outcomes of a group, for each drawing as many as it has requests."""
    from lib_refonly.studio.groups import color_each

    places = [(drawing, number) for drawing in group for number in range(len(drawing.requests))]

    def on_progress(progress: Progress) -> None:
        drawing, number = places[progress.index]
        done = (number + (progress.step + 1) / progress.steps) / len(drawing.requests)
        reporter.bar.show(drawing.index + done, drawing.pair.lines.name)

    if places:
        yield from color_each(engine.get(), [drawing.requests[number] for drawing, number in places], on_progress)


def _finish(drawing: Drawing, outcomes: Iterator[ColorResult | Failure], reporter: Reporter) -> None:
    """Write what was painted and report it. Raises: what went wrong with the drawing, after its good variations are written."""
    from lib_refonly.studio.groups import Failure

    pair, failed = drawing.pair, drawing.error
    if drawing.why is None:
        reporter.row(Row(str(pair.lines), str(pair.reference), "skipped", str(drawing.files[0][0]), notes=("finished before",)))
    begun = time.monotonic()
    for files, outcome in zip(drawing.files, outcomes, strict=False):
        if isinstance(outcome, Failure):
            failed = failed or outcome.error
            continue
        now = time.monotonic()
        _write(drawing, files, outcome)
        reporter.row(_row(drawing, files, outcome, now - begun))
        begun = now
    if failed is not None:
        raise failed


def _write(drawing: Drawing, files: tuple[Path, Path | None], result: ColorResult) -> None:
    from lib_refonly.imaging.infotext import save_png
    from lib_refonly.studio.commands.resume import tag

    picture, layer = files
    save_png(picture, result.picture, tag(result.infotext, drawing.job))
    if layer is not None:
        save_png(layer, result.colour_layer, tag(result.infotext, drawing.job))


def _row(drawing: Drawing, files: tuple[Path, Path | None], result: ColorResult, seconds: float) -> Row:
    picture, layer = files
    return Row(
        file=str(drawing.pair.lines),
        reference=str(drawing.pair.reference),
        status="done",
        out=str(picture),
        layer=str(layer) if layer else None,
        seed=result.seed,
        seconds=round(seconds, 3),
        notes=((f"made again: {drawing.why}",) if drawing.why else ()) + result.prepared.notes,
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"The folder {folder} cannot be made: {error.strerror or error}.") from error
