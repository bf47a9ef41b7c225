"""What a WebUI's panel asks of Reference Only: its settings and its units. One typed object drives page, API, infotext, X/Y/Z and schema."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

from lib_refonly.conditioning.window import Window
from lib_refonly.errors import BadSettings
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.settings import check, like, setting

UNITS = 4
FITTINGS = ("pad", "crop", "stretch")
PASSES = ("both", "low", "high")
PREPROCESSORS = ("auto", "as it is", "adaptive threshold", "canny", "scribble")
_BLOCK = re.compile(r"(IN|M|OUT)(\d{0,2})(?:-(?:IN|M|OUT)?(\d{1,2}))?\s*[:=]\s*(\d+(?:\.\d*)?|\.\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class PanelSettings:
    """The panel's own settings. `model` names a full model or an adapter ("" = the first that fits)."""

    enabled: bool = setting(False, "Reference Only", "Colours a line drawing after a reference.")
    model: str = setting("", "Model", "What reads the reference. Empty takes the first that fits the checkpoint.", infotext="RefOnly model")
    strength: float = setting(
        1.0, "Reference strength", "How much the references decide. 0 is the checkpoint alone.", minimum=0, maximum=2, step=0.05, infotext="RefOnly strength"
    )
    line_strength: float = like(RefOnlySettings, "blueprint_strength")
    line_start: float = like(RefOnlySettings, "blueprint_start")
    line_end: float = like(RefOnlySettings, "blueprint_end")
    preprocessor: str = setting("auto", "Preprocessor", "How the lines are found in the drawing.", infotext="RefOnly preprocessor")
    polarity: str = like(RefOnlySettings, "polarity")
    line_block: int = like(RefOnlySettings, "line_block")
    line_c: int = like(RefOnlySettings, "line_c")
    fitting: str = setting("pad", "Drawing on the canvas", "When the drawing has another shape than the picture.", choices=FITTINGS, infotext="RefOnly fitting")
    background: str = like(RefOnlySettings, "background")
    fit: str = like(RefOnlySettings, "fit")
    passes: str = setting("both", "Hires fix", "In which pass it acts.", choices=PASSES, infotext="RefOnly passes")
    must: bool = setting(False, "Stop the run when it cannot act", "Otherwise the picture is painted without it, and a note says why.", infotext="RefOnly must")

    def __post_init__(self) -> None:
        check(self)
        Window(self.line_start, self.line_end)

    def acts_in(self, hires_pass: bool) -> bool:
        return self.passes == "both" or (self.passes == "high") == hires_pass


@dataclass(frozen=True)
class UnitSettings:
    """One reference's settings. `blocks`: factors at single blocks of the UNet, "IN04-IN08:0.5, M:0"."""

    weight: float = setting(1.0, "Weight", "Against the other references; 0 leaves it out.", minimum=0, maximum=2, step=0.05, infotext="weight")
    start: float = setting(0.0, "Start", "From which part of the run it acts.", minimum=0, maximum=1, step=0.01, infotext="start")
    end: float = setting(1.0, "End", "Until which part of the run it acts.", minimum=0, maximum=1, step=0.01, infotext="end")
    blocks: str = setting("", "Blocks", "Factors at single blocks of the UNet, such as IN04-IN08:0.5, M:0, OUT:1.2", infotext="blocks")

    def __post_init__(self) -> None:
        check(self)
        Window(self.start, self.end)
        block_weights(self.blocks)

    @property
    def window(self) -> Window:
        return Window(self.start, self.end)


@dataclass(frozen=True)
class Unit:
    """A reference picture with its settings and, perhaps, where on the canvas it acts (mode L, white = here)."""

    picture: Image.Image
    settings: UnitSettings = dataclasses.field(default_factory=UnitSettings)
    mask: Image.Image | None = None


def block_weights(text: str) -> Mapping[str, float]:
    """ "IN04-IN08:0.5, M:0, OUT:1.2" -> a factor by block name (IN04, M00, OUT11); IN or OUT alone mean all of them.

    Raises:
        BadSettings: it cannot be read; the text says which part.
    """
    weights: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.replace(";", ",").split(","))):
        found = _BLOCK.fullmatch(part)
        if not found:
            raise BadSettings(f"Blocks: {part!r} cannot be read. Write for example IN04-IN08:0.5, M:0, OUT:1.2")
        kind, first, last, value = found[1].upper(), found[2], found[3], float(found[4])
        numbers = [0] if kind == "M" else range(int(first or 0), int(last or first or 12) + 1)
        weights |= {f"{kind}{number:02d}": value for number in numbers}
    return weights
