"""Many drawings, one reference: colour them in groups. One bad drawing never stops the rest."""

from __future__ import annotations

import logging
import secrets
import threading
import zipfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from lib_refonly.errors import CannotWrite, Interrupted, PainterError
from lib_refonly.imaging.decode import open_picture
from lib_refonly.imaging.infotext import save_png
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.studio.desk import Desk
from lib_refonly.studio.groups import Failure, in_groups
from lib_refonly.studio.jobs import Colourer, Event, group_job
from lib_refonly.studio.requests import ColorRequest, ColorResult, Progress, Reference
from lib_refonly.studio.session_history import safe_stem

_log = logging.getLogger(__name__)


@dataclass
class Batch:
    """What is to be done and what has become of it. `written` are the finished files, `errors` (file name, what was wrong)."""

    reference: Reference
    drawings: Sequence[Path]
    settings: RefOnlySettings
    model: str
    folder: Path
    layers: bool = False
    written: list[Path] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Drawings finished, well or badly."""
        return sum(not path.stem.endswith("-colours") for path in self.written) + len(self.errors)


def run_batch(batch: Batch, engine: Colourer, desk: Desk, stop: threading.Event) -> Generator[Event | Failure, None, None]:
    """Colour every drawing, one picture each, all with the same seed (flicker-free frames), and yield the events; progress counts the drawings.

    Other jobs get their turn between two groups. A drawing that fails is listed in `batch.errors` and the rest goes on.

    Raises:
        Interrupted: `stop` was set. CannotWrite: the folder is full or read-only; going on would be in vain. So it would with BadModel, Offline.
    """
    seed = batch.settings.seed if batch.settings.seed >= 0 else secrets.randbelow(2**32)
    settings = replace(batch.settings, seed=seed, count=1)
    for group in in_groups(_requests(batch, settings), lambda one: one[1:]):
        if stop.is_set():
            raise Interrupted("Stopped.")
        begun, drawings = batch.done, iter([drawing for drawing, _ in group])
        with closing(group_job(engine, [request for _, request in group], desk, stop)) as events:
            for event in events:
                if isinstance(event, Progress):
                    event = replace(event, index=begun + event.index, count=len(batch.drawings))
                elif isinstance(event, ColorResult):
                    _write(batch, next(drawings), event)
                elif isinstance(event, Failure):
                    batch.errors.append((next(drawings).name, _sentence(event.error)))
                yield event


def _requests(batch: Batch, settings: RefOnlySettings) -> Iterator[tuple[Path, ColorRequest]]:
    """Those drawings that can be opened; the others are listed."""
    for drawing in batch.drawings:
        try:
            request = ColorRequest((batch.reference,), open_picture(drawing), settings, batch.model)
        except PainterError as error:
            batch.errors.append((drawing.name, str(error)))
        else:
            yield drawing, request


def _sentence(error: Exception) -> str:
    if isinstance(error, PainterError):
        return str(error)
    _log.error("A drawing of a batch failed", exc_info=error)
    return "Something went wrong inside the studio. The terminal says more."


def _write(batch: Batch, drawing: Path, result: ColorResult) -> None:
    path = _free(batch.folder, safe_stem(drawing.name))
    save_png(path, result.picture, result.infotext)
    batch.written.append(path)
    if batch.layers:
        layer = path.with_name(f"{path.stem}-colours.png")
        save_png(layer, result.colour_layer, result.infotext)
        batch.written.append(layer)


def _free(folder: Path, stem: str) -> Path:
    """A name that overwrites nothing."""
    names = (f"{stem}.png" if number == 1 else f"{stem}-{number}.png" for number in range(1, 1_000_000))
    return next(path for name in names if not (path := folder / name).exists())


def zip_files(files: Sequence[Path], target: Path) -> Path:
    """Pack files, by their plain names, into `target` (PNGs are packed already: stored as they are).

    Raises:
        CannotWrite: the disk is full.
    """
    part = target.with_suffix(".part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for path in files:
                archive.write(path, path.name)
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise CannotWrite(f"The zip file could not be written ({error.strerror or error}). The pictures themselves are finished.") from error
    return target
