"""A RefOnly model for a WebUI: all of it but the VAE, which is the checkpoint's own, and its UNet as an instance of the host's class.

Without diffusers, which A1111 does not have.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lib_refonly.errors import BadModel
from lib_refonly.hosts.stand_in import Prediction, StandIn, prediction_of
from lib_refonly.models.sniff import BLUEPRINT
from lib_refonly.models.weights import Weights, read_header, read_json
from lib_refonly.refonly.blueprint import BlueprintEncoder
from lib_refonly.refonly.card import ModelCard, checkpoint_configs, read_card
from lib_refonly.refonly.convert import BLUEPRINT_LDM, VISION_LDM
from lib_refonly.refonly.image_encoder import ImagePromptSpec
from lib_refonly.refonly.ldm_keys import UNET, VAE, per_level, unet_names
from lib_refonly.refonly.ldm_yaml import unet_params
from lib_refonly.refonly.loader import PREPROCESSOR, SCHEDULER, build_vision, filled, refuse_absurd, vision_names, weight_file

_NETWORKS = ("unet", "vae", "image_encoder")
_VAE_ENDS = ("encoder.conv_in.weight", "decoder.conv_in.weight", "decoder.conv_out.weight")
"""They have the same names in ldm, diffusers and Forge. Their shapes tell a tiny VAE from Stable Diffusion's."""


@dataclass(frozen=True)
class Latents:
    """Whose latents a UNet works on: the shapes of the VAE's ends, and its scaling factor (SDXL's VAE has SD's shapes, and other latents)."""

    ends: tuple[tuple[int, ...], ...]
    scale: float

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]], scale: float) -> Latents:
        """Raises: KeyError: this is no VAE of Stable Diffusion's kind."""
        return cls(tuple(tuple(shapes[name]) for name in _VAE_ENDS), round(float(scale), 5))


@dataclass(frozen=True)
class HostedParts:
    """A model that was looked at but not read. `unet`: weights under ldm's names, without prefix."""

    path: Path
    configs: Mapping[str, Mapping[str, Any]]
    unet: Weights
    blueprint: Weights
    image_encoder: Weights
    card: ModelCard
    latents: Latents

    @property
    def prediction(self) -> Prediction:
        return prediction_of(self.configs["scheduler"].get("prediction_type", "epsilon"))


@dataclass(frozen=True)
class HostedModel:
    """In memory, in eval mode, on the CPU until somebody moves it."""

    stand_in: StandIn
    blueprint: BlueprintEncoder
    image_encoder: nn.Module
    prompt_spec: ImagePromptSpec
    card: ModelCard


def read_hosted(path: Path) -> HostedParts:
    """Look at a model folder or a converted file: configs and headers only.

    Raises:
        BadModel: it is no RefOnly model, or damaged.
    """
    try:
        return _read_folder(path) if path.is_dir() else _read_file(path)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BadModel(f"{path.name} is no RefOnly model that can be used here: its configuration does not fit its weights ({error}).") from None


def _read_folder(folder: Path) -> HostedParts:
    configs = {name: read_json(folder / name / "config.json") for name in _NETWORKS}
    configs |= {"scheduler": read_json(folder / SCHEDULER), "preprocessor": read_json(folder / PREPROCESSOR)}
    refuse_absurd(configs, folder.name)
    weights = {name: Weights.open(weight_file(folder / name)) for name in _NETWORKS}
    unet = weights["unet"]
    plain = [name for name in unet if not name.startswith(BLUEPRINT)]
    names = {new.removeprefix(UNET): old for new, old in unet_names(configs["unet"], plain).items()}
    lines = {name.removeprefix(BLUEPRINT): name for name in unet if name.startswith(BLUEPRINT)}
    if not lines:
        raise BadModel(f"{folder.name} has no blueprint encoder: it is no RefOnly model.")
    latents = Latents.of({name: info.shape for name, info in weights["vae"].infos.items()}, configs["vae"].get("scaling_factor", 0.18215))
    return HostedParts(folder, configs, unet.renamed(names), unet.renamed(lines), weights["image_encoder"], read_card(folder, configs["unet"]), latents)


def _read_file(path: Path) -> HostedParts:
    configs = checkpoint_configs(path, read_header(path))
    refuse_absurd(configs, path.name)
    weights = Weights.open(path)

    def part(prefix: str) -> Weights:
        return weights.renamed({name.removeprefix(prefix): name for name in weights if name.startswith(prefix)})

    latents = Latents.of({name: info.shape for name, info in part(VAE).infos.items()}, configs["vae"].get("scaling_factor", 0.18215))
    card = ModelCard.from_config(path.stem, configs["card"])
    return HostedParts(path, configs, part(UNET), part(BLUEPRINT_LDM), part(VISION_LDM), card, latents)


def load_hosted(parts: HostedParts, unet_class: type[nn.Module], dtype: torch.dtype) -> HostedModel:
    """Read the weights into an instance of the host's UNet class and into the two encoders, which stay in float32 on the CPU.

    Raises:
        BadModel: they do not fit; nothing is kept.
    """
    unet = _fill(lambda: unet_class(**host_params(unet_class, parts.configs["unet"])), parts.unet, dtype, parts.path)
    blueprint = _fill(lambda: BlueprintEncoder.from_config(parts.configs["unet"]), parts.blueprint, torch.float32, parts.path)
    vision = _fill(lambda: build_vision(parts.configs["image_encoder"]), parts.image_encoder, torch.float32, parts.path, vision_names)
    stand_in = StandIn(unet, parts.configs["unet"]["cross_attention_dim"], parts.prediction)
    return HostedModel(stand_in, blueprint, vision, ImagePromptSpec.from_config(parts.configs["preprocessor"]), parts.card)


def _fill(build: Any, weights: Weights, dtype: torch.dtype, path: Path, names: Any = None) -> Any:
    try:
        with torch.device("meta"):
            module = build()
        return filled(module, names(module, weights) if names else weights, "cpu", dtype)
    except Exception as error:  # whatever a config makes the host's class or a library raise
        raise BadModel(f"{path.name} does not fit this WebUI's network: {str(error).splitlines()[0][:200]}") from error


def host_params(unet_class: type, config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a host's UNet class: ldm's, or those of the ComfyUI line (Forge's family), told apart by what the class takes.

    Raises:
        BadModel: see `unet_params`.
    """
    known = inspect.signature(unet_class.__init__).parameters  # type: ignore[misc]
    params = unet_params(config)
    if "transformer_depth_output" in known:
        params |= _depths(config)
    return {name: value for name, value in params.items() if name in known}


def _depths(config: Mapping[str, Any]) -> dict[str, Any]:
    """Transformer blocks layer by layer; the way up has one layer more a level."""
    kinds = config["down_block_types"]
    layers = per_level(config.get("layers_per_block", 2), len(kinds))
    depths = [1 if "Attn" in kind else 0 for kind in kinds]
    return {
        "num_res_blocks": layers,
        "transformer_depth": [depth for depth, count in zip(depths, layers, strict=True) for _ in range(count)],
        "transformer_depth_output": [depth for depth, count in zip(depths, layers, strict=True) for _ in range(count + 1)],
        "transformer_depth_middle": 1,
    }
