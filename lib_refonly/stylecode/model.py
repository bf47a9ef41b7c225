"""Stylecode models as files: the author's published one, and our own, which hold the vision model too.

    controlnet.*      style autoencoder and control module, under the released names
    vision_model.*    SigLIP's states; in the author's release a file of its own (`google/siglip-base-patch16-224`)

Our files say in the metadata entry `refonly.stylecode` how to build the networks and whose codes they read. The author's is told by its names; its shapes
say the rest. Torch is imported when weights are read.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_refonly.errors import BadModel, CannotWrite
from lib_refonly.models.sniff import kind_of
from lib_refonly.models.weights import Header, TensorInfo, Weights, read_header
from lib_refonly.stylecode.codes.codec import SHORT_ALPHABET
from lib_refonly.stylecode.codes.known import RELEASED, CodeModel

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lib_refonly.stylecode.autoencoder import StyleAutoencoder
    from lib_refonly.stylecode.control import Control
    from lib_refonly.stylecode.vision import SiglipStates, VisionShape

METADATA = "refonly.stylecode"
VERSION = 1
CONTROL, VISION = "controlnet.", "vision_model."
_AUTOENCODER, _MIDDLE, _MIXERS = "sref_autoencoder.", "middle_block_out.", "control_model.up_zero_convs_out."
_TABLE = "sref_autoencoder.pos_encoder.pe"
"""The released file holds this fixed table; `autoencoder.positions` computes it."""
UNET_KEYS = (
    *("block_out_channels", "layers_per_block", "down_block_types", "up_block_types", "cross_attention_dim", "attention_head_dim"),
    *("in_channels", "out_channels", "transformer_layers_per_block"),
)
_SD15: dict[str, Any] = {
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
    "in_channels": 4,
    "out_channels": 4,
}


@dataclass(frozen=True)
class StylecodeInfo:
    """What a file says of itself before its weights are read. `unet`: diffusers' configuration of the base that it goes with; `vision`: None where the
    vision model is another file. `heads` of the autoencoder."""

    code: CodeModel
    native_size: int
    unet: Mapping[str, Any]
    vision: Mapping[str, int] | None
    heads: int = 4

    @property
    def widths(self) -> tuple[int, int, int]:
        """As `control.widths` tells them of a UNet."""
        layers, channels = self.unet["layers_per_block"], self.unet["block_out_channels"]
        per_block = [layers] * len(channels) if isinstance(layers, int) else layers
        return 1 + sum(count + 1 for count in per_block), channels[-1], self.unet["cross_attention_dim"]


@dataclass(frozen=True)
class StylecodeModel:
    """What paints, in memory, in eval mode."""

    info: StylecodeInfo
    autoencoder: StyleAutoencoder
    control: Control


def describe(path: Path) -> StylecodeInfo:
    """What the model in `path` is, told by the header alone.

    Raises:
        BadModel: it is no stylecode model (the text says what it seems to be), or damaged, or of a newer version.
    """
    header = read_header(path)
    if METADATA in header.metadata:
        return _own(path, header)
    names = {name.removeprefix(CONTROL) for name in header.tensors}
    if not any(name.startswith(_AUTOENCODER) for name in names):
        raise BadModel(f"{path.name} is no stylecode model. It seems to be {kind_of(header.tensors).value}.")
    return StylecodeInfo(RELEASED, 512, _SD15, None)


def _own(path: Path, header: Header) -> StylecodeInfo:
    try:
        told = json.loads(header.metadata[METADATA])
        if told["version"] != VERSION:
            raise BadModel(f"{path.name} is a stylecode model of version {told['version']!r}; this program reads version {VERSION}. Update it.")
        code, unet = CodeModel(str(told["name"]), str(told["title"]), str(told["mark"])), {key: told["unet"][key] for key in UNET_KEYS if key in told["unet"]}
        vision = {str(key): int(value) for key, value in told["vision"].items()}
        info = StylecodeInfo(code, int(told["native_size"]), unet, vision, int(told["heads"]))
        sound = _is_sound(info, len(header.tensors))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sound, info = False, None
    if not sound or info is None:
        raise BadModel(f"{path.name} is damaged: what it says of itself makes no sense.")
    return info


def _is_sound(info: StylecodeInfo, tensors: int) -> bool:
    """Whether networks can be built by it at all, in a moment: of anything there are fewer than tensors. Raises what a wrong type makes it raise."""
    code, vision, unet = info.code, dict(info.vision or {}), info.unet
    counts = [info.heads, vision["heads"], vision["layers"], *info.widths, *unet["block_out_channels"]]
    deep = [unet[key] for key in ("layers_per_block", "transformer_layers_per_block", "attention_head_dim") if unet.get(key) is not None]
    layers = [int(one) for each in deep for one in (each if isinstance(each, list) else [each])]
    return (
        (8 <= info.native_size <= 4096 and 0 < len(code.name) <= 200 and len(code.title) <= 200 and code.sign in set(SHORT_ALPHABET))
        and all(0 < count <= 100_000 for count in counts)
        and len(unet["block_out_channels"]) <= 8
        and all(0 < count <= tensors for count in [vision["layers"], info.widths[0], *layers])
    )


def autoencoder_shape(infos: Mapping[str, TensorInfo], heads: int) -> dict[str, int]:
    """`AutoencoderShape`'s values, by the shapes in a file (names without `sref_autoencoder.`).

    Raises:
        KeyError: a tensor that it must have is missing.
    """
    return {
        "input_dim": infos["input_proj.weight"].shape[1],
        "output_dim": infos["output_proj.weight"].shape[0],
        "d_model": infos["input_proj.weight"].shape[0],
        "heads": heads,
        "encoder_layers": _count(infos, r"attention_layers\.(\d+)\."),
        "decoder_layers": _count(infos, r"transformer_decoder\.layers\.(\d+)\."),
        "decoder_ff": infos["transformer_decoder.layers.0.linear1.weight"].shape[0],
        "latent_dim": infos["latent_proj.weight"].shape[0],
    }


def _count(infos: Mapping[str, TensorInfo], pattern: str) -> int:
    return len({found[1] for name in infos if (found := re.match(pattern, name))})


def vision_shape(infos: Mapping[str, TensorInfo], heads: int, layers: int | None = None) -> VisionShape:
    """By the shapes in a SigLIP file (names without `vision_model.`). `layers`: of the whole model, where the file lacks the last.

    Raises:
        KeyError: a tensor that it must have is missing. ValueError: heads or layers do not fit the file.
    """
    from lib_refonly.stylecode.vision import VisionShape

    width, _, patch, _ = infos["embeddings.patch_embedding.weight"].shape
    side = round(infos["embeddings.position_embedding.weight"].shape[0] ** 0.5)
    inner = infos["encoder.layers.0.mlp.fc1.weight"].shape[0]
    there = _count(infos, r"encoder\.layers\.(\d+)\.")
    if width % heads or (layers and layers != there + 1):
        raise ValueError(f"{heads} heads and {layers} layers do not go with a width of {width} and {there} layers")
    return VisionShape(width, inner, layers or there, heads, side * patch, patch)


class Parts:
    """A model that was looked at but not read: the weights of its networks, each under its own names.

    Raises:
        BadModel: as `describe`.
    """

    def __init__(self, path: Path, info: StylecodeInfo | None = None) -> None:
        self.path, self.info = path, info or describe(path)
        weights = Weights.open(path)
        bare = weights.renamed({name.removeprefix(CONTROL): name for name in weights if not name.startswith(VISION) and not name.endswith(_TABLE)})
        self.autoencoder = _part(bare, _AUTOENCODER)
        self.middle, self.mixers = _part(bare, _MIDDLE), _part(bare, _MIXERS)
        self.blocks = bare.renamed({name.removeprefix("control_model."): name for name in bare if name.startswith(("control_model.mid", "control_model.up_b"))})
        self.vision = _part(weights, VISION)

    def read_autoencoder(self, dtype: torch.dtype | None = None) -> StyleAutoencoder:
        """Raises: BadModel: tensors are missing, or do not fit."""
        import torch

        from lib_refonly.refonly.loader import filled
        from lib_refonly.stylecode.autoencoder import AutoencoderShape, StyleAutoencoder

        def build() -> nn.Module:
            return StyleAutoencoder(AutoencoderShape(**autoencoder_shape(self.autoencoder.infos, self.info.heads)))

        return self._built(build, lambda module: filled(module, self.autoencoder, "cpu", dtype or torch.float32))

    def read_mixers(self, dtype: torch.dtype | None = None) -> list[nn.Module]:
        """The mixing layers, the middle block's first. Raises: BadModel: tensors are missing, or do not fit."""
        import torch
        from torch import nn

        from lib_refonly.refonly.loader import filled

        count = _count(self.mixers.infos, r"(\d+)\.")
        parts = [self.middle, *(_part(self.mixers, f"{i}.") for i in range(count))]

        def fill(module: Any) -> list[nn.Module]:
            return [filled(layer, part, "cpu", dtype or torch.float32) for layer, part in zip(module, parts, strict=True)]

        return self._built(lambda: nn.ModuleList(nn.Linear(part.infos["weight"].shape[1], part.infos["weight"].shape[0]) for part in parts), fill)

    def read_vision(self, other: Path | None = None) -> SiglipStates:
        """The vision model, in float32: the file's own, else SigLIP's from another file.

        Raises:
            BadModel: there is none here, or it does not fit.
        """
        told = self.info.vision
        return read_vision_file(other) if told is None else read_vision(self.vision, told["heads"], told["layers"])

    def _built(self, build: Any, fill: Any) -> Any:
        import torch

        try:
            with torch.device("meta"):
                module = build()
            return fill(module)
        except Exception as error:  # shapes out of a file: whatever they make a library raise
            raise BadModel(f"{self.path.name} does not fit together: {str(error).splitlines()[0][:200]}") from None


def _part(weights: Weights, prefix: str) -> Weights:
    return weights.renamed({name.removeprefix(prefix): name for name in weights if name.startswith(prefix)})


def read_vision_file(path: Path | None) -> SiglipStates:
    """SigLIP from its public file. Raises: BadModel: not given, something else, or damaged."""
    if path is None:
        raise BadModel("Making a code from a picture with this model needs SigLIP's vision model, which is not installed. Reading codes works without it.")
    weights = Weights.open(path)
    part = _part(weights, VISION)
    vision = part if len(part) else weights
    if "embeddings.patch_embedding.weight" not in vision.infos:
        raise BadModel(f"{path.name} is no SigLIP model. It seems to be {kind_of(weights.infos).value}.")
    return read_vision(vision, max(1, vision.infos["embeddings.patch_embedding.weight"].shape[0] // 64))


def read_vision(weights: Weights, heads: int, layers: int | None = None) -> SiglipStates:
    """All but the last layer, the norm and the head, which are not read. Raises: BadModel: damaged."""
    import torch

    from lib_refonly.refonly.loader import filled
    from lib_refonly.stylecode.vision import SiglipStates

    try:
        shape = vision_shape(weights.infos, heads, layers)
        with torch.device("meta"):
            module = SiglipStates(shape)
        wanted = set(module.state_dict())
        return filled(module, weights.renamed({name: name for name in weights if name in wanted}), "cpu", torch.float32)  # type: ignore[return-value]
    except Exception as error:
        raise BadModel(f"{weights.path.name}: its vision model can't be read ({str(error).splitlines()[0][:150]}).") from None


def on_diffusers(path: Path, dtype: torch.dtype | None = None, unet: Mapping[str, Any] | None = None, heads: int = 4) -> StylecodeModel:
    """For the studio. unet, heads: of a file in the author's layout that is not of the released size.

    Raises:
        BadModel: as `describe`, or its weights do not fit what it is.
    """
    import torch

    from lib_refonly.refonly.loader import filled
    from lib_refonly.stylecode.control import control_of_diffusers
    from lib_refonly.stylecode.network import control_blocks

    info = None if unet is None else replace(describe(path), unet=unet, heads=heads)
    parts, dtype = Parts(path, info), dtype or torch.float32
    blocks = parts._built(lambda: control_blocks(parts.info.unet), lambda module: filled(module, parts.blocks, "cpu", dtype))
    control = control_of_diffusers(blocks.mid_block, blocks.up_blocks, parts.read_mixers(dtype)).eval()
    return StylecodeModel(parts.info, parts.read_autoencoder(), control)


def save_stylecode(tensors: Mapping[str, Any], info: StylecodeInfo, path: Path) -> Path:
    """Write a model of ours in float16. The file appears complete or not at all. tensors: under the file's names.

    Raises:
        CannotWrite: disk full, no permission.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    told = {
        "version": VERSION,
        "name": info.code.name,
        "title": info.code.title,
        "mark": info.code.sign,
        "native_size": info.native_size,
        "heads": info.heads,
        "unet": {key: info.unet[key] for key in UNET_KEYS if info.unet.get(key) is not None},
        "vision": dict(info.vision or {}),
    }
    half = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.safetensors")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()}
        save_file(plain, str(half), metadata={METADATA: json.dumps(told)})
        os.replace(half, path)
    except (OSError, SafetensorError) as error:
        raise CannotWrite(f"{path} could not be written: {getattr(error, 'strerror', None) or error}.") from None
    finally:
        with contextlib.suppress(OSError):  # where there is no folder to write into
            half.unlink()
    return path
