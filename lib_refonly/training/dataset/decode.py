"""The first stage: finding pictures in a folder and opening them safely."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from lib_refonly.errors import BadPicture, BadSettings
from lib_refonly.imaging.decode import DEFAULT_LIMITS, FORMATS, Limits, open_picture
from lib_refonly.training.dataset.stages import Item


def find_pictures(source: Path) -> tuple[list[Item], int]:
    """Every file in `source` and its subfolders that is a picture by its ending, by path; and how many other files there are.

    Hidden files and folders are passed over, links to folders are not followed.

    Raises:
        BadSettings: no such folder, or no pictures in it.
    """
    if not source.is_dir():
        raise BadSettings(f"There is no folder {source}.")
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in FORMATS}
    found, others = [], 0
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith("."):
                continue
            if os.path.splitext(name)[1].lower() not in endings:
                others += 1
                continue
            found.append(_item(source, Path(folder, name)))
    if not found:
        raise BadSettings(f"{source} has no pictures ({', '.join(sorted(endings))}).")
    return sorted(found, key=lambda item: item.about["file"]), others


def _item(source: Path, path: Path) -> Item:
    file = path.relative_to(source).as_posix()
    try:
        stat = path.lstat()
        state = [stat.st_size, stat.st_mtime_ns]
    except OSError:  # gone in between, which the stage will say
        state = []
    return Item(hashlib.blake2b(os.fsencode(file), digest_size=8).hexdigest(), {"file": file, "state": state})


@dataclass(frozen=True)
class Decode:
    """Opens an item's file: upright by its EXIF, in sRGB, RGB or RGBA, and no longer than `side` pixels. Files that lead out of `source` are refused.

    smallest: shorter side, px, that a picture has to have. limits: what a file may cost before it is decoded.
    """

    source: Path
    side: int = 1024
    smallest: int = 128
    limits: Limits = DEFAULT_LIMITS

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"stage": "decode 1", "side": self.side, "smallest": self.smallest, "limits": asdict(self.limits)}

    def __call__(self, item: Item) -> Item:
        path = self.source / item.about["file"]
        try:
            if not path.resolve().is_relative_to(self.source.resolve()):
                return item.out("broken: it is a link out of the folder")
            picture = open_picture(path, limits=self.limits)
        except BadPicture as error:
            return item.out(f"broken: {error}")
        except (OSError, RuntimeError, ValueError) as error:  # links in a circle, names that no disk has
            return item.out(f"broken: this can't be a file ({type(error).__name__})")
        item = item.knowing(size=list(picture.size))
        if min(picture.size) < self.smallest:
            return item.out("too small")
        picture.thumbnail((self.side, self.side), Image.Resampling.LANCZOS)
        return replace(item, picture=picture)
