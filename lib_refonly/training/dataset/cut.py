"""The second stage: the character alone, on black (section 3.2 of the paper: "we use ISNet ... to remove dirty data or background")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lib_refonly.errors import BadModel
from lib_refonly.imaging.background import on_background
from lib_refonly.imaging.segment import Segmenter
from lib_refonly.training.dataset.shards import file_digest
from lib_refonly.training.dataset.stages import Item

_FEWEST = 0.02
"""Of a picture that a character has to cover."""


@dataclass(frozen=True)
class Cut:
    """Lays the character on black: by the picture's own transparency, else by the segmentation `model` (.onnx), else the picture stays as it is.

    "cut" in what is known of the item says which: "alpha", "model" or "no".
    """

    model: Path | None = None
    _segmenter: Segmenter | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_segmenter", Segmenter(self.model) if self.model else None)

    @cached_property
    def _digest(self) -> str:
        try:
            return file_digest(self.model) if self.model else ""
        except OSError as error:
            raise BadModel(f"The segmentation model {self.model} cannot be read ({error.strerror or error}).") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return _read_once, (self.model,)

    @property
    def settings(self) -> Mapping[str, Any]:
        """Raises: BadModel: the model can't be read."""
        return {"stage": "cut 1", "model": self._digest}

    def __call__(self, item: Item) -> Item:
        """Raises: BadModel: the model does not work."""
        picture = item.picture
        assert picture is not None
        if picture.mode == "RGBA":
            return _laid(item, picture.getchannel("A"), "alpha")
        if self._segmenter is None:
            return item.knowing(cut="no")
        return _laid(item, self._segmenter.alpha(picture), "model")


@lru_cache(maxsize=1)
def _read_once(model: Path | None) -> Cut:
    """In another process, which shall not read the model for every chunk."""
    return Cut(model)


def _laid(item: Item, alpha: Image.Image, how: str) -> Item:
    picture = item.picture
    assert picture is not None
    cover = float(np.mean(np.asarray(alpha) > 127))
    item = item.knowing(cut=how, cover=round(cover, 4))
    if cover < _FEWEST:
        return item.out("empty: hardly any character is left" if cover else "empty: no character is left")
    return replace(item, picture=on_background(item.picture, "black", alpha)) if item.picture else item
