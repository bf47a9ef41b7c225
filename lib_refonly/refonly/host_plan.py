"""From a panel's request to a plan for a WebUI's UNet: pictures made ready, read once, and put into whatever size a pass has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lib_refonly.conditioning.plan import COND, PARTIAL, UNCOND, ImagePrompt, ImageTokens, InputFeature, Plan, Window
from lib_refonly.errors import BadSettings
from lib_refonly.imaging import edges
from lib_refonly.imaging.fit import Letterbox, Size
from lib_refonly.imaging.lineart import adaptive_lines, find_blueprint
from lib_refonly.refonly.blueprint import BlueprintEncoder, blueprint_tensor
from lib_refonly.refonly.panel import PanelSettings, Unit, block_weights
from lib_refonly.refonly.prepare import keep_thin_lines

Preprocess = Callable[[Image.Image], Image.Image]
"""A host's own preprocessor: a drawing to white lines on black, mode L."""
_EVERY_ROW = frozenset({COND, PARTIAL, UNCOND})


@dataclass(frozen=True)
class Lines:
    """A drawing made ready: white on black, mode L, at the drawing's own size, and what was found by itself."""

    blueprint: Image.Image
    notes: tuple[str, ...] = ()


def find_lines(drawing: Image.Image, settings: PanelSettings, others: dict[str, Preprocess] | None = None) -> Lines:
    """The blueprint of a drawing, by the preprocessor that is asked for.

    Raises:
        BadSettings: there is no such preprocessor here.
    """
    name = settings.preprocessor
    if name == "auto":
        found = find_blueprint(drawing, polarity=settings.polarity, block=settings.line_block, c=settings.line_c)
        return Lines(found.blueprint, found.notes)
    if name == "as it is":
        return Lines(drawing.convert("L"))
    if name == "adaptive threshold":
        rgb = np.asarray(drawing.convert("RGB"))
        return Lines(Image.fromarray(255 - adaptive_lines(rgb, settings.line_block, settings.line_c)))
    if name in ("canny", "scribble"):
        return Lines(getattr(edges, name)(drawing))
    if name in (others or {}):
        return Lines((others or {})[name](drawing).convert("L").resize(drawing.size))
    raise BadSettings(f"There is no preprocessor {name!r} here. Take auto.")


def on_canvas(picture: Image.Image, size: Size, fitting: str) -> Image.Image:
    """Lay a blueprint or a mask on a canvas of `size`: padded with black, cropped to it, or stretched. Lines survive the reduction."""
    (w, h), (width, height) = picture.size, size
    scales = (width / w, height / h)
    scale = {"pad": min(scales), "crop": max(scales)}.get(fitting, 0.0)
    inner = size if not scale else (max(1, round(w * scale)), max(1, round(h * scale)))
    box = Letterbox(picture.size, inner, size, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return box.apply(keep_thin_lines(picture, box))


@dataclass(frozen=True)
class Part:
    """Inpainting only the masked part: what is painted is `box` (left, top, right, bottom) of a picture of size `whole`."""

    whole: Size
    box: tuple[int, int, int, int]

    def of(self, laid_out: Image.Image) -> Image.Image:
        return laid_out.crop(self.box)


@dataclass
class Conditions:
    """What one generation injects. `references`: for each unit its image tokens, [1, n, width]. `lines`: the blueprint, or None.

    `feature` depends on a pass's size alone, and is made once for each.
    """

    settings: PanelSettings
    units: Sequence[Unit]
    references: Sequence[Tensor]
    lines: Image.Image | None
    encoder: BlueprintEncoder | None

    def __post_init__(self) -> None:
        self._features: dict[tuple[Size, Part | None], Tensor] = {}

    def plan(self, size: Size, prompts: Prompts | None = None, part: Part | None = None) -> Plan:
        """For a pass of `size` (width, height) pixels. `prompts` makes the image prompts; by default they replace the text."""
        return Plan((prompts or replacing)(self, size, part), self._line_features(size, part))

    def mask(self, unit: Unit, size: Size, part: Part | None = None) -> Tensor | None:
        """Where a unit acts on the canvas, [H, W] in [0, 1]. Masks are drawn on the result's shape and stretched to it."""
        if unit.mask is None:
            return None
        mask = unit.mask.convert("L")
        if part is not None:
            mask = part.of(mask.resize(part.whole, Image.Resampling.BILINEAR))
        return torch.from_numpy(np.asarray(mask.resize(size, Image.Resampling.BILINEAR), dtype=np.float32) / 255)

    def _line_features(self, size: Size, part: Part | None) -> tuple[InputFeature, ...]:
        s = self.settings
        if self.lines is None or self.encoder is None or not s.line_strength:
            return ()
        key = (size, part)
        if key not in self._features:
            weight = next(self.encoder.parameters())
            canvas = on_canvas(self.lines, size, s.fitting) if part is None else _of_whole(self.lines, size, s.fitting, part)
            with torch.no_grad():
                self._features[key] = self.encoder(blueprint_tensor(canvas).to(weight.device, weight.dtype))
        # Unconditional rows see the lines too: CFG then pushes towards the reference, as "reference guidance" in the studio.
        return (InputFeature(self._features[key], s.line_strength, window=Window(s.line_start, s.line_end), roles=_EVERY_ROW),)


Prompts = Callable[[Conditions, Size, "Part | None"], tuple[ImagePrompt, ...]]


def _of_whole(lines: Image.Image, size: Size, fitting: str, part: Part) -> Image.Image:
    return on_canvas(part.of(on_canvas(lines, part.whole, fitting)), size, "stretch")


def replacing(conditions: Conditions, size: Size, part: Part | None = None) -> tuple[ImagePrompt, ...]:
    """One prompt in the text's place, in which the references share one attention: a full model's."""
    pictures = tuple(
        ImageTokens(tokens, unit.settings.weight, _on(conditions.mask(unit, size, part), tokens), unit.settings.window, block_weights(unit.settings.blocks))
        for unit, tokens in zip(conditions.units, conditions.references, strict=True)
    )
    return (ImagePrompt(pictures, conditions.settings.strength),) if pictures else ()


def _on(mask: Tensor | None, like: Tensor) -> Tensor | None:
    return None if mask is None else mask.to(like.device)
