"""Pictures as the WebUI hands them over, and a bounded store of those that an infotext may ask for again."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lib_refonly.errors import BadPicture, CannotWrite
from lib_refonly.imaging.decode import decode_base64, open_picture
from lib_refonly.imaging.infotext import png_bytes, write_atomically

_NAME = re.compile(r"[0-9a-f]{16}")


def picture_of(value: Any) -> Image.Image | None:
    """From the page: a `Path` or a data: text. From the API: base64 text. From other extensions: a picture or an array. None: no picture.

    Raises:
        BadPicture: anything else; a text that is a file name or an address is never opened.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return decode_base64(value) if value else None
    if isinstance(value, Path):
        return open_picture(value)
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim in (2, 3):
        return Image.fromarray(value)
    raise BadPicture(f"A picture is expected here, not {type(value).__name__}.")


class PictureStore:
    """Pictures by the hash of what they look like, `limit` bytes in all; what was used longest ago goes first. The folder is made when needed."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit

    def keep(self, picture: Image.Image) -> str:
        """Store it; returns its name. A full disk loses the copy, not the run."""
        name = hashlib.sha256(f"{picture.mode} {picture.size}".encode() + picture.tobytes()).hexdigest()[:16]
        path = self._path(name)
        try:
            if path.is_file():
                os.utime(path)
            elif self.limit:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_atomically(path, png_bytes(picture))
                self._tidy()
        except (OSError, CannotWrite):
            pass
        return name

    def get(self, name: str) -> Image.Image | None:
        """None: not there any more, or no name of ours."""
        if not _NAME.fullmatch(name) or not self._path(name).is_file():
            return None
        try:
            return open_picture(self._path(name))
        except BadPicture:
            return None

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.png"

    def _tidy(self) -> None:
        files = sorted(((file.stat().st_mtime, file.stat().st_size, file) for file in self.folder.glob("*.png")), reverse=True)
        room = self.limit
        for place, (_, size, file) in enumerate(files):
            room -= size
            if room < 0 and place:  # the newest stays, however large
                file.unlink(missing_ok=True)
