"""ONE-PIC's LoRA: rank 32, alpha 4, on q, k and v of the UNet's self-attention (paper, section 4), as kohya's files name things.

The names are ldm's (`lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q`): every WebUI finds them in a UNet of any depth, and they are what sd-scripts
writes for SDXL. For SD 1.5 and 2 it writes diffusers' names; they are read too. Each module carries its alpha; without it a WebUI would take it for the rank,
and the LoRA would act eight times too strong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from lib_refonly.errors import BadModel
from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.refonly.ldm_keys import UNET, unet_names

RANK, ALPHA = 32, 4
TARGETS = r".*attn1\.to_(q|k|v)"
"""Which modules, by diffusers' or ldm's name."""
_PREFIX = "lora_unet_"
_PARTS = re.compile(r"(.+)\.(lora_down\.weight|lora_up\.weight|alpha)")


@dataclass(frozen=True)
class Low:
    """One module's share: W + alpha / rank * up @ down. down: [rank, in], up: [out, rank]."""

    down: Tensor
    up: Tensor
    alpha: float

    def change(self) -> Tensor:
        return self.up.float() @ self.down.float() * (self.alpha / self.down.shape[0])


def names(unet: Any, targets: str = TARGETS) -> dict[str, str]:
    """kohya's name -> diffusers' name of each module that a LoRA on `targets` changes; ONE-PIC's when not said."""
    modules = [f"{name}.weight" for name, _ in unet.named_modules() if re.fullmatch(targets, name)]
    ldm = unet_names(unet.config, modules)
    return {_PREFIX + ours.removeprefix(UNET).removesuffix(".weight").replace(".", "_"): theirs.removesuffix(".weight") for ours, theirs in ldm.items()}


def size(unet: Any, rank: int = RANK) -> int:
    """Numbers that are learnt."""
    return sum(rank * (module.in_features + module.out_features) for module in map(unet.get_submodule, names(unet).values()))


def trained(unet: nn.Module, places: Mapping[str, str], alpha: float) -> dict[str, Low]:
    """What peft's adapter "default" has learnt, by kohya's name. places: those of `names`."""
    modules: dict[str, Any] = {name: unet.get_submodule(place) for name, place in places.items()}
    return {
        name: Low(module.lora_A["default"].weight.detach().cpu(), module.lora_B["default"].weight.detach().cpu(), alpha) for name, module in modules.items()
    }


@torch.no_grad()
def begin_from(unet: nn.Module, places: Mapping[str, str], lows: Mapping[str, Low], alpha: float) -> None:
    """Put `lows` into peft's adapter "default", so that it acts as they do. places: those of `names`.

    Raises:
        BadModel: they change other modules, or have another rank.
    """
    modules: dict[str, Any] = {name: unet.get_submodule(place) for name, place in places.items()}
    for name, module in modules.items():
        down, up = module.lora_A["default"].weight, module.lora_B["default"].weight
        low = lows.get(name)
        if low is None or low.down.shape != down.shape or low.up.shape != up.shape or len(lows) != len(modules):
            raise BadModel(f"The LoRA to start from does not fit at {name.removeprefix(_PREFIX)}: it was made for another base, or with another rank.")
        down.copy_(low.down)
        up.copy_(low.up.float() * (low.alpha / alpha))


def save(path: Path, lows: Mapping[str, Low], metadata: Mapping[str, str]) -> None:
    """`lows` by kohya's name, in float16."""
    from safetensors.torch import save as to_bytes

    tensors = {}
    for name, low in lows.items():
        tensors |= {f"{name}.lora_down.weight": low.down.half().contiguous(), f"{name}.lora_up.weight": low.up.half().contiguous()}
        tensors[f"{name}.alpha"] = torch.tensor(low.alpha)
    first = next(iter(lows.values()))
    told = {"ss_network_module": "networks.lora", "ss_network_dim": str(first.down.shape[0]), "ss_network_alpha": f"{first.alpha:g}"}
    write_atomically(path, to_bytes(tensors, told | dict(metadata)))


def read(path: Path) -> tuple[dict[str, Low], dict[str, str]]:
    """What `save` wrote, or another kohya file with linear UNet modules alone, and its metadata.

    Raises:
        BadModel: no such file, or something else is in it.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            for key in file.keys():  # noqa: SIM118 (no dictionary)
                found = _PARTS.fullmatch(key)
                if found is None or not key.startswith(_PREFIX):
                    raise BadModel(f"{path.name} is no LoRA for a UNet's linear layers alone: it has {key}. Use it in a WebUI instead.")
                parts.setdefault(found[1], {})[found[2]] = file.get_tensor(key)
    except (OSError, ValueError) as error:
        raise BadModel(f"{path.name} can't be read ({error}).") from error
    except Exception as error:
        if type(error).__name__ == "SafetensorError":
            raise BadModel(f"{path.name} is no whole safetensors file ({error}). Download or export it again.") from error
        raise
    return {name: _low(path, name, part) for name, part in parts.items()}, metadata


def _low(path: Path, name: str, part: Mapping[str, Tensor]) -> Low:
    down, up = part.get("lora_down.weight"), part.get("lora_up.weight")
    if down is None or up is None or down.dim() != 2 or up.dim() != 2 or down.shape[0] != up.shape[1]:
        raise BadModel(f"{path.name} is damaged, or no plain LoRA: {name} has no matching lora_down and lora_up.")
    alpha = part.get("alpha")
    return Low(down, up, float(down.shape[0]) if alpha is None else float(alpha))


@contextmanager
def merged(unet: nn.Module, lows: Mapping[str, Low], strength: float = 1.0, targets: str = TARGETS) -> Iterator[None]:
    """The UNet with the LoRA in its weights; afterwards they are what they were, to the bit.

    Raises:
        BadModel: made for a UNet of another shape.
    """
    known = names(unet, targets)
    known |= {_PREFIX + place.replace(".", "_"): place for place in known.values()}
    fits: dict[str, Any] = {name: unet.get_submodule(known[name]) for name in lows if name in known}
    wrong = [name for name in lows if name not in fits or fits[name].weight.shape != (lows[name].up.shape[0], lows[name].down.shape[1])]
    if wrong:
        raise BadModel(f"This LoRA was made for another checkpoint: {wrong[0].removeprefix(_PREFIX)} and {len(wrong) - 1} more have no place here.")
    kept = {name: module.weight.data for name, module in fits.items()}
    try:
        for name, module in fits.items():
            weight = module.weight.data
            module.weight.data = (weight.float() + strength * lows[name].change().to(weight.device)).to(weight.dtype)
        yield
    finally:
        for name, module in fits.items():
            module.weight.data = kept[name]
