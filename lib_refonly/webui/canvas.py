"""A generation on a ONE-PIC canvas: the host paints the whole of it, and hands out the target panel.

The canvas is the picture that the host samples, so whatever it has (samplers, LoRAs, prompts, batches) works as ever. It is cut to the target before it is
decoded: no other panel reaches it through the VAE then, and less is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from lib_refonly.conditioning.canvas import CleanContext
from lib_refonly.conditioning.place import placed
from lib_refonly.conditioning.plan import Plan
from lib_refonly.errors import BadSettings, PainterError
from lib_refonly.onepic.compose import composed
from lib_refonly.onepic.latents import clean_context
from lib_refonly.onepic.project import CELL, Project
from lib_refonly.ui.request import names

Size = tuple[int, int]
_OWN_SIZE = "_refonly_own_size"


@dataclass
class _Before:
    """What the host had before the canvas took its place."""

    size: Size
    init_images: list[Any] | None
    enable_hr: bool


class Canvas:
    """One run's. `begin` and `end` around it, `context` before its first pass."""

    def __init__(self, project: Project) -> None:
        """Raises: BadSettings: there is nothing to paint. BadPicture: a panel's picture is none."""
        project.check_ready()
        self.project, self.seen = project, composed(project)
        self._before: _Before | None = None
        self._context: CleanContext | None = None
        self._forget_init: Callable[[], None] = lambda: None

    def begin(self, p: Any) -> None:
        """Have the host paint the canvas' size. Other extensions' `process` still sees the target's, where ControlNet is to act on it alone.

        Raises:
            BadSettings: an inpainting mask is there as well.
        """
        if getattr(p, "image_mask", None) is not None:
            raise BadSettings("A ONE-PIC canvas and img2img's inpainting don't go together: brush the part inside its panel, in the ONE-PIC tab.")
        given = getattr(p, "init_images", None)
        self._before = _Before(vars(p).pop(_OWN_SIZE, (p.width, p.height)), given, bool(getattr(p, "enable_hr", False)))
        start = [self._begun_as(given[0])] if given and isinstance(given[0], Image.Image) else given
        if self._controlled:
            p.width, p.height = self.project.width, self.project.height
            self._forget_init = _at_init(p, lambda: self._take_over(p, start))
        else:
            self._take_over(p, start)
        if self._before.enable_hr:
            p.enable_hr = False
            p.comment("ONE-PIC: hires fix is off, because a canvas is painted in one pass. Send the result to img2img or extras for more pixels.")
        if self._only is not None:
            p.extra_generation_params["Size"] = f"{self.project.width}x{self.project.height}"

    def _take_over(self, p: Any, start: list[Any] | None) -> None:
        p.width, p.height = self.project.size
        if start is not None:
            p.init_images = start

    def _begun_as(self, picture: Image.Image) -> Image.Image:
        """The canvas with img2img's picture in the target panels."""
        whole, project = self.seen.canvas.copy(), self.project
        fitted = picture.convert("RGB").resize((project.width, project.height), Image.Resampling.LANCZOS)
        for number, panel in enumerate(project.panels):
            if panel.role == "target":
                whole.paste(fitted, project.layout.box(number, project.width, project.height)[:2])
        return whole

    def end(self, p: Any) -> None:
        """Give the host back what it had; some run the same `p` again. May be called twice."""
        if self._before is not None:
            self._forget_init()
            p.width, p.height = self._before.size
            if self._before.init_images is not None:
                p.init_images = self._before.init_images
            if self._before.enable_hr:
                p.enable_hr = True
            self._before = None

    @property
    def inner(self) -> Size:
        """(width, height) px that others paint for: the target panel, where they act on it alone."""
        return (self.project.width, self.project.height) if self._placed else self.project.size

    @property
    def _placed(self) -> bool:
        return self.project.alone and self._only is not None

    @property
    def _controlled(self) -> bool:
        """Whether ControlNet acts on the target panel alone."""
        return self.project.control_alone and self._only is not None

    @property
    def _only(self) -> int | None:
        """The panel that is painted, where it is one alone, and all of it."""
        height, width = self.project.height // CELL, self.project.width // CELL
        cells = self.seen.target
        layout = self.project.layout
        full = [number for number in range(layout.panels) if _panel(cells, layout.place(number), height, width).all()]
        return full[0] if len(full) == 1 and int(cells.sum()) == height * width else None

    def context(self, p: Any) -> CleanContext:
        """The canvas in the loaded checkpoint's latents; encoded once."""
        if self._context is None:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(0)  # some hosts draw from the VAE's distribution
                context = clean_context(self.seen, self.project.layout, lambda pixels: _encoded(p.sd_model, pixels), self.project.reuse)
            self._context = replace(context, control=context.place() if self._controlled else None)
        return self._context

    def around(self, plan: Plan, context: CleanContext) -> Plan:
        """The run's whole plan, from the one that was made for `inner`."""
        if plan and self._placed:
            plan = placed(plan, context.place(), (context.target.shape[0], context.target.shape[1]))
        return plan + Plan(canvas=context)

    def cut(self, samples: Any) -> Any:
        """The host's finished latents [n, C, H, W] -> the target's, where it is one panel; else the canvas with its context in place."""
        if self._context is None or not isinstance(samples, Tensor) or getattr(samples, "already_decoded", False):
            return samples
        return self._context.place().cut(samples).contiguous() if self._only is not None else self._context.clean(samples)


def announce(p: Any, arguments: Sequence[Any]) -> None:
    """In before_process: give `p` the size that a ControlNet is to prepare its picture for, whose `process` may come before ours.

    What is wrong with the canvas is said later, by `Canvas`.
    """
    p.width, p.height = vars(p).pop(_OWN_SIZE, (p.width, p.height))  # of a run that ended before it began
    first, place = (arguments[0] if arguments else None), names().index("canvas")
    given = first.get("canvas") if isinstance(first, Mapping) else arguments[place] if place < len(arguments) else None
    try:
        project = Project.read(given) if given else None
    except PainterError:
        return
    if project is not None:
        vars(p)[_OWN_SIZE] = p.width, p.height
        one = sum(panel.role == "target" for panel in project.panels) == 1
        p.width, p.height = (project.width, project.height) if project.control_alone and one else project.size


def _at_init(p: Any, act: Callable[[], None]) -> Callable[[], None]:
    """Act between the last extension's `process` and the host's own preparations. Returns what takes this back."""

    def forget() -> None:
        if vars(p).get("init") is init:
            del p.init

    def init(*arguments: Any, **named: Any) -> Any:
        forget()
        act()
        return own(*arguments, **named)

    own, p.init = p.init, init
    return forget


def _panel(cells: Any, place: tuple[int, int], height: int, width: int) -> Any:
    row, column = place
    return cells[row * height : (row + 1) * height, column * width : (column + 1) * width]


def _encoded(sd_model: Any, pixels: Tensor) -> Tensor:
    """[1, 3, H, W] in [-1, 1] through the host's VAE, in the UNet's scale."""
    from modules import devices, shared

    found = sd_model.encode_first_stage(pixels.to(shared.device, getattr(devices, "dtype_vae", pixels.dtype)))
    return (sd_model.get_first_stage_encoding(found) if isinstance(found, Tensor) else found.mode() * sd_model.scale_factor).float()
