"""Telling a character from the scene behind it, where the segmentation model is installed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from lib_refonly.errors import BadModel
from lib_refonly.imaging.segment import Segmenter
from lib_refonly.studio.kept import Kept, digest

_log = logging.getLogger(__name__)
_ALPHAS_KEPT = 16
_Version = tuple[Path, int, int]
"""Path, time of change and size of a model file: it may be installed, or mended, while the studio is open."""


class Cutter:
    """Finds characters with the model that `find` names. It is loaded with the first picture; what was cut is kept, since a page asks often.

    A model that can't be loaded is not tried again until its file changes. Any thread may call.
    """

    def __init__(self, find: Callable[[], Path | None]) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._loaded: tuple[_Version, Segmenter] | None = None
        self._refused: tuple[_Version, str] | None = None
        self._alphas: Kept[tuple[_Version, bytes], Image.Image] = Kept(_ALPHAS_KEPT)

    def __call__(self, picture: Image.Image) -> Image.Image | None:
        """The character's alpha, mode L, of the picture's size; None when no model is installed.

        Raises:
            BadModel: the model that is installed does not work.
        """
        path = self._find()
        if path is None:
            return None
        with self._lock:
            version = _version(path)
            if self._refused is not None and self._refused[0] == version:
                raise BadModel(self._refused[1])
            if self._loaded is None or self._loaded[0] != version:
                self._loaded = version, Segmenter(path)
            segmenter = self._loaded[1]
        return self._alphas.get((version, digest(picture)), lambda: self._cut(version, segmenter, picture))

    def _cut(self, version: _Version, segmenter: Segmenter, picture: Image.Image) -> Image.Image:
        try:
            return segmenter.alpha(picture)
        except BadModel as error:
            self._refused = version, str(error)
            raise
        except Exception as error:  # whatever an inference library may raise: a reference can be used as it is
            _log.warning("The segmentation model failed", exc_info=error)
            raise BadModel(f"The segmentation model failed on this picture ({type(error).__name__}).") from error


def _version(path: Path) -> _Version:
    try:
        stat = path.stat()
    except OSError as error:
        raise BadModel(f"The segmentation model {path.name!r} cannot be read: {error.strerror or error}.") from error
    return path, stat.st_mtime_ns, stat.st_size
