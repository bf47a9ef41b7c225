"""An adapter in memory: K and V of its own for image tokens at every attn2, beside the text (decoupled attention, Ye et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from lib_refonly.conditioning.plan import Projection
from lib_refonly.errors import BadModel
from lib_refonly.hosts.anatomy import Site
from lib_refonly.refonly.blueprint import BlueprintEncoder

Reads = Literal["embeds", "penultimate", "last"]
"""What of the image encoder it reads: the projected embedding [B, features], or the hidden states before the last layer or after it [B, n, features]."""


@dataclass(frozen=True)
class Adapter:
    """`to_tokens`: what the image encoder gives -> image tokens [B, tokens, width]. `to_kv`: by site name (see `hosts.anatomy.Site`).
    `features`: width of what it reads. `blueprint`: some adapters also read lines.
    """

    name: str
    reads: Reads
    features: int
    to_tokens: nn.Module
    to_kv: Mapping[str, Projection]
    blueprint: BlueprintEncoder | None = None

    def check(self, sites: Sequence[Site]) -> None:
        """Raises: BadModel: it was made for another UNet; the text says what does not fit."""
        shapes = {name: tuple(kv.to_k.shape) for name, kv in self.to_kv.items()}
        missing = [site.name for site in sites if site.name not in shapes]
        if missing or len(sites) != len(shapes):
            raise BadModel(f"{self.name} is made for a network with {len(shapes)} cross-attentions; the loaded checkpoint's has {len(sites)}.")
        for site in sites:
            wanted = site.to_q.weight.shape[0]  # type: ignore[union-attr]
            if shapes[site.name][0] != wanted:
                raise BadModel(f"{self.name} does not fit the loaded checkpoint: at {site.name} it is {shapes[site.name][0]} wide, the checkpoint {wanted}.")
