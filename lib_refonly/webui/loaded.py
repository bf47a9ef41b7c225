"""A chosen model in memory: a full one, which stands in for the checkpoint, or an adapter beside its text. The same to a run."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from lib_refonly.adapters.adapter import Adapter
from lib_refonly.adapters.features import check_encoder, image_features, unconditional_features
from lib_refonly.adapters.prompt import image_prompts
from lib_refonly.conditioning.plan import ImagePrompt
from lib_refonly.hosts.stand_in import StandIn
from lib_refonly.imaging.fit import Size
from lib_refonly.refonly.blueprint import BlueprintEncoder
from lib_refonly.refonly.host_plan import Conditions, Part, replacing
from lib_refonly.refonly.hosted import HostedModel
from lib_refonly.refonly.image_encoder import ImagePromptSpec, encode, preprocess
from lib_refonly.refonly.panel import block_weights


class Loaded(Protocol):
    """`only_unguided`: it was trained without leaving conditions out, so CFG scales other than 1 mean nothing to it."""

    @property
    def image_encoder(self) -> nn.Module: ...
    @property
    def blueprint(self) -> BlueprintEncoder | None: ...
    @property
    def stand_in(self) -> StandIn | None: ...
    @property
    def only_unguided(self) -> bool: ...
    def tokens(self, picture: Image.Image, fit: str) -> Tensor:
        """Of a prepared reference, [1, n, width]. The image encoder is on the device where it shall run."""
        ...

    def prompts(self, conditions: Conditions, size: Size, part: Part | None) -> tuple[ImagePrompt, ...]: ...


class FullModel:
    def __init__(self, model: HostedModel) -> None:
        self.model = model
        self.image_encoder, self.blueprint, self.stand_in = model.image_encoder, model.blueprint, model.stand_in
        self.only_unguided = not model.card.dropout

    def tokens(self, picture: Image.Image, fit: str) -> Tensor:
        return encode(self.image_encoder, preprocess(picture, self.model.prompt_spec, fit))

    def prompts(self, conditions: Conditions, size: Size, part: Part | None) -> tuple[ImagePrompt, ...]:
        return replacing(conditions, size, part)


class AdapterModel:
    """Each unit has an attention of its own, so its weight is its strength."""

    stand_in = None
    only_unguided = False

    def __init__(self, adapter: Adapter, image_encoder: Any, spec: ImagePromptSpec) -> None:
        """Raises: BadModel: the adapter reads another image encoder."""
        check_encoder(adapter, image_encoder)
        self.adapter, self.spec = adapter, spec
        # What runs on the device together; moved as one.
        self.image_encoder = nn.ModuleDict({"encoder": image_encoder, "to_tokens": adapter.to_tokens})
        self.blueprint = adapter.blueprint
        self._nothing: Tensor | None = None

    @torch.no_grad()
    def tokens(self, picture: Image.Image, fit: str) -> Tensor:
        encoder, pixels = self.image_encoder["encoder"], preprocess(picture, self.spec, fit)
        if self._nothing is None:
            self._nothing = self.adapter.to_tokens(unconditional_features(encoder, pixels, self.adapter.reads))
        return self.adapter.to_tokens(image_features(encoder, pixels, self.adapter.reads))

    def prompts(self, conditions: Conditions, size: Size, part: Part | None) -> tuple[ImagePrompt, ...]:
        made: list[ImagePrompt] = []
        for unit, tokens in zip(conditions.units, conditions.references, strict=True):
            assert self._nothing is not None
            strength, settings = conditions.settings.strength * unit.settings.weight, unit.settings
            mask = conditions.mask(unit, size, part)
            pictures = [(tokens, None if mask is None else mask.to(tokens.device))]
            made += image_prompts(self.adapter, pictures, self._nothing, strength, settings.window, block_weights(settings.blocks))
        return tuple(made)
