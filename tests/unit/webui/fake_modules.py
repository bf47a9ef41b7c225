"""A1111's `modules`, as much of it as the extension touches, and a generation that calls a script's hooks in the order that was recorded on a real one."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib_refonly.hosts.stand_in import alpha_bar_at
from tests.contract.a1111_like import ALPHAS_CUMPROD, Wrapper

T = (900.0, 500.0, 100.0)


class Options:
    """shared.opts: unknown names are missing, as there."""

    def add_option(self, name: str, info: Any) -> None:
        setattr(self, name, info.default)


class ExtraNetwork:
    def __init__(self, name: str) -> None:
        self.name = name


class ExtraNetworksPage:
    def __init__(self, title: str) -> None:
        self.title = title

    def link_preview(self, filename: str) -> str:
        return f"./sd_extra_networks/thumb?filename={filename}"


class OptionInfo:
    def __init__(self, default: Any, *_: Any, **__: Any) -> None:
        self.default = default

    def needs_reload_ui(self) -> OptionInfo:
        return self

    needs_restart = needs_reload_ui


@contextmanager
def fake_modules(tmp: Path) -> Iterator[types.SimpleNamespace]:
    """`modules` in sys.modules for the length of a test; our own webui package is imported anew inside, and forgotten after."""
    before = {name: module for name, module in sys.modules.items() if name.startswith(("modules", "lib_refonly.webui"))}
    for name in before:
        del sys.modules[name]
    callbacks: dict[str, list[Callable[..., Any]]] = {}

    def callback(name: str) -> Callable[..., None]:
        return lambda function, **_: callbacks.setdefault(name, []).append(function)

    parts: dict[str, dict[str, Any]] = {
        "scripts": {"Script": type("Script", (), {}), "AlwaysVisible": object(), "scripts_data": []},
        "script_callbacks": {name: callback(name) for name in ("on_cfg_denoiser", "on_before_ui", "on_ui_settings", "on_app_started", "on_ui_tabs")},
        "shared": {
            "opts": Options(),
            "device": torch.device("cpu"),
            "OptionInfo": OptionInfo,
            "cmd_opts": types.SimpleNamespace(data_path=str(tmp), refonly_models_dir=None, api_auth=None),
        },
        "devices": {"device": torch.device("cpu"), "dtype_unet": torch.float32, "dtype_vae": torch.float32, "torch_gc": lambda: None},
        "lowvram": {"is_enabled": lambda _: False, "send_everything_to_cpu": lambda: None},
        "extensions": {"active": list},
        "extra_networks": {"ExtraNetwork": ExtraNetwork, "extra_network_registry": {}, "register_extra_network": None},
        "ui_extra_networks": {"ExtraNetworksPage": ExtraNetworksPage, "extra_pages": [], "register_page": None},
        "sd_models": {"model_data": types.SimpleNamespace(sd_model=None)},
    }
    package = types.ModuleType("modules")
    package.__path__ = []  # type: ignore[attr-defined]
    sys.modules["modules"] = package
    for name, content in parts.items():
        module = types.ModuleType(f"modules.{name}")
        vars(module).update(content)
        sys.modules[module.__name__] = module
        setattr(package, name, module)
    networks, pages = sys.modules["modules.extra_networks"], sys.modules["modules.ui_extra_networks"]
    vars(networks)["register_extra_network"] = lambda network: networks.extra_network_registry.update({network.name: network})
    vars(pages).update(register_page=pages.extra_pages.append, shared=package.shared)  # type: ignore[attr-defined]
    try:
        yield types.SimpleNamespace(callbacks=callbacks, **{name: getattr(package, name) for name in parts})
    finally:
        for name in [name for name in sys.modules if name.startswith(("modules", "lib_refonly.webui"))]:
            del sys.modules[name]
        sys.modules.update(before)


class SdModel(nn.Module):
    """LatentDiffusion, from outside."""

    parameterization = "eps"
    scale_factor = 0.18215
    alphas_cumprod = ALPHAS_CUMPROD
    sd_checkpoint_info = types.SimpleNamespace(name_for_extra="a checkpoint")

    def __init__(self, unet: nn.Module, vae: nn.Module) -> None:
        super().__init__()
        self.model = Wrapper(unet)
        self.first_stage_model: Any = vae

    def encode_first_stage(self, pixels: Tensor) -> Any:
        return self.first_stage_model.encode(pixels).latent_dist


class Processing:
    """A generation's `p`."""

    cfg_scale = 5.0
    is_hr_pass = False

    def __init__(self, sd_model: SdModel, init_images: list[Any] | None = None) -> None:
        self.sd_model, self.comments, self.closed = sd_model, list[str](), 0
        self.extra_generation_params: dict[str, Any] = {}
        self.width = self.height = 64
        if init_images is not None:
            self.init_images = init_images

    def init(self) -> None:
        self.begun_as = getattr(self, "init_images", None), (self.width, self.height)

    def comment(self, text: str) -> None:
        self.comments.append(text)

    def close(self) -> None:
        self.closed += 1


class Swallowed(list[Exception]):
    """What hooks raised: the host reports it and goes on."""


def generate(
    p: Processing,
    script: Any,
    arguments: list[Any],
    on_step: Callable[[Any], None],
    hires: bool = False,
    stop_at: int | None = None,
    size: int | None = None,
    networks: Callable[[Processing], None] = lambda _: None,
) -> tuple[Tensor, Swallowed, Any]:
    """One txt2img, as A1111 1.10.1 does it. stop_at: the step at which somebody presses interrupt (the sampler raises). networks: called when the extra
    networks of a prompt are activated."""
    swallowed, processed = Swallowed(), types.SimpleNamespace(comments="")

    def hook(name: str, *more: Any, **named: Any) -> None:
        try:
            if hasattr(script, name):
                getattr(script, name)(p, *more, *arguments, **named)
        except Exception as error:
            swallowed.append(error)

    try:
        for name in ("setup", "before_process", "process"):
            hook(name)
        p.init()
        hook("before_process_batch")
        networks(p)
        for name in ("after_extra_networks_activate", "process_batch"):
            hook(name)
        height, width = (size, size) if size else (p.height // 8, p.width // 8)
        latent = _pass(p, hook, on_step, torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(1)), stop_at)
        if hires:
            hook("before_hr")
            p.is_hr_pass = True
            networks(p)
            latent = _pass(p, hook, on_step, nn.functional.interpolate(latent, scale_factor=2), stop_at)
        given = types.SimpleNamespace(samples=latent)
        hook("post_sample", given)
        latent = given.samples
        hook("postprocess_batch")
        if hasattr(script, "postprocess"):
            script.postprocess(p, processed, *arguments)
    finally:
        p.close()
    return latent, swallowed, processed


def _pass(p: Processing, hook: Callable[..., None], on_step: Callable[[Any], None], x: Tensor, stop_at: int | None) -> Tensor:
    width = p.sd_model.model.diffusion_model.input_blocks[1][1].transformer_blocks[0].attn2.to_k.in_features  # type: ignore[index,union-attr]
    text = torch.randn(2, 7, width, generator=torch.Generator().manual_seed(2))
    hook("process_before_every_sampling", x=x, noise=x, c=None, uc=None)
    for step, t in enumerate(T):
        if step == stop_at:
            raise InterruptedError
        on_step(types.SimpleNamespace(text_cond=text[:1]))
        out = p.sd_model.model(torch.cat([x, x]), torch.full((2,), t), c_crossattn=[text], c_concat=[])
        cond, uncond = out.chunk(2)
        bar = alpha_bar_at(torch.tensor([t]), ALPHAS_CUMPROD)
        e = uncond + p.cfg_scale * (cond - uncond)
        x = x - 0.3 * (1 - bar).sqrt() * e
    return x
