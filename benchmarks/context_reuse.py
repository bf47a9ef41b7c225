"""ONE-PIC's context reuse: what a canvas costs beside one panel, and how far it then is from the exact picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
from PIL import Image

from benchmarks.measure import Clock, Spread, Step, ratios, run_rounds
from benchmarks.results import Gate, Result, Table
from lib_refonly.conditioning.plan import Plan
from lib_refonly.errors import PainterError
from lib_refonly.imaging.infotext import png_bytes
from lib_refonly.models.registry import EMBEDDED
from lib_refonly.onepic.compose import Painted
from lib_refonly.onepic.lora import Low, merged, read
from lib_refonly.onepic.painter import paint
from lib_refonly.onepic.project import Panel, Project
from lib_refonly.onepic.settings import AUTO, OnePicPaintSettings
from lib_refonly.onepic.shelf import choose, loras
from lib_refonly.onepic.tasks import project_of, task_named
from lib_refonly.refonly.text_to_image import TextToImage

TASK, SIDE, PICTURES = "colorize", 128, 3
REUSED = (1, 2, 3, 4, 5)
ONE = "one panel"
ENOUGH, LIMIT = 35.0, 2.0
"""dB against the exact picture, and times the cost of one panel: the aim."""
SETTINGS = OnePicPaintSettings(steps=20, seed=1)

ABOUT = f"""`tiny-base` with its LoRA for {TASK}: 2 by 2 panels of {SIDE} px, one of them painted, {SETTINGS.steps} steps {SETTINGS.sampler}, \
CFG {SETTINGS.cfg:g}; \
{PICTURES} canvases of the samples. Cost: of all canvases, beside one panel alone with the same UNet, in the same round. dB: the target panel against \
the exact one (PSNR), lowest and highest of the {PICTURES}. Clock: {{clock}}."""


def measure(device: str, rounds: int, clock: Clock) -> Result:
    """Raises: PainterError: the LoRA is not installed."""
    file = choose(TASK, task_named(TASK).layout.name, AUTO, loras())
    if file is None:
        raise PainterError(f"There is no LoRA for {TASK}.")
    base, lows = TextToImage(EMBEDDED / "tiny-base", device), read(file.path)[0]
    painted: dict[int, list[Painted]] = {}

    def canvases(reuse: int) -> None:
        painted[reuse] = [paint(base, replace(project, reuse=reuse), SETTINGS, lows) for project in projects()]

    @contextmanager
    def round_() -> Iterator[Mapping[str, Step]]:
        yield {ONE: lambda: _single(base, lows), **{_name(reuse): partial(canvases, reuse) for reuse in REUSED}}

    seconds = run_rounds([round_], rounds, clock)
    near = {reuse: [_decibels(one, exact) for one, exact in zip(painted[reuse], painted[1], strict=True)] for reuse in REUSED[1:]}
    return summarise(seconds, near, clock.name)


def projects() -> list[Project]:
    """Samples as canvases of the task: reference and lines, and the lines once more."""
    made = []
    for folder in sorted((EMBEDDED / "samples").iterdir())[:PICTURES]:
        reference, lines = (png_bytes(Image.open(folder / f"{part}.png").convert("RGB").resize((SIDE, SIDE))) for part in ("reference", "lines"))
        whole = project_of(task_named(TASK), SIDE, SIDE)
        panels = (Panel(picture=reference), Panel(picture=lines), Panel(picture=lines), Panel(role="target"))
        made.append(replace(whole, panels=panels))
    return made


def _single(base: TextToImage, lows: Mapping[str, Low]) -> None:
    with merged(base.unet, lows):
        for _ in range(PICTURES):
            base.paint([""], Plan(), size=(SIDE, SIDE), steps=SETTINGS.steps, cfg=SETTINGS.cfg, seed=SETTINGS.seed)


def _name(reuse: int) -> str:
    return "exact" if reuse == 1 else f"reuse {reuse}"


def _decibels(one: Painted, exact: Painted) -> float:
    """PSNR of the target panels."""
    pairs = zip(one.targets.values(), exact.targets.values(), strict=True)
    error = np.mean([np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2) for a, b in pairs])
    return float(10 * np.log10(255**2 / max(float(error), 1e-9)))


def summarise(seconds: Mapping[str, list[float]], near: Mapping[int, list[float]], clock: str) -> Result:
    """A table, and the aim: the cheapest that is near enough."""
    cost = {name: Spread.of(values) for name, values in ratios(seconds, (ONE,)).items()}
    rows = []
    for reuse in REUSED:
        away = "-" if reuse == 1 else f"{min(near[reuse]):.1f} to {max(near[reuse]):.1f}"
        rows.append((_name(reuse), *cost[_name(reuse)].text(2), away))
    enough = [reuse for reuse, values in near.items() if min(values) >= ENOUGH] or [1]
    best = min(enough, key=lambda reuse: cost[_name(reuse)].median)
    gate = Gate(f"one panel's cost, times, at {ENOUGH:g} dB or more ({_name(best)}):", cost[_name(best)].median, LIMIT)
    table = Table(("2 x 2 canvas", "cost, times one panel", "lowest to highest", "dB"), tuple(rows))
    samples = dict(seconds) | {f"dB, {_name(reuse)}": values for reuse, values in near.items()}
    return Result("context-reuse", "ONE-PIC: the context kept for some steps", ABOUT.format(clock=clock), (table,), samples, (gate,))
