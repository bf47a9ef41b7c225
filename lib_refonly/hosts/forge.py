"""Forge's family (Forge, Forge Neo, reForge, Forge classic): a plan on a clone of the host's UnetPatcher.

The host gives its patchers back by itself before every pass, so nothing has to be undone. Of its patch points only one is used, the wrapper around
a UNet call, which every member of the family has: it enters the session for the length of that one call. Inside, the same hooks as everywhere act,
also where another extension owns the attention of a site (Forge's IP-Adapter): its patch still calls the layer's to_q and to_out.
"""

from __future__ import annotations

import copy
import weakref
from typing import Any

from lib_refonly.conditioning.canvas import CleanContext
from lib_refonly.conditioning.plan import COND, UNCOND, Plan
from lib_refonly.errors import BadModel
from lib_refonly.hosts.anatomy import Anatomy
from lib_refonly.hosts.ldm import anatomy as ldm_anatomy
from lib_refonly.hosts.session import Session
from lib_refonly.hosts.stand_in import Prediction, StandIn, denoised_in_terms_of, prediction_of

WRAPPER = "model_function_wrapper"


def anatomy(unet: Any) -> Anatomy:
    """The injection points of the family's UNet: ldm's, by the same names.

    Raises:
        BadModel: a model without them (Flux, SD 3).
    """
    if not hasattr(unet, "input_blocks"):
        kind = type(unet).__name__
        raise BadModel(f"The loaded checkpoint's network ({kind}) has no cross-attention for a reference to go into. Take an SD 1.x, 2.x or SDXL one.")
    return ldm_anatomy(unet)


def patched(patcher: Any, plan: Plan, stand_in: StandIn | None = None) -> tuple[Any, Session]:
    """A clone of a UnetPatcher whose UNet calls follow the plan, and the session, whose `calls` says whether it was used at all.

    stand_in: the UNet that runs instead of the patcher's own. It is a patcher's model like any other, so the host moves it to its device and away.
    A wrapper that is already there stays and acts inside. Callables only are handed over: `clone()` copies everything else deeply.
    """
    clone = patcher.clone() if stand_in is None else _standing_in(patcher, stand_in)
    session = Session(anatomy(clone.model.diffusion_model), plan)
    inner, canvas, exact = clone.model_options.get(WRAPPER), session.plan.canvas, session.exact

    def wrapper(apply_model: Any, call: dict[str, Any]) -> Any:
        session.roles = tuple(UNCOND if mark else COND for mark in call["cond_or_uncond"])
        if stand_in is not None:
            kept = {name: value for name, value in call["c"].items() if name not in _OF_THE_CHECKPOINT}
            call = call | {"c": kept | {"c_crossattn": stand_in.no_text(call["input"])}}
        session.exact = exact or call["c"].get("control") is not None
        with session:
            out = apply_model(call["input"], call["timestep"], **call["c"]) if inner is None else inner(apply_model, call)
        if stand_in is not None:
            out = denoised_in_terms_of(out, call["input"], call["timestep"], stand_in.prediction, predicts(patcher.model))
        return out if canvas is None else canvas.clean(out)  # the host's models answer with x_0

    clone.set_model_unet_function_wrapper(wrapper)
    return clone, session


def patched_flow(patcher: Any, canvas: CleanContext) -> Any:
    """A clone whose flow-matching model (Flux: no cross-attention, no patches inside) paints the canvas' target. Flow matching does not scale what it hands
    to the network, so the context can be put in, and found, out here."""
    clone = patcher.clone()
    inner = clone.model_options.get(WRAPPER)

    def wrapper(apply_model: Any, call: dict[str, Any]) -> Any:
        call = call | {"input": canvas.clean(call["input"])}
        return canvas.clean(apply_model(call["input"], call["timestep"], **call["c"]) if inner is None else inner(apply_model, call))

    clone.set_model_unet_function_wrapper(wrapper)
    return clone


_OF_THE_CHECKPOINT = ("c_concat", "y")
"""What is there for the checkpoint's own UNet: an inpainting one's mask and picture, SDXL's sizes."""
_KEPT = ("model_options", "controlnet_linked_list", "extra_preserved_memory_during_sampling", "extra_model_patchers_during_sampling")
"""What other extensions have asked of the checkpoint's patcher and what holds for any UNet; its LoRAs do not."""
_OF_THE_UNET = ("storage_dtype", "computation_dtype", "load_device", "offload_device", "initial_device", "architecture")
"""What the family's loader notes on a UNet."""
_WHERE_IT_LIES = (
    "device",
    "model_loaded_weight_memory",
    "model_lowvram",
    "lowvram_patch_counter",
    "current_weight_patches_uuid",
    "model_offload_buffer_memory",
)
"""What the ComfyUI line (reForge, Forge Neo) notes on a model of its weights' whereabouts: the checkpoint's, not the stand-in's."""


def predicts(model: Any) -> Prediction:
    """What the family's model (KModel, or ComfyUI's BaseModel) predicts."""
    predictor = getattr(model, "predictor", None)
    return prediction_of(predictor.prediction_type if predictor is not None else model.model_type.name)


def _standing_in(patcher: Any, stand_in: StandIn) -> Any:
    unet: Any = stand_in.unet
    kept = vars(unet).get(_PATCHER)
    if kept is None or kept[0]() is not patcher.model:
        for name in _OF_THE_UNET:
            if hasattr(patcher.model.diffusion_model, name):
                setattr(unet, name, getattr(patcher.model.diffusion_model, name))
        if "dtype" in vars(unet):
            unet.dtype = next(unet.parameters()).dtype
        own = copy.copy(patcher.model)
        own._modules = {**patcher.model._modules, "diffusion_model": unet}
        for name in _WHERE_IT_LIES:
            vars(own).pop(name, None)
        # The same objects for every pass: the host knows by them what lies on the device already, and some hosts hold a patcher no longer than we do. In a
        # tuple, or they would become submodules; and the checkpoint's own is not held, or it would stay in memory after another one was chosen.
        kept = vars(unet)[_PATCHER] = weakref.ref(patcher.model), type(patcher)(own, patcher.load_device, patcher.offload_device)
    fresh, clone = kept[1].clone(), patcher.clone()
    for name in _KEPT:
        if hasattr(clone, name):
            setattr(fresh, name, getattr(clone, name))
    return fresh


_PATCHER = "_refonly_patcher"


def refusing(patcher: Any, error: Exception) -> Any:
    """A clone whose first UNet call raises `error`."""
    clone = patcher.clone()

    def wrapper(*_: Any) -> Any:
        raise error

    clone.set_model_unet_function_wrapper(wrapper)
    return clone
