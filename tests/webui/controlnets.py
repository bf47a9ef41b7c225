"""Random models for the host's ControlNet, and where they are put. The shapes are the random checkpoints', except where a host knows one shape alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import ControlNetModel, T2IAdapter, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from lib_refonly.refonly.ldm_keys import UNET, unet_names
from lib_refonly.refonly.loader import save_refonly
from tests.tiny_models import tiny_model
from tests.webui import checkpoints
from tests.webui.webui import WebUI

CONTROLNET, T2I_ADAPTER, IP_ADAPTER = "random-controlnet", "random-t2iadapter", "random-ipadapter"
FULL = "fitting-refonly"
WIDE, WIDE_IP = "wide-sd15", "ip-adapter_wide"
TRUE, NARROW, FLAT = (320, 640, 1280, 1280), (32, 64, 128, 128), (320, 320, 320, 320)
_DOWN = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
_UP = ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")
_CONTEXT, _HEADS, _TOKENS = 768, 8, 4
_ENCODER = "CLIP-ViT-H-14.safetensors"
"""The file that Forge's IP-Adapter looks for. It goes by what is in it, so the smallest network that it knows will do."""
_ENCODER_WIDTH = 768


def is_there(host: WebUI) -> bool:
    """Built in in Forge's family, an extension of A1111."""
    places = [host.folder / "extensions-builtin", host.folder / "extensions"]
    return any((folder / "scripts" / "controlnet.py").is_file() for place in places if place.is_dir() for folder in place.iterdir())


def prepared(host: WebUI) -> tuple[str, ...]:
    """Write what is small. The flags that the host then needs."""
    if not is_there(host):
        return ()
    full_model(host)
    models, encoders = _models(host), host.models.parent / "encoders"
    for folder in (models, encoders):
        folder.mkdir()
    if not host.is_forge:
        _t2i_adapter(models / f"{T2I_ADAPTER}.safetensors", NARROW)
        save_file(_ip_adapter(NARROW, checkpoints.FEATURES), models / f"{IP_ADAPTER}.safetensors")
        return ("--controlnet-dir", str(models))
    controlnet(models / f"{CONTROLNET}.safetensors", FLAT, layers=1)
    # The host numbers the sites as SD 1.5 has them; in its own checkpoint some are missing.
    save_file(_ip_adapter(FLAT, _ENCODER_WIDTH), models / f"{IP_ADAPTER}.safetensors")
    return ("--controlnet-dir", str(models), "--controlnet-preprocessor-models-dir", str(encoders))


def image_encoder(host: WebUI) -> None:
    """For Forge's IP-Adapter: a CLIP ViT-L, 600 MB of random weights."""
    torch.manual_seed(6)
    shape = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14}
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**shape, image_size=224, projection_dim=_ENCODER_WIDTH)).half()  # type: ignore[arg-type]
    save_file(encoder.state_dict(), host.models.parent / "encoders" / _ENCODER)


def full_model(host: WebUI) -> None:
    """One whose UNet has the checkpoint's shape, as the authors' has SD's: ControlNet's residuals fit it."""
    shape = {"down_block_types": _DOWN, "up_block_types": _UP, "attention_head_dim": _HEADS}
    widths, layers, vae = (FLAT, 1, (128, 256, 512, 512)) if host.is_forge else (NARROW, 2, (32, 64, 64, 64))
    model = tiny_model(10, block_out_channels=widths, layers_per_block=layers, **shape)
    model.vae = checkpoints.random_vae(vae)
    model.card = replace(model.card, name=FULL)
    save_refonly(model, host.models / FULL, torch.float16)


def wide(host: WebUI) -> list[Path]:
    """For A1111's extension, which builds every ControlNet in SD 1.5's true shape: such a one, a checkpoint and an adapter of ours for it, 3 GB."""
    checkpoints._random(host.checkpoints, WIDE, TRUE, _CONTEXT, "epsilon", vae=(32, 64, 64, 64))
    control, adapter = _models(host) / f"{CONTROLNET}.safetensors", host.models / "adapters" / f"{WIDE_IP}.safetensors"
    controlnet(control, TRUE, layers=2)
    save_file(_ip_adapter(TRUE, checkpoints.FEATURES), adapter)
    return [host.checkpoints / f"{WIDE}.safetensors", control, adapter]


def controlnet(path: Path, widths: tuple[int, ...], layers: int) -> None:
    """In ldm's layout, as the first ones were published."""
    torch.manual_seed(5)
    net = ControlNetModel(block_out_channels=widths, layers_per_block=layers, cross_attention_dim=_CONTEXT, attention_head_dim=_HEADS)
    for layer in (*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out):
        nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)  # type: ignore[arg-type, union-attr, index] noughts before the training
    state, named = net.state_dict(), dict[str, Tensor]()
    config = {"down_block_types": _DOWN, "up_block_types": _UP, "layers_per_block": layers}
    of_unet = [name for name in state if not name.startswith("controlnet_")]
    for new, old in unet_names(config, of_unet).items():
        named[new.removeprefix(UNET)] = state[old]
    for name in state.keys() - set(of_unet):
        named[_control_name(name)] = state[name]
    save_file({name: tensor.half() for name, tensor in named.items()}, path)


def _control_name(name: str) -> str:
    part, end = name.removeprefix("controlnet_").rsplit(".", 1)
    kind, _, place = part.partition(".")
    if kind == "down_blocks":
        return f"zero_convs.{place}.0.{end}"
    if kind == "mid_block":
        return f"middle_block_out.0.{end}"
    number = {"conv_in": 0, "conv_out": 7}.get(place)
    return f"input_hint_block.{2 * (int(place.removeprefix('blocks.')) + 1 if number is None else number)}.{end}"


def _t2i_adapter(path: Path, widths: tuple[int, ...]) -> None:
    torch.manual_seed(7)
    save_file(T2IAdapter(in_channels=3, channels=list(widths), num_res_blocks=2, downscale_factor=8).state_dict(), path)


def _ip_adapter(widths: tuple[int, ...], features: int) -> dict[str, Tensor]:
    """For SD 1.5's number of sites."""
    torch.manual_seed(8)
    with torch.device("meta"):
        unet = UNet2DConditionModel(block_out_channels=widths, cross_attention_dim=_CONTEXT, attention_head_dim=_HEADS)
    projection = torch.randn(_TOKENS * _CONTEXT, features) / features**0.5
    return checkpoints.random_ip_adapter(unet, _CONTEXT) | {"image_proj.proj.weight": projection.half()}


def _models(host: WebUI) -> Path:
    return host.models.parent / "controlnets"
