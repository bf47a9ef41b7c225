"""How a canvas is painted; what is on it is the project's (`project.py`)."""

from __future__ import annotations

from dataclasses import dataclass

from lib_refonly.refonly.settings import SAMPLERS
from lib_refonly.settings import check, setting

AUTO, NONE = "for the task", "none"
TINY, TINY_SIDE = "tiny-base", 128
"""The embedded checkpoint, and the px of the panels that its LoRAs were trained with."""


@dataclass(frozen=True)
class OnePicPaintSettings:
    """`model`: a name of `shelf.bases`. `lora`: a name of `shelf.loras`; AUTO takes the one for the canvas' task, NONE takes none."""

    model: str = setting(TINY, "Model", "The checkpoint that paints.")
    lora: str = setting(AUTO, "LoRA", "What was learnt for a task. Without one the checkpoint fills the panel in as it sees fit.")
    lora_strength: float = setting(1.0, "LoRA strength", "1 is what it was trained for.", minimum=0.0, maximum=2.0, step=0.05)
    steps: int = setting(20, "Steps", "More take longer; 20 are enough.", minimum=1, maximum=150, step=1)
    cfg: float = setting(
        2.5, "CFG scale", "How closely the prompt is followed. 1 is quickest, and follows the other panels most.", minimum=1.0, maximum=30.0, step=0.5
    )
    seed: int = setting(0, "Seed", "The same number paints the same picture.", minimum=0, maximum=2**32 - 1, step=1)
    sampler: str = setting("UniPC", "Sampler", "The order of the steps.", choices=SAMPLERS)
    lines_back: float = setting(
        1.0,
        "Lines on top",
        "Where a line drawing is coloured: lays it over the result, crisp and as large as it is. 0 leaves the painting alone.",
        minimum=0.0,
        maximum=1.0,
        step=0.05,
    )
    flats: float = setting(
        0.0,
        "Even out regions",
        "Where a line drawing is coloured: pulls the colour inside each closed outline together. 0 leaves the painting alone.",
        minimum=0.0,
        maximum=1.0,
        step=0.05,
    )

    def __post_init__(self) -> None:
        check(self)
