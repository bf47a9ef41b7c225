"""The golden pack of StyleCodes: vision states, latents, codes, style decoder, mixing layers, UNet at several scales, sampling."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor

from lib_refonly.conditioning.plan import COND, UNCOND, Plan, SideBranch
from lib_refonly.hosts.diffusers import session
from lib_refonly.models.pack import Pack, Row
from lib_refonly.models.weights import Weights
from lib_refonly.stylecode import model as files
from lib_refonly.stylecode.codes import v1
from lib_refonly.stylecode.codes.codec import read
from lib_refonly.stylecode.codes.known import RELEASED
from lib_refonly.stylecode.control import StyleRun
from lib_refonly.stylecode.vision import pixels_of

_GIVEN = ("unet.sample", "unet.context", "ddim4.init_latents")


def verify_pack(folder: Path | str, on_row: Callable[[Row], None] | None = None, weights: str = ".safetensors") -> list[Row]:
    """Compute every tensor of a pack and compare. `weights`: the format of the model file that is written and read back, .safetensors or .bin, both as
    the author publishes them.

    Raises:
        BadModel: the folder is no pack, or not complete.
    """
    pack = Pack(Path(folder), "stylecodes_golden")

    def chain(states: Mapping[str, Mapping[str, np.ndarray]]) -> _Chain:
        with tempfile.TemporaryDirectory(prefix="refonly-golden-") as temporary:
            return _Chain(pack, states, Path(temporary), weights)

    rows: list[Row] = []
    for row in pack.rows(chain, _GIVEN):
        rows.append(row)
        if on_row:
            on_row(row)
    return rows


def write_released(folder: Path, states: Mapping[str, Mapping[str, np.ndarray]], weights: str) -> Path:
    """The model file as the author publishes it."""
    both = {name: torch.from_numpy(value) for part in ("style_autoencoder", "control") for name, value in states[part].items()}
    if weights == ".bin":
        path = folder / "controlnet.bin"
        torch.save({"controlnet": both}, path)
        return path
    from safetensors.torch import save_file

    path = folder / "controlnet.safetensors"
    save_file({files.CONTROL + name: tensor for name, tensor in both.items()}, path)
    return path


class _Chain:
    def __init__(self, pack: Pack, states: Mapping[str, Mapping[str, np.ndarray]], folder: Path, weights: str) -> None:
        self.pack, configs = pack, pack.about["configs"]
        self.unet: Any = UNet2DConditionModel(**configs["base_unet"]).eval()
        self.unet.load_state_dict({name: torch.from_numpy(value) for name, value in states["base_unet"].items()})
        self.model = files.on_diffusers(write_released(folder, states, weights), unet=configs["base_unet"], heads=configs["style_autoencoder"]["num_heads"])
        named = {name: torch.from_numpy(value) for name, value in states["siglip"].items()}
        path = folder / "siglip.safetensors"
        self.vision = files.read_vision(_written(path, named), configs["siglip"]["num_attention_heads"])
        self._seen: dict[str, Tensor] = {}

    def tensor(self, name: str) -> Tensor:
        group, _, what = name.partition(".")
        if found := re.fullmatch(r"decoder_h(\d+)_w(\d+)", what):
            with torch.no_grad():
                return self.model.autoencoder.decode(self._decoded, int(found[1]), int(found[2]))
        if group == "unet":
            return self._unet_out(what)
        if found := re.fullmatch(r"mix_scale([\d.]+)\.(\w+)\.(in|out)", name):
            return self._mixed(float(found[1]))[f"{found[2]}.{found[3]}"]
        return self._single[name]()

    @cached_property
    def _single(self) -> dict[str, Callable[[], Tensor]]:
        return {
            "siglip.pixel_values": lambda: self._pixels,
            "siglip.hidden_m2": lambda: self._states,
            "style.latent": lambda: self._latents,
            "style.levels": lambda: torch.tensor([list(v1.steps_of(code) or b"") for code in self._codes], dtype=torch.uint8),
            "style.latent_decoded": lambda: self._decoded,
            "ddim4.timesteps": lambda: self._ddim[0],
            "ddim4.latents_final": lambda: self._ddim[1],
        }

    @cached_property
    def _pixels(self) -> Tensor:
        return pixels_of([self.pack.picture("style_0"), self.pack.picture("style_1")], self.vision.shape.size)

    @cached_property
    def _states(self) -> Tensor:
        with torch.no_grad():
            return self.vision(self._pixels)

    @cached_property
    def _latents(self) -> Tensor:
        with torch.no_grad():
            return self.model.autoencoder.encode(self._states)

    @cached_property
    def _codes(self) -> list[str]:
        return [v1.write_v1(latent.tolist()) for latent in self._latents]

    @cached_property
    def _decoded(self) -> Tensor:
        return torch.tensor([read(code, (RELEASED,)).latent for code in self._codes])

    def _style(self, code: str, scale: float) -> Plan:
        latent = torch.tensor([read(code, (RELEASED,)).latent])
        return Plan(branches=(SideBranch(StyleRun(self.model.control, self.model.autoencoder, latent), scale),))

    @torch.no_grad()
    def _unet_out(self, what: str) -> Tensor:
        about = self.pack.about
        plan = Plan()
        if found := re.fullmatch(r"out_(democode_|code1_|)scale([\d.]+)", what):
            code = {"democode_": about["demo_code"], "code1_": self._codes[1], "": self._codes[0]}[found[1]]
            plan = self._style(code, float(found[2]))
        elif what != "out_base":
            raise KeyError(what)
        with session(self.unet, plan):
            sample, context = self.pack.golden["unet.sample"], self.pack.golden["unet.context"]
            return self.unet(sample, about["timestep"], encoder_hidden_states=context, return_dict=False)[0]

    def _mixed(self, scale: float) -> dict[str, Tensor]:
        """What goes into the mixing layers and comes out."""
        mixers, seen = self.model.control.mixers, {}
        names = {"middle": 0, **{f"up{i}": i + 1 for i in range(len(mixers) - 1)}}

        def note(name: str) -> Callable[..., None]:
            def hook(_: Any, args: tuple[Tensor, ...], out: Tensor) -> None:
                seen.update({f"{name}.in": args[0].flatten(1, 2), f"{name}.out": out.flatten(1, 2)})

            return hook

        handles = [mixers[i].register_forward_hook(note(name)) for name, i in names.items()]
        try:
            self._unet_out(f"out_scale{scale:g}")
        finally:
            for handle in handles:
                handle.remove()
        return seen

    @cached_property
    @torch.no_grad()
    def _ddim(self) -> tuple[Tensor, Tensor]:
        about, context = self.pack.about["ddim4"], self.pack.golden["unet.context"]
        steps: dict[str, Any] = dict(about["scheduler"])
        scheduler: Any = DDIMScheduler(**steps)
        scheduler.set_timesteps(about["steps"])
        latents = self.pack.golden["ddim4.init_latents"]
        rows = torch.cat([context[about["uncond_row"]][None], context[about["cond_row"]][None]])
        with session(self.unet, self._style(self._codes[0], about["conditioning_scale"])) as entered:
            entered.roles = (UNCOND, COND)
            for t in scheduler.timesteps:
                uncond, cond = self.unet(latents.expand(2, -1, -1, -1), t, encoder_hidden_states=rows, return_dict=False)[0].chunk(2)
                latents = scheduler.step(uncond + about["guidance_scale"] * (cond - uncond), t, latents).prev_sample
        return scheduler.timesteps.to(torch.int64), latents


def _written(path: Path, tensors: Mapping[str, Tensor]) -> Weights:
    from safetensors.torch import save_file

    save_file(dict(tensors), path)
    weights = Weights.open(path)
    return weights.renamed({name.removeprefix(files.VISION): name for name in weights})
