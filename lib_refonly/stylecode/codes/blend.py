"""What painters do with styles: mix, vary, draw at random, compare. On the 20 numbers, made mean 0 and variance 1 again, as a LayerNorm would."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from statistics import NormalDist

from lib_refonly.errors import BadSettings
from lib_refonly.stylecode.codes.levels import DIMENSIONS

Latent = tuple[float, ...]


def normalised(latent: Sequence[float]) -> Latent:
    """Mean 0, variance 1. Raises: BadSettings: all the same, which is no style."""
    mean = math.fsum(latent) / len(latent)
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in latent) / len(latent))
    if not math.isfinite(deviation) or deviation < 1e-6:
        raise BadSettings("These styles cancel each other out. Change a weight.")
    return tuple((x - mean) / deviation for x in latent)


def mix(latents: Sequence[Sequence[float]], weights: Sequence[float]) -> Latent:
    """The weighted mean of one style or more. Weights are shares; a negative one leads away from a style.

    Raises:
        BadSettings: no styles, as many weights as styles are wanted, or they cancel each other out.
    """
    if not latents or len(latents) != len(weights):
        raise BadSettings(f"{len(latents)} styles and {len(weights)} weights: one weight for each style is needed.")
    if not all(math.isfinite(weight) for weight in weights):
        raise BadSettings("A weight must be a number.")
    largest = max(map(abs, weights)) or 1.0  # by which they are shares, however large or small
    return normalised([math.fsum(w / largest * x for w, x in zip(weights, column, strict=True)) for column in zip(*latents, strict=True)])


def interpolate(one: Sequence[float], other: Sequence[float], share: float) -> Latent:
    """0 is the one, 1 the other. Raises: BadSettings: as `mix`."""
    return mix([one, other], [1 - share, share])


def random_style(number: int) -> Latent:
    """The same for the same number, on every machine."""
    return normalised([_normal(f"style {number}", i) for i in range(DIMENSIONS)])


def mutate(latent: Sequence[float], amount: float, number: int) -> Latent:
    """ "More like this": 0 is the same, 1 nothing like it. Raises: BadSettings: an amount outside 0 to 1."""
    if not 0 <= amount <= 1:
        raise BadSettings(f"The amount is {amount:g}; it lies between 0 and 1.")
    noise = [_normal(f"mutation {number}", i) for i in range(DIMENSIONS)]
    turn = amount * math.pi / 2
    return normalised([math.cos(turn) * x + math.sin(turn) * y for x, y in zip(normalised(latent), noise, strict=True)])


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """1 - cosine: 0 for one style, about 1 for two that have nothing to do with each other."""
    product = math.fsum(x * y for x, y in zip(one, other, strict=True))
    return 1 - product / max(math.hypot(*one) * math.hypot(*other), 1e-12)


def _normal(name: str, place: int) -> float:
    share = int.from_bytes(hashlib.sha256(f"{name}, {place}".encode()).digest()[:6], "big")
    return NormalDist().inv_cdf((share + 0.5) / 2**48)
