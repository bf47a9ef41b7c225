"""Makes a golden pack of the same form with other seeds, sizes and pictures, by straight calls of numpy, cv2, torch, diffusers and transformers:
nothing of lib_refonly takes part, so that agreeing with it means something."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from tests.tiny_models import SCHEDULER, UNET, VAE, VISION

CHANNELS = [8, 16, 24, 32]
SIZE = (88, 56)
"""Width and height of the picture to paint."""
MEAN, STD = [0.5, 0.4, 0.3], [0.3, 0.2, 0.25]


def make_pack(folder: Path, seed: int) -> Path:
    """Write golden.json, keys.json, golden.safetensors and inputs/."""
    pictures = _pictures(folder / "inputs", np.random.default_rng(seed))
    unet, vision, vae = UNet2DConditionModel(**UNET), CLIPVisionModel(CLIPVisionConfig(**VISION)), AutoencoderKL(**VAE)  # type: ignore[arg-type]
    shapes = {"unet": _shapes(unet) | _blueprint_shapes(), "image_encoder": _shapes(vision, "vision_model."), "vae": _shapes(vae)}
    modules: dict[str, Any] = {name: {"seed": seed + i, "gain": 1.2} for i, name in enumerate(shapes)}
    states = {name: _draw(shapes[name], modules[name]) for name in shapes}
    encoder = {name: states["unet"].pop(name) for name in _blueprint_shapes()}
    prefix = "vision_model." if "vision_model.embeddings.class_embedding" in vision.state_dict() else ""
    unet.load_state_dict(states["unet"])
    vae.load_state_dict(states["vae"])
    vision.load_state_dict({prefix + name.removeprefix("vision_model."): t for name, t in states["image_encoder"].items()})
    for network in (unet, vae, vision):
        network.eval()
    with torch.no_grad():
        tensors = _line_art(pictures) | _computed(unet, vae, vision, encoder, pictures, seed)
    _write(folder, shapes, modules, tensors)
    return folder


def _pictures(folder: Path, rng: np.random.Generator) -> dict[str, Image.Image]:
    folder.mkdir(parents=True)
    sizes = {"target": SIZE, "odd": (SIZE[0] + 5, SIZE[1] + 3), "prompt": (61, 97)}
    pictures = {name: _blobs(size, rng) for name, size in sizes.items()}
    for name, source in (("blueprint", "target"), ("blueprint_odd", "odd")):
        pictures[name] = Image.fromarray(255 - _lines(pictures[source]))
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png")
    return pictures


def _blobs(size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    canvas = np.full((size[1], size[0], 3), 230, np.uint8)
    for _ in range(6):
        centre, colour = rng.integers(0, min(size), 2).tolist(), rng.integers(0, 255, 3).tolist()
        cv2.circle(canvas, centre, int(rng.integers(6, 24)), colour, -1)
        cv2.circle(canvas, centre, int(rng.integers(6, 24)), (20, 20, 20), 1)
    return Image.fromarray(canvas)


def _lines(picture: Image.Image) -> np.ndarray:
    grey = _grey(picture)
    padded = np.pad(grey.astype(np.float64), 3, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7))
    return np.where(grey - np.rint(windows.mean((2, 3))) > -9, 255, 0).astype(np.uint8)


def _grey(picture: Image.Image) -> np.ndarray:
    r, g, b = np.moveaxis(np.asarray(picture.convert("RGB")).astype(np.int64), -1, 0)
    return ((9798 * r + 19235 * g + 3735 * b + 16384) // 32768).astype(np.uint8)


def _shapes(module: torch.nn.Module, prefix: str = "") -> dict[str, list[int]]:
    return {prefix + name.removeprefix(prefix): list(tensor.shape) for name, tensor in module.state_dict().items()}


def _blueprint_shapes() -> dict[str, list[int]]:
    a, b, c, d = CHANNELS
    layers = {"conv_in": (3, a), "blocks.0": (a, a), "blocks.1": (a, b), "blocks.2": (b, b), "blocks.3": (b, c), "blocks.4": (c, c), "blocks.5": (c, d)}
    layers["conv_out"] = (d, UNET["block_out_channels"][0])
    prefix = "controlnet_cond_embedding."
    weights = {f"{prefix}{name}.weight": [wide, narrow, 3, 3] for name, (narrow, wide) in layers.items()}
    return weights | {f"{prefix}{name}.bias": [wide] for name, (_, wide) in layers.items()}


def _draw(shapes: dict[str, list[int]], module: dict[str, Any]) -> dict[str, torch.Tensor]:
    rng, state, digest = np.random.Generator(np.random.PCG64(module["seed"])), {}, hashlib.sha256()
    for key in sorted(shapes):
        value = rng.standard_normal(shapes[key], dtype=np.float32)
        if len(shapes[key]) > 1:
            value = value * np.float32(module["gain"] / math.sqrt(np.prod(shapes[key][1:])))
        elif key.endswith("weight"):
            value = np.float32(1) + np.float32(0.1) * value
        else:
            value = np.float32(0.1) * value
        digest.update(value.tobytes())
        state[key] = torch.from_numpy(value)
    module["sha256"] = digest.hexdigest()
    return state


def _line_art(pictures: dict[str, Image.Image]) -> dict[str, torch.Tensor]:
    found = {}
    for group, name in (("lineart", "target"), ("lineart_odd", "odd")):
        lines = _lines(pictures[name])
        for what, value in (("gray", _grey(pictures[name])), ("line", lines), ("blueprint", 255 - lines)):
            found[f"{group}.{what}"] = torch.from_numpy(value.copy())
    return found


def _computed(unet: Any, vae: Any, vision: Any, encoder: dict[str, torch.Tensor], pictures: dict[str, Image.Image], seed: int) -> dict[str, torch.Tensor]:
    processor = CLIPImageProcessor(size={"shortest_edge": 40}, crop_size={"height": 40, "width": 40}, image_mean=MEAN, image_std=STD)
    pixels = processor(pictures["prompt"], return_tensors="pt")["pixel_values"]
    tokens = vision(pixels, output_hidden_states=True).hidden_states[-1]
    plain, odd = (_to_tensor(pictures[name]) for name in ("blueprint", "blueprint_odd"))
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(1, 4, plain.shape[2] // 8, plain.shape[3] // 8, generator=generator)
    odd_sample = torch.randn(2, 4, odd.shape[2] // 8, odd.shape[3] // 8, generator=generator)
    attn2 = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    feature, first = _feature(encoder, plain)
    out = {
        "clip.pixel_values": pixels, "clip.last_hidden_state": tokens, "blueprint.tensor": plain, "blueprint_odd.tensor": odd,
        "unet.sample": sample, "unet_odd.sample": odd_sample, "pipe.init_latents": torch.randn(sample.shape, generator=generator),
        "blueprint.feature": feature, "blueprint.conv_in_out": first,
        "unet.conv_in_out": unet.conv_in(sample), "unet.after_hint_add": unet.conv_in(sample) + feature,
        "attn2_first.k": attn2.to_k(tokens), "attn2_first.v": attn2.to_v(tokens),
        "unet.out_t702": _call(unet, sample, 702, tokens, feature),
        "unet.out_t33_zero_context": _call(unet, sample, 33, tokens * 0, feature),
        "unet.out_t33_black_blueprint": _call(unet, sample, 33, tokens, _feature(encoder, plain * 0)[0]),
        "unet_odd.out_t400": _call(unet, odd_sample, 400, tokens.expand(2, -1, -1), _feature(encoder, odd)[0]),
    }  # fmt: skip
    for name, scheduler, steps in (("unipc6", UniPCMultistepScheduler, 6), ("ddim4", DDIMScheduler, 4)):
        out |= {f"{name}.{key}": value for key, value in _sample(unet, vae, scheduler, steps, out["pipe.init_latents"], tokens, feature).items()}
    return {name: tensor.contiguous().clone() for name, tensor in out.items()}


def _to_tensor(picture: Image.Image) -> torch.Tensor:
    size = (picture.width - picture.width % 8, picture.height - picture.height % 8)
    array = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)).astype(np.float32) / 255
    return torch.from_numpy(array.transpose(2, 0, 1)[None].copy())


def _feature(encoder: dict[str, torch.Tensor], x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    def conv(name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        key = f"controlnet_cond_embedding.{name}"
        return F.conv2d(x, encoder[f"{key}.weight"], encoder[f"{key}.bias"], stride=stride, padding=1)

    first = conv("conv_in", x)
    x = F.silu(first)
    for i in range(6):
        x = F.silu(conv(f"blocks.{i}", x, 1 + i % 2))
    return conv("conv_out", x), first


def _call(unet: Any, sample: torch.Tensor, t: Any, tokens: torch.Tensor, feature: torch.Tensor) -> torch.Tensor:
    handle = unet.conv_in.register_forward_hook(lambda _, __, out: out + feature)
    try:
        return unet(sample, t, encoder_hidden_states=tokens).sample
    finally:
        handle.remove()


def _sample(unet: Any, vae: Any, cls: Any, steps: int, x: torch.Tensor, tokens: torch.Tensor, feature: torch.Tensor) -> dict[str, torch.Tensor]:
    config = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction", "steps_offset": 1}
    config |= {"final_sigmas_type": "sigma_min"} if cls is UniPCMultistepScheduler else {"clip_sample": False, "set_alpha_to_one": False}
    scheduler: Any = cls(**config)
    scheduler.set_timesteps(steps)
    seen = {"timesteps": scheduler.timesteps.to(torch.int64)}
    for i, t in enumerate(scheduler.timesteps):
        x = scheduler.step(_call(unet, x, t, tokens, feature), t, x, return_dict=False)[0]
        seen[f"latents_after_{i + 1}"] = x
    image = (vae.decode(x / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
    return seen | {"latents_final": x, "image01": image}


def _write(folder: Path, shapes: dict[str, Any], modules: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    configs: dict[str, Any] = {"unet": UNET, "vae": VAE, "image_encoder": VISION}
    about = {
        "format": "refonly_golden", "version": 1, "modules": modules,
        "configs": configs | {"conditioning_embedding_out_channels": CHANNELS, "conditioning_channels": 3},
        "clip_image_processor": {"resize_shortest_edge": 40, "resample": "bicubic", "center_crop": 40, "mean": MEAN, "std": STD},
        "line_art": {"gray": "cv2 RGB2GRAY", "threshold": "adaptiveThreshold mean 7x7 C=9 binary 255", "blueprint": "255-line"},
        "scheduler": SCHEDULER, "tolerance_atol": 1e-4,
    }  # fmt: skip
    (folder / "golden.json").write_text(json.dumps(about), "utf-8")
    (folder / "keys.json").write_text(json.dumps({"modules": shapes, "skipped": {}}), "utf-8")
    save_file(tensors, folder / "golden.safetensors")
