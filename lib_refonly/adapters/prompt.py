"""Image prompts beside the text, out of an adapter and its tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from lib_refonly.adapters.adapter import Adapter
from lib_refonly.conditioning.plan import COND, UNCOND, ImagePrompt, ImageTokens, Window


def image_prompts(
    adapter: Adapter,
    pictures: Sequence[tuple[Tensor, Tensor | None]],
    nothing: Tensor,
    strength: float | Sequence[float] = 1.0,
    window: Window | None = None,
    site_weights: Mapping[str, float] | None = None,
) -> tuple[ImagePrompt, ...]:
    """One prompt for each picture's conditional rows, and one for the unconditional ones.

    `pictures`: each one's tokens [1 or rows, n, width] and its mask [H, W] in [0, 1], or None. `nothing`: the tokens that stand for no picture.
    `strength`: of all, or of each. Each picture has an attention of its own, so that its strength does not depend on the others'; where several
    lie over each other, they add up.
    """
    strengths = list(strength) if isinstance(strength, Sequence) else [strength] * len(pictures)
    return tuple(
        ImagePrompt(
            (ImageTokens(tokens, mask=mask),),
            strength=one,
            replace=False,
            window=window or Window(),
            roles=frozenset({role}),
            projections=adapter.to_kv,
            site_weights=site_weights or {},
        )
        for (picture, mask), one in zip(pictures, strengths, strict=True)
        for role, tokens in ((COND, picture), (UNCOND, nothing))
    )
