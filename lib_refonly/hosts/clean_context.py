"""ONE-PIC's canvas around a UNet's calls: the context clean before each, and told to the sampler as found after it.

What the UNet is handed is x_t = sqrt(abar) x_0 + sqrt(1 - abar) e on every host and with every sampler (k-diffusion's scaling is behind it by then), so
this is the one place where "clean" is the same thing for all of them: x_0 itself. After the call the output is exchanged in the context for the one by
which the sampler finds x_0 there: its latents then end where the context is, and previews, dynamic thresholds and step sizes see no rubbish.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lib_refonly.conditioning.canvas import Box, CleanContext
from lib_refonly.hosts.anatomy import Anatomy
from lib_refonly.hosts.context_reuse import ContextReuse
from lib_refonly.hosts.noise import Noise


class CanvasInjection:
    """`noise` is not needed where the host itself puts x_0 into what the UNet found (Forge); the output's context is then nought."""

    def __init__(self, anatomy: Anatomy, canvas: CleanContext, noise: Noise | None) -> None:
        self.canvas, self.noise = canvas, noise
        self.unet, self.reuse = anatomy.unet, ContextReuse(anatomy.unet, canvas) if canvas.reuse > 1 else None
        self._called: tuple[Tensor, Tensor] | None = None

    def install(self, keep: Callable[[Any], None]) -> None:
        """Hook in, but for `begin`; `keep` is given every handle."""
        keep(self.unet.register_forward_hook(lambda _, __, out: self.end(out)))
        if self.reuse is not None:
            self.reuse.install(keep)

    def begin(self, sample: Tensor, timestep: Any, exact: bool) -> tuple[Tensor, Box | None]:
        """What the UNet is to be called with instead of `sample`, and which part of the canvas that is, if not all.

        exact: something else acts that has to see the whole canvas.
        """
        self._called = sample, torch.as_tensor(timestep, device=sample.device)
        clean = self.canvas.clean(sample)
        box = None if self.reuse is None else self.reuse.begin(len(sample), timestep, exact)
        return (clean if box is None else box.cut(clean)), box

    def end(self, given: Any) -> Any:
        """The UNet's answer, over the whole canvas, in the form that the host's class gives it in."""
        if isinstance(given, tuple):
            return (self._restored(given[0]), *given[1:])
        if isinstance(given, Tensor):
            return self._restored(given)
        return type(given)(sample=self._restored(given.sample))

    def _restored(self, out: Tensor) -> Tensor:
        assert self._called is not None
        (sample, timestep), self._called = self._called, None
        target, channels = self.canvas.target.to(out.device), out.shape[1]
        context = out.new_zeros(()) if self.noise is None else self.noise.that_finds(self.canvas.rows(sample), sample[:, :channels], timestep).to(out)
        box = None if self.reuse is None else self.reuse.end()
        if box is not None:
            whole = out.new_zeros(len(out), channels, *target.shape)
            box.cut(whole).copy_(out)
            out = whole
        return torch.where(target, out, context)


def with_sample(args: tuple[Any, ...], kwargs: dict[str, Any], old: Tensor, new: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a UNet call with another sample."""
    if args:
        return (new, *args[1:]), kwargs
    return args, {name: new if value is old else value for name, value in kwargs.items()}
