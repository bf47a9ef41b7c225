"""IP-Adapter files of random weights, in the layout of the released ones and small."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from tests.contract.unets import WIDTH

FEATURES = 24
TOKENS = {"plain": 4, "plus": 5, "full": None}
"""diffusers knows plain adapters of four tokens only, and perceivers of four layers."""
Nested = dict[str, dict[str, Tensor]]


def public_adapter(unet: UNet2DConditionModel, variant: str, width: int = WIDTH) -> Nested:
    """Its numbers are those of diffusers' own list of attention processors."""
    generator = torch.Generator().manual_seed(7)

    def weights(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, Tensor]:
        return {name: torch.randn(shape, generator=generator) * max(shape[-1], 1) ** -0.5 + (name.endswith("norm.weight")) for name, shape in shapes}

    attention = [
        (f"{i}.to_{x}_ip.weight", (unet.get_submodule(name.removesuffix(".processor")).to_q.weight.shape[0], width))  # type: ignore[union-attr]
        for i, name in enumerate(unet.attn_processors)
        if "attn2" in name
        for x in "kv"
    ]
    return {"image_proj": weights(PICTURE[variant](width)), "ip_adapter": weights(attention)}  # type: ignore[arg-type]


def _with_bias(name: str, *shape: int) -> list[tuple[str, tuple[int, ...]]]:
    return [(f"{name}.weight", shape), (f"{name}.bias", shape[:1])]


def _plain(width: int) -> list[tuple[str, tuple[int, ...]]]:
    return [*_with_bias("proj", 4 * width, FEATURES), *_with_bias("norm", width)]


def _plus(width: int) -> list[tuple[str, tuple[int, ...]]]:
    dim, inner, hidden = 32, 128, 128
    shapes = [("latents", (1, 5, dim)), *_with_bias("proj_in", dim, FEATURES), *_with_bias("proj_out", width, dim), *_with_bias("norm_out", width)]
    for i in range(4):
        at = f"layers.{i}"
        shapes += [*_with_bias(f"{at}.0.norm1", dim), *_with_bias(f"{at}.0.norm2", dim), (f"{at}.0.to_q.weight", (inner, dim))]
        shapes += [(f"{at}.0.to_kv.weight", (2 * inner, dim)), (f"{at}.0.to_out.weight", (dim, inner))]
        shapes += [*_with_bias(f"{at}.1.0", dim), (f"{at}.1.1.weight", (hidden, dim)), (f"{at}.1.3.weight", (dim, hidden))]
    return shapes


def _full(width: int) -> list[tuple[str, tuple[int, ...]]]:
    return [*_with_bias("proj.0", FEATURES, FEATURES), *_with_bias("proj.2", width, FEATURES), *_with_bias("proj.3", width)]


PICTURE = {"plain": _plain, "plus": _plus, "full": _full}


def flat(state: Nested) -> dict[str, Tensor]:
    return {f"{part}.{name}": tensor for part, tensors in state.items() for name, tensor in tensors.items()}


def written(state: Nested, path: Path) -> Path:
    """Flat in .safetensors, nested in .bin, as the released files are."""
    save_file(flat(state), path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path
