"""The method in another checkpoint's style: (RefOnly model - what it was trained from) + a checkpoint of the same network.

A fine-tuned checkpoint moved the weights of the network that both come from; so did the training of the method. Where the two movements do not pull
at the same weights, their sum does both (Ilharco et al. 2023, "Editing models with task arithmetic").
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lib_refonly.errors import BadModel
from lib_refonly.models.weights import Weights
from lib_refonly.refonly.ldm_keys import UNET

if TYPE_CHECKING:
    from torch import Tensor


def moved_onto(model: Mapping[str, Tensor], base: Path, checkpoint: Path) -> dict[str, Tensor]:
    """A model's tensors (ldm names), with its UNet's as model - base + checkpoint, in the model's precision.

    Raises:
        BadModel: `base` or `checkpoint` is no checkpoint of the model's network; the text says which and what differs.
    """
    unet = {name: tensor for name, tensor in model.items() if name.startswith(UNET)}
    taken, given = (_same_network(unet, path) for path in (base, checkpoint))
    return {**model, **{name: (own.float() - taken[name].float() + given[name].float()).to(own.dtype) for name, own in unet.items()}}


def _same_network(unet: Mapping[str, Tensor], path: Path) -> Weights:
    weights = Weights.open(path)
    for name, tensor in unet.items():
        if name not in weights:
            raise BadModel(f"{path.name} is no checkpoint of this model's network: {name} is missing.")
        if weights.infos[name].shape != tuple(tensor.shape):
            raise BadModel(f"{path.name} is a checkpoint of another network: {name} is {list(weights.infos[name].shape)}, not {list(tensor.shape)}.")
    return weights
