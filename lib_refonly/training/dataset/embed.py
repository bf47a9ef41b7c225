"""Embeddings of pictures by a CLIP vision model (section 3.2 of the paper: "We use CLIP to find ... pairs of images")."""

from __future__ import annotations

import functools
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lib_refonly.errors import BadModel, OutOfMemory
from lib_refonly.models.registry import EMBEDDED
from lib_refonly.models.weights import Weights, read_json
from lib_refonly.training.dataset.shards import file_digest
from lib_refonly.training.dataset.vectors import Floats

if TYPE_CHECKING:
    from PIL import Image

    from lib_refonly.refonly.image_encoder import ImagePromptSpec

SHIPPED = EMBEDDED / "tiny-refonly" / "image_encoder"
_PROJECTION = "visual_projection.weight"
_PROCESSOR = "preprocessor_config.json"


@dataclass(frozen=True)
class Encoder:
    """Pictures to vectors.

    centred: whether the mean of a set has to be taken off before directions are compared. CLIP was taught to tell pictures apart by the direction of its
    projected embedding, so that stays as it is; the states of an encoder that was trained for something else all point nearly the same way.
    digest: of the weights. Where it is sent to another process, it is read from its folder there, once.
    """

    module: Any
    spec: ImagePromptSpec
    width: int
    centred: bool
    digest: str
    folder: Path
    device: str = "cpu"

    def __reduce__(self) -> tuple[Any, ...]:
        return _read_once, (self.folder, self.device, self.digest)

    @classmethod
    def read(cls, folder: Path = SHIPPED, device: str = "cpu") -> Encoder:
        """A folder in transformers' layout (config.json, model.safetensors or .bin, preprocessor_config.json): CLIP with its projection, or CLIPVisionModel.

        Raises:
            BadModel: it holds something else, or the files don't fit each other.
        """
        from lib_refonly.refonly.image_encoder import ImagePromptSpec
        from lib_refonly.refonly.loader import weight_file

        config = read_json(folder / "config.json")
        file = weight_file(folder)
        weights = Weights.open(file)
        projected = _PROJECTION in weights
        module = _read(folder, config, weights, projected, device)
        spec = ImagePromptSpec.from_config(read_json(_processor(folder)))
        if spec.size != module.config.image_size:
            raise BadModel(f"{folder}: {_PROCESSOR} makes {spec.size} px pictures, the model wants {module.config.image_size} px.")
        width = module.config.projection_dim if projected else module.config.hidden_size
        return cls(module, spec, int(width), not projected, file_digest(file), folder, device)

    def __call__(self, pictures: Sequence[Image.Image]) -> Floats:
        """float32 [len(pictures), width]; a tall picture is padded on black to a square, so that nothing of it is cut off.

        Raises:
            BadModel: the model gives NaN or infinite values. OutOfMemory.
        """
        import torch

        from lib_refonly.refonly.image_encoder import preprocess

        pixels = torch.cat([preprocess(picture, self.spec, "pad") for picture in pictures]).to(self.device)
        try:
            with torch.inference_mode():
                out = self.module(pixel_values=pixels)
        except torch.OutOfMemoryError as error:
            raise OutOfMemory("The device has no memory left for the embeddings. Take --device cpu.") from error
        vectors = (out.pooler_output if self.centred else out.image_embeds).float().cpu().numpy()
        if not np.isfinite(vectors).all():
            raise BadModel("The vision model gives values that are no numbers. Its files are damaged, or it is another model.")
        return np.asarray(vectors, np.float32)


@functools.lru_cache(maxsize=1)
def _read_once(folder: Path, device: str, digest: str) -> Encoder:
    """In a worker. Raises: BadModel: as `Encoder.read`; the folder holds another model than where the work is handed out."""
    encoder = Encoder.read(folder, device)
    if encoder.digest != digest:
        raise BadModel(f"{platform.node()} has another model in {folder}. All machines have to see the same files.")
    return encoder


def _processor(folder: Path) -> Path:
    """Beside the weights, as transformers has it, or in the neighbouring folder, as diffusers has it."""
    beside = folder.parent / "clip_image_processor" / _PROCESSOR
    return folder / _PROCESSOR if (folder / _PROCESSOR).exists() or not beside.exists() else beside


def _vision_only(weights: Weights) -> Weights:
    """Without the text half that a whole CLIP has."""
    other = ("text_model.", "text_projection.", "logit_scale")
    return weights.renamed({name: name for name in weights if not name.startswith(other)})


def _read(folder: Path, config: dict[str, Any], weights: Weights, projected: bool, device: str) -> Any:
    """The network with its weights. Raises: BadModel."""
    import torch

    from lib_refonly.refonly.loader import filled, refuse_absurd, vision_names

    refuse_absurd(config, "config.json")
    try:
        with torch.device("meta"):
            module = _module(config, projected)
        named = vision_names(module, _vision_only(weights))
        if projected:
            named = named.merged(weights.renamed({_PROJECTION: _PROJECTION}))
        return filled(module, named, device, torch.float32)
    except BadModel:
        raise
    except Exception as error:  # whatever a config makes transformers raise
        raise BadModel(f"{folder} is no CLIP vision model that can be read here ({str(error).splitlines()[0][:120]}).") from error


def _module(config: dict[str, Any], projected: bool) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from lib_refonly.refonly.loader import build_vision

    plain: Any = build_vision(config)
    if not projected:
        return plain
    inner = plain.config.to_dict() | {"projection_dim": config.get("projection_dim", plain.config.projection_dim)}
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**inner))
