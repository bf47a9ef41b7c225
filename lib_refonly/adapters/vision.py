"""CLIP image encoders as single files or folders: what IP-Adapters read. Their shapes say everything but the activation, which their width says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lib_refonly.errors import BadModel
from lib_refonly.models.weights import TensorInfo, Weights, read_header
from lib_refonly.refonly.loader import filled, vision_names, weight_file

_PATCH = "vision_model.embeddings.patch_embedding.weight"
_POSITIONS = "vision_model.embeddings.position_embedding.weight"
_PROJECTION = "visual_projection.weight"
_HEADS = 16
"""OpenAI's ViT-L, laion's ViT-H and ViT-bigG all have as many."""
_OPENAI_WIDTH = 1024
"""ViT-L is OpenAI's, with its own activation; the others are open_clip's."""


def widths(path: Path) -> tuple[int, int] | None:
    """(width of the embedding, width of the hidden states) of an image encoder in transformers' names; None for anything else. The header only."""
    try:
        infos = read_header(_file(path)).tensors
    except (BadModel, OSError):
        return None
    if _PATCH not in infos or _PROJECTION not in infos:
        return None
    return infos[_PROJECTION].shape[0], infos[_PATCH].shape[0]


def read_encoder(path: Path, dtype: torch.dtype = torch.float32) -> Any:
    """transformers' CLIPVisionModelWithProjection.

    Raises:
        BadModel: the file is something else, or damaged.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    weights = Weights.open(_file(path))
    try:
        config = CLIPVisionConfig(**_shape(weights.infos))
        with torch.device("meta"):
            module = CLIPVisionModelWithProjection(config)
        named = weights.renamed({name: name for name in weights if name.startswith("vision_model.") and not name.endswith("position_ids")})
        projection = weights.renamed({_PROJECTION: _PROJECTION})
        return filled(module, vision_names(module, named).merged(projection), "cpu", dtype)
    except Exception as error:  # whatever sizes out of a file make transformers raise
        raise BadModel(f"{path.name} is no CLIP image encoder that can be read here ({str(error).splitlines()[0][:120]}).") from None


def _file(path: Path) -> Path:
    return weight_file(path) if path.is_dir() else path


def _shape(infos: dict[str, TensorInfo] | Any) -> dict[str, Any]:
    width, _, patch, _ = infos[_PATCH].shape
    layers = {name.split(".")[3] for name in infos if name.startswith("vision_model.encoder.layers.")}
    side = int(round((infos[_POSITIONS].shape[0] - 1) ** 0.5))
    return {
        "hidden_size": width,
        "intermediate_size": infos["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
        "num_hidden_layers": len(layers),
        "num_attention_heads": _HEADS,
        "patch_size": patch,
        "image_size": side * patch,
        "projection_dim": infos[_PROJECTION].shape[0],
        "hidden_act": "quick_gelu" if width == _OPENAI_WIDTH else "gelu",
    }
