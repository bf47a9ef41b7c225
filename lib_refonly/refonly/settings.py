"""The settings of Reference Only."""

from __future__ import annotations

from dataclasses import dataclass

from lib_refonly.errors import BadSettings
from lib_refonly.settings import check, setting

_SMALLEST = 64
SAMPLERS = ("UniPC", "DDIM", "DPM++ 2M", "DPM++ 2M Karras", "Euler", "Euler a", "LMS", "PNDM")


@dataclass(frozen=True)
class RefOnlySettings:
    """Everything that decides a coloured picture besides the pictures and the model. Units: steps are whole, starts and ends are
    fractions of the way from noise (0) to picture (1), sizes are pixels of the longer side.
    """

    seed: int = setting(-1, "Seed", "The same seed gives the same picture. -1 takes a new one each time.", minimum=-1, maximum=2**32 - 1, infotext="Seed")
    steps: int = setting(20, "Steps", "More steps, more care. 20 is what the paper uses.", minimum=1, maximum=150, step=1, infotext="Steps")
    sampler: str = setting("UniPC", "Sampler", "How the noise is taken away. UniPC is what the paper uses.", choices=SAMPLERS, infotext="Sampler")
    size: int = setting(
        0,
        "Size",
        "Longer side that the model paints at, in pixels. 0 takes the model's own.",
        minimum=0,
        maximum=2048,
        infotext="RefOnly size",
    )
    count: int = setting(1, "Variations", "How many pictures, each with the next seed.", minimum=1, maximum=16, step=1)
    reference_strength: float = setting(
        1.0,
        "Reference strength",
        "How much the reference decides the colours. 0 ignores it.",
        minimum=0,
        maximum=2,
        step=0.05,
        infotext="RefOnly reference strength",
    )
    reference_start: float = setting(
        0.0,
        "Reference start",
        "From which part of the run the reference acts.",
        minimum=0,
        maximum=1,
        step=0.01,
        infotext="RefOnly reference start",
    )
    reference_end: float = setting(
        1.0,
        "Reference end",
        "Until which part of the run the reference acts.",
        minimum=0,
        maximum=1,
        step=0.01,
        infotext="RefOnly reference end",
    )
    blueprint_strength: float = setting(
        1.0,
        "Line strength",
        "How closely the painting follows the lines. 0 ignores them.",
        minimum=0,
        maximum=2,
        step=0.05,
        infotext="RefOnly line strength",
    )
    blueprint_start: float = setting(
        0.0, "Line start", "From which part of the run the lines act.", minimum=0, maximum=1, step=0.01, infotext="RefOnly line start"
    )
    blueprint_end: float = setting(1.0, "Line end", "Until which part of the run the lines act.", minimum=0, maximum=1, step=0.01, infotext="RefOnly line end")
    guidance: float = setting(
        0.0,
        "Reference guidance",
        "Pushes the colours further towards the reference (CFG). 0 takes the model's own; 1 is off.",
        minimum=0,
        maximum=20,
        step=0.1,
        infotext="RefOnly guidance",
    )
    blueprint_guidance: float = setting(
        0.0,
        "Line guidance",
        "Pushes the drawing further towards the lines. 0 takes the model's own; 1 is off.",
        minimum=0,
        maximum=20,
        step=0.1,
        infotext="RefOnly line guidance",
    )
    lines: str = setting(
        "auto",
        "The drawing is",
        "Lines as they are, or a colour picture whose lines have to be found.",
        choices=("auto", "line art", "colour picture"),
        infotext="RefOnly drawing",
    )
    polarity: str = setting(
        "auto",
        "Line colour",
        "Dark lines on a light ground, or light lines on a dark one.",
        choices=("auto", "dark on light", "light on dark"),
        infotext="RefOnly polarity",
    )
    line_block: int = setting(
        5,
        "Line window",
        "Odd width of the window in which a line must be darker than its surroundings.",
        minimum=3,
        maximum=51,
        step=2,
        infotext="RefOnly line window",
    )
    line_c: int = setting(
        7,
        "Line contrast",
        "How much darker a line must be. Less finds fainter lines.",
        minimum=0,
        maximum=64,
        step=1,
        infotext="RefOnly line contrast",
    )
    background: str = setting(
        "auto",
        "Reference background",
        "What lies around the character in the reference. The model wants black there.",
        choices=("auto", "white", "black", "keep"),
        infotext="RefOnly background",
    )
    fit: str = setting(
        "pad",
        "Reference fit",
        "Pad keeps head and feet of a tall sheet; crop is what the paper's code does.",
        choices=("pad", "crop"),
        infotext="RefOnly fit",
    )
    paper: str = setting(
        "white",
        "Result background",
        "What lies around the finished character.",
        choices=("white", "black", "transparent", "as painted"),
        infotext="RefOnly paper",
    )
    lines_back: float = setting(
        1.0,
        "Lines on top",
        "Lays the line art back over the painting, crisp (multiply). 0 leaves the painting alone.",
        minimum=0,
        maximum=1,
        step=0.05,
        infotext="RefOnly lines on top",
    )
    flats: float = setting(
        0.0,
        "Even out regions",
        "Pulls the colour inside each closed outline together: cleaner flats, no spill. 0 leaves the painting alone.",
        minimum=0,
        maximum=1,
        step=0.05,
        infotext="RefOnly flats",
    )

    def __post_init__(self) -> None:
        check(self)
        if 0 < self.size < _SMALLEST:
            raise BadSettings(f"Size: {self.size} is too small to paint at. Take {_SMALLEST} or more, or 0 for the model's own.")
