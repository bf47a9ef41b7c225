"""What a weight file is, told by the names and shapes in its header: nothing is loaded."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from pathlib import Path

from lib_refonly.errors import BadModel
from lib_refonly.models.weights import TensorInfo, read_header

BLUEPRINT = "controlnet_cond_embedding."
_LDM_CROSS = "model.diffusion_model.input_blocks.{}.1.transformer_blocks.0.attn2.to_k.weight"


class ModelKind(enum.Enum):
    """The value is how a painter would call it."""

    REFONLY_UNET = "the UNet of a RefOnly model"
    REFONLY_CHECKPOINT = "a RefOnly model converted to one file"
    SD15_CHECKPOINT = "a Stable Diffusion 1.x checkpoint"
    SD2_CHECKPOINT = "a Stable Diffusion 2.x checkpoint"
    SDXL_CHECKPOINT = "an SDXL checkpoint"
    LDM_CHECKPOINT = "a Stable Diffusion checkpoint of unusual size"
    PLAIN_UNET = "a plain diffusers UNet without a blueprint encoder"
    SDXL_UNET = "an SDXL UNet"
    LORA = "a LoRA"
    CONTROLNET = "a ControlNet"
    IP_ADAPTER = "an IP-Adapter"
    VAE = "a VAE"
    LDM_VAE = "a VAE in the WebUI's own layout"
    TEXT_ENCODER = "a text encoder"
    IMAGE_ENCODER = "a CLIP image encoder"
    CLIP = "a whole CLIP model (text and image)"
    EMBEDDING = "a textual-inversion embedding"
    UNKNOWN = "something unknown"


def sniff(path: Path) -> ModelKind:
    """What `path` (a weight file) is.

    Raises:
        BadModel: it cannot be read safely at all (see `weights.read_header`).
    """
    return kind_of(read_header(path).tensors)


def sniff_folder(folder: Path) -> str:
    """In a painter's words, what a folder that is no RefOnly model seems to be; "" when there is nothing to say."""
    for pattern in ("*.safetensors", "*.ckpt", "*.bin", "*.pt"):
        for path in sorted(folder.glob(pattern)):
            try:
                return f"{path.name} in it is {sniff(path).value}"
            except BadModel as error:
                return str(error).rstrip(".")
    if (folder / "text_encoder").is_dir():
        return "it is a text-to-image model (it has a text_encoder)"
    return ""


def kind_of(tensors: Mapping[str, TensorInfo]) -> ModelKind:
    """What a file with these tensors is. Pure; the order of the questions matters: the most telling names come first."""
    heads = {name.split(".", 1)[0] for name in tensors}
    for kind, holds in _QUESTIONS:
        if holds(tensors, heads):
            return _ldm_size(tensors) if kind is ModelKind.LDM_CHECKPOINT else kind
    return ModelKind.UNKNOWN


def _starts(tensors: Iterable[str], *prefixes: str) -> bool:
    return any(name.startswith(prefixes) for name in tensors)


def _is_lora(tensors: Mapping[str, TensorInfo], _: set[str]) -> bool:
    marks = (".lora_down.", ".lora_up.", ".lora_A.", ".lora_B.", ".lora.down.", ".lora.up.", ".hada_w1_a", ".lokr_w1")
    return any(mark in name for name in tensors for mark in marks)


def _is_controlnet(tensors: Mapping[str, TensorInfo], heads: set[str]) -> bool:
    # A RefOnly UNet carries controlnet_cond_embedding too; only a ControlNet has the zero convolutions, and it has no up blocks.
    return "controlnet_down_blocks" in heads or "control_model" in heads or _starts(tensors, "zero_convs.", "input_hint_block.")


def _is_unet(tensors: Mapping[str, TensorInfo], heads: set[str]) -> bool:
    return {"conv_in", "down_blocks", "up_blocks"} <= heads and "time_embedding" in heads


def _is_text(tensors: Mapping[str, TensorInfo], heads: set[str]) -> bool:
    return "text_model" in heads or "embeddings.token_embedding.weight" in tensors


def _is_vision(tensors: Mapping[str, TensorInfo], heads: set[str]) -> bool:
    return "vision_model" in heads or "embeddings.patch_embedding.weight" in tensors


_QUESTIONS = (
    (ModelKind.LORA, _is_lora),
    (ModelKind.IP_ADAPTER, lambda t, h: "ip_adapter" in h or _starts(t, "image_proj.") or any("_ip.weight" in name for name in t)),
    (ModelKind.CONTROLNET, _is_controlnet),
    (ModelKind.REFONLY_CHECKPOINT, lambda t, h: _starts(t, "refonly.blueprint.")),
    (ModelKind.LDM_CHECKPOINT, lambda t, h: _starts(t, "model.diffusion_model.")),
    (ModelKind.REFONLY_UNET, lambda t, h: _is_unet(t, h) and _starts(t, BLUEPRINT)),
    (ModelKind.SDXL_UNET, lambda t, h: _is_unet(t, h) and "add_embedding" in h),
    (ModelKind.PLAIN_UNET, _is_unet),
    (ModelKind.LDM_VAE, lambda t, h: _starts(t, "decoder.up.", "first_stage_model.decoder.up.")),
    (ModelKind.VAE, lambda t, h: {"encoder", "decoder"} <= h and _starts(t, "decoder.up_blocks.")),
    (ModelKind.CLIP, lambda t, h: _is_text(t, h) and "vision_model" in h),
    (ModelKind.IMAGE_ENCODER, _is_vision),
    (ModelKind.TEXT_ENCODER, _is_text),
    (ModelKind.EMBEDDING, lambda t, h: "emb_params" in t or "clip_l" in t),
)


def _ldm_size(tensors: Mapping[str, TensorInfo]) -> ModelKind:
    if _starts(tensors, "conditioner.", "model.diffusion_model.label_emb."):
        return ModelKind.SDXL_CHECKPOINT
    cross = tensors.get(_LDM_CROSS.format(1))
    width = cross.shape[1] if cross and len(cross.shape) == 2 else 0
    return {768: ModelKind.SD15_CHECKPOINT, 1024: ModelKind.SD2_CHECKPOINT}.get(width, ModelKind.LDM_CHECKPOINT)
