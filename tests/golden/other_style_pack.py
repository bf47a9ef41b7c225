"""Makes a golden pack of StyleCodes of the same form with other seeds, sizes and pictures, by straight calls of torch, transformers' SigLIP and diffusers'
blocks: nothing of lib_refonly takes part, so that agreeing with it means something."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import SiglipVisionConfig, SiglipVisionModel

from tests.golden.other_pack import _blobs, _draw, _shapes

UNET: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": [32, 96],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
    "norm_num_groups": 32,
}
SIGLIP = {"hidden_size": 36, "intermediate_size": 80, "num_hidden_layers": 4, "num_attention_heads": 3, "image_size": 40, "patch_size": 8}
WIDTH, HEADS, LAYERS, DECODERS, INNER = 40, 4, 2, 3, 56
"""Of the style autoencoder."""
DEMO = "Aj8dPwAACD8rECAlCC8UGzU/HwI"
SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
STEPS, SCALE, GUIDANCE, TIMESTEP = 3, 0.7, 2.5, 321
State = dict[str, Tensor]


def make_pack(folder: Path, seed: int) -> Path:
    """Write golden.json, keys.json, golden.safetensors and inputs/."""
    unet, siglip = UNet2DConditionModel(**UNET), SiglipVisionModel(SiglipVisionConfig(**SIGLIP))  # type: ignore[arg-type]
    twin = UNet2DConditionModel(**UNET, use_linear_projection=True)
    mixers = [96, *(w for block in twin.up_blocks for w in (r.out_channels for r in block.resnets))]  # type: ignore[union-attr]
    shapes = {"base_unet": _shapes(unet), "siglip": _siglip_shapes(siglip), "style_autoencoder": _autoencoder_shapes()}
    shapes["control"] = _control_shapes(twin, mixers)
    modules: dict[str, Any] = {name: {"seed": seed + i, "gain": 1.1} for i, name in enumerate(shapes)}
    states = {name: _draw(shapes[name], modules[name]) for name in shapes}
    unet.load_state_dict(states["base_unet"])
    own = "vision_model." if any(name.startswith("vision_model.") for name in siglip.state_dict()) else ""
    siglip.load_state_dict({own + name.removeprefix("vision_model."): tensor for name, tensor in states["siglip"].items()})
    copied = {name.removeprefix("control_model."): tensor for name, tensor in states["control"].items()}
    twin.load_state_dict({name: tensor for name, tensor in copied.items() if name.startswith(("mid_block.", "up_blocks."))}, strict=False)
    for network in (unet, siglip, twin):
        network.eval()
    rng = np.random.default_rng(seed)
    (folder / "inputs").mkdir(parents=True)
    pictures = [_blobs(size, rng) for size in ((83, 60), (40, 120))]
    for i, picture in enumerate(pictures):
        picture.save(folder / "inputs" / f"style_{i}.png")
    with torch.no_grad():
        pixels = torch.stack([_pixels(picture) for picture in pictures])
        hidden = siglip(pixels, output_hidden_states=True).hidden_states[-2]
        latents = _latents(states, shapes, modules, hidden)
        tensors = _computed(unet, twin, states, latents, seed) | {"siglip.pixel_values": pixels, "siglip.hidden_m2": hidden}
    _write(folder, shapes, modules, tensors)
    return folder


def _siglip_shapes(siglip: torch.nn.Module) -> dict[str, list[int]]:
    found = _shapes(siglip, "vision_model.")
    return {name: shape for name, shape in found.items() if not name.endswith("position_ids")}


def _autoencoder_shapes() -> dict[str, list[int]]:
    def attention(name: str) -> dict[str, list[int]]:
        return _linear(f"{name}.out_proj", WIDTH, WIDTH) | {f"{name}.in_proj_weight": [3 * WIDTH, WIDTH], f"{name}.in_proj_bias": [3 * WIDTH]}

    found = {"latent_init": [1, WIDTH], "tgt_init": [1, WIDTH], "latent_norm.weight": [20], "latent_norm.bias": [20]}
    found |= _linear("input_proj", SIGLIP["hidden_size"], WIDTH) | _linear("latent_proj", WIDTH, 20) | _linear("latent_to_d_model", 20, WIDTH)
    found |= _linear("output_proj", WIDTH, 96)
    for i in range(LAYERS):
        found |= attention(f"attention_layers.{i}")
    for i in range(DECODERS):
        name = f"transformer_decoder.layers.{i}"
        found |= attention(f"{name}.self_attn") | attention(f"{name}.multihead_attn") | _linear(f"{name}.linear1", WIDTH, INNER)
        found |= _linear(f"{name}.linear2", INNER, WIDTH)
        found |= {f"{name}.norm{n}.{what}": [WIDTH] for n in (1, 2, 3) for what in ("weight", "bias")}
    return {f"sref_autoencoder.{name}": shape for name, shape in found.items()}


def _linear(name: str, narrow: int, wide: int) -> dict[str, list[int]]:
    return {f"{name}.weight": [wide, narrow], f"{name}.bias": [wide]}


def _control_shapes(twin: torch.nn.Module, widths: list[int]) -> dict[str, list[int]]:
    blocks = {f"control_model.{name}": shape for name, shape in _shapes(twin).items() if name.startswith(("mid_block.", "up_blocks."))}
    names = ["middle_block_out", *(f"control_model.up_zero_convs_out.{i}" for i in range(len(widths) - 1))]
    for name, width in zip(names, widths, strict=True):
        blocks |= _linear(name, 2 * width, 2 * width)
    return blocks


def _pixels(picture: Image.Image) -> Tensor:
    small = picture.convert("RGB").resize((512, 512), Image.Resampling.BICUBIC).resize((40, 40), Image.Resampling.BICUBIC)
    return torch.from_numpy((np.asarray(small).astype(np.float32).transpose(2, 0, 1) / 255 - 0.5) / 0.5)


def _latents(states: dict[str, State], shapes: dict[str, Any], modules: dict[str, Any], hidden: Tensor) -> Tensor:
    """With weights for which no number lies near the edge of a level, where two programs may differ."""
    name = "style_autoencoder"
    while True:
        latents = _encode(states[name], hidden)
        steps = (latents + 1) * 31.5
        if (steps - steps.round()).abs().min() > 0.03:
            return latents
        modules[name]["seed"] += 100
        states[name] = _draw(shapes[name], modules[name])


def _encode(state: State, hidden: Tensor) -> Tensor:
    def of(name: str) -> Tensor:
        return state[f"sref_autoencoder.{name}"]

    tokens = F.linear(hidden, of("input_proj.weight"), of("input_proj.bias")) + _table(hidden.shape[1])
    query = of("latent_init").expand(len(hidden), 1, -1)
    for i in range(LAYERS):
        query = _attend(state, f"attention_layers.{i}", query, tokens)
    latents = F.linear(query[:, 0], of("latent_proj.weight"), of("latent_proj.bias"))
    return F.layer_norm(latents, (20,), of("latent_norm.weight"), of("latent_norm.bias"))


def _table(count: int) -> Tensor:
    rows = [[(math.sin if i % 2 == 0 else math.cos)(p / 10000 ** ((i - i % 2) / WIDTH)) for i in range(WIDTH)] for p in range(count)]
    return torch.tensor(rows)


def _attend(state: State, name: str, query: Tensor, others: Tensor) -> Tensor:
    weights = state[f"sref_autoencoder.{name}.in_proj_weight"].split(WIDTH)
    biases = state[f"sref_autoencoder.{name}.in_proj_bias"].split(WIDTH)
    q, k, v = (F.linear(x, w, b) for x, w, b in zip((query, others, others), weights, biases, strict=True))
    q, k, v = (x.reshape(len(x), -1, HEADS, WIDTH // HEADS).permute(0, 2, 1, 3) for x in (q, k, v))
    share = (q @ k.transpose(-1, -2) / math.sqrt(WIDTH // HEADS)).softmax(-1)
    out = (share @ v).permute(0, 2, 1, 3).reshape(len(query), -1, WIDTH)
    return F.linear(out, state[f"sref_autoencoder.{name}.out_proj.weight"], state[f"sref_autoencoder.{name}.out_proj.bias"])


def _decode(state: State, latents: Tensor, height: int, width: int) -> Tensor:
    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[f"sref_autoencoder.{name}.weight"], state[f"sref_autoencoder.{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,), state[f"sref_autoencoder.{name}.weight"], state[f"sref_autoencoder.{name}.bias"])

    memory = linear("latent_to_d_model", latents)[:, None]
    x = (state["sref_autoencoder.tgt_init"] + _table(height * width)).expand(len(latents), -1, -1)
    for i in range(DECODERS):
        name = f"transformer_decoder.layers.{i}"
        x = norm(f"{name}.norm1", x + _attend(state, f"{name}.self_attn", x, x))
        x = norm(f"{name}.norm2", x + _attend(state, f"{name}.multihead_attn", x, memory))
        x = norm(f"{name}.norm3", x + linear(f"{name}.linear2", linear(f"{name}.linear1", x).relu()))
    return linear("output_proj", x).permute(0, 2, 1).reshape(len(latents), -1, height, width)


def _computed(unet: Any, twin: Any, states: dict[str, State], latents: Tensor, seed: int) -> State:
    autoencoder, control = states["style_autoencoder"], states["control"]
    levels = ((latents + 1) * 31.5).clamp(0, 63).to(torch.uint8)
    decoded = levels.float() * 2 / 63 - 1
    demo = torch.tensor([[byte * 2 / 63 - 1 for byte in base64.b64decode(DEMO + "=")]])
    generator = torch.Generator().manual_seed(seed)
    sample, context = torch.randn(2, 4, 8, 14, generator=generator), torch.randn(2, 5, UNET["cross_attention_dim"], generator=generator)
    first = torch.randn(1, 4, 8, 14, generator=generator)
    out = {"style.latent": latents, "style.levels": levels, "style.latent_decoded": decoded, "unet.sample": sample, "unet.context": context}
    out |= {f"style.decoder_h{h}_w{w}": _decode(autoencoder, decoded, h, w) for h, w in ((1, 1), (3, 2))}

    def styled(style: Tensor, scale: float, x: Tensor = sample, t: Any = TIMESTEP, text: Tensor = context) -> tuple[Tensor, State]:
        begin = _decode(autoencoder, style, x.shape[2] // 2, x.shape[3] // 2).expand(len(x), -1, -1, -1)
        return _forward(unet, twin, control, begin, x, t, text, scale)

    out["unet.out_base"] = unet(sample, TIMESTEP, context).sample
    for scale in (0.0, 0.5, 0.9, 1.2):
        out[f"unet.out_scale{scale}"], seen = styled(decoded[:1], scale)
        if scale == 0.9:
            out |= {f"mix_scale0.9.{name}": value for name, value in seen.items()}
    out["unet.out_democode_scale0.9"], out["unet.out_code1_scale0.9"] = styled(demo, 0.9)[0], styled(decoded[1:], 0.9)[0]
    scheduler: Any = DDIMScheduler(**SCHEDULER)  # type: ignore[arg-type]
    scheduler.set_timesteps(STEPS)
    x, both = first, torch.cat([context[1:], context[:1]])
    for t in scheduler.timesteps:
        uncond, cond = styled(decoded[:1], SCALE, torch.cat([x, x]), t, both)[0].chunk(2)
        x = scheduler.step(uncond + GUIDANCE * (cond - uncond), t, x).prev_sample
    out |= {"ddim4.init_latents": first, "ddim4.timesteps": scheduler.timesteps.to(torch.int64), "ddim4.latents_final": x}
    return {name: tensor.contiguous().clone() for name, tensor in out.items()}


def _forward(unet: Any, twin: Any, control: State, style: Tensor, x: Tensor, t: Any, text: Tensor, scale: float) -> tuple[Tensor, State]:
    """The base's way with the twin's middle and way up beside it; and what went into the mixing layers and came out."""
    emb = unet.time_embedding(unet.time_proj(torch.as_tensor(t).expand(len(x))))
    x, seen = unet.conv_in(x), {}
    skips = [x]
    for block in unet.down_blocks:
        given = {"encoder_hidden_states": text} if hasattr(block, "attentions") else {}
        x, others = block(x, emb, **given)
        skips += others

    def mix(name: str, key: str, style: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([style, x], 1).permute(0, 2, 3, 1)
        mixed = F.linear(both, control[f"{key}.weight"], control[f"{key}.bias"])
        seen.update({f"{name}.in": both.flatten(1, 2), f"{name}.out": mixed.flatten(1, 2)})
        own, given = mixed.permute(0, 3, 1, 2).chunk(2, 1)
        return own, (1 - scale) * x + scale * given

    style, x = mix("middle", "middle_block_out", twin.mid_block(style, emb, encoder_hidden_states=text), unet.mid_block(x, emb, encoder_hidden_states=text))
    number = 0
    for ours, theirs in zip(twin.up_blocks, unet.up_blocks, strict=True):
        for i in range(len(theirs.resnets)):
            skip = skips.pop()
            x = _up(theirs, i, torch.cat([x, skip], 1), emb, text)
            style = _up(ours, i, torch.cat([style, torch.zeros_like(skip)], 1), emb, text)
            style, x = mix(f"up{number}", f"control_model.up_zero_convs_out.{number}", style, x)
            number += 1
    return unet.conv_out(F.silu(unet.conv_norm_out(x))), seen


def _up(block: Any, i: int, x: Tensor, emb: Tensor, text: Tensor) -> Tensor:
    x = block.resnets[i](x, emb)
    if hasattr(block, "attentions"):
        x = block.attentions[i](x, encoder_hidden_states=text).sample
    return block.upsamplers[0](x) if block.upsamplers and i == len(block.resnets) - 1 else x


def _write(folder: Path, shapes: dict[str, Any], modules: dict[str, Any], tensors: State) -> None:
    about = {
        "format": "stylecodes_golden", "version": 1, "modules": modules, "tolerance_atol": 1e-4, "demo_code": DEMO, "timestep": TIMESTEP,
        "configs": {"base_unet": UNET, "siglip": SIGLIP, "style_autoencoder": {"num_heads": HEADS}},
        "ddim4": {"scheduler": SCHEDULER, "steps": STEPS, "conditioning_scale": SCALE, "guidance_scale": GUIDANCE, "cond_row": 0, "uncond_row": 1},
    }  # fmt: skip
    (folder / "golden.json").write_text(json.dumps(about), "utf-8")
    (folder / "keys.json").write_text(json.dumps({"modules": shapes, "skipped": {}}), "utf-8")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "golden.safetensors")
