"""ONE-PIC's clean context for FLUX in diffusers: the same as `clean_context`, with flow matching's noise and tokens in the place of cells.

x_t = (1 - t) x_0 + t e, and the transformer says v = e - x_0. It has no cross-attention and no convolutions, so a canvas is all that acts here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lib_refonly.conditioning.canvas import CleanContext
from lib_refonly.errors import BadSettings


def packed(latents: Tensor) -> Tensor:
    """[n, C, H, W] -> FLUX's tokens [n, H/2 * W/2, 4C], each two by two cells."""
    n, channels, height, width = latents.shape
    if height % 2 or width % 2:
        raise BadSettings("FLUX paints panels whose sides are multiples of 16 px.")
    cells = latents.reshape(n, channels, height // 2, 2, width // 2, 2)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(n, height * width // 4, 4 * channels)


class FluxCanvas:
    """`with FluxCanvas(pipe.transformer, canvas):` every call of FluxTransformer2DModel (of FluxPipeline, or of Fill, whose further channels are left
    alone) sees x_0 in the context, and the sampler finds x_0 there. A token with one cell of the target belongs to the target."""

    def __init__(self, transformer: Any, canvas: CleanContext) -> None:
        self.transformer, self.x_0 = transformer, packed(canvas.latents)
        self.target = packed(canvas.target[None, None]).any(-1)[0]
        self._called: tuple[Tensor, Tensor] | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> FluxCanvas:
        before = self.transformer.register_forward_pre_hook(self._before, with_kwargs=True)
        self._handles = [before, self.transformer.register_forward_hook(self._after)]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _rows(self, like: Tensor) -> Tensor:
        return self.x_0.to(like).repeat(len(like) // len(self.x_0), 1, 1)

    def _mixed(self, target: Tensor, context: Tensor) -> Tensor:
        return torch.where(self.target.to(target.device)[None, :, None], target, context)

    def _before(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        noisy: Tensor = kwargs["hidden_states"]
        if noisy.shape[1] != self.x_0.shape[1]:
            raise BadSettings(f"The canvas has {self.x_0.shape[1]} tokens, but FLUX was called with {noisy.shape[1]}. Give it the canvas' width and height.")
        channels = self.x_0.shape[-1]
        self._called = noisy[..., :channels], kwargs["timestep"]
        clean = self._mixed(noisy[..., :channels], self._rows(noisy))
        return args, kwargs | {"hidden_states": torch.cat([clean, noisy[..., channels:]], -1)}

    def _after(self, _: Any, __: Any, given: Any) -> Any:
        assert self._called is not None
        (noisy, t), self._called = self._called, None
        out: Tensor = given[0]
        found = (noisy.float() - self._rows(noisy).float()) / t.float().reshape(-1, 1, 1).clamp(min=1e-6)
        mixed = self._mixed(out, found.to(out))
        return (mixed, *given[1:]) if isinstance(given, tuple) else type(given)(sample=mixed)
