"""What a painter has to know of a model before it is loaded. No torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadModel
from lib_refonly.models.sniff import kind_of
from lib_refonly.models.weights import Header, read_json

CHECKPOINT_CONFIGS = "refonly.configs"
"""The metadata entry of a converted checkpoint that holds the folder's configs, in JSON."""
FILE = "refonly.json"
"""Our own card, beside model_index.json. The released model has none."""
RELEASED_SIZE = 512
"""The public weights were trained at 512 px; their UNet config still says SD 2.1's 768."""


@dataclass(frozen=True)
class ModelCard:
    """`native_size`: pixels of the side it was trained at. `guidance` and `blueprint_guidance`: default scales, 1 = off (one UNet pass a step).

    `dropout`: it was trained with conditions left out at random, so it knows what "no reference" and "no lines" are and guidance means
    something. The released weights were not. `title` is shown in lists ("" = the name).
    """

    name: str
    native_size: int
    dropout: bool = False
    guidance: float = 1.0
    blueprint_guidance: float = 1.0
    title: str = ""

    def __post_init__(self) -> None:
        kinds: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "bool": (bool,), "float": (int, float)}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) not in kinds[str(field.type)]:
                raise BadModel(f"{FILE}: {field.name} is {value!r}, which is no {field.type}.")
        if not 8 <= self.native_size <= 4096:
            raise BadModel(f"{FILE}: native_size is {self.native_size}, which is no picture size.")
        if not (0 < self.guidance <= 20 and 0 < self.blueprint_guidance <= 20):
            raise BadModel(f"{FILE}: guidance scales lie between 0 and 20.")

    @property
    def config(self) -> dict[str, Any]:
        """What refonly.json holds: everything but the name, which is the folder's."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "name"}

    @classmethod
    def from_config(cls, name: str, config: Mapping[str, Any]) -> ModelCard:
        """The card in a refonly.json; fields that this version does not know are left alone.

        Raises:
            BadModel: a field is missing or is of the wrong kind.
        """
        known = {field.name for field in dataclasses.fields(cls)} - {"name"}
        try:
            return cls(name=name, **{key: value for key, value in config.items() if key in known})
        except TypeError as error:
            raise BadModel(f"{FILE} of {name} is incomplete ({error}).") from None


def read_card(folder: Path, unet_config: Mapping[str, Any]) -> ModelCard:
    """The card of a model folder: its refonly.json, or what follows from the UNet's config for the authors' own files."""
    name = folder.resolve().name
    if (folder / FILE).is_file():
        return ModelCard.from_config(name, read_json(folder / FILE))
    size = unet_config.get("sample_size") or RELEASED_SIZE // 8
    return ModelCard(name, min(8 * size, RELEASED_SIZE) if isinstance(size, int) else RELEASED_SIZE)


def checkpoint_configs(path: Path, header: Header) -> dict[str, dict[str, Any]]:
    """The configs in a converted checkpoint: unet, vae, image_encoder, scheduler, preprocessor and card.

    Raises:
        BadModel: it is another kind of file; the text says which.
    """
    wanted = ("unet", "vae", "image_encoder", "scheduler", "preprocessor", "card")
    try:
        configs = json.loads(header.metadata.get(CHECKPOINT_CONFIGS, ""))
        if all(isinstance(configs[name], dict) for name in wanted):
            return configs
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise BadModel(f"{path.name} is no RefOnly model that this program converted. It seems to be {kind_of(header.tensors).value}.")


def estimate_memory(values: int, vae_config: Mapping[str, Any], size: int, bytes_per_value: int = 4) -> int:
    """Bytes needed to colour one picture of `size` x `size`: `values` weights, and what is alive at the VAE decoder's widest moment.

    That moment is the first block at full size, at the width of the second level: six such planes are alive (measured with SD's own VAE in
    float32 on a CPU: 5.5).
    """
    widths = vae_config.get("block_out_channels") or (128,)
    live = 6 * widths[min(1, len(widths) - 1)] * size * size
    return (values + live) * bytes_per_value
