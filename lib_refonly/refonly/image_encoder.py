"""The image prompt: a picture becomes the tokens that the UNet's cross-attention reads in place of a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from lib_refonly.errors import BadModel

if TYPE_CHECKING:
    from torch import Tensor, nn

FITS = ("pad", "crop")
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_THINNEST = 16
"""Sides longer than this many times the other are cut first: a strip of 1 x 20,000 would become 224 x 4,480,000."""
_HUGE = 4096


@dataclass(frozen=True)
class ImagePromptSpec:
    """How a picture is made ready. `size`: pixels of the square that the encoder sees; `mean`, `std`: per RGB channel, of values in [0, 1]."""

    size: int = 224
    mean: tuple[float, ...] = _CLIP_MEAN
    std: tuple[float, ...] = _CLIP_STD

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ImagePromptSpec:
        """Read a CLIP preprocessor_config.json, in its old (`"size": 224`) and new (`"size": {"shortest_edge": 224}`) spelling.

        Raises:
            BadModel: it resizes to something else than it crops to, or says something that CLIP's does not.
        """
        size = _side(config.get("size", 224), "shortest_edge")
        if size != _side(config.get("crop_size", size), "height"):
            raise BadModel("preprocessor_config.json: size and crop_size differ. This is no CLIP image processor of a RefOnly model.")
        if config.get("resample", Image.Resampling.BICUBIC) != Image.Resampling.BICUBIC:
            raise BadModel("preprocessor_config.json: only bicubic resizing (resample 3) is known.")
        mean, std = tuple(config.get("image_mean", _CLIP_MEAN)), tuple(config.get("image_std", _CLIP_STD))
        if len(mean) != 3 or len(std) != 3 or 0 in std:
            raise BadModel("preprocessor_config.json: image_mean and image_std need three numbers each, and std no zero.")
        return cls(size, mean, std)

    @property
    def config(self) -> dict[str, Any]:
        """The preprocessor_config.json that transformers' CLIPImageProcessor reads as the same thing."""
        return {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True, "do_resize": True, "do_center_crop": True, "do_rescale": True, "do_normalize": True,
            "size": {"shortest_edge": self.size},
            "crop_size": {"height": self.size, "width": self.size},
            "resample": int(Image.Resampling.BICUBIC),
            "rescale_factor": 1 / 255,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }  # fmt: skip


def _side(value: Any, key: str) -> int:
    side = value.get(key, value.get("height")) if isinstance(value, Mapping) else value
    if not isinstance(side, int) or isinstance(side, bool) or not 1 <= side <= 4096:
        raise BadModel(f"preprocessor_config.json: {value!r} is no picture size.")
    return side


def preprocess(image: Image.Image, spec: ImagePromptSpec, fit: str = "crop") -> Tensor:
    """A picture as the image encoder wants it: float32 [1, 3, S, S].

    `crop` is CLIP's own way and the paper's: shorter side to S (bicubic, the longer one rounded down), centre crop. `pad` first pads to a square
    with black, the background that the models were trained on, so that a tall sheet keeps head and feet. Transparent parts become black.
    """
    if fit not in FITS:
        raise ValueError(f"fit {fit!r} is none of {', '.join(FITS)}")
    picture = _on_black(image)
    picture = _centre(_short_side_to(_not_too_thin(picture), spec.size), spec.size) if fit == "crop" else _padded(picture, spec.size)
    pixels = np.asarray(picture, dtype=np.float32) / np.float32(255)
    pixels = (pixels - np.asarray(spec.mean, np.float32)) / np.asarray(spec.std, np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()


def _on_black(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer).convert("RGB")
    return image.convert("RGB")


def _not_too_thin(image: Image.Image) -> Image.Image:
    longest = min(image.size) * _THINNEST
    width, height = (min(side, longest) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _short_side_to(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    new = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
    return image.resize(new, Image.Resampling.BICUBIC)


def _centre(image: Image.Image, size: int) -> Image.Image:
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _padded(image: Image.Image, size: int) -> Image.Image:
    if max(image.size) > _HUGE:  # the square of a long strip would not fit in memory
        image = image.copy()
        image.thumbnail((_HUGE, _HUGE), Image.Resampling.BOX)
    side = max(image.size)
    square = Image.new("RGB", (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square.resize((size, size), Image.Resampling.BICUBIC)


def encode(encoder: nn.Module, pixels: Tensor) -> Tensor:
    """Image tokens [B, 1 + (S/patch)^2, width] of pixels [B, 3, S, S]: the last hidden state, every token, no post-layernorm, no projection."""
    weight = next(encoder.parameters())
    return encoder(pixel_values=pixels.to(weight.device, weight.dtype)).last_hidden_state
