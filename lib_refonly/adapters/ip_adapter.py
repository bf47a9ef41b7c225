"""The public IP-Adapter files (Ye et al. 2023, arXiv 2308.06721), in the layout that the code released with it (tencent-ailab/IP-Adapter) writes.

    image_proj.proj, .norm                        plain: reads the projected embedding
    image_proj.latents, .proj_in, .layers, ...    plus: reads the hidden states before the last layer, by a small perceiver
    image_proj.proj.0, .proj.2, .proj.3           full: reads the same, each state by itself
    ip_adapter.1.to_k_ip, .1.to_v_ip, .3.to_k_ip  K and V of each cross-attention

The numbers count self- and cross-attentions alike, so the latter have the odd ones: those of the way down, of the way up, then of the middle.
Torch is imported when weights are read: a list of what is installed needs none of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lib_refonly.errors import BadModel
from lib_refonly.models.sniff import ModelKind, kind_of
from lib_refonly.models.weights import TensorInfo, Weights, read_header

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lib_refonly.adapters.adapter import Adapter, Reads
    from lib_refonly.hosts.anatomy import Site

Variant = Literal["plain", "plus", "full"]
Shapes = Mapping[str, tuple[int, ...]]
_PICTURE = "image_proj."
_ATTENTION = re.compile(r"ip_adapter\.(\d{1,6})\.to_([kv])_ip\.weight")
_PARTS = "IOM"
"""The order in which diffusers lists a UNet's attentions, by the first letters of our sites' names: IN, OUT, M."""
_FAMILIES = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}


@dataclass(frozen=True)
class IpAdapterInfo:
    """What a file's header says. `features`: width of the image encoder's output that it reads; `tokens`: image tokens (None: as many as the
    encoder gives); `width`: of a token, which is also what the network's cross-attention reads; `cross_attentions`: how many it has."""

    variant: Variant
    reads: Reads
    features: int
    tokens: int | None
    width: int
    cross_attentions: int

    @property
    def made_for(self) -> str:
        """The family of checkpoints, in a painter's words."""
        return _family(self.width)


def describe(path: Path) -> IpAdapterInfo:
    """What the adapter in `path` is, told by the header alone.

    Raises:
        BadModel: it is no IP-Adapter that can be read here; the text says what it is instead, or what is wrong.
    """
    return _describe(path.name, read_header(path).tensors)


def read_ip_adapter(path: Path, sites: Sequence[Site], dtype: torch.dtype | None = None) -> Adapter:
    """The adapter in `path`, for the network that has `sites`. All of it is on the CPU, as `dtype` (float32 unless told).

    Raises:
        BadModel: as `describe`, or it was made for another network.
    """
    import torch

    from lib_refonly.adapters.adapter import Adapter
    from lib_refonly.conditioning.plan import Projection

    weights = Weights.open(path)
    info = _describe(path.name, weights.infos)
    _check_network(path.name, info, sites)

    def read(name: str) -> torch.Tensor:
        # A copy: what is left of the file's mapping would crash the process when the file is changed under it.
        return weights[name].to(dtype or torch.float32, copy=True)

    ordered = sorted(sites, key=lambda site: _PARTS.index(site.name[0]))
    numbers = {site.name: 2 * i + 1 for i, site in enumerate(ordered)}
    to_kv = {site.name: Projection(*(read(f"ip_adapter.{numbers[site.name]}.to_{x}_ip.weight") for x in "kv")) for site in sites}
    state = {name.removeprefix(_PICTURE): read(name) for name in weights if name.startswith(_PICTURE)}
    adapter = Adapter(path.stem, info.reads, info.features, _tokens_network(path.name, info, state), to_kv)
    adapter.check(sites)
    return adapter


def _describe(file: str, tensors: Mapping[str, TensorInfo]) -> IpAdapterInfo:
    kind = kind_of(tensors)
    if kind is not ModelKind.IP_ADAPTER:
        raise BadModel(f"{file} is no IP-Adapter: it seems to be {kind.value}.")
    picture = {name.removeprefix(_PICTURE): info.shape for name, info in tensors.items() if name.startswith(_PICTURE)}
    if _is_face_id(tensors, picture):
        raise BadModel(f"{file} is a FaceID adapter: it reads what a face recogniser says, not a picture. Choose an IP-Adapter without FaceID.")
    width, count = _attentions(file, tensors)
    variant, features, tokens = _reading(file, picture, width)
    return IpAdapterInfo(variant, "embeds" if variant == "plain" else "penultimate", features, tokens, width, count)


def _is_face_id(tensors: Mapping[str, TensorInfo], picture: Shapes) -> bool:
    lora = any(name.startswith("ip_adapter.") and "_lora." in name for name in tensors)
    return lora or any(name.startswith("perceiver_resampler.") for name in picture) or {"proj.2.weight", "norm.weight"} <= set(picture)


def _attentions(file: str, tensors: Mapping[str, TensorInfo]) -> tuple[int, int]:
    """The width that K and V read, and how many cross-attentions there are."""
    found: dict[str, dict[int, tuple[int, ...]]] = {"k": {}, "v": {}}
    for name, info in tensors.items():
        match = _ATTENTION.fullmatch(name)
        if match:
            found[match[2]][int(match[1])] = info.shape
    k = found["k"]
    widths = {shape[-1] if len(shape) == 2 else 0 for shape in k.values()}
    if not k or k != found["v"] or sorted(k) != list(range(1, 2 * len(k), 2)) or len(widths) != 1 or 0 in widths:
        raise BadModel(f"{file} is an IP-Adapter, but K and V of its cross-attentions are incomplete, or those of another kind of network.")
    return widths.pop(), len(k)


def _reading(file: str, picture: Shapes, width: int) -> tuple[Variant, int, int | None]:
    """The variant, the width of what it reads, and its tokens."""
    plain, full = picture.get("proj.weight", ()), picture.get("proj.0.weight", ())
    latents, entry = picture.get("latents", ()), picture.get("proj_in.weight", ())
    if len(plain) == 2 and plain[0] and not plain[0] % width:
        return "plain", plain[1], plain[0] // width
    if len(latents) == 3 and len(entry) == 2:
        return "plus", entry[1], latents[1]
    if len(full) == 2 and "proj.3.weight" in picture:
        return "full", full[1], None
    raise BadModel(f"{file} is an IP-Adapter of a kind that is not known here: plain, plus and full-face ones are read.")


def _check_network(file: str, info: IpAdapterInfo, sites: Sequence[Site]) -> None:
    widths = {site.width for site in sites}
    if widths != {info.width}:
        # It would run: K and V of an adapter don't touch the text. But it would be another network's K and V.
        raise BadModel(f"{file} is made for {info.made_for}; the loaded checkpoint is {_family(max(widths))}. Choose an adapter that was made for it.")
    if info.cross_attentions != len(sites):
        raise BadModel(f"{file} is made for a network with {info.cross_attentions} cross-attentions; the loaded checkpoint's has {len(sites)}.")


def _family(width: int) -> str:
    return _FAMILIES.get(width, f"a network whose cross-attention is {width} wide")


def _tokens_network(file: str, info: IpAdapterInfo, state: Mapping[str, torch.Tensor]) -> nn.Module:
    from lib_refonly.adapters.image_proj import build

    try:
        network = build(info.variant, {name: tuple(tensor.shape) for name, tensor in state.items()}, info.width)
        network.load_state_dict(state, assign=True)
    except (LookupError, ValueError, RuntimeError):
        raise BadModel(f"{file} is an IP-Adapter, but the network that reads the picture is incomplete or does not fit together.") from None
    return network.eval().requires_grad_(False)
