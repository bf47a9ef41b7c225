"""The plan: what a method wants inside the UNet, said without naming a host.

A plan is a list of injections. An image prompt goes into cross-attention (attn2), an input feature is added after conv_in, a side branch runs beside
the way up and is mixed in after each of its blocks, a canvas keeps part of the sample clean. Each injection says how strongly it acts, on which part of
the run (`Window`), on which rows of the batch (`roles`), and where in the picture (`mask`). How it gets there is the host's business
(`lib_refonly.hosts`).

Progress is read off the timestep that the UNet is called with, not off a sampler's step counter: 0 is pure noise (t = T-1), 1 is the finished
picture (t = 0). So a start or an end means the same with every sampler, step count and host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from lib_refonly.conditioning.canvas import CleanContext
from lib_refonly.conditioning.window import Window as Window
from lib_refonly.errors import BadSettings

COND, UNCOND, PARTIAL = "cond", "uncond", "partial"
"""Roles of rows. PARTIAL rows see the blueprint without the image prompt: the middle term of two guidance scales."""


def at_site(weights: Mapping[str, float], site: str) -> float:
    """The factor for a site, told by its name or by that of its block; 1 where none is told."""
    return weights.get(site, weights.get(site.partition(".")[0], 1.0))


@dataclass(frozen=True)
class Projection:
    """K and V weights of one attn2 for image tokens, [inner, width] each, where an adapter brings its own."""

    to_k: Tensor
    to_v: Tensor


@dataclass(frozen=True)
class ImageTokens:
    """One picture's tokens, [1 or rows, n, width]. `weight` multiplies its attention weights before they are normalised with the other
    pictures' (so it shares out one attention, it does not scale the result). `mask`: [H, W] in [0, 1], where on the canvas it acts.
    `window` and `site_weights` (a site's name, or its block's, to a factor of the weight): when, and how much at single sites."""

    tokens: Tensor
    weight: float = 1.0
    mask: Tensor | None = None
    window: Window = field(default_factory=Window)
    site_weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.tokens.dim() != 3:
            raise BadSettings(f"Image tokens have the shape [rows, tokens, width], not {list(self.tokens.shape)}.")
        if not self.weight >= 0:
            raise BadSettings(f"The weight of a reference is {self.weight:g}; it can't be negative.")

    def weight_at(self, site: str) -> float:
        return self.weight * at_site(self.site_weights, site)


@dataclass(frozen=True)
class ImagePrompt:
    """Pictures for cross-attention.

    replace: the picture stands in for the text, as in Reference Only: out = (1 - strength) * text + strength * picture. Otherwise it is added
    beside the text (decoupled attention): out = text + strength * picture. `projections` maps a site's name to an adapter's own K and V;
    without it the layer's own to_k and to_v read the tokens. `site_weights` multiplies the strength at single sites (default 1).
    """

    pictures: tuple[ImageTokens, ...]
    strength: float = 1.0
    replace: bool = True
    window: Window = field(default_factory=Window)
    roles: frozenset[str] = frozenset({COND})
    projections: Mapping[str, Projection] | None = None
    site_weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        return self.strength != 0 and any(p.weight > 0 for p in self.pictures)


@dataclass(frozen=True)
class InputFeature:
    """A feature [1 or rows, channels, h, w] added to conv_in's output, before the first skip is kept. `mask`: [H, W] in [0, 1]."""

    feature: Tensor
    strength: float = 1.0
    mask: Tensor | None = None
    window: Window = field(default_factory=Window)
    roles: frozenset[str] = frozenset({COND, PARTIAL})

    @property
    def active(self) -> bool:
        return self.strength != 0


class BranchNetwork(Protocol):
    """A network beside the UNet's middle block and way up. Blocks count from 0, the middle block, in the order of the UNet's."""

    def begin(self, height: int, width: int) -> Tensor:
        """Its hidden state before the middle block, [1 or rows, C, height, width]."""
        ...

    def block(self, number: int, hidden: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        """One block; `emb` [rows, E] and `context` [rows, n, width] are the UNet's own."""
        ...

    def mix(self, number: int, hidden: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        """Its hidden state and the UNet's, both [rows, C, h, w] -> what it goes on with, and what the UNet is given."""
        ...


@dataclass(frozen=True)
class SideBranch:
    """out = (1 - strength) * out + strength * what the network gives, after the middle block and each block of the way up. `mask`: [H, W] in [0, 1].
    `site_weights` multiplies the strength after single blocks (M00, OUT00, ...)."""

    network: BranchNetwork
    strength: float = 1.0
    mask: Tensor | None = None
    window: Window = field(default_factory=Window)
    roles: frozenset[str] = frozenset({COND, PARTIAL, UNCOND})
    site_weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        return self.strength != 0


@dataclass(frozen=True)
class Plan:
    """Everything that one method injects. A plan without an active injection leaves the UNet alone."""

    image_prompts: tuple[ImagePrompt, ...] = ()
    input_features: tuple[InputFeature, ...] = ()
    branches: tuple[SideBranch, ...] = ()
    canvas: CleanContext | None = None

    def active(self) -> Plan:
        """The plan without what has no strength."""
        prompts, features = tuple(p for p in self.image_prompts if p.active), tuple(f for f in self.input_features if f.active)
        return Plan(prompts, features, tuple(b for b in self.branches if b.active), self.canvas)

    def __bool__(self) -> bool:
        return bool(self.image_prompts or self.input_features or self.branches or self.canvas)

    def __add__(self, other: Plan) -> Plan:
        """Both at once.

        Raises:
            BadSettings: both have a canvas.
        """
        if self.canvas and other.canvas:
            raise BadSettings("A picture is painted on one canvas, not on two.")
        prompts, features = self.image_prompts + other.image_prompts, self.input_features + other.input_features
        return Plan(prompts, features, self.branches + other.branches, self.canvas or other.canvas)
