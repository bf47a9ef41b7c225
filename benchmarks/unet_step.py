"""What one UNet step costs with reference + blueprint, beside ControlNet and IP-Adapter, relative to the bare UNet with a text of 77 tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import networks
from benchmarks.measure import Clock, Contender, Spread, Step, ratios, run_rounds
from benchmarks.results import Gate, Result, Table
from lib_refonly.conditioning.plan import ImagePrompt, ImageTokens, InputFeature, Plan
from lib_refonly.hosts.diffusers import anatomy, session
from lib_refonly.refonly.blueprint import BlueprintEncoder
from lib_refonly.refonly.image_encoder import encode

LIMIT = 1.02
STEPS = 20
BARE, AGAIN = "bare UNet, text of 77 tokens", "the same again (what chance does)"
OURS, FIRST, ENCODERS = "reference + blueprint", "reference + blueprint, first step of a picture", "reference and blueprint encoders, once a picture"
COUNTED = "reference + blueprint, counted in the layers it touches"
CONTROLNET, IP_ADAPTER, BOTH = "ControlNet", "IP-Adapter", "ControlNet + IP-Adapter"
SHOWN = (AGAIN, COUNTED, OURS, FIRST, CONTROLNET, IP_ADAPTER, BOTH, ENCODERS)

ABOUT = """UNet of {title}'s size with random weights, {pixels} px, one picture, {dtype} on {device}; the unit is one step of the bare UNet. \
Reference and blueprint as the studio runs them ({tokens} image tokens in place of the text, the lines' feature after the first convolution); \
ControlNet and IP-Adapter are diffusers' own, run as its pipelines run them. The first step of a picture also computes the image tokens' keys \
and values, which later steps reuse. The row "counted in the layers it touches" times conv_in and the cross-attentions alone, inside the same \
steps: what they take more than in the bare UNet, over a bare step. All other layers do the same work, so it says what whole steps say, with \
less chance in it; the limit is checked on it where it is measured (not on a GPU). The last row is a sum: encoders, first step and {later} later \
steps, over {steps} bare steps. Clock: {clock}; rounds: {rounds}."""


class Meter:
    """The time that a UNet spends in the layers that a session touches, the session's own work in them included."""

    def __init__(self, unet: Any, clock: Clock) -> None:
        found = anatomy(unet)
        self._layers, self._read = [found.conv_in, *(site.attention for site in found.sites)], clock.read
        self._begun = self._spent = 0.0
        self.seconds: dict[str, list[float]] = {}

    def around(self, name: str, step: Step) -> Step:
        """The same step, which also notes the time spent in those layers under `name`."""

        def run() -> None:
            self._spent = 0.0
            with ExitStack() as stack:
                for layer in self._layers:  # first of the hooks before the layer, last of those after it: all others lie in between
                    stack.callback(layer.register_forward_pre_hook(self._begin, prepend=True).remove)
                    stack.callback(layer.register_forward_hook(self._end).remove)
                step()
            self.seconds.setdefault(name, []).append(self._spent)

        return run

    def _begin(self, *_: object) -> None:
        self._begun = self._read()

    def _end(self, *_: object) -> None:
        self._spent += self._read() - self._begun


@dataclass
class Rig:
    """One UNet that all contenders share, and what goes into it."""

    shape: networks.Shape
    unet: Any
    sample: Tensor
    timestep: Tensor
    text: Tensor
    reference: Tensor
    lines: Tensor
    control: Any
    adapter: networks.IPAdapter
    embedding: Tensor
    vision: Any
    blueprint: BlueprintEncoder
    plan: Plan

    @classmethod
    def build(cls, shape: networks.Shape, device: str, dtype: torch.dtype) -> Rig:
        def noise(*size: int) -> Tensor:
            return torch.randn(size, generator=torch.Generator().manual_seed(len(size))).to(device, dtype)

        side = shape.latent
        unet = networks.unet(shape, device, dtype)
        vision = networks.image_encoder(shape, device, dtype)
        blueprint = networks.build(lambda: BlueprintEncoder(unet.config["block_out_channels"][0]), device, dtype)
        reference, lines = noise(1, 3, 224, 224), noise(1, 3, 8 * side, 8 * side)
        plan = Plan((ImagePrompt((ImageTokens(encode(vision, reference)),)),), (InputFeature(blueprint(lines)),))
        return cls(
            shape, unet, noise(1, 4, side, side), torch.tensor(500, device=device), noise(1, 77, shape.width), reference, lines,
            networks.controlnet(unet, device, dtype), networks.IPAdapter.for_unet(unet, device, dtype), noise(1, 1, networks.IP_EMBEDDING),
            vision, blueprint, plan,
        )  # fmt: skip

    def step(self, controlled: bool = False, adapted: bool = False) -> Tensor:
        """One call as a pipeline makes it: the ControlNet first, then the UNet."""
        extra: dict[str, Any] = {}
        if controlled:
            down, middle = self.control(self.sample, self.timestep, self.text, controlnet_cond=self.lines, return_dict=False)
            extra = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        if adapted:
            extra["added_cond_kwargs"] = {"image_embeds": [self.embedding]}
        return self.unet(self.sample, self.timestep, encoder_hidden_states=self.text, return_dict=False, **extra)[0]

    def encode(self) -> None:
        """What a picture needs before its first step."""
        encode(self.vision, self.reference)
        self.blueprint(self.lines)


def contenders(rig: Rig, meter: Meter | None = None) -> list[Contender]:
    """In the order of one round: ours lies between the two bare steps. The meter reads these three."""
    noted = meter.around if meter else lambda _, step: step

    @contextmanager
    def plain(name: str, step: Step) -> Iterator[Mapping[str, Step]]:
        yield {name: step}

    @contextmanager
    def ours() -> Iterator[Mapping[str, Step]]:
        with session(rig.unet, rig.plan):
            yield {FIRST: rig.step, OURS: noted(OURS, rig.step)}

    @contextmanager
    def theirs(name: str, controlled: bool, adapted: bool) -> Iterator[Mapping[str, Step]]:
        with rig.adapter if adapted else nullcontext():
            yield {name: partial(rig.step, controlled, adapted)}

    return [
        partial(plain, BARE, noted(BARE, rig.step)),
        ours,
        partial(plain, AGAIN, noted(AGAIN, rig.step)),
        partial(theirs, CONTROLNET, True, False),
        partial(theirs, IP_ADAPTER, False, True),
        partial(theirs, BOTH, True, True),
        partial(plain, ENCODERS, rig.encode),
    ]


@torch.no_grad()
def measure(size: str, device: str, rounds: int) -> Result:
    """Time every contender on one UNet. size: a name in `networks.SHAPES`. Half precision on CUDA, as in the studio."""
    on_cuda = device.startswith("cuda")
    dtype = torch.float16 if on_cuda else torch.float32
    rig = Rig.build(networks.SHAPES[size], device, dtype)
    clock = Clock.fitting(device, torch.get_num_threads())
    # Not counted: a GPU loads its kernels at the first call of each kind; a CPU only touches its memory.
    run_rounds(contenders(rig)[: None if on_cuda else 1], 1, clock)
    # Reading the clock inside a step would make the CPU wait for the GPU and so change what is measured.
    meter = None if on_cuda else Meter(rig.unet, clock)
    seconds = run_rounds(contenders(rig, meter), rounds, clock)
    about = ABOUT.format(
        title=rig.shape.title, pixels=8 * rig.shape.latent, dtype=str(dtype).removeprefix("torch."), device=device.upper(), clock=clock.name,
        rounds=rounds, tokens=rig.plan.image_prompts[0].pictures[0].tokens.shape[1], later=STEPS - 1, steps=STEPS,
    )  # fmt: skip
    return summarise(f"unet-step-{size}", f"One UNet step, {rig.shape.title}", about, seconds, meter.seconds if meter else {})


def summarise(name: str, title: str, about: str, seconds: dict[str, list[float]], inner: dict[str, list[float]]) -> Result:
    """The table and the gate out of raw seconds: of whole steps, and of the layers that ours touches (none on a GPU)."""
    relative = ratios(seconds, [BARE, AGAIN])
    # The unit is the mean of both bare runs; shown is how far the second is from the first.
    relative[AGAIN] = [again / first for again, first in zip(seconds[AGAIN], seconds[BARE], strict=True)]
    if inner:
        relative[COUNTED] = _counted(seconds, inner)
    rows = [(BARE, "1", ""), *((what, *Spread.of(relative[what]).text(3)) for what in SHOWN if what in relative)]
    picture = [(e + f + (STEPS - 1) * s) / STEPS for e, f, s in zip(relative[ENCODERS], relative[FIRST], relative[OURS], strict=True)]
    rows.append((f"reference + blueprint, a whole picture of {STEPS} steps", *Spread.of(picture).text(3)))
    judged = COUNTED if inner else OURS
    gate = Gate(f"{judged}, in bare steps:", Spread.of(relative[judged]).median, LIMIT)
    table = Table(("one step of", "in bare steps", "lowest to highest"), tuple(rows))
    return Result(name, title, about, (table,), seconds | {f"{what}, touched layers only": values for what, values in inner.items()}, (gate,))


def _counted(seconds: dict[str, list[float]], inner: dict[str, list[float]]) -> list[float]:
    """1 + what the touched layers take more than in the bare steps of the same round, in bare steps."""
    rounds = zip(inner[OURS], inner[BARE], inner[AGAIN], seconds[BARE], seconds[AGAIN], strict=True)
    return [1 + (ours - (first + again) / 2) / ((step + step_again) / 2) for ours, first, again, step, step_again in rounds]
