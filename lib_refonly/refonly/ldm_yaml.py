"""A1111's side-car .yaml: the LatentDiffusion configuration that belongs to diffusers configs. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lib_refonly.errors import BadModel
from lib_refonly.refonly.ldm_keys import per_level

_GROUPS = 32
_TEXT = {
    768: {"target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder"},
    1024: {"target": "ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder", "params": {"freeze": True, "layer": "penultimate"}},
}


def ldm_config(unet: Mapping[str, Any], vae: Mapping[str, Any], scheduler: Mapping[str, Any], tokenizer: str | None = None) -> dict[str, Any]:
    """The .yaml's content.

    Args:
        unet, vae, scheduler: the folder's configs.
        tokenizer: a CLIP folder (config and tokenizer) when the checkpoint brings its own text encoder. Without it the text encoder is
            the one that belongs to the UNet's context width in SD 1.x and 2.x; a RefOnly model does not read what it says. Of other widths
            there is none: an identity keeps the place, and A1111 lists the file but cannot select it.

    Raises:
        BadModel: the network cannot be written as an ldm one.
    """
    if scheduler.get("beta_schedule") != "scaled_linear" or scheduler.get("trained_betas") is not None:
        raise BadModel("Only models with SD's noise schedule (scaled_linear) can be written as a checkpoint: the format has no place for another.")
    params = {
        "linear_start": scheduler.get("beta_start", 0.00085),
        "linear_end": scheduler.get("beta_end", 0.012),
        "num_timesteps_cond": 1,
        "log_every_t": 200,
        "timesteps": scheduler.get("num_train_timesteps", 1000),
        "first_stage_key": "jpg",
        "cond_stage_key": "txt",
        "image_size": unet.get("sample_size") or 64,
        "channels": unet["in_channels"],
        "cond_stage_trainable": False,
        "conditioning_key": "crossattn",
        "monitor": "val/loss_simple_ema",
        "scale_factor": vae.get("scaling_factor", 0.18215),
        "use_ema": False,
        "parameterization": _parameterization(scheduler),
        "unet_config": {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": unet_params(unet)},
        "first_stage_config": {"target": "ldm.models.autoencoder.AutoencoderKL", "params": vae_params(vae)},
        "cond_stage_config": _text_config(unet["cross_attention_dim"], tokenizer),
    }
    return {"model": {"base_learning_rate": 1.0e-4, "target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": params}}


def _parameterization(scheduler: Mapping[str, Any]) -> str:
    prediction = scheduler.get("prediction_type", "epsilon")
    if prediction not in ("v_prediction", "epsilon"):
        raise BadModel(f"A model that predicts {prediction!r} cannot be written as a checkpoint.")
    return "v" if prediction == "v_prediction" else "eps"


def _text_config(width: int, tokenizer: str | None) -> dict[str, Any]:
    if tokenizer is not None:
        return {"target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder", "params": {"version": tokenizer}}
    return _TEXT.get(width, {"target": "torch.nn.Identity"})


def unet_params(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ldm's UNetModel.

    Raises:
        BadModel: widths that are no multiples of the first, attention on some layers of a level only, or heads that ldm cannot say.
    """
    widths, levels = config["block_out_channels"], len(config["block_out_channels"])
    if config.get("norm_num_groups", _GROUPS) != _GROUPS or any(width % widths[0] for width in widths):
        raise BadModel(f"The UNet cannot be written as an ldm one: it needs {_GROUPS} norm groups and widths that are multiples of the first ({widths}).")
    attention = ["Attn" in kind for kind in config["down_block_types"]]
    middle = config.get("mid_block_type", "UNetMidBlock2DCrossAttn")
    if attention[::-1] != ["Attn" in kind for kind in config["up_block_types"]] or middle != "UNetMidBlock2DCrossAttn":
        raise BadModel("The UNet cannot be written as an ldm one: its way down and its way up have attention at different levels.")
    _refuse_other_time(config)
    layers = per_level(config.get("layers_per_block", 2), levels)
    return {
        "use_checkpoint": False,
        "image_size": config.get("sample_size") or 64,
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "model_channels": widths[0],
        "attention_resolutions": [2**level for level in range(levels) if attention[level]],
        "num_res_blocks": layers[0] if len(set(layers)) == 1 else layers,
        "channel_mult": [width // widths[0] for width in widths],
        **_heads(config),
        "use_spatial_transformer": True,
        "use_linear_in_transformer": bool(config.get("use_linear_projection", False)),
        "transformer_depth": _depth(config),
        "context_dim": config["cross_attention_dim"],
        "legacy": False,
    }


def _refuse_other_time(config: Mapping[str, Any]) -> None:
    usual = {"flip_sin_to_cos": True, "freq_shift": 0, "time_embedding_type": "positional", "resnet_time_scale_shift": "default", "act_fn": "silu"}
    for field, value in usual.items():
        if config.get(field, value) != value:
            raise BadModel(f"The UNet cannot be written as an ldm one: {field} is {config[field]!r}, ldm has {value!r}.")


def _depth(config: Mapping[str, Any]) -> int:
    depths = set(per_level(config.get("transformer_layers_per_block", 1), len(config["block_out_channels"])))
    if depths != {1}:
        raise BadModel("The UNet cannot be written as an ldm one: it has more than one transformer block a layer (SDXL).")
    return 1


def _heads(config: Mapping[str, Any]) -> dict[str, int]:
    """diffusers' `attention_head_dim` is the number of heads. ldm takes one number of heads, or one width of a head, for all levels."""
    widths = config["block_out_channels"]
    heads = per_level(config.get("num_attention_heads") or config.get("attention_head_dim", 8), len(widths))
    sizes = {width // count for width, count in zip(widths, heads, strict=True)}
    if len(sizes) == 1:
        return {"num_head_channels": sizes.pop()}
    if len(set(heads)) == 1:
        return {"num_heads": heads[0]}
    raise BadModel(f"The UNet cannot be written as an ldm one: neither the heads ({heads}) nor their widths are the same at all levels.")


def vae_params(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ldm's AutoencoderKL."""
    widths = config["block_out_channels"]
    if config.get("norm_num_groups", _GROUPS) != _GROUPS or any(width % widths[0] for width in widths):
        raise BadModel(f"The VAE cannot be written as an ldm one: it needs {_GROUPS} norm groups and widths that are multiples of the first ({widths}).")
    ddconfig = {
        "double_z": True,
        "z_channels": config["latent_channels"],
        "resolution": 2 ** (len(widths) + 4),
        "in_channels": config["in_channels"],
        "out_ch": config["out_channels"],
        "ch": widths[0],
        "ch_mult": [width // widths[0] for width in widths],
        "num_res_blocks": config.get("layers_per_block", 2),
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    loss = {"target": "torch.nn.Identity"}
    return {"embed_dim": config["latent_channels"], "monitor": "val/rec_loss", "ddconfig": ddconfig, "lossconfig": loss}


def to_yaml(value: Any, indent: int = 0) -> str:
    """YAML text of nested mappings; lists and single values stand in JSON, which YAML contains (so no YAML library is needed)."""
    lines = []
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            lines.append(f"{' ' * indent}{key}:\n{to_yaml(inner, indent + 2)}")
        else:
            lines.append(f"{' ' * indent}{key}: {_value(inner)}\n")
    return "".join(lines)


def _value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    # YAML 1.1 takes 1e-05 for a word: a number needs its point.
    return text.replace("e", ".0e") if isinstance(value, float) and "e" in text and "." not in text else text
