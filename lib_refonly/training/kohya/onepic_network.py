"""ONE-PIC's LoRA as a network module of sd-scripts: rank 32, alpha 4, on q, k and v of the UNet's self-attention and nowhere else (paper, section 4).

For `--network_module lib_refonly.training.kohya.onepic_network`. Files are like those of sd-scripts' own LoRAs, in float16 and with each module's alpha. The
functions and methods without a word of their own are those that sd-scripts' trainers call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib_refonly.errors import BadModel, BadSettings
from lib_refonly.onepic import lora

_PREFIX = "lora_unet_"


class LowRank(nn.Module):
    """What one linear layer gets on top: alpha / rank * up(down(x)). It begins at nought."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.lora_down, self.lora_up = nn.Linear(layer.in_features, rank, bias=False), nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.lora_up.weight)
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.lora_up(self.lora_down(x))

    def low(self) -> lora.Low:
        down, up = (layer.weight.detach().cpu() for layer in (self.lora_down, self.lora_up))
        return lora.Low(down, up, self.scale * down.shape[0])

    @torch.no_grad()
    def take(self, low: lora.Low) -> None:
        """Raises: RuntimeError: another rank or width."""
        self.lora_down.load_state_dict({"weight": low.down})
        self.lora_up.load_state_dict({"weight": low.up})
        self.scale = low.alpha / low.down.shape[0]


class OnePicNetwork(nn.Module):
    """One `LowRank` for each layer of a UNet that ONE-PIC trains, by kohya's name. The UNet is left as it is until `apply_to`."""

    def __init__(self, unet: nn.Module, rank: int = lora.RANK, alpha: float = lora.ALPHA, multiplier: float = 1.0) -> None:
        super().__init__()
        self.multiplier = multiplier
        self._places = self.layers(unet)
        for name, place in self._places.items():
            layer: Any = unet.get_submodule(place)
            self.add_module(name, LowRank(layer, rank, alpha))

    def layers(self, unet: nn.Module) -> dict[str, str]:
        """kohya's name -> the UNet's own name of each layer that is trained. Raises: BadModel: there are none."""
        return places(unet)

    def apply_to(self, text_encoder: Any, unet: nn.Module, apply_text_encoder: bool = True, apply_unet: bool = True) -> None:
        """The UNet computes with the LoRA from now on. Text encoders are left alone. Raises: BadSettings: the UNet is not to be trained."""
        if not apply_unet:
            raise BadSettings("This network trains the UNet alone. Leave --network_train_text_encoder_only away.")
        for name, place in self._places.items():
            low = self.get_submodule(name)
            unet.get_submodule(place).register_forward_hook(lambda _, given, out, low=low: out + self.multiplier * low(given[0]))

    def set_multiplier(self, multiplier: float) -> None:
        self.multiplier = multiplier

    def prepare_optimizer_params(self, text_encoder_lr: Any, unet_lr: float | None, default_lr: float | None) -> tuple[list[dict[str, Any]], list[str]]:
        rate = default_lr if unet_lr is None else unet_lr
        return [{"params": list(self.parameters())} | ({} if rate is None else {"lr": rate})], ["unet"]

    def prepare_grad_etc(self, text_encoder: Any, unet: Any) -> None:
        self.requires_grad_(True)

    def enable_gradient_checkpointing(self) -> None:
        """The UNet's own is enough."""

    def on_epoch_start(self, text_encoder: Any, unet: Any) -> None:
        self.train()

    def get_trainable_params(self) -> Iterable[nn.Parameter]:
        return self.parameters()

    def save_weights(self, file: str, dtype: Any, metadata: Mapping[str, str] | None) -> None:
        """In float16 whatever `dtype` is; rank and alpha are told as they are, not as they were asked for. Raises: CannotWrite."""
        told = {key: value for key, value in (metadata or {}).items() if key not in ("ss_network_dim", "ss_network_alpha")}
        lora.save(Path(file), {name: low.low() for name, low in self._lows().items()}, told)

    def load_weights(self, file: str) -> str:
        """Go on from a file, with its alpha. Raises: BadModel: it is no ONE-PIC LoRA for this UNet, or has another rank."""
        given, own = lora.read(Path(file))[0], self._lows()
        if given.keys() != own.keys():
            raise BadModel(f"{Path(file).name} has {len(given)} modules that are not the {len(own)} that are trained on this checkpoint.")
        try:
            for name, low in own.items():
                low.take(given[name])
        except RuntimeError as error:
            raise BadModel(f"{Path(file).name} has another rank or is for another checkpoint. Give --dim_from_weights, or leave it away.") from error
        return f"{len(own)} modules"

    def _lows(self) -> dict[str, LowRank]:
        return {name: module for name, module in self.named_children() if isinstance(module, LowRank)}


def places(unet: nn.Module) -> dict[str, str]:
    """kohya's name -> the UNet's own name of each layer that ONE-PIC trains.

    sd-scripts' UNet of SDXL is named as ldm's, those of SD 1.5 and 2 as diffusers'; so are the LoRAs that it writes, and all programs know both.

    Raises:
        BadModel: there are no such layers.
    """
    found = [name for name, _ in unet.named_modules() if re.fullmatch(lora.TARGETS, name)]
    if not found:
        raise BadModel("This checkpoint's UNet has no self-attention that ONE-PIC could train. It is for SD 1.5, SD 2 and SDXL.")
    return {_PREFIX + name.replace(".", "_"): name for name in found}


def create_network(
    multiplier: float,
    network_dim: int | None,
    network_alpha: float | None,
    vae: Any,
    text_encoder: Any,
    unet: nn.Module,
    neuron_dropout: float | None = None,
    **more: Any,
) -> OnePicNetwork:
    """Raises: BadSettings: dropout or `--network_args`, which this network does not have."""
    asked = [name for name, value in (more | {"network_dropout": neuron_dropout}).items() if value is not None]
    if asked:
        raise BadSettings(f"ONE-PIC's network does not know {', '.join(asked)}. It has --network_dim and --network_alpha alone.")
    return OnePicNetwork(unet, lora.RANK if network_dim is None else network_dim, lora.ALPHA if network_alpha is None else network_alpha, multiplier)


def create_network_from_weights(
    multiplier: float, file: str, vae: Any, text_encoder: Any, unet: nn.Module, weights_sd: Any = None, for_inference: bool = False, **more: Any
) -> tuple[OnePicNetwork, Any]:
    """With the rank and alpha of a file; its weights come with `load_weights`.

    Raises:
        BadSettings: it is to be merged (`--base_weights`). BadModel: the file is no LoRA.
    """
    if for_inference:
        raise BadSettings("--base_weights can't be used with ONE-PIC's network. Merge the LoRA into the checkpoint first.")
    low = next(iter(lora.read(Path(file))[0].values()))
    return OnePicNetwork(unet, low.down.shape[0], low.alpha, multiplier), weights_sd
