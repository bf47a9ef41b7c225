"""A generation on a ONE-PIC canvas: the host paints the whole of it, and hands out the target panel.

The canvas is the picture that the host samples, so whatever it has (samplers, LoRAs, prompts, batches) works as ever. It is cut to the target before it is
decoded: no other panel reaches it through the VAE then, and less is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from lib_refonly.conditioning.canvas import CleanContext
from lib_refonly.conditioning.place import placed
from lib_refonly.conditioning.plan import Plan
from lib_refonly.errors import BadSettings
from lib_refonly.onepic.compose import composed
from lib_refonly.onepic.latents import clean_context
from lib_refonly.onepic.project import CELL, Project

Size = tuple[int, int]


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

    def begin(self, p: Any) -> None:
        """Have the host paint the canvas' size.

        Raises:
            BadSettings: an inpainting mask is there as well.
        """
        if getattr(p, "image_mask", None) is not None:
            raise BadSettings("A ONE-PIC canvas and img2img's inpainting don't go together: brush the part inside its panel, in the ONE-PIC tab.")
        given = getattr(p, "init_images", None)
        self._before = _Before((p.width, p.height), given, bool(getattr(p, "enable_hr", False)))
        p.width, p.height = self.project.size
        if given and isinstance(given[0], Image.Image):
            p.init_images = [self._begun_as(given[0])]
        if self._before.enable_hr:
            p.enable_hr = False
            p.comment("ONE-PIC: hires fix is off, because a canvas is painted in one pass. Send the result to img2img or extras for more pixels.")
        if self._only is not None:
            p.extra_generation_params["Size"] = f"{self.project.width}x{self.project.height}"

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
                self._context = clean_context(self.seen, self.project.layout, lambda pixels: _encoded(p.sd_model, pixels), self.project.reuse)
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


def _panel(cells: Any, place: tuple[int, int], height: int, width: int) -> Any:
    row, column = place
    return cells[row * height : (row + 1) * height, column * width : (column + 1) * width]


def _encoded(sd_model: Any, pixels: Tensor) -> Tensor:
    """[1, 3, H, W] in [-1, 1] through the host's VAE, in the UNet's scale."""
    from modules import devices, shared

    found = sd_model.encode_first_stage(pixels.to(shared.device, getattr(devices, "dtype_vae", pixels.dtype)))
    return (sd_model.get_first_stage_encoding(found) if isinstance(found, Tensor) else found.mode() * sd_model.scale_factor).float()
