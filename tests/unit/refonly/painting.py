"""Small pictures for the tests of painting."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn

from lib_refonly.refonly.model import RefOnlyModel
from tests.tiny_models import tiny_model


def lively_model(seed: int = 0, **unet: Any) -> RefOnlyModel:
    """A random model whose pictures depend visibly on the lines: random blueprint encoders are all but silent."""
    model = tiny_model(seed, **unet)
    with torch.no_grad():
        model.blueprint.conv_out.weight.mul_(60)
    return model


def colours(seed: int = 0, size: tuple[int, int] = (48, 64)) -> Image.Image:
    """A reference: four coloured fields, other ones for each seed, RGB."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)).resize(size, Image.Resampling.NEAREST)


def drawing(size: tuple[int, int] = (96, 128), shift: int = 0) -> Image.Image:
    """Black lines on white: a ring with a bar in it, RGB."""
    picture = Image.new("RGB", size, "white")
    pen, (w, h) = ImageDraw.Draw(picture), size
    pen.ellipse((w * 0.1 + shift, h * 0.1, w * 0.9 + shift, h * 0.9), outline="black", width=max(1, min(size) // 30))
    pen.line((w * 0.3, h * 0.5, w * 0.7, h * 0.5), fill="black", width=max(1, min(size) // 30))
    return picture


def blueprint(size: tuple[int, int] = (48, 64), shift: int = 0) -> Image.Image:
    """The same as the model sees it: white on black, mode L."""
    return drawing(size, shift).convert("L").point(lambda level: 255 - level)


def differ(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of any channel of any pixel, in levels."""
    assert (one.size, one.mode) == (other.size, other.mode)
    return int(np.abs(np.asarray(one, np.int32) - np.asarray(other, np.int32)).max())


def hooks(module: nn.Module) -> int:
    """How many hooks hang on it and on all that is in it."""
    kinds = ("_forward_hooks", "_forward_pre_hooks")
    return sum(len(getattr(one, kind)) for one in module.modules() for kind in kinds)


class Calls:
    """Counts the calls of a network and the rows of each: `with Calls(unet) as calls: ...; calls.rows`."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self.rows: list[int] = []

    def __enter__(self) -> Calls:
        def count(_: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
            first = args[0] if args else next(iter(kwargs.values()))
            self.rows.append(first.shape[0])  # type: ignore[attr-defined]

        self._handle = self._network.register_forward_pre_hook(count, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()
