"""A RefOnly adapter's file: one .safetensors that holds all that a frozen text-to-image checkpoint needs to follow a reference and lines.

    kv.<site>.to_k, kv.<site>.to_v   K and V for image tokens at a cross-attention, [inner, width]; see `hosts.anatomy.Site` for the names
    to_tokens.norm, .proj            what the image encoder gives -> image tokens
    image_encoder.vision_model.*     the image encoder
    blueprint.*                      the blueprint encoder

The metadata entry `refonly.adapter` says in JSON how to build the networks and which checkpoints it goes with. Torch is imported when weights are
read: a list of what is installed needs none of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_refonly.errors import BadModel, CannotWrite
from lib_refonly.models.sniff import kind_of
from lib_refonly.models.weights import Header, Weights, read_header

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from lib_refonly.adapters.adapter import Adapter
    from lib_refonly.hosts.anatomy import Anatomy
    from lib_refonly.refonly.image_encoder import ImagePromptSpec

METADATA = "refonly.adapter"
VERSION = 1
_KV, _TOKENS, _VISION, _BLUEPRINT = "kv.", "to_tokens.", "image_encoder.", "blueprint."
_RELEASED = "vision_model."
_CONFIGS = ("base", "image_encoder", "preprocessor", "blueprint")


@dataclass(frozen=True)
class BaseKind:
    """Which checkpoints an adapter goes with: the width of the text that their cross-attention reads, and the VAE's channels and scaling factor."""

    cross_attention: int
    latent_channels: int
    latent_scale: float


@dataclass(frozen=True)
class AdapterInfo:
    """What a file says of itself before its weights are read. `sites`: the cross-attentions that it has K and V for."""

    name: str
    title: str
    native_size: int
    base: BaseKind
    sites: tuple[str, ...]


@dataclass(frozen=True)
class RefOnlyAdapter:
    """In memory. `native_size`: pixels of the side it was trained at; `title` is shown in lists ("" = the name)."""

    adapter: Adapter
    image_encoder: nn.Module
    prompt_spec: ImagePromptSpec
    base: BaseKind
    native_size: int
    title: str = ""

    def check(self, anatomy: Anatomy) -> None:
        """Raises: BadModel: it was made for another kind of checkpoint; the text says what does not fit."""
        self.adapter.check(anatomy.sites)
        if anatomy.width != self.base.cross_attention:
            raise BadModel(
                f"{self.adapter.name} is made for checkpoints whose cross-attention reads text of width {self.base.cross_attention}; the loaded one's "
                f"reads {anatomy.width}. Choose an adapter that was made for it."
            )


def make_to_tokens(features: int, width: int) -> nn.Module:
    """From what the image encoder gives, [..., features], to image tokens, [..., width].

    Nothing in it has a bias, so noughts, which stand for "no picture", stay noughts: V is nought then, and the base is left as it is.
    """
    from torch import nn

    return nn.Sequential(OrderedDict(norm=nn.LayerNorm(features, bias=False), proj=nn.Linear(features, width, bias=False)))


def describe(path: Path) -> AdapterInfo:
    """What the adapter in `path` is, told by the header alone.

    Raises:
        BadModel: it is no RefOnly adapter (the text says what it seems to be), damaged, or of a newer version.
    """
    return _describe(path, read_header(path))[0]


def read_adapter(path: Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu") -> RefOnlyAdapter:
    """Read a file. Whether it fits the loaded checkpoint is said by `RefOnlyAdapter.check`.

    Args:
        dtype: of all weights; float32 unless told.

    Raises:
        BadModel: as `describe`, or the weights do not fit what the file says of them.
    """
    import torch

    from lib_refonly.adapters.adapter import Adapter
    from lib_refonly.conditioning.plan import Projection
    from lib_refonly.refonly.blueprint import BlueprintEncoder
    from lib_refonly.refonly.image_encoder import ImagePromptSpec
    from lib_refonly.refonly.loader import build_vision, filled, vision_names

    info, configs = _describe(path, read_header(path))
    weights, dtype = Weights.open(path), dtype or torch.float32

    def network(prefix: str, build: Callable[[], Any], names: Callable[[Any, Weights], Weights] = lambda _, part: part) -> Any:
        try:
            with torch.device("meta"):
                module = build()
        except Exception as error:  # for a config that it dislikes transformers has error classes of its own, other ones in other versions
            raise ValueError(str(error)) from None
        part = weights.renamed({name.removeprefix(prefix): name for name in weights if name.startswith(prefix)})
        return filled(module, names(module, part), device, dtype)

    def matrix(name: str) -> Tensor:
        # A copy: what is left of the file's mapping would crash the process when the file is changed under it.
        return weights[name].to(device=device, dtype=dtype, copy=True)

    try:
        vision = network(_VISION, lambda: build_vision(configs["image_encoder"]), vision_names)
        blueprint = network(_BLUEPRINT, lambda: BlueprintEncoder.from_config(configs["blueprint"]))
        width = weights.infos[f"{_TOKENS}proj.weight"].shape[0]
        to_tokens = network(_TOKENS, lambda: make_to_tokens(vision.config.hidden_size, width))
        spec = ImagePromptSpec.from_config(configs["preprocessor"])
        if spec.size != vision.config.image_size:
            raise ValueError(f"pictures of {spec.size} px for an image encoder that wants {vision.config.image_size} px")
    except (ValueError, TypeError, LookupError, RuntimeError) as error:
        raise BadModel(f"{path.name} is damaged: its weights do not fit what it says of them ({str(error).splitlines()[0][:200]}).") from None
    to_kv = {site: Projection(matrix(f"{_KV}{site}.to_k"), matrix(f"{_KV}{site}.to_v")) for site in info.sites}
    adapter = Adapter(info.name, "last", vision.config.hidden_size, to_tokens, to_kv, blueprint)
    return RefOnlyAdapter(adapter, vision, spec, info.base, info.native_size, info.title)


def save_adapter(model: RefOnlyAdapter, path: Path) -> Path:
    """Write `model` in float16. The file appears complete or not at all. Returns it.

    Raises:
        CannotWrite: disk full, no permission.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in _tensors(model).items()}
    half = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.safetensors")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One entry only: safetensors writes several in any order, and equal adapters are to be equal files.
        save_file(tensors, str(half), metadata={METADATA: json.dumps(_configs(model))})
        os.replace(half, path)
    except (OSError, SafetensorError) as error:
        raise CannotWrite(f"{path} could not be written: {getattr(error, 'strerror', None) or error}.") from None
    finally:
        with contextlib.suppress(OSError):  # where no folder is, no half file is either
            half.unlink()
    return path


def _tensors(model: RefOnlyAdapter) -> dict[str, Tensor]:
    blueprint = model.adapter.blueprint
    if blueprint is None:
        raise ValueError("a RefOnly adapter has a blueprint encoder")
    kv = {f"{_KV}{site}.{name}": getattr(pair, name) for site, pair in model.adapter.to_kv.items() for name in ("to_k", "to_v")}
    vision = {_VISION + _RELEASED + name.removeprefix(_RELEASED): tensor for name, tensor in model.image_encoder.state_dict().items()}
    lines = {_BLUEPRINT + name: tensor for name, tensor in blueprint.state_dict().items()}
    return kv | vision | lines | {_TOKENS + name: tensor for name, tensor in model.adapter.to_tokens.state_dict().items()}


def _configs(model: RefOnlyAdapter) -> dict[str, Any]:
    vision: Any = model.image_encoder.config
    blueprint: Any = model.adapter.blueprint
    return {
        "version": VERSION,
        "title": model.title,
        "native_size": model.native_size,
        "base": dataclasses.asdict(model.base),
        # Its plain values only: the rest is transformers' own business. What matters of them is known to `loader.build_vision`.
        "image_encoder": {name: value for name, value in vision.to_dict().items() if isinstance(value, int | float) or name == "hidden_act"},
        "preprocessor": model.prompt_spec.config,
        "blueprint": {"block_out_channels": [blueprint.out_channels]} | blueprint.config,
    }


def _describe(path: Path, header: Header) -> tuple[AdapterInfo, dict[str, Any]]:
    configs = _stored_configs(path, header)
    try:
        base = BaseKind(**configs["base"])
        title, size = configs["title"], configs["native_size"]
        plain = [type(value) for value in (title, size, base.cross_attention, base.latent_channels, base.latent_scale)] == [str, int, int, int, float]
    except (KeyError, TypeError):
        plain, base, title, size = False, BaseKind(0, 0, 0.0), "", 0
    if not plain or not 8 <= size <= 4096 or _absurd(configs, len(header.tensors)):
        raise BadModel(f"{path.name} is damaged: what it says of itself makes no sense.")
    return AdapterInfo(path.stem, title, size, base, _sites(path, header)), configs


def _stored_configs(path: Path, header: Header) -> dict[str, Any]:
    try:
        configs = json.loads(header.metadata[METADATA])
        version = configs["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadModel(f"{path.name} is no RefOnly adapter. It seems to be {kind_of(header.tensors).value}.") from None
    if version != VERSION:
        raise BadModel(f"{path.name} is a RefOnly adapter of version {version!r}; this program reads version {VERSION}. Update it.")
    if not all(isinstance(configs.get(name), dict) for name in _CONFIGS):
        raise BadModel(f"{path.name} is damaged: what it says of itself is incomplete.")
    return configs


def _absurd(configs: Mapping[str, Any], most: int) -> bool:
    """More layers than the file has tensors would be built for hours, before its header could contradict them."""
    layers, channels = configs["image_encoder"].get("num_hidden_layers"), configs["blueprint"].get("conditioning_embedding_out_channels")
    return not (type(layers) is int and 0 < layers <= most and isinstance(channels, list) and 0 < len(channels) <= most)


def _sites(path: Path, header: Header) -> tuple[str, ...]:
    unknown = [name for name in header.tensors if not name.startswith((_KV, _TOKENS, _VISION, _BLUEPRINT))]
    if unknown:
        raise BadModel(f"{path.name} is damaged: {len(unknown)} tensors in it are unknown ({unknown[0]!r} is the first).")
    shapes = {name.removeprefix(_KV): info.shape for name, info in header.tensors.items() if name.startswith(_KV)}
    sites = tuple(dict.fromkeys(name.rpartition(".")[0] for name in shapes))
    width = header.tensors[f"{_TOKENS}proj.weight"].shape[:1] if f"{_TOKENS}proj.weight" in header.tensors else ()
    whole = all(shapes.get(f"{site}.to_k", ()) == shapes.get(f"{site}.to_v") and shapes[f"{site}.to_k"][1:] == width for site in sites)
    if not sites or not width or not whole or len(shapes) != 2 * len(sites):
        raise BadModel(f"{path.name} is damaged: K and V of its cross-attentions are incomplete or do not fit together.")
    return sites
