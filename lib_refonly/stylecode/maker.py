"""Codes from pictures: the vision model and the encoder's half of a stylecode model. Without diffusers, on the CPU: it takes a moment, once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from lib_refonly.errors import BadPicture
from lib_refonly.stylecode.codes import blend
from lib_refonly.stylecode.codes.codec import Code
from lib_refonly.stylecode.codes.known import CodeModel
from lib_refonly.stylecode.codes.levels import latent_of, levels_of
from lib_refonly.stylecode.shelf import StyleFile, find, siglip

if TYPE_CHECKING:
    from lib_refonly.stylecode.autoencoder import StyleAutoencoder
    from lib_refonly.stylecode.vision import SiglipStates


class CodeMaker:
    """Thread-safe. The model is read when the first code is made; the one that was used last is kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[StyleFile, SiglipStates, StyleAutoencoder] | None = None

    def latents_of(self, pictures: Sequence[Image.Image], model: CodeModel | None = None) -> tuple[list[tuple[float, ...]], CodeModel]:
        """20 numbers for each picture, as they come out of the network, and whose they are.

        Raises:
            BadModel: no model is installed, or its vision model is missing.
        """
        import torch

        from lib_refonly.stylecode.vision import pixels_of

        with self._lock, torch.inference_mode():
            file, vision, autoencoder = self._loaded(find(model))
            latents = autoencoder.encode(vision(pixels_of(pictures, vision.shape.size)))
        return [tuple(row) for row in latents.tolist()], file.info.code

    def code_of(self, pictures: Sequence[Image.Image], model: CodeModel | None = None) -> Code:
        """The style of one picture, or what several have in common: the mean of their latents.

        Raises:
            BadPicture: none was given. BadModel: as `latents_of`.
        """
        if not pictures:
            raise BadPicture("Add a picture first: its style becomes the code.")
        latents, owner = self.latents_of(pictures, model)
        mean = tuple(sum(column) / len(latents) for column in zip(*latents, strict=True))
        latent = blend.normalised(mean) if owner.normalised and len(latents) > 1 else mean
        return Code(latent_of(levels_of(latent)), owner, "long")

    def _loaded(self, file: StyleFile) -> tuple[StyleFile, SiglipStates, StyleAutoencoder]:
        if self._kept is None or self._kept[0] != file:
            from lib_refonly.stylecode.model import Parts

            parts = Parts(file.path)
            self._kept = file, parts.read_vision(siglip()), parts.read_autoencoder()
        return self._kept
