"""Tags of a picture by a WD14 tagger (SmilingWolf's, on huggingface.co): `model.onnx` and `selected_tags.csv` in one folder."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
from PIL import Image

from lib_refonly.errors import BadModel
from lib_refonly.imaging import onnx_net
from lib_refonly.imaging.fit import Letterbox

MODEL, TAGS = "model.onnx", "selected_tags.csv"
KIND = onnx_net.Kind(
    "tagger",
    "model.onnx of one of SmilingWolf's taggers on huggingface.co",
    " Where the onnxruntime package is missing, OpenCV tries, and does not know every network.",
)
SIDE = 448
"""The network's input: [1, 448, 448, 3], BGR 0..255, the picture on a white square. Its output: [1, tags], 0..1."""
GENERAL, CHARACTER = 0.35, 0.85
"""Above which a tag is believed: what its author recommends, and surer ones for the names of characters."""
_RATING, _CHARACTER = 9, 4
"""Categories, as Danbooru numbers them."""
_LARGEST = 20_000_000


class Tagger:
    """One tagger. Its files are read at the first picture.

    Args:
        folder: holds MODEL and TAGS.
        backend: see `onnx_net.load`.
    """

    def __init__(self, folder: Path, backend: str = "auto") -> None:
        self.folder, self.backend = folder, backend
        self._run: onnx_net.Run | None = None
        self._tags: list[tuple[str, int]] = []

    def tags(self, picture: Image.Image) -> list[str]:
        """Characters first, then the rest, the surest first; with spaces, without ratings. Transparency counts as white.

        Raises:
            BadModel: a file is missing or damaged, or they do not belong together.
        """
        if self._run is None:
            self._tags = read_tags(self.folder / TAGS)
            self._run = onnx_net.load(self.folder / MODEL, KIND, self.backend)
        sure = self._run(pixels(picture))
        if sure.shape != (1, len(self._tags)):
            raise BadModel(f"{MODEL} in {self.folder.name} gives {list(sure.shape)}, and {TAGS} names {len(self._tags)} tags: they do not belong together.")
        found = [(category != _CHARACTER, -float(one), name) for (name, category), one in zip(self._tags, sure[0], strict=True) if _believed(category, one)]
        return [readable(name) for _, _, name in sorted(found)]


def _believed(category: int, sure: float) -> bool:
    return category != _RATING and sure > (CHARACTER if category == _CHARACTER else GENERAL)


def pixels(picture: Image.Image) -> np.ndarray:
    """float32 [1, 448, 448, 3]: BGR, 0..255."""
    on_white = Image.new("RGB", picture.size, "white")
    on_white.paste(picture.convert("RGB"), mask=picture.convert("RGBA").getchannel("A"))
    square = Letterbox.of(picture.size, SIDE, SIDE).apply(on_white, (255, 255, 255), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(square, np.float32)[None, :, :, ::-1])


def read_tags(path: Path) -> list[tuple[str, int]]:
    """(name, category) in the order of the network's output. Raises: BadModel: no such file, or it is no such list."""
    try:
        if path.stat().st_size > _LARGEST:
            raise BadModel(f"{path.name} is too large for a list of tags.")
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
        return [(row["name"], int(row["category"])) for row in rows]
    except OSError as error:
        raise BadModel(f"{path.name} of the tagger {path.parent.name!r} cannot be read: {error.strerror or error}.") from error
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise BadModel(f"{path.name} of the tagger {path.parent.name!r} is no list of tags with name and category. Download it again.") from error


def readable(tag: str) -> str:
    """Spaces for underscores, but in emoticons such as ^_^ and o_o: those have no word of two letters."""
    return tag.replace("_", " ") if re.search(r"[^\W_]{2}", tag) else tag
