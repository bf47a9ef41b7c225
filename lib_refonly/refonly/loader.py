"""Reading and writing RefOnly models in the authors' folder layout.

    model_index.json   refonly.json (ours only)
    unet/                  config.json + diffusion_pytorch_model.safetensors | .bin, the blueprint encoder inside
    vae/                   config.json + diffusion_pytorch_model.safetensors | .bin
    image_encoder/         config.json + model.safetensors | pytorch_model.bin
    scheduler/             scheduler_config.json
    clip_image_processor/  preprocessor_config.json

fp16 or fp32, with or without the `vision_model.` prefix. Everything is checked against the files' headers before a tensor is read; then each
tensor is read straight to where it stays.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib_refonly.errors import BadModel, CannotWrite
from lib_refonly.models.sniff import BLUEPRINT, ModelKind, kind_of, sniff_folder
from lib_refonly.models.weights import Weights, read_header, read_json
from lib_refonly.refonly.blueprint import BlueprintEncoder
from lib_refonly.refonly.card import FILE as CARD_FILE
from lib_refonly.refonly.card import ModelCard, read_card
from lib_refonly.refonly.image_encoder import ImagePromptSpec
from lib_refonly.refonly.model import RefOnlyModel

UNET_CLASS = "UNet2DDobuleConditionModel"
"""The misspelling is part of the format."""
SCHEDULER = Path("scheduler", "scheduler_config.json")
PREPROCESSOR = Path("clip_image_processor", "preprocessor_config.json")
_VISION = "vision_model."
_VISION_FIELDS = (
    *("hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers", "num_attention_heads"),
    *("num_channels", "image_size", "patch_size", "hidden_act", "layer_norm_eps"),
)
_OLD_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_FLOATS = ("F16", "BF16", "F32", "F64")
_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "image_encoder": "model"}


@dataclass(frozen=True)
class Part:
    """One network: its config as read, the module on the meta device (no memory), and its weights under the module's own names, unread."""

    config: dict[str, Any]
    module: nn.Module
    weights: Weights

    @property
    def whole_config(self) -> dict[str, Any]:
        """With the defaults that `config` leaves out."""
        return dict(self.module.config)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Parts:
    """A model that has been checked but not read."""

    unet: Part
    blueprint: Part
    vae: Part
    image_encoder: Part
    scheduler_config: dict[str, Any]
    prompt_spec: ImagePromptSpec
    card: ModelCard


def load_refonly(path: Path | str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> RefOnlyModel:
    """Load a model folder, or a file that `convert.to_ldm` wrote. All networks are in eval mode and need no gradient.

    Raises:
        BadModel: something is missing, damaged, unsafe, does not fit together, or is another kind of model; the text says which and what.
        OutOfMemory: raised by the reader of .bin files.
    """
    path = Path(path)
    if path.is_file():
        from lib_refonly.refonly.convert import read_ldm

        return assemble(read_ldm(path), device, dtype)
    return assemble(read_folder(path), device, dtype)


def read_folder(folder: Path) -> Parts:
    """Check a folder in the released layout, from its configs and headers alone."""
    if not folder.is_dir():
        raise BadModel(f"{folder} is no folder. Point to the folder that holds unet, vae and image_encoder.")
    wanted = [f"{name}/config.json" for name in _STEMS] + [SCHEDULER.as_posix(), PREPROCESSOR.as_posix()]
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        guess = sniff_folder(folder)
        raise BadModel(f"{folder.name} is no complete RefOnly model: {', '.join(missing)} missing." + (f" As far as can be seen, {guess}." if guess else ""))
    configs = {name: read_json(folder / name / "config.json") for name in _STEMS}
    weights = {name: Weights.open(weight_file(folder / name)) for name in _STEMS}
    return make_parts(configs, weights, read_json(folder / SCHEDULER), read_json(folder / PREPROCESSOR), read_card(folder, configs["unet"]))


def weight_file(folder: Path) -> Path:
    """The weights in a network's folder, as diffusers or transformers name them.

    Raises:
        BadModel: there are none.
    """
    stems = ("diffusion_pytorch_model",) if folder.name in ("unet", "vae") else ("model", "pytorch_model")
    names = [f"{name}{variant}{end}" for name in stems for end in (".safetensors", ".bin") for variant in ("", ".fp16")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    there = sorted(path.name for path in folder.iterdir())
    raise BadModel(f"{folder.name}/ has no weights: {names[0]} (or .bin) is wanted, there is {', '.join(there) or 'nothing'}.")


def make_parts(
    configs: Mapping[str, dict[str, Any]], weights: Mapping[str, Weights], scheduler: dict[str, Any], preprocessor: Mapping[str, Any], card: ModelCard
) -> Parts:
    """Put configs and unread weights together and check that they fit. `configs` and `weights` have unet (blueprint encoder inside), vae
    and image_encoder, under the names of the released files.

    Raises:
        BadModel: as `load_refonly`.
    """
    for name, config in configs.items():
        refuse_absurd(config, f"{name}/config.json")
    unet, vae, vision = (_on_meta(name, _BUILD[name], configs[name]) for name in ("unet", "vae", "image_encoder"))
    encoder = _on_meta("unet", BlueprintEncoder.from_config, configs["unet"])
    unet_weights, blueprint_weights = _split_unet(weights["unet"])
    parts = Parts(
        unet=Part(configs["unet"], unet, _fit(unet, unet_weights, "unet")),
        blueprint=Part(configs["unet"], encoder, _fit(encoder, blueprint_weights, "unet")),
        vae=Part(configs["vae"], vae, _fit(vae, _new_vae_names(weights["vae"]), "vae")),
        image_encoder=Part(configs["image_encoder"], vision, _fit(vision, vision_names(vision, weights["image_encoder"]), "image_encoder")),
        scheduler_config=scheduler,
        prompt_spec=ImagePromptSpec.from_config(preprocessor),
        card=card,
    )
    _check_pairing(parts)
    return parts


def read_network(folder: Path, kind: str) -> Part:
    """One plain network folder (config.json and weights), checked but not read. `kind`: unet or vae, without a blueprint encoder.

    Raises:
        BadModel: as `load_refonly`.
    """
    config = read_json(folder / "config.json")
    refuse_absurd(config, f"{kind}/config.json")
    module = _on_meta(kind, _BUILD[kind], config)
    weights = Weights.open(weight_file(folder))
    return Part(config, module, _fit(module, _new_vae_names(weights) if kind == "vae" else weights, kind))


def expected(kind: str, config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The whole config (with the defaults that `config` leaves out) and the names of all tensors of the network that it describes."""
    refuse_absurd(config, f"{kind}/config.json")
    module: Any = _on_meta(kind, _BUILD[kind], config)
    return dict(module.config), list(module.state_dict())


def refuse_absurd(value: Any, where: str) -> None:
    """Numbers and lists that no real model has would build for hours, before any header could contradict them."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in ("layers_per_block", "num_hidden_layers", "transformer_layers_per_block") and isinstance(inner, int) and not 0 < inner <= 100:
                raise BadModel(f"{where}: {key} is {inner}.")
            refuse_absurd(inner, where)
    elif isinstance(value, list):
        if len(value) > 64:
            raise BadModel(f"{where}: a list of {len(value)} entries.")
        for inner in value:
            refuse_absurd(inner, where)
    elif isinstance(value, int | float) and abs(value) > 1_000_000:
        raise BadModel(f"{where}: the number {value}.")


def _on_meta(name: str, build: Callable[[Mapping[str, Any]], nn.Module], config: Mapping[str, Any]) -> nn.Module:
    try:
        with torch.device("meta"):
            return build(config)
    except Exception as error:  # the libraries' own classes among them: whatever a config makes them raise
        raise BadModel(f"{name}/config.json describes no network that can be built ({error}).") from None


def _build_unet(config: Mapping[str, Any]) -> nn.Module:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    for field in ("class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim"):
        if config.get(field) is not None:
            raise ValueError(f"{field} is set, which a RefOnly model has no use for")
    return UNet2DConditionModel(**_known(UNet2DConditionModel, config))


def _build_vae(config: Mapping[str, Any]) -> nn.Module:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    return AutoencoderKL(**_known(AutoencoderKL, config))


def build_vision(config: Mapping[str, Any]) -> nn.Module:
    """transformers' CLIPVisionModel for the config of one, or of a whole CLIP model."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    inner = config.get("vision_config", config)  # a whole CLIP model's config has the image half inside
    return CLIPVisionModel(CLIPVisionConfig(**{key: inner[key] for key in _VISION_FIELDS if key in inner}))


def _known(cls: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    import inspect

    return {key: value for key, value in config.items() if key in inspect.signature(cls.__init__).parameters}


_BUILD: dict[str, Callable[[Mapping[str, Any]], nn.Module]] = {"unet": _build_unet, "vae": _build_vae, "image_encoder": build_vision}


def _split_unet(weights: Weights) -> tuple[Weights, Weights]:
    if not any(name.startswith(BLUEPRINT) for name in weights):
        kind = kind_of(weights.infos)
        raise BadModel(f"{weights.path.name} of the unet has no blueprint encoder ({BLUEPRINT}*). The file seems to be {kind.value}.")
    blueprint = {name.removeprefix(BLUEPRINT): name for name in weights if name.startswith(BLUEPRINT)}
    return weights.renamed({name: name for name in weights if not name.startswith(BLUEPRINT)}), weights.renamed(blueprint)


def _new_vae_names(weights: Weights) -> Weights:
    """Files from before diffusers 0.15 name the attention's layers query, key, value and proj_attn."""
    names = {}
    for name in weights:
        stem, dot, end = name.rpartition(".")
        head, middle, layer = stem.rpartition(".")
        names[head + middle + _OLD_VAE_ATTENTION[layer] + dot + end if ".attentions." in name and layer in _OLD_VAE_ATTENTION else name] = name
    return weights.renamed(names)


def vision_names(module: nn.Module, weights: Weights) -> Weights:
    """An image encoder's weights under the module's names, with or without the prefix, as the installed transformers has it; without what is no weight
    (position_ids) or not used (projection)."""
    prefix = _VISION if any(name.startswith(_VISION) for name in module.state_dict()) else ""
    kept = [name for name in weights if not name.endswith("position_ids") and name != "visual_projection.weight"]
    return weights.renamed({prefix + name.removeprefix(_VISION): name for name in kept})


def _fit(module: nn.Module, weights: Weights, part: str) -> Weights:
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    missing = sorted(set(wanted) - set(weights))
    unknown = sorted(set(weights) - set(wanted))
    found = {name: weights.infos[name] for name in wanted if name in weights}
    shapes = [f"{name} is {list(info.shape)} instead of {list(wanted[name])}" for name, info in found.items() if info.shape != wanted[name]]
    dtypes = [f"{name} is {info.dtype}" for name, info in found.items() if info.dtype not in _FLOATS]
    said = [_count(missing, "missing"), _count(unknown, "too many"), _count(shapes, "of another shape"), _count(dtypes, "no plain floating-point numbers")]
    if any(said):
        raise BadModel(f"{part}/{weights.path.name} does not fit its config.json: {'; '.join(filter(None, said))}.{_seems(part, weights.path)}")
    return weights


def _count(names: list[str], what: str) -> str:
    if not names:
        return ""
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _seems(part: str, path: Path) -> str:
    right = {"unet": ModelKind.REFONLY_UNET, "vae": ModelKind.VAE, "image_encoder": ModelKind.IMAGE_ENCODER}[part]
    kind = kind_of(read_header(path).tensors)
    return "" if kind in (right, ModelKind.REFONLY_CHECKPOINT) else f" The file seems to be {kind.value}."


def _check_pairing(parts: Parts) -> None:
    modules: tuple[Any, ...] = (parts.unet.module, parts.vae.module, parts.image_encoder.module)
    unet, vae, vision = (module.config for module in modules)
    pairs = (
        (unet.cross_attention_dim, vision.hidden_size, "the UNet's cross-attention reads tokens of width {}, the image encoder makes {}"),
        (unet.in_channels, vae.latent_channels, "the UNet works on {} latent channels, the VAE on {}"),
        (unet.out_channels, vae.latent_channels, "the UNet returns {} latent channels, the VAE has {}"),
        (parts.prompt_spec.size, vision.image_size, "the image processor makes {} px pictures, the image encoder wants {} px"),
        (2 ** (len(vae.block_out_channels) - 1), 8, "the VAE shrinks by {}, the blueprint encoder by {}"),
    )
    for one, other, sentence in pairs:
        if one != other:
            raise BadModel(f"The parts of {parts.card.name} do not belong together: {sentence.format(one, other)}.")


def assemble(parts: Parts, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> RefOnlyModel:
    """Read the weights. Each tensor is allocated once, where and as it stays."""
    modules: dict[str, Any] = {name: _read(getattr(parts, name), device, dtype) for name in ("unet", "blueprint", "vae", "image_encoder")}
    return RefOnlyModel(**modules, scheduler_config=dict(parts.scheduler_config), prompt_spec=parts.prompt_spec, card=parts.card)


def _read(part: Part, device: torch.device | str, dtype: torch.dtype) -> nn.Module:
    return filled(part.module, part.weights, device, dtype)


def filled(module: nn.Module, weights: Weights, device: torch.device | str, dtype: torch.dtype) -> nn.Module:
    """A module on the meta device with its weights read: each tensor is allocated once, where and as it stays. In eval mode, without gradients.

    Raises:
        BadModel: a tensor is missing, or there is one too many. RuntimeError: one has another shape.
    """
    # copy=True: what is left of the file's mapping would crash the process when the file is changed under it.
    state = {name: weights[name].to(device=device, dtype=dtype, copy=True) for name in weights}
    wrong = module.load_state_dict(state, strict=False, assign=True)
    missing = [name for name in wrong.missing_keys if not name.endswith("position_ids")]
    said = list(filter(None, (_count(missing, "missing"), _count(wrong.unexpected_keys, "too many"))))
    if said:
        raise BadModel(f"{weights.path.name} does not fit: {'; '.join(said)}.")
    for inner in module.modules():
        for name, buffer in inner.named_buffers(recurse=False):
            if buffer.is_meta:  # CLIP's position_ids, the only table that is not in the files
                inner.register_buffer(name, torch.arange(buffer.shape[-1], device=device).expand(buffer.shape), persistent=False)
    return module.eval().requires_grad_(False)


def save_refonly(model: RefOnlyModel, folder: Path | str, dtype: torch.dtype | None = None) -> Path:
    """Write `model` in the released layout (safetensors, `dtype` or the model's own). The folder appears complete or not at all.

    Raises:
        CannotWrite: disk full, no permission, or `folder` holds something that is no RefOnly model.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / "model_index.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise CannotWrite(f"{folder} exists and is no model. Choose another folder.")
    half = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        half.mkdir(parents=True)
        _write_layout(model, half, dtype or model.dtype)
        _put_in_place(half, folder)
    except OSError as error:
        raise CannotWrite(f"The model could not be saved to {folder}: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return folder


def _put_in_place(half: Path, folder: Path) -> None:
    old = half.with_name(half.name + ".old")
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(half, folder)
    except OSError:
        if old.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write_layout(model: RefOnlyModel, folder: Path, dtype: torch.dtype) -> None:
    for name, config in folder_configs(model).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    for name, state in released_states(model).items():
        _save_tensors({key: value.detach().to("cpu", dtype).contiguous() for key, value in state.items()}, folder / name / f"{_STEMS[name]}.safetensors")


def _save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, str(path), metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from None


def folder_configs(model: RefOnlyModel) -> dict[str, dict[str, Any]]:
    """Every JSON file of the released layout, by its path in the folder."""
    unet = _plain(model.unet.config) | {"_class_name": UNET_CLASS} | model.blueprint.config
    vision = {field: getattr(model.image_encoder.config, field) for field in _VISION_FIELDS}
    return {
        "model_index.json": _INDEX,
        CARD_FILE: model.card.config,
        "unet/config.json": unet,
        "vae/config.json": _plain(model.vae.config) | {"_class_name": "AutoencoderKL"},
        "image_encoder/config.json": {"architectures": ["CLIPVisionModel"], "model_type": "clip_vision_model"} | vision,
        SCHEDULER.as_posix(): model.scheduler_config,
        PREPROCESSOR.as_posix(): model.prompt_spec.config,
    }


_INDEX = {
    "_class_name": "StableDiffusionReferenceOnlyPipeline",
    "clip_image_processor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": ["transformers", "CLIPVisionModel"],
    "scheduler": ["diffusers", "UniPCMultistepScheduler"],
    "unet": ["stable_diffusion_reference_only", UNET_CLASS],
    "vae": ["diffusers", "AutoencoderKL"],
}


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in config.items() if not key.startswith("_")}


def released_states(model: RefOnlyModel) -> dict[str, dict[str, Tensor]]:
    """State dicts under the names of the released files: unet (blueprint encoder inside), vae, image_encoder (with `vision_model.`)."""
    blueprint = {BLUEPRINT + name: tensor for name, tensor in model.blueprint.state_dict().items()}
    vision = {_VISION + name.removeprefix(_VISION): tensor for name, tensor in model.image_encoder.state_dict().items()}
    return {"unet": dict(model.unet.state_dict()) | blueprint, "vae": dict(model.vae.state_dict()), "image_encoder": vision}
