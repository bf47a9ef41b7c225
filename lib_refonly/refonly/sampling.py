"""From noise to latents: the sampling loop of Reference Only, with its two guidance scales."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lib_refonly.conditioning.plan import COND, PARTIAL, UNCOND, Plan
from lib_refonly.hosts.diffusers import session
from lib_refonly.hosts.noise import Noise
from lib_refonly.hosts.stand_in import prediction_of


@dataclass(frozen=True)
class Guidance:
    """out = e(none) + blueprint * (e(lines) - e(none)) + image * (e(lines, picture) - e(lines)). Scale 1 costs nothing and changes nothing."""

    image: float = 1.0
    blueprint: float = 1.0

    @property
    def roles(self) -> tuple[str, ...]:
        if self.blueprint != 1:
            return (UNCOND, PARTIAL, COND)
        return (COND,) if self.image == 1 else (PARTIAL, COND)

    def combine(self, out: Tensor) -> Tensor:
        """The rows of `roles`, [len(roles) * n, ...] -> [n, ...]."""
        parts = out.chunk(len(self.roles))
        result = parts[-1]
        if len(parts) > 1:
            result = parts[-2] + self.image * (parts[-1] - parts[-2])
        if len(parts) > 2:
            result = result + (self.blueprint - 1) * (parts[1] - parts[0])
        return result


OnStep = Callable[[int, Tensor], None]
"""Called after each step with the number of steps done and the current latents."""


@torch.no_grad()
def denoise(
    unet: Any,
    plan: Plan,
    scheduler: Any,
    latents: Tensor,
    steps: int,
    guidance: Guidance | None = None,
    generator: torch.Generator | list[torch.Generator] | None = None,
    on_step: OnStep | None = None,
    text: Tensor | None = None,
) -> Tensor:
    """Unit noise [n, C, h, w] -> latents [n, C, h, w].

    text: one context for each row of `guidance.roles` times n. Without it the text's place is taken by zeros, which is what training drops to.

    `plan`'s tokens and features serve all n pictures, or hold one entry a picture. `generator` feeds the ancestral samplers; a list has one a
    picture.
    """
    guidance = guidance or Guidance()
    chunks = len(guidance.roles)
    scheduler.set_timesteps(steps, device=latents.device)
    x = latents * scheduler.init_noise_sigma
    context = latents.new_zeros(chunks * x.shape[0], 1, unet.config.cross_attention_dim) if text is None else text
    extra = {"generator": generator} if "generator" in scheduler.step.__code__.co_varnames else {}
    noise = Noise(scheduler.alphas_cumprod, prediction_of(scheduler.config.prediction_type)) if plan.canvas else None
    with session(unet, plan, noise) as s:
        s.roles = guidance.roles
        for i, t in enumerate(scheduler.timesteps):
            rows = scheduler.scale_model_input(torch.cat([x] * chunks), t)
            out = unet(rows, t, encoder_hidden_states=context, return_dict=False)[0]
            x = scheduler.step(guidance.combine(out), t, x, return_dict=False, **extra)[0]
            if on_step:
                on_step(i + 1, x)
    return x
