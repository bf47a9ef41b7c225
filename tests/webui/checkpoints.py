"""Small checkpoints and models for a WebUI that is to be tested: random weights of the true shapes, and the project's own, all by the project's exporter."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from lib_refonly.hosts.diffusers import anatomy
from lib_refonly.models.registry import EMBEDDED
from lib_refonly.refonly.convert import to_ldm
from lib_refonly.refonly.loader import load_refonly, save_refonly
from lib_refonly.training import vocabulary
from lib_refonly.training.shapes import SCHEDULE

FEATURES, TOKENS = 64, 4
_LEVELS = 4


def small(out: Path) -> None:
    """For AUTOMATIC1111: random ones with SD 1.5's and SD 2.1's networks, only narrow."""
    _random(out, "rand-sd15", (32, 64, 128, 128), 768, "epsilon", vae=(32, 64, 64, 64))
    _random(out, "rand-sd21v", (32, 64, 128, 128), 1024, "v_prediction", vae=(32, 64, 64, 64), use_linear_projection=True)


def embedded(out: Path) -> None:
    """The project's own, for the hosts that load them."""
    for name in ("tiny-base", "tiny-refonly"):
        to_ldm(EMBEDDED / name, out / f"{name}.safetensors")


def of_true_width(out: Path) -> None:
    """For Forge's family, whose loader knows only the true widths of a UNet's first level, of the VAE and of the text encoder."""
    _random(out, "rand-sd15", (320, 320, 320, 320), 768, "epsilon", vae=(128, 256, 512, 512), text_layers=12, vocabulary_size=49408, layers_per_block=1)


def _random(out: Path, name: str, widths: tuple[int, ...], context: int, prediction: str, vae: tuple[int, ...], **more: Any) -> None:
    torch.manual_seed(0)
    layers, size = more.pop("text_layers", 2), more.pop("vocabulary_size", None)
    tokenizer = vocabulary.load(EMBEDDED / "tiny-base" / "tokenizer")
    unet = UNet2DConditionModel(block_out_channels=widths, cross_attention_dim=context, attention_head_dim=8, sample_size=32, **more)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=size or len(tokenizer),
            hidden_size=context,
            intermediate_size=4 * context,
            num_hidden_layers=layers,
            num_attention_heads=context // 64,
            max_position_embeddings=77,
            projection_dim=context,
            **({} if size else {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}),
        )
    )
    with torch.no_grad():
        for weight in unet.parameters():  # the default start leaves some branches nearly silent
            if weight.dim() > 1:
                weight.mul_(1.5)
        for place, weight in text.named_parameters():
            if place.endswith("final_layer_norm.bias"):
                weight.normal_(0.05, 0.02)  # WebUIs restore the mean after weighting: it must not be nought
    folder = out / f"{name}.folder"
    StableDiffusionPipeline(
        unet=unet.half(),
        text_encoder=text.half(),  # type: ignore[arg-type]
        vae=random_vae(vae).half(),
        tokenizer=tokenizer,
        scheduler=DDIMScheduler.from_config(SCHEDULE | {"prediction_type": prediction}),  # type: ignore[arg-type]
        safety_checker=None,  # type: ignore[arg-type]
        feature_extractor=None,  # type: ignore[arg-type]
        requires_safety_checker=False,
    ).save_pretrained(folder)
    vocabulary.save_plain(tokenizer, folder / "tokenizer")
    to_ldm(folder, out / f"{name}.safetensors")
    shutil.rmtree(folder)


def random_vae(widths: tuple[int, ...]) -> AutoencoderKL:
    torch.manual_seed(1)
    shape: dict[str, Any] = {"down_block_types": ("DownEncoderBlock2D",) * _LEVELS, "up_block_types": ("UpDecoderBlock2D",) * _LEVELS}
    return AutoencoderKL(**shape, block_out_channels=widths, layers_per_block=2, latent_channels=4)  # type: ignore[arg-type]


def models(out: Path, wide: bool) -> None:
    """The painter's models folder: tiny-refonly's networks on the random checkpoints' latents, an image encoder, and an IP-Adapter for rand-sd15."""
    model = load_refonly(EMBEDDED / "tiny-refonly")
    model.vae = random_vae((128, 256, 512, 512) if wide else (32, 64, 64, 64))
    model.card = replace(model.card, name="rand-refonly", title="On random latents")
    save_refonly(model, out / "rand-refonly", torch.float16)
    (out / "image_encoders").mkdir()
    save_file(random_image_encoder().state_dict(), out / "image_encoders" / "rand-clip.safetensors")
    (out / "adapters").mkdir()
    widths, layers = ((320,) * _LEVELS, 1) if wide else ((32, 64, 128, 128), 2)
    with torch.device("meta"):
        unet = UNet2DConditionModel(block_out_channels=widths, cross_attention_dim=768, attention_head_dim=8, layers_per_block=layers)
    save_file(random_ip_adapter(unet, 768), out / "adapters" / "ip-adapter_random.safetensors")


def lora(out: Path, wide: bool) -> None:
    """A LoRA in kohya's layout for rand-sd15: q, k and the way out of the first cross-attention. And tiny-base's own."""
    inner, site, rank = (320 if wide else 32), "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2", 4
    torch.manual_seed(3)
    out.mkdir()
    tensors: dict[str, torch.Tensor] = {}
    for layer, width in (("to_q", inner), ("to_k", 768), ("to_out_0", inner)):
        tensors |= {f"{site}_{layer}.lora_down.weight": torch.randn(rank, width), f"{site}_{layer}.lora_up.weight": torch.randn(inner, rank) / 4}
        tensors[f"{site}_{layer}.alpha"] = torch.tensor(float(rank))
    save_file(tensors, out / "random.safetensors")
    for path in (EMBEDDED / "onepic").glob("*.safetensors"):
        shutil.copy(path, out)


def embedding(out: Path) -> None:
    """A textual-inversion embedding for rand-sd15."""
    out.mkdir()
    save_file({"emb_params": 0.3 * torch.randn(2, 768, generator=torch.Generator().manual_seed(4))}, out / "randomword.safetensors")


def random_image_encoder() -> CLIPVisionModelWithProjection:
    torch.manual_seed(2)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=16,
        patch_size=32,
        image_size=224,
        projection_dim=FEATURES,
        hidden_act="gelu",
    )
    return CLIPVisionModelWithProjection(config).eval()


def random_ip_adapter(unet: Any, width: int) -> dict[str, torch.Tensor]:
    """The layout of the public "plain" files; see `adapters.ip_adapter` for the order of the sites."""
    sites = anatomy(unet).sites
    order = [site for start in ("IN", "OUT", "M") for site in sites if site.name.startswith(start)]
    state = {
        "image_proj.proj.weight": torch.randn(TOKENS * width, FEATURES) / FEATURES**0.5,
        "image_proj.proj.bias": torch.zeros(TOKENS * width),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    for place, site in enumerate(order):
        inner = int(site.to_q.weight.shape[0])  # type: ignore[union-attr, index]
        state |= {f"ip_adapter.{2 * place + 1}.to_{part}_ip.weight": 2 * torch.randn(inner, width) / width**0.5 for part in "kv"}
    return {name: tensor.half() for name, tensor in state.items()}
