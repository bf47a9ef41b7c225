"""Another UNet in the place of the loaded checkpoint's, for the length of a run.

SD 2.1's VAE, latents and noise schedule are SD 1.x's. So a UNet of either kind can do the other's work, if what it predicts is said in the other's
terms: with x_t = a x_0 + s e (a = sqrt(abar), s = sqrt(1 - abar)), v = a e - s x_0 (Salimans and Ho 2022, appendix D).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

Prediction = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True)
class StandIn:
    """`unet`: an instance of the host's own class. `width`: its context's. `prediction`: what it predicts."""

    unet: nn.Module
    width: int
    prediction: Prediction

    def no_text(self, x: Tensor) -> Tensor:
        """The context that stands for no text: one token of noughts a row, [rows, 1, width]."""
        return x.new_zeros(x.shape[0], 1, self.width)


def in_terms_of(out: Tensor, x_t: Tensor, alpha_bar: Tensor, have: Prediction, want: Prediction) -> Tensor:
    """A UNet's output `have` for the scaled input x_t [rows, C, h, w], said as `want`. alpha_bar: [rows]."""
    if have == want:
        return out
    a, s = (root.sqrt().reshape(-1, 1, 1, 1).float() for root in (alpha_bar, 1 - alpha_bar))
    o, x = out.float(), x_t.float()
    return (a * o + s * x if have == "v_prediction" else (o - s * x) / a).to(out.dtype)


def denoised_in_terms_of(denoised: Tensor, x: Tensor, sigma: Tensor, have: Prediction, taken_for: Prediction) -> Tensor:
    """x_0 of a UNet that predicts `have`, from the x_0 that was computed as if it predicted `taken_for`. x = x_0 + sigma e, unscaled; sigma: [rows]."""
    if have == taken_for:
        return denoised
    sigma = sigma.reshape(-1, 1, 1, 1).float()
    d, x, root = denoised.float(), x.float(), (sigma**2 + 1).sqrt()
    if have == "v_prediction":
        out = (x - d) / sigma
        return (x / root**2 - out * sigma / root).to(denoised.dtype)
    out = (x / root**2 - d) * root / sigma
    return (x - out * sigma).to(denoised.dtype)


def alpha_bar_at(t: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """abar at whole or fractional timesteps [rows]: k-diffusion interpolates log sigma between two steps."""
    table = alphas_cumprod.to(t.device, torch.float64)
    log_sigma = (((1 - table) / table).log() / 2).float()
    position = t.float().clamp(0, len(table) - 1)
    low = position.floor().long()
    high = (low + 1).clamp(max=len(table) - 1)
    share = position - low
    sigma = ((1 - share) * log_sigma[low] + share * log_sigma[high]).exp()
    return 1 / (1 + sigma**2)


def prediction_of(name: Any) -> Prediction:
    """What hosts call "eps", "v", "epsilon", "v_prediction", "EPS" or "V_PREDICTION"."""
    return "v_prediction" if str(name).lower().startswith("v") else "epsilon"
