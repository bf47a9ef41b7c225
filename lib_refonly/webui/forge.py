"""Forge's family: Forge, Forge Neo, reForge."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lib_refonly.conditioning.plan import Plan
from lib_refonly.errors import BadModel
from lib_refonly.hosts.control import NarrowedChain
from lib_refonly.hosts.forge import anatomy, patched, patched_flow, refusing
from lib_refonly.hosts.session import Session
from lib_refonly.hosts.stand_in import StandIn
from lib_refonly.refonly.hosted import Latents
from lib_refonly.webui.host import Attached, Checkpoint


class ForgeAttached:
    """Nothing to undo: the host gives its patchers back before the next pass."""

    def __init__(self, session: Session | None, control: Callable[[], None] = lambda: None) -> None:
        self._session, self.narrow = session, control

    @property
    def calls(self) -> int:
        return 1 if self._session is None else self._session.calls

    def remove(self) -> None:
        pass


class ForgeHost:
    def checkpoint(self, sd_model: Any) -> Checkpoint:
        # The host gives its own patcher back when the next pass begins; until then the last run's is still there, with the UNet that stood in.
        patcher = (getattr(sd_model, "forge_objects_original", None) or sd_model.forge_objects).unet
        unet, vae = patcher.model.diffusion_model, sd_model.forge_objects.vae.first_stage_model
        try:
            latents = Latents.of({name: tuple(weight.shape) for name, weight in vae.named_parameters()}, _scale(patcher.model, vae))
        except (KeyError, AttributeError):
            latents = None
        info = getattr(sd_model, "sd_checkpoint_info", None)
        return Checkpoint(getattr(info, "name_for_extra", ""), unet, lambda: anatomy(unet), latents, _dtype(patcher.model))

    @contextmanager
    def lent(self, sd_model: Any, module: nn.Module) -> Iterator[None]:
        """Not by the host's patchers: they write on what they are given, and some hosts forget a patcher that nobody else holds."""
        of_vae, manager = sd_model.forge_objects.vae.patcher, memory_management()
        if of_vae.load_device.type != "cpu":
            size = sum(weight.numel() * weight.element_size() for weight in module.parameters())
            manager.free_memory(size + manager.minimum_inference_memory(), of_vae.load_device)
        module.to(of_vae.load_device)
        try:
            yield
        finally:
            module.to(of_vae.offload_device)

    def attach(self, p: Any, plan: Plan, stand_in: StandIn | None) -> Attached:
        objects = p.sd_model.forge_objects
        alone = not (plan.image_prompts or plan.input_features or plan.branches)
        if plan.canvas is not None and alone and not hasattr(objects.unet.model.diffusion_model, "input_blocks"):
            objects.unet = patched_flow(objects.unet, plan.canvas)
            if plan.canvas.reuse > 1:
                p.comment("ONE-PIC: context reuse does not act with this checkpoint; each step computes the whole canvas.")
            return ForgeAttached(None, _narrowing(p, plan))
        objects.unet, session = patched(objects.unet, plan, stand_in)
        return ForgeAttached(session, _narrowing(p, plan))

    def refuse(self, p: Any, error: Exception) -> Attached:
        objects = p.sd_model.forge_objects
        objects.unet = refusing(objects.unet, error)
        return ForgeAttached(None)

    def begin_step(self, attached: Attached, params: Any) -> None:
        if isinstance(attached, ForgeAttached):
            attached.narrow()


def _narrowing(p: Any, plan: Plan) -> Callable[[], None]:
    """Keeps the ControlNets to their part of the canvas. To be called at each step: in some hosts they come after us."""
    box = None if plan.canvas is None else plan.canvas.control
    told: list[bool] = []

    def narrow() -> None:
        patcher = p.sd_model.forge_objects.unet
        first = getattr(patcher, "controlnet_linked_list", None)
        if box is None or first is None or isinstance(first, NarrowedChain):
            return
        if hasattr(patcher.model.diffusion_model, "input_blocks"):
            patcher.controlnet_linked_list = NarrowedChain(first, box)
        elif not told:
            told.append(True)
            p.comment("ONE-PIC: with this checkpoint ControlNet acts on the whole canvas; it can't be kept to the target panel.")

    return narrow


def _scale(model: Any, vae: Any) -> float:
    """Forge notes it on the VAE, Forge Neo in a note on the VAE, reForge in the same note on the model."""
    own = getattr(vae, "scaling_factor", None)
    if own is None:
        own = (vae if hasattr(vae, "latent_format") else model).latent_format.scale_factor
    return float(own)


def _dtype(model: Any) -> torch.dtype:
    """What the model computes in, which is not always what it keeps its weights in."""
    for name in ("computation_dtype", "manual_cast_dtype"):
        own: torch.dtype | None = getattr(model, name, None)
        if own is not None:
            return own
    return model.get_dtype()


def memory_management() -> Any:
    for name in ("backend.memory_management", "ldm_patched.modules.model_management"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise BadModel("This WebUI's memory management is not known here.")
