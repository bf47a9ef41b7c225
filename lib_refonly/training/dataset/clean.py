"""The third stage: empty and dirty pictures go, by the lines that are found in them; of the others these lines are the blueprint.

Section 3.2 of the paper: "Cleaning the data will result in a large amount of empty entries ... We use the grayscale image after the adaptive threshold
method of the OpenCV library to determine the empty images". A picture is empty when no pixel of it is a line. That one with far more lines than any
drawing has is noise, screen tone or a page of text is this project's own rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.infotext import png_bytes
from lib_refonly.imaging.lineart import adaptive_lines
from lib_refonly.training.dataset.duplicates import look
from lib_refonly.training.dataset.stages import Item

PICTURE, BLUEPRINT = "png", "blueprint.png"


@dataclass(frozen=True)
class Clean:
    """Throws empty and dirty pictures out, and keeps the others with their blueprint: white lines (255) on black, mode L, of the picture's size.

    fewest, most: shares of the pixels that are lines. block, c: of the adaptive threshold, as the paper's code has them.

    Raises:
        BadSettings: the shares are not in order.
    """

    fewest: float = 0.0005
    most: float = 0.25
    block: int = 5
    c: int = 7

    def __post_init__(self) -> None:
        if not 0 <= self.fewest < self.most <= 1:
            raise BadSettings(f"The shares of lines are 0 to 1, the lower one first; these are {self.fewest:g} and {self.most:g}.")

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"stage": "clean 1", "fewest": self.fewest, "most": self.most, "block": self.block, "c": self.c}

    def __call__(self, item: Item) -> Item:
        assert item.picture is not None
        picture = item.picture.convert("RGB")
        lines = adaptive_lines(np.asarray(picture), self.block, self.c)
        share = float(np.mean(lines == 0))
        item = item.knowing(lines=round(share, 5))
        if share == 0:
            return item.out("empty: there is no line in it")
        if share < self.fewest:
            return item.out("empty: there are hardly any lines in it")
        if share > self.most:
            return item.out("dirty: more lines than a drawing has")
        files = {PICTURE: png_bytes(picture), BLUEPRINT: png_bytes(Image.fromarray(255 - lines))}
        return replace(item.knowing(look=look(picture).hex()), picture=None, files=files)
