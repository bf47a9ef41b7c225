"""A LoRA on chosen modules of the UNet, as a network module of sd-scripts for SD 1.5, SD 2 and SDXL.

For `--network_module lib_refonly.training.kohya.chosen_network --network_args modules=cross-attention`. The functions are those that sd-scripts' trainers call.
"""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from typing import Any

from torch import nn

from lib_refonly.errors import BadModel, BadSettings
from lib_refonly.onepic import lora
from lib_refonly.training.kohya.goals import MODULES
from lib_refonly.training.kohya.onepic_network import OnePicNetwork

DEFAULT_RANK, DEFAULT_ALPHA = 16, 8.0


class ChosenNetwork(OnePicNetwork):
    """One low-rank change for each linear layer that `modules` names: names of `MODULES`, or patterns such as `*up_blocks*attn2.to_k`, by commas."""

    def __init__(self, unet: nn.Module, modules: str, rank: int = DEFAULT_RANK, alpha: float = DEFAULT_ALPHA, multiplier: float = 1.0) -> None:
        nn.Module.__init__(self)  # so that the choice can be kept before the layers are looked for
        self.modules_chosen = modules
        super().__init__(unet, rank, alpha, multiplier)

    def layers(self, unet: nn.Module) -> dict[str, str]:
        patterns = [MODULES.get(name) or fnmatch.translate(name) for name in (part.strip() for part in self.modules_chosen.split(",")) if name]
        found = [(name, module) for name, module in unet.named_modules() if any(re.fullmatch(pattern, name) for pattern in patterns)]
        linear = [name for name, module in found if isinstance(module, nn.Linear)]
        if not linear:
            raise BadModel(f"This checkpoint's UNet has no linear layer called {self.modules_chosen!r}. Known names: {', '.join(MODULES)}.")
        return {"lora_unet_" + name.replace(".", "_"): name for name in linear}


def create_network(
    multiplier: float,
    network_dim: int | None,
    network_alpha: float | None,
    vae: Any,
    text_encoder: Any,
    unet: nn.Module,
    neuron_dropout: float | None = None,
    modules: str | None = None,
    **more: Any,
) -> ChosenNetwork:
    """Raises: BadSettings: no modules are named, or dropout and other `--network_args` are given, which this network does not have."""
    asked = [name for name, value in (more | {"network_dropout": neuron_dropout}).items() if value is not None]
    if asked or not modules:
        wrong = f" It does not know {', '.join(asked)}." if asked else ""
        raise BadSettings(f"A LoRA on chosen modules needs --network_args modules=NAMES, where NAMES are of {', '.join(MODULES)}, by commas.{wrong}")
    rank, alpha = network_dim or DEFAULT_RANK, DEFAULT_ALPHA if network_alpha is None else network_alpha
    return ChosenNetwork(unet, modules, rank, alpha, multiplier)


def create_network_from_weights(
    multiplier: float,
    file: str,
    vae: Any,
    text_encoder: Any,
    unet: nn.Module,
    weights_sd: Any = None,
    for_inference: bool = False,
    modules: str | None = None,
    **more: Any,
) -> tuple[ChosenNetwork, Any]:
    """With the rank and alpha of a file; its weights come with `load_weights`.

    Raises:
        BadSettings: it is to be merged (`--base_weights`), or no modules are named. BadModel: the file is no LoRA.
    """
    if for_inference:
        raise BadSettings("--base_weights can't be used with this network. Merge the LoRA into the checkpoint first.")
    low = next(iter(lora.read(Path(file))[0].values()))
    return create_network(multiplier, low.down.shape[0], low.alpha, vae, text_encoder, unet, modules=modules, **more), weights_sd
