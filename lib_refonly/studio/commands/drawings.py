"""The drawings of a colour command, looked at one after another: finished, to be made, or not to be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from lib_refonly.errors import BadPicture
from lib_refonly.imaging.decode import open_picture
from lib_refonly.studio.commands.pairing import Pair, outputs
from lib_refonly.studio.commands.resume import fingerprint, why_redo_all
from lib_refonly.studio.commands.task import Task
from lib_refonly.studio.kept import Kept
from lib_refonly.studio.requests import ColorRequest, Reference, variations


@dataclass(frozen=True)
class Drawing:
    """One drawing. `index` counts from 0; `files` are (picture, colour layer or None) of each variation; `job` is its fingerprint.

    `why` it is made: None says that it is finished, "" that it was never made. `requests` has one for each variation, and is empty where it is
    finished or cannot be read, which is what `error` says.
    """

    index: int
    pair: Pair
    files: tuple[tuple[Path, Path | None], ...] = ()
    job: str = ""
    why: str | None = ""
    requests: tuple[ColorRequest, ...] = ()
    error: Exception | None = None


class Drawings:
    """Looks at them. A reference that serves many is opened once."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._references: Kept[Path, Image.Image] = Kept(1 + len(task.also))

    def look(self, index: int, pair: Pair) -> Drawing:
        """Never raises: what is wrong with one drawing is its own affair."""
        try:
            return self._look(index, pair)
        except Exception as error:
            return Drawing(index, pair, error=error)

    def _look(self, index: int, pair: Pair) -> Drawing:
        task = self._task
        job = fingerprint(task.settings, task.model, pair.lines, task.references(pair))
        files = tuple(outputs(pair.out, task.settings.count, task.layer))
        why = why_redo_all([path for both in files for path in both if path is not None], job) if task.resume else ""
        return Drawing(index, pair, files, job, why, () if why is None else self._requests(pair))

    def _requests(self, pair: Pair) -> tuple[ColorRequest, ...]:
        task = self._task
        references = tuple(Reference(self._references.get(path, lambda path=path: _open(path)), weight) for path, weight in task.references(pair))
        return tuple(variations(ColorRequest(references, _open(pair.lines), task.settings, task.model)))


def _open(path: Path) -> Image.Image:
    """A reader of many pictures wants to know which one was bad."""
    try:
        return open_picture(path)
    except BadPicture as error:
        raise BadPicture(f"{path.name}: {error}") from error
