"""Checking a golden pack: does this code compute what the authors' released code computed?

A pack stores no weights but the rule to make them (its README). They are made, written into a temporary folder in the released layout, read back
through the loader that reads the authors' files, and the whole chain runs on its own results: pictures, line art, image tokens, blueprint
feature, UNet, sampling, picture. Which tensors there are, sizes, seeds, timesteps and settings all come from the pack.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib_refonly.conditioning.plan import ImagePrompt, ImageTokens, InputFeature, Plan
from lib_refonly.errors import BadModel
from lib_refonly.hosts.diffusers import session
from lib_refonly.imaging.lineart import adaptive_lines, grey
from lib_refonly.models.pack import Pack, Row
from lib_refonly.refonly import loader
from lib_refonly.refonly.blueprint import blueprint_tensor
from lib_refonly.refonly.image_encoder import ImagePromptSpec, encode, preprocess
from lib_refonly.refonly.model import RefOnlyModel
from lib_refonly.refonly.sampling import denoise
from lib_refonly.refonly.schedulers import make_scheduler

_FILES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "image_encoder": "model"}
_INPUTS = ("unet.sample", "unet_odd.sample", "pipe.init_latents")
"""Given, not computed."""
_SAMPLERS = {"unipc": "UniPC", "ddim": "DDIM"}
_DEFAULT_T = 501


def verify_pack(folder: Path | str, on_row: Callable[[Row], None] | None = None, weights: str = ".safetensors") -> list[Row]:
    """Compute every tensor of a pack and compare. `on_row` is called as each is done. `weights`: the format of the temporary folder, .safetensors
    or .bin.

    Raises:
        BadModel: the folder is no pack, or not complete.
    """
    pack = Pack(Path(folder), "refonly_golden")

    def chain(states: Mapping[str, Mapping[str, np.ndarray]]) -> _Chain:
        with tempfile.TemporaryDirectory(prefix="refonly-golden-") as temporary:
            write_released(Path(temporary), states, pack.about, weights)
            return _Chain(pack, loader.load_refonly(temporary))

    rows: list[Row] = []
    for row in pack.rows(chain, _INPUTS):
        rows.append(row)
        if on_row:
            on_row(row)
    return rows


def write_released(folder: Path, states: Mapping[str, Mapping[str, np.ndarray]], about: Mapping[str, Any], weights: str = ".safetensors") -> None:
    """A model folder as the authors' code saves it, from a pack's states and its golden.json."""
    from safetensors.numpy import save_file

    configs, processor = about["configs"], about["clip_image_processor"]
    extra = {key: configs[key] for key in ("conditioning_channels", "conditioning_embedding_out_channels")}
    spec = ImagePromptSpec(processor["center_crop"], tuple(processor["mean"]), tuple(processor["std"]))
    files = {
        "model_index.json": {"_class_name": "StableDiffusionReferenceOnlyPipeline"},
        "unet/config.json": {"_class_name": loader.UNET_CLASS} | configs["unet"] | extra,
        "vae/config.json": configs["vae"],
        "image_encoder/config.json": configs["image_encoder"],
        loader.SCHEDULER.as_posix(): about["scheduler"],
        loader.PREPROCESSOR.as_posix(): spec.config,
    }
    for name, config in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(config), "utf-8")
    for name, state in states.items():
        if weights == ".bin":
            stem = "pytorch_model" if name == "image_encoder" else _FILES[name]
            torch.save({key: torch.from_numpy(value) for key, value in state.items()}, folder / name / f"{stem}.bin")
        else:
            save_file(dict(state), folder / name / f"{_FILES[name]}{weights}")


class _Chain:
    """The computation, each tensor by its name in the pack. Later links use the results of earlier ones, not the pack's."""

    def __init__(self, pack: Pack, model: RefOnlyModel) -> None:
        self.pack, self.model = pack, model
        self._runs: dict[str, dict[str, Tensor]] = {}

    def tensor(self, name: str) -> Tensor:
        """Raises KeyError for a name that is not known."""
        group, _, what = name.partition(".")
        if group.startswith("lineart"):
            return self._line_art("odd" if group.endswith("_odd") else "target", what)
        if group in ("unet", "unet_odd") and (match := re.fullmatch(r"out_t(\d+)(|_zero_context|_black_blueprint)", what)):
            return self._unet_out(group, int(match[1]), match[2])
        if match := re.fullmatch(r"([a-z]+)(\d+)", group):
            return self._run(group, _SAMPLERS[match[1]], int(match[2]))[what]
        return self._single[name]()

    @cached_property
    def _single(self) -> dict[str, Callable[[], Tensor]]:
        return {
            "clip.pixel_values": lambda: self._pixels,
            "clip.last_hidden_state": lambda: self._tokens,
            "blueprint.tensor": lambda: self._blueprint(""),
            "blueprint_odd.tensor": lambda: self._blueprint("_odd"),
            "blueprint.feature": lambda: self._feature(self._blueprint("")),
            "blueprint.conv_in_out": lambda: self._seen["blueprint"],
            "unet.conv_in_out": lambda: self._seen["conv_in"],
            "unet.after_hint_add": lambda: self._seen["first block"],
            "attn2_first.k": lambda: self._seen["k"],
            "attn2_first.v": lambda: self._seen["v"],
        }

    def _line_art(self, picture: str, what: str) -> Tensor:
        rgb = np.asarray(self.pack.picture(picture))
        block, c = _threshold(self.pack.about["line_art"]["threshold"])
        lines = adaptive_lines(rgb, block, c)
        return torch.from_numpy({"gray": grey(rgb), "line": lines, "blueprint": 255 - lines}[what].copy())

    @cached_property
    def _pixels(self) -> Tensor:
        return preprocess(self.pack.picture("prompt"), self.model.prompt_spec, "crop")

    @cached_property
    def _tokens(self) -> Tensor:
        with torch.no_grad():
            return encode(self.model.image_encoder, self._pixels)

    def _blueprint(self, which: str) -> Tensor:
        return blueprint_tensor(self.pack.picture(f"blueprint{which}"))

    @torch.no_grad()
    def _feature(self, blueprint: Tensor) -> Tensor:
        return self.model.blueprint(blueprint)

    def _plan(self, tokens: Tensor, blueprint: Tensor) -> Plan:
        return Plan((ImagePrompt((ImageTokens(tokens),)),), (InputFeature(self._feature(blueprint)),))

    @torch.no_grad()
    def _unet_out(self, group: str, t: int, variant: str = "") -> Tensor:
        sample = self.pack.golden[f"{group}.sample"]
        blueprint = self._blueprint(group.removeprefix("unet"))
        tokens = torch.zeros_like(self._tokens) if variant == "_zero_context" else self._tokens
        blueprint = torch.zeros_like(blueprint) if variant == "_black_blueprint" else blueprint
        nothing = torch.zeros(sample.shape[0], 1, tokens.shape[-1])
        with session(self.model.unet, self._plan(tokens, blueprint)):
            return self.model.unet(sample, t, encoder_hidden_states=nothing, return_dict=False)[0]

    @cached_property
    def _seen(self) -> dict[str, Tensor]:
        """What passes inside during one call."""
        unet: Any = self.model.unet
        seen: dict[str, Tensor] = {}
        attention = next(module for name, module in unet.named_modules() if name.endswith("attn2"))
        inside = {"k": attention.to_k, "v": attention.to_v, "blueprint": self.model.blueprint.conv_in, "conv_in": unet.conv_in}
        handles = [_note_output(module, name, seen) for name, module in inside.items()]
        note = lambda _, args: seen.update({"first block": args[0]})  # noqa: E731
        handles.append(unet.down_blocks[0].resnets[0].register_forward_pre_hook(note))
        try:
            self._unet_out("unet", _DEFAULT_T)
        finally:
            for handle in handles:
                handle.remove()
        return seen

    def _run(self, group: str, sampler: str, steps: int) -> dict[str, Tensor]:
        if group not in self._runs:
            scheduler = make_scheduler(sampler, self.model.scheduler_config)
            seen: dict[str, Tensor] = {}
            plan = self._plan(self._tokens, self._blueprint(""))
            note = lambda step, latents: seen.__setitem__(f"latents_after_{step}", latents)  # noqa: E731
            final = denoise(self.model.unet, plan, scheduler, self.pack.golden["pipe.init_latents"], steps, on_step=note)
            seen |= {"timesteps": scheduler.timesteps.to(torch.int64), "latents_final": final, "image01": self._decoded(final)}
            self._runs[group] = seen
        return self._runs[group]

    @torch.no_grad()
    def _decoded(self, latents: Tensor) -> Tensor:
        vae: Any = self.model.vae
        return (vae.decode(latents / self.model.vae_scale).sample / 2 + 0.5).clamp(0, 1)


def _note_output(module: nn.Module, name: str, seen: dict[str, Tensor]) -> Any:
    # Registered before the session's hooks, so it sees what the layer itself returns. Of two calls the last stays: the session makes K and V of
    # the image tokens after the layer has made those of the text.
    def note(_: nn.Module, __: Any, out: Any) -> None:
        seen[name] = out

    return module.register_forward_hook(note)


def _threshold(text: str) -> tuple[int, int]:
    match = re.search(r"mean (\d+)x\1 C=(\d+)", text)
    if not match:
        raise BadModel(f"golden.json describes the line art in a way that is not known: {text!r}.")
    return int(match[1]), int(match[2])
