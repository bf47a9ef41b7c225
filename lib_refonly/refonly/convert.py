"""A model folder <-> one checkpoint file in ldm's layout, which A1111 and Forge list among their own, with a side-car .yaml.

    model.diffusion_model.*    the UNet              refonly.blueprint.*       the blueprint encoder
    first_stage_model.*        the VAE               refonly.image_encoder.*   the image encoder, with `vision_model.`
    cond_stage_model.*         a text encoder, where the folder has one or is as narrow as the embedded one

The folder's configs travel in the file's metadata, so that it can be read back to the bit.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_refonly.errors import BadModel, CannotWrite
from lib_refonly.models.registry import EMBEDDED
from lib_refonly.models.sniff import BLUEPRINT
from lib_refonly.models.weights import TensorInfo, Weights, read_header, read_json
from lib_refonly.refonly import loader
from lib_refonly.refonly.card import CHECKPOINT_CONFIGS, ModelCard, checkpoint_configs, read_card
from lib_refonly.refonly.difference import moved_onto
from lib_refonly.refonly.ldm_keys import UNET, VAE, is_vae_projection, text_names, unet_names, vae_names
from lib_refonly.refonly.ldm_yaml import ldm_config, to_yaml

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lib_refonly.refonly.loader import Parts
    from lib_refonly.refonly.model import RefOnlyModel

BLUEPRINT_LDM, VISION_LDM = "refonly.blueprint.", "refonly.image_encoder."
_VISION = "vision_model."
_ROOM = 10_000_000
"""Bytes that stay free beyond the file's own."""
_LENT = EMBEDDED / "tiny-base"
"""Whose text encoder a model of its width gets that has none: A1111 can list a checkpoint without, but not select it."""
_ASKED = {
    "unet": ("in_channels", "out_channels", "block_out_channels", "down_block_types", "up_block_types", "layers_per_block", "cross_attention_dim"),
    "vae": ("in_channels", "out_channels", "latent_channels", "block_out_channels", "layers_per_block", "mid_block_add_attention"),
}
"""What a config has to say where nobody knows diffusers' defaults. (`mid_block_add_attention` is younger than the VAE's old names of layers.)"""
_Read = tuple[dict[str, "Tensor"], dict[str, Any], dict[str, Any]]
"""Tensors under ldm names (unread while they lie in a file), the configs as they are, and the UNet's and VAE's with all defaults."""


def to_ldm(model_folder: Path | str, out: Path | str, onto: tuple[Path, Path] | None = None) -> Path:
    """Write a RefOnly folder, or a text-to-image folder (unet, vae, text_encoder, tokenizer, scheduler), as one .safetensors with a .yaml beside it.

    The numbers are not touched: fp16 stays fp16. A text encoder that comes along gets its tokenizer and config copied to `<name>.clip/`, where
    the .yaml points. A text-to-image folder is converted without diffusers, too.

    Args:
        out: the file, or a folder to put `<model>.safetensors` into.
        onto: what the model was trained from (SD 2.1), and another checkpoint of that network, whose style it shall paint in (see `difference`).

    Returns:
        the file.

    Raises:
        BadModel: the folder is wrong (see `load_refonly`), or the network cannot be said in ldm's terms.
        CannotWrite: disk full, no permission.
    """
    folder, out = Path(model_folder), _out_file(Path(out), Path(model_folder))
    tensors, configs, whole = _read_base(folder) if _is_base(folder) else _read_refonly(folder)
    if onto is not None:
        tensors = moved_onto(tensors, *onto)
        configs["card"] = configs["card"] | {"title": f"{configs['card'].get('title') or folder.name} on {onto[1].stem}"}
    text = _text_folder(folder, whole["unet"]["cross_attention_dim"])
    tensors |= _text(text) if text else {}
    clip = out.with_suffix(".clip") if text and (text / "tokenizer").is_dir() else None
    yaml = to_yaml(ldm_config(whole["unet"], whole["vae"], configs["scheduler"], str(clip.resolve()) if clip else None))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _written(out, tensors, {"format": "pt", CHECKPOINT_CONFIGS: json.dumps(configs)}):
            if text and clip:
                _copy_clip(text, clip)
            _write_text(out.with_suffix(".yaml"), yaml)
    except OSError as error:
        raise CannotWrite(f"{out} could not be written: {error.strerror or error}.") from None
    return out


def from_ldm(path: Path | str, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> RefOnlyModel:
    """Read a file that `to_ldm` wrote from a RefOnly model. `dtype` None keeps the file's (the UNet's conv_in says which).

    Raises:
        BadModel: it is another kind of file (the text says which), or does not fit its own configs.
    """
    import torch

    parts = read_ldm(Path(path))
    stored = {"F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}.get(parts.unet.weights.infos["conv_in.weight"].dtype, torch.float32)
    return loader.assemble(parts, device, dtype or stored)


def read_ldm(path: Path) -> Parts:
    """Check a converted file from its header alone."""
    configs = checkpoint_configs(path, read_header(path))
    weights = Weights.open(path)
    try:
        views = {"unet": _unet_view(weights, configs["unet"]), "vae": _vae_view(weights, configs["vae"]), "image_encoder": _vision_view(weights)}
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise BadModel(f"{path.name} is damaged: its tensors do not fit the configuration inside it ({error}).") from None
    card = ModelCard.from_config(path.stem, configs["card"])
    networks = {name: configs[name] for name in views}
    return loader.make_parts(networks, views, configs["scheduler"], configs["preprocessor"], card)


def _out_file(out: Path, folder: Path) -> Path:
    if out.is_dir():
        return out / f"{folder.resolve().name}.safetensors"
    return out if out.suffix == ".safetensors" else out.with_name(out.name + ".safetensors")


def _is_base(folder: Path) -> bool:
    return (folder / "text_encoder").is_dir() and not (folder / "image_encoder").is_dir()


def _read_refonly(folder: Path) -> _Read:
    parts = loader.read_folder(folder)
    configs = {
        "unet": parts.unet.config,
        "vae": parts.vae.config,
        "image_encoder": parts.image_encoder.config,
        "scheduler": parts.scheduler_config,
        "preprocessor": parts.prompt_spec.config,
        "card": parts.card.config,
    }
    whole = {"unet": parts.unet.whole_config, "vae": parts.vae.whole_config}
    tensors = _networks(parts.unet.weights, parts.vae.weights, whole)
    tensors |= {BLUEPRINT_LDM + name: tensor for name, tensor in parts.blueprint.weights.items()}
    tensors |= {VISION_LDM + _VISION + name.removeprefix(_VISION): tensor for name, tensor in parts.image_encoder.weights.items()}
    return tensors, configs, whole


def _read_base(folder: Path) -> _Read:
    configs = {name: read_json(folder / name / "config.json") for name in ("unet", "vae", "text_encoder")}
    configs["scheduler"] = read_json(folder / loader.SCHEDULER)
    (unet, unet_config), (vae, vae_config) = (_network(folder / name, name) for name in ("unet", "vae"))
    whole = {"unet": unet_config, "vae": vae_config}
    try:
        tensors = _networks(unet, vae, whole)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise BadModel(f"{folder.name}: the weights do not fit their configuration ({error}).") from None
    configs["card"] = read_card(folder, unet_config).config
    return tensors, configs, whole


def _network(folder: Path, kind: str) -> tuple[Weights, dict[str, Any]]:
    """Weights and whole config, checked against each other where diffusers is there to know what belongs together."""
    if _has_diffusers():
        part = loader.read_network(folder, kind)
        return part.weights, part.whole_config
    config = read_json(folder / "config.json")
    missing = [field for field in _ASKED[kind] if field not in config]
    if missing:
        raise BadModel(f"{kind}/config.json does not say {', '.join(missing)}. Convert this folder with the studio.")
    return Weights.open(loader.weight_file(folder)), config


def _has_diffusers() -> bool:
    """A1111 has none, or one that another extension brought and that does not go with the rest."""
    try:
        importlib.import_module("diffusers.models.unets.unet_2d_condition")
    except (ImportError, RuntimeError):
        return False
    return True


def _networks(unet: Weights, vae: Weights, whole: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    tensors = {new: unet[old] for new, old in unet_names(whole["unet"], unet).items()}
    for new, old in vae_names(whole["vae"], vae).items():
        tensors[new] = vae[old][..., None, None] if is_vae_projection(old) else vae[old]
    return tensors


def _text_folder(folder: Path, width: int) -> Path | None:
    if (folder / "text_encoder").is_dir():
        return folder
    fits = (_LENT / "text_encoder").is_dir() and read_json(_LENT / "text_encoder" / "config.json").get("hidden_size") == width
    return _LENT if fits else None


def _text(folder: Path) -> dict[str, Tensor]:
    weights = Weights.open(loader.weight_file(folder / "text_encoder"))
    return {new: weights[old] for new, old in text_names(weights).items() if not old.endswith("position_ids")}


def _unet_view(weights: Weights, config: Mapping[str, Any]) -> Weights:
    """ldm's names back to diffusers': the names are made from the other side, so only a file of the right anatomy gives them all."""
    names = {old: new for new, old in unet_names(*loader.expected("unet", config)).items()}
    blueprint = {BLUEPRINT + name.removeprefix(BLUEPRINT_LDM): name for name in weights if name.startswith(BLUEPRINT_LDM)}
    _nothing_else(weights, UNET, names.values())
    return weights.renamed(names | blueprint)


def _vae_view(weights: Weights, config: Mapping[str, Any]) -> Weights:
    names = {old: new for new, old in vae_names(*loader.expected("vae", config)).items()}
    _nothing_else(weights, VAE, names.values())
    view = weights.renamed(names)
    return view.reshaped({name: _flat(view.infos[name]) for name in view if is_vae_projection(name)})


def _flat(info: TensorInfo) -> tuple[int, ...]:
    return info.shape[:2] if info.shape[2:] == (1, 1) else info.shape


def _vision_view(weights: Weights) -> Weights:
    return weights.renamed({name.removeprefix(VISION_LDM): name for name in weights if name.startswith(VISION_LDM)})


def _nothing_else(weights: Weights, prefix: str, names: Any) -> None:
    unknown = sorted({name for name in weights if name.startswith(prefix)} - set(names))
    if unknown:
        raise ValueError(f"{len(unknown)} unknown tensors, {unknown[0]} the first")


def _copy_clip(folder: Path, clip: Path) -> None:
    half = clip.with_name(f".{clip.name}.{uuid.uuid4().hex[:8]}")
    try:
        shutil.copytree(folder / "tokenizer", half)
        shutil.copy(folder / "text_encoder" / "config.json", half / "config.json")
        shutil.rmtree(clip, ignore_errors=True)
        os.replace(half, clip)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _write_text(path: Path, text: str) -> None:
    half = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        half.write_text(text, "utf-8")
        os.replace(half, path)
    finally:
        with suppress(OSError):
            half.unlink()


@contextmanager
def _written(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> Iterator[None]:
    """The file is complete before the block, which writes what belongs beside it, and gets its name after it."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    size = sum(tensor.nbytes for tensor in tensors.values())
    free = shutil.disk_usage(path.parent).free
    if free < size + _ROOM:
        raise CannotWrite(f"{path.name} needs {size / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free in {path.parent}.")
    half = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.safetensors")
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(half), metadata=metadata)
        yield
        os.replace(half, path)
    except SafetensorError as error:
        raise OSError(str(error)) from None
    finally:
        with suppress(OSError):
            half.unlink()
