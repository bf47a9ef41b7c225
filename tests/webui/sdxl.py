"""A random checkpoint of SDXL's kind for AUTOMATIC1111, narrow but for its cross-attention, and random adapters for it.

As in SDXL there are three levels, attention at the two lower ones with more blocks in the lowest, and two text encoders whose outputs stand beside each
other in the 2048 numbers of a token. The second one is the smallest that open_clip knows by name; the first one, which has a folder of its own, is as wide
as what remains. Forge's loader takes no such checkpoint: it knows SDXL by its true width and by its true number of transformer blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from lib_refonly.models.registry import EMBEDDED
from lib_refonly.refonly.ldm_keys import UNET, is_vae_projection, unet_names, vae_names
from lib_refonly.refonly.ldm_yaml import to_yaml, unet_params, vae_params
from lib_refonly.training import vocabulary
from tests.unit.adapters.public_files import flat, public_adapter
from tests.webui.checkpoints import random_image_encoder, random_ip_adapter, random_vae

NAME, PLAIN, PLUS = "rand-sdxl", "ip-adapter_random_sdxl", "ip-adapter-plus_random_sdxl"
CONTEXT, POOLED, SIZES = 2048, 256, 6 * 256
"""Numbers of a text token; of the second encoder's summary; of the six sizes and corners, 256 each."""
_OPEN_CLIP, _OPEN_CLIP_WIDTH, _OPEN_CLIP_LAYERS, _OPEN_CLIP_WORDS = "ViT-S-32-alt", 256, 10, 49408
_DEPTHS, _LENGTH = [1, 2, 3], 77
_ADDED = {"add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
SHAPE: dict[str, Any] = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (32, 64, 128),
    "attention_head_dim": [1, 2, 4],
    "transformer_layers_per_block": _DEPTHS,
    "use_linear_projection": True,
    "cross_attention_dim": CONTEXT,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": POOLED + SIZES,
    "sample_size": 32,
}


def sgm_params(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of sgm's UNetModel, SDXL's, for a diffusers config."""
    params = unet_params({**config, "transformer_layers_per_block": 1})
    del params["image_size"]
    added = {"adm_in_channels": config["projection_class_embeddings_input_dim"], "num_classes": "sequential"}
    return params | added | {"transformer_depth": list(config["transformer_layers_per_block"]), "spatial_transformer_attn_type": "softmax"}


def forge_params(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the class that Forge's family has: transformer blocks layer by layer, and the way up has one layer more a level."""
    params, layers = sgm_params(config), config["layers_per_block"]
    depths = [depth if "Attn" in kind else 0 for kind, depth in zip(config["down_block_types"], config["transformer_layers_per_block"], strict=True)]
    return params | {
        "image_size": config["sample_size"],
        "num_res_blocks": [layers] * len(depths),
        "transformer_depth": [depth for depth in depths for _ in range(layers)],
        "transformer_depth_output": [depth for depth in depths for _ in range(layers + 1)],
        "transformer_depth_middle": depths[-1],
    }


def ldm_weights(unet: Any) -> dict[str, Tensor]:
    """A diffusers SDXL UNet's weights by ldm's names, without prefix."""
    state = unet.state_dict()
    added = {f"{new}.{end}": state.pop(f"{old}.{end}") for old, new in _ADDED.items() for end in ("weight", "bias")}
    return {new.removeprefix(UNET): state[old] for new, old in unet_names(unet.config, state).items()} | added


def random_unet(seed: int = 0) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(**SHAPE).eval().requires_grad_(False)
    for weight in unet.parameters():  # the default start leaves some branches nearly silent
        if weight.dim() > 1:
            weight.mul_(1.5)
    return unet


def checkpoint(out: Path) -> None:
    """rand-sdxl.safetensors with its .yaml and the folder of its first text encoder."""
    vae, text = random_vae((32, 64, 64, 64)), _text_encoder()
    clip = out / f"{NAME}.clip"
    clip.mkdir()
    tokenizer = vocabulary.load(EMBEDDED / "tiny-base" / "tokenizer")
    tokenizer.save_pretrained(clip)
    vocabulary.save_plain(tokenizer, clip)
    text.config.to_json_file(clip / "config.json")
    state = {UNET + name: tensor for name, tensor in ldm_weights(random_unet()).items()}
    weights = vae.state_dict()
    state |= {new: weights[old][..., None, None] if is_vae_projection(old) else weights[old] for new, old in vae_names(vae.config, weights).items()}
    state |= {f"conditioner.embedders.0.transformer.text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in text.state_dict().items()}
    state |= {f"conditioner.embedders.1.model.{name}": tensor for name, tensor in _open_clip().items()}
    save_file({name: tensor.half().contiguous() for name, tensor in state.items()}, out / f"{NAME}.safetensors")
    (out / f"{NAME}.yaml").write_text(to_yaml(_yaml(vae.config, str(clip.resolve()))), "utf-8")


def adapters(out: Path) -> None:
    """A plain and a "plus" one, in the layout of the public files for SDXL."""
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(**SHAPE)
    torch.manual_seed(5)
    save_file(random_ip_adapter(unet, CONTEXT), out / f"{PLAIN}.safetensors")
    plus = flat(public_adapter(unet, "plus", CONTEXT))
    plus["image_proj.proj_in.weight"] = torch.randn(len(plus["image_proj.proj_in.bias"]), random_image_encoder().config.hidden_size) / 4
    loud = {name: (3 if name.endswith((".to_out.weight", "_ip.weight")) else 1) * tensor for name, tensor in plus.items()}  # or the picture hardly shows
    save_file({name: tensor.half() for name, tensor in loud.items()}, out / f"{PLUS}.safetensors")


def _text_encoder() -> CLIPTextModel:
    torch.manual_seed(6)
    tokenizer, width = vocabulary.load(EMBEDDED / "tiny-base" / "tokenizer"), CONTEXT - _OPEN_CLIP_WIDTH
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=width // 64,
            max_position_embeddings=_LENGTH,
            projection_dim=width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    ).requires_grad_(False)
    for place, weight in text.named_parameters():
        if place.endswith("embedding.weight"):
            weight.normal_(0.02, 0.3)  # read before the last normalisation; WebUIs restore the mean after weighting: it must not be nought
    return text


def _open_clip() -> dict[str, Tensor]:
    """The text half of an open_clip model, by its own names."""
    torch.manual_seed(7)
    width = _OPEN_CLIP_WIDTH
    state = {"token_embedding.weight": 0.02 + 0.3 * torch.randn(_OPEN_CLIP_WORDS, width), "positional_embedding": 0.1 * torch.randn(_LENGTH, width)}
    state |= {"text_projection": torch.randn(width, POOLED) / width**0.5, "logit_scale": torch.tensor(1.0)} | _named("ln_final", nn.LayerNorm(width))
    for number in range(_OPEN_CLIP_LAYERS):
        layers = {
            "ln_1": nn.LayerNorm(width),
            "attn": nn.MultiheadAttention(width, 4),
            "ln_2": nn.LayerNorm(width),
            "mlp.c_fc": nn.Linear(width, 4 * width),
            "mlp.c_proj": nn.Linear(4 * width, width),
        }
        for name, layer in layers.items():
            state |= _named(f"transformer.resblocks.{number}.{name}", layer)
    return state


def _named(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def _yaml(vae: Mapping[str, Any], clip: str) -> dict[str, Any]:
    diffusion, encoders = "sgm.modules.diffusionmodules", "sgm.modules.encoders.modules"
    first = {"version": clip, "layer": "hidden", "layer_idx": 1}
    second = {"arch": _OPEN_CLIP, "version": "", "freeze": True, "layer": "penultimate", "always_return_pooled": True, "legacy": False}
    texts = (("txt", "FrozenCLIPEmbedder", first), ("txt", "FrozenOpenCLIPEmbedder2", second))
    sizes = ((name, "ConcatTimestepEmbedderND", {"outdim": 256}) for name in ("original_size_as_tuple", "crop_coords_top_left", "target_size_as_tuple"))
    emb_models = [{"is_trainable": False, "input_key": key, "target": f"{encoders}.{kind}", "params": params} for key, kind, params in (*texts, *sizes)]
    denoiser = {
        "num_idx": 1000,
        "weighting_config": {"target": f"{diffusion}.denoiser_weighting.EpsWeighting"},
        "scaling_config": {"target": f"{diffusion}.denoiser_scaling.EpsScaling"},
        "discretization_config": {"target": f"{diffusion}.discretizer.LegacyDDPMDiscretization"},
    }
    params = {
        "scale_factor": 0.13025,
        "disable_first_stage_autocast": True,
        "denoiser_config": {"target": f"{diffusion}.denoiser.DiscreteDenoiser", "params": denoiser},
        "network_config": {"target": f"{diffusion}.openaimodel.UNetModel", "params": sgm_params(random_unet().config)},
        "conditioner_config": {"target": "sgm.modules.GeneralConditioner", "params": {"emb_models": emb_models}},
        "first_stage_config": {"target": "sgm.models.autoencoder.AutoencoderKLInferenceWrapper", "params": vae_params(vae)},
    }
    return {"model": {"target": "sgm.models.diffusion.DiffusionEngine", "params": params}}
