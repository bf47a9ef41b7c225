"""The LMS sampler without scipy, which diffusers wants for nothing but the integral of a cubic."""

from __future__ import annotations

from diffusers.schedulers.scheduling_lms_discrete import LMSDiscreteScheduler
from numpy.polynomial import Polynomial


class LMSScheduler(LMSDiscreteScheduler):
    """diffusers' own, its coefficients integrated exactly instead of numerically."""

    def get_lms_coefficient(self, order: int, t: int, current_order: int) -> float:
        """The integral, from sigma[t] to sigma[t + 1], of the Lagrange polynomial that is 1 at sigma[t - current_order] and 0 at the others."""
        sigma = [float(self.sigmas[t - k]) for k in range(order)]
        basis = Polynomial([1.0])
        for k in range(order):
            if k != current_order:
                basis = basis * Polynomial([-sigma[k], 1.0]) / (sigma[current_order] - sigma[k])
        whole = basis.integ()
        return float(whole(float(self.sigmas[t + 1])) - whole(sigma[0]))
