"""ONE-PIC's context reuse: what a canvas costs beside one panel, and how far it then is from the exact picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from PIL import Image

from benchmarks import networks
from benchmarks.measure import Clock, Contender, Spread, Step, ratios, run_rounds
from benchmarks.results import Gate, Result, Table
from lib_refonly.conditioning.canvas import CleanContext
from lib_refonly.conditioning.plan import Plan
from lib_refonly.errors import PainterError
from lib_refonly.hosts.diffusers import session
from lib_refonly.hosts.noise import Noise
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
ONE, WHOLE, BETWEEN = "one panel", "a step of the whole canvas", "a step between"
REAL_SIZE = "sd15"
REAL_SIDE = 32
"""Latent cells of a panel's side, at the real size."""
ENOUGH, LIMIT = 35.0, 2.0
"""dB against the exact picture, and times the cost of one panel: the aim."""
SETTINGS = OnePicPaintSettings(steps=20, seed=1, cfg=1.0)

ABOUT = f"""dB: `tiny-base` with its LoRA for {TASK}, 2 by 2 panels of {SIDE} px, one of them painted, {SETTINGS.steps} steps {SETTINGS.sampler}, \
CFG {SETTINGS.cfg:g}, {PICTURES} canvases of the samples: the target panel against the exact one (PSNR), lowest and highest of the {PICTURES}. \
Cost: of those canvases, beside one panel alone with the same UNet, in the same round. So small a UNet is mostly overhead; what a real one saves is in the \
second column: a UNet of {networks.SHAPES[REAL_SIZE].title}'s size with random weights, panels of {8 * REAL_SIDE} px, one row, a step of the whole canvas and \
one between two such, each beside one panel's step in the same round ({{whole}} and {{between}} of it), over {SETTINGS.steps} steps. Clock: {{clock}}."""


def measure(device: str, rounds: int, clock: Clock) -> Result:
    """Raises: PainterError: the LoRA is not installed."""
    file = choose(TASK, task_named(TASK).layout.name, AUTO, loras())
    if file is None:
        raise PainterError(f"There is no LoRA for {TASK}.")
    base, lows = TextToImage(EMBEDDED / "tiny-base", device), read(file.path)[0]
    painted, wholes = dict[int, list[Painted]](), dict[int, float]()

    def canvases(reuse: int) -> None:
        with _widths(base.unet) as widths:
            painted[reuse] = [paint(base, replace(project, reuse=reuse), SETTINGS, lows) for project in projects()]
        wholes[reuse] = widths.count(max(widths)) / len(widths)

    @contextmanager
    def round_() -> Iterator[Mapping[str, Step]]:
        yield {ONE: lambda: _single(base, lows), **{_name(reuse): partial(canvases, reuse) for reuse in REUSED}}

    seconds = run_rounds([round_], rounds, clock)
    near = {reuse: [_decibels(one, exact) for one, exact in zip(painted[reuse], painted[1], strict=True)] for reuse in REUSED[1:]}
    return summarise(seconds, run_rounds(_real_size(device), rounds, clock), wholes, near, clock.name)


@contextmanager
def _widths(unet: torch.nn.Module) -> Iterator[list[int]]:
    """Of what the UNet computes in each call, cells."""
    widths: list[int] = []
    handle = unet.get_submodule("conv_out").register_forward_pre_hook(lambda _, args: widths.append(args[0].shape[-1]))
    yield widths
    handle.remove()


def _real_size(device: str) -> list[Contender]:
    """One panel, and the steps of a canvas, in a UNet of a real size. The first two of a session are not timed: from the third on a step between has two
    whole ones to go by.
    """
    shape = networks.SHAPES[REAL_SIZE]
    unet = networks.unet(shape, device, torch.float32)
    sample, text = torch.randn(1, 4, 2 * REAL_SIDE, 2 * REAL_SIDE, device=device), torch.randn(1, 77, shape.width, device=device)
    target = torch.zeros(sample.shape[-2:], dtype=torch.bool)
    target[REAL_SIDE:, REAL_SIDE:] = True
    plan = Plan(canvas=CleanContext(sample, target, reuse=2))
    noise = Noise(torch.linspace(0.9991, 0.0047, 1000), "epsilon")

    @torch.no_grad()
    def step(x: torch.Tensor, t: float) -> None:
        unet(x, torch.tensor(t, device=device), text, return_dict=False)

    @contextmanager
    def panel() -> Iterator[Mapping[str, Step]]:
        yield {ONE: partial(step, sample[..., :REAL_SIDE, :REAL_SIDE].contiguous(), 900.0)}

    @contextmanager
    def canvas() -> Iterator[Mapping[str, Step]]:
        with session(unet, plan, noise):
            step(sample, 980.0)
            step(sample, 940.0)
            yield {WHOLE: partial(step, sample, 900.0), BETWEEN: partial(step, sample, 860.0)}

    return [panel, canvas]


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


def summarise(
    seconds: Mapping[str, list[float]], real: Mapping[str, list[float]], wholes: Mapping[int, float], near: Mapping[int, list[float]], clock: str
) -> Result:
    """A table, and the aim, held against what the real size costs: the cheapest that is near enough. wholes: share of the steps with the whole canvas."""
    cost = {name: Spread.of(values) for name, values in ratios(seconds, (ONE,)).items()}
    whole, between = (Spread.of(ratios(real, (ONE,))[name]).median for name in (WHOLE, BETWEEN))
    rows, added = [], dict[int, float]()
    for reuse in REUSED:
        away = "-" if reuse == 1 else f"{min(near[reuse]):.1f} to {max(near[reuse]):.1f}"
        added[reuse] = wholes[reuse] * whole + (1 - wholes[reuse]) * between
        rows.append((_name(reuse), f"{wholes[reuse] * SETTINGS.steps:g}", f"{added[reuse]:.2f}", cost[_name(reuse)].text(2)[0], away))
    enough = [reuse for reuse, values in near.items() if min(values) >= ENOUGH] or [1]
    best = min(enough, key=added.__getitem__)
    gate = Gate(f"one panel's cost, times, at {ENOUGH:g} dB or more ({_name(best)}):", added[best], LIMIT)
    table = Table(
        ("2 x 2 canvas", "whole steps", f"{networks.SHAPES[REAL_SIZE].title}'s size: times one panel", "tiny-base: times one panel", "dB"), tuple(rows)
    )
    samples = dict(seconds) | {f"real size, {name}": values for name, values in real.items()}
    samples |= {f"dB, {_name(reuse)}": values for reuse, values in near.items()}
    about = ABOUT.format(clock=clock, whole=f"{whole:.2f}", between=f"{between:.2f}")
    return Result("context-reuse", "ONE-PIC: the context kept for some steps", about, (table,), samples, (gate,))
