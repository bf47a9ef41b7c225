"""Settings out of a picture's own text (infotext)."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.infotext import read_infotext, read_png_infotext
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.settings import specs
from lib_refonly.studio.engine import WEIGHTS

_OURS = "RefOnly "


@dataclass(frozen=True)
class Found:
    """Settings by field name, the name of the model ("" when the picture doesn't say), and the references' weights as they are written."""

    settings: dict[str, Any]
    model: str
    weights: str = ""

    def weights_of(self, slots: int, largest: float) -> list[float]:
        """A weight for each slot of the page; 1 where the picture tells none. Only their ratio counts, so too large ones are lowered together.

        Raises:
            BadSettings: they are no weights.
        """
        try:
            told = [float(weight) for weight in self.weights.split()]
        except ValueError:
            told = [-1.0]
        if not all(0 <= weight < math.inf for weight in told):
            raise BadSettings(f"The weights of the references in this picture can't be read: {self.weights[:80]!r}.")
        scale = min(1.0, largest / max(told, default=1.0)) if any(told) else 1.0
        return [weight * scale for weight in told[:slots]] + [1.0] * (slots - len(told))


def found_in(path: Path | str) -> Found | None:
    """The settings inside a picture that was made here, or None for any other picture. What its text leaves out was at its default.

    Raises:
        BadPicture: the file is no picture.
    """
    fields = read_infotext(read_png_infotext(path))[2]
    if not any(name.startswith(_OURS) for name in fields):
        return None
    defaults = dataclasses.asdict(RefOnlySettings())
    settings = {name: fields.get(spec.infotext, defaults[name]) for name, spec in specs(RefOnlySettings).items() if spec.infotext}
    return Found(settings, fields.get("Model", ""), fields.get(WEIGHTS, ""))


def must_find(path: Path | str) -> Found:
    """Like `found_in`, where the painter expects settings to be there.

    Raises:
        BadSettings: the picture holds none. BadPicture: the file is no picture.
    """
    found = found_in(path)
    if found is None:
        raise BadSettings("This picture holds no settings. They are inside the PNG files saved here, until another program saves them anew.")
    return found
