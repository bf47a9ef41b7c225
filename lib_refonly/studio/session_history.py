"""What one browser tab has made: its folder, its results on disk, its bounded history. Gone when the tab's session ends."""

from __future__ import annotations

import itertools
import re
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from lib_refonly.errors import CannotWrite
from lib_refonly.imaging.infotext import save_png
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.studio.requests import ColorResult

KEEP = 24  # runs remembered per tab
_THUMB = (224, 224)


@dataclass(frozen=True)
class SavedResult:
    """One finished picture as PNG files; each carries the settings in its text."""

    picture: Path
    painting: Path
    colour_layer: Path
    seed: int


@dataclass(frozen=True)
class InputFiles:
    """The painter's own files, as uploaded. References and masks are as long as the page has slots; None is an empty one."""

    references: tuple[Path | None, ...]
    masks: tuple[Path | None, ...]
    weights: tuple[float, ...]
    lines: Path


@dataclass(frozen=True)
class Run:
    """One press of the button: what went in (copies of the files) and what has come out so far."""

    folder: Path
    inputs: InputFiles
    settings: RefOnlySettings
    model: str
    results: list[SavedResult] = field(default_factory=list)

    @property
    def thumbnail(self) -> Path:
        return self.folder / "thumbnail.png"


class Session:
    """One tab's memory: finished runs, newest first, and the switch that stops the run in progress.

    `copy.deepcopy` gives a NEW session: that is how a page's per-tab state gets its own.
    """

    def __init__(self, keep: int = KEEP) -> None:
        self._keep = keep
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._numbers = itertools.count(1)
        self.runs: list[Run] = []
        self.shown: Run | None = None
        self.index = 0  # which of the shown run's results
        self.stop = threading.Event()

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        return Session(self._keep)

    @property
    def folder(self) -> Path:
        """The session's own folder (readable by this user only), made when first needed."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="refonly-session-", ignore_cleanup_errors=True)
        return Path(self._folder.name)

    def batch_folder(self) -> Path:
        """The folder of the batch's results, emptied.

        Raises:
            CannotWrite: the temporary folder is full or not writable.
        """
        return self._empty("batch")

    def _empty(self, name: str) -> Path:
        try:
            folder = self.folder / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        except OSError as error:
            raise CannotWrite(f"The temporary folder can't be written to ({error.strerror or error}). Free some disk space.") from error
        return folder

    def begin(self, inputs: InputFiles, settings: RefOnlySettings, model: str) -> Run:
        """Start a run: copy the input files beside its results-to-be and take the stop switch down.

        Raises:
            CannotWrite: the temporary folder is full or not writable.
        """
        self.stop.clear()
        folder = self._empty(f"{next(self._numbers):04d}")
        try:
            self.shown = Run(folder, _copied(inputs, folder), settings, model)
        except OSError as error:
            raise CannotWrite(f"The pictures could not be kept in the temporary folder ({error.strerror or error}). Free some disk space.") from error
        return self.shown

    def save(self, run: Run, result: ColorResult) -> SavedResult:
        """Write one result's three PNG files; the first one puts the run into the history and lets the oldest go.

        Raises:
            CannotWrite: the temporary folder is full or not writable.
        """
        saved = _write(run.folder, run.inputs.lines.stem, result)
        if not run.results:
            save_png(run.thumbnail, _thumbnail(result.picture))
            self.runs.insert(0, run)
        run.results.append(saved)
        for old in self.runs[self._keep :]:
            shutil.rmtree(old.folder, ignore_errors=True)
        del self.runs[self._keep :]
        return saved

    def discard_empty(self, run: Run) -> None:
        """Forget a run that brought nothing (stopped early, or an error)."""
        if not run.results:
            shutil.rmtree(run.folder, ignore_errors=True)
            self.shown = self.runs[0] if self.runs else None


def safe_stem(name: str) -> str:
    """A file name's stem that is harmless on every system and in every page: letters, digits, space, dash, underscore; at most 60."""
    return re.sub(r"[^\w\- ]+", "_", Path(name).stem).strip(" ._-")[:60] or "picture"


def _copied(inputs: InputFiles, folder: Path) -> InputFiles:
    def copy(path: Path | None, name: str) -> Path | None:
        return None if path is None else Path(shutil.copyfile(path, folder / f"{name}{path.suffix[:8]}"))

    return InputFiles(
        references=tuple(copy(path, f"reference-{i}") for i, path in enumerate(inputs.references, 1)),
        masks=tuple(copy(path, f"mask-{i}") for i, path in enumerate(inputs.masks, 1)),
        weights=inputs.weights,
        lines=Path(shutil.copyfile(inputs.lines, folder / f"{safe_stem(inputs.lines.name)}{inputs.lines.suffix[:8]}")),
    )


def _write(folder: Path, stem: str, result: ColorResult) -> SavedResult:
    def save(picture: Image.Image, what: str) -> Path:
        path = folder / f"{stem}-{what}-{result.seed}.png"
        save_png(path, picture, result.infotext)
        return path

    return SavedResult(save(result.picture, "coloured"), save(result.painting, "painting"), save(result.colour_layer, "colours"), result.seed)


def _thumbnail(picture: Image.Image) -> Image.Image:
    small = picture.convert("RGBA")
    small.thumbnail(_THUMB)
    return small
