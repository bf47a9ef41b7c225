"""What a UNet's output has to be for the sampler to find a given x_0."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lib_refonly.hosts.stand_in import Prediction, alpha_bar_at


@dataclass(frozen=True)
class Noise:
    """How the samples that a UNet is called with are noised: x_t = sqrt(abar) x_0 + sqrt(1 - abar) e. alphas_cumprod: [T]. predicts: what it says."""

    alphas_cumprod: Tensor
    predicts: Prediction

    def that_finds(self, x_0: Tensor, x_t: Tensor, timestep: Tensor) -> Tensor:
        """The output by which x_t [rows, C, H, W], called at `timestep` (one, or one a row), denoises to x_0 [1 or rows, C, H, W]. float32."""
        abar = alpha_bar_at(timestep.reshape(-1), self.alphas_cumprod).reshape(-1, 1, 1, 1)
        a, s = abar.sqrt(), (1 - abar).sqrt()
        e = (x_t.float() - a * x_0.float()) / s
        return e if self.predicts == "epsilon" else a * e - s * x_0.float()
