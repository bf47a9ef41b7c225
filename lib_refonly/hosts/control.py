"""ControlNets on a canvas, called for the target panel alone: they see one picture, as they were trained to, and what they say is laid into the panel's place.

So a picture that was drawn for the panel fits, the context panels hear nothing of it, and it costs what a single picture's costs. A1111's extension holds
networks, Forge's family a chain of objects; nothing of either is imported.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lib_refonly.conditioning.canvas import Box


def laid(feature: Tensor, box: Box, whole: tuple[int, int], pooled: bool = False) -> Tensor:
    """What a network found for `box`, [B, C, h, w], in the place that the box has on the canvas at the feature's own scale, [B, C, H, W].

    Around it are noughts; with `pooled` its mean, for who takes the mean over all of it afterwards. A box that does not lie on the feature's grid is moved by
    less than one of its cells. whole: (height, width) of the canvas in latent cells.
    """
    high, wide = feature.shape[-2:]
    scale = _scale(box.height, high)
    height, width = (max(-(-side // scale), least) for side, least in zip(whole, (high, wide), strict=True))
    place = Box(min(round(box.top / scale), height - high), min(round(box.left / scale), width - wide), high, wide)
    around = feature.mean((2, 3), keepdim=True) if pooled else feature.new_zeros(())
    out = around.expand(*feature.shape[:2], height, width).clone()
    place.cut(out).copy_(feature)
    return out


def _scale(cells: int, left: int) -> int:
    """How many latent cells make one of the feature: halvings round up in a UNet and a ControlNet, down in some adapters."""
    halvings = [2**n for n in range(cells.bit_length() + 1)]
    return next((scale for scale in halvings if -(-cells // scale) == left), min(halvings, key=lambda scale: abs(cells / scale - left)))


class NarrowedNetwork:
    """Hooks on a network that is called as `network(x=[B, C, H, W], ...)` and answers with features; until `remove`.

    pooled: the caller takes each feature's mean.
    """

    def __init__(self, network: nn.Module, box: Box, pooled: bool = False) -> None:
        self.box, self.pooled = box, pooled
        self._whole: tuple[int, int] | None = None
        before = network.register_forward_pre_hook(self._cut, with_kwargs=True)
        self._handles = [before, network.register_forward_hook(lambda _, __, features: self._lay(features))]

    def _cut(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        x: Tensor = kwargs["x"]
        self._whole = x.shape[-2], x.shape[-1]
        return args, kwargs | {"x": self.box.cut(x).contiguous()}

    def _lay(self, features: Any) -> list[Tensor]:
        assert self._whole is not None
        return [laid(feature, self.box, self._whole, self.pooled) for feature in features]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


class NarrowedChain:
    """Stands before the first link of a Forge UnetPatcher's `controlnet_linked_list`. Everything but `get_control` is the link's own."""

    def __init__(self, first: Any, box: Box) -> None:
        self._first, self._box = first, box

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_first"], name)

    def get_control(self, x_noisy: Tensor, *arguments: Any, **more: Any) -> Any:
        whole = x_noisy.shape[-2], x_noisy.shape[-1]
        control = self._first.get_control(self._box.cut(x_noisy).contiguous(), *arguments, **more)
        if control is None:
            return None
        return {place: [one if one is None else laid(one, self._box, whole) for one in features] for place, features in control.items()}
