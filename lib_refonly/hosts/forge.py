"""Forge's family (Forge, Forge Neo, reForge, Forge classic): a plan on a clone of the host's UnetPatcher.

The host gives its patchers back by itself before every pass, so nothing has to be undone. Of its patch points only one is used, the wrapper around
a UNet call, which every member of the family has: it enters the session for the length of that one call. Inside, the same hooks as everywhere act,
also where another extension owns the attention of a site (Forge's IP-Adapter): its patch still calls the layer's to_q and to_out.
"""

from __future__ import annotations

from typing import Any

from lib_refonly.conditioning.plan import COND, UNCOND, Plan
from lib_refonly.errors import BadModel
from lib_refonly.hosts.anatomy import Anatomy
from lib_refonly.hosts.ldm import anatomy as ldm_anatomy
from lib_refonly.hosts.session import Session

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


def patched(patcher: Any, plan: Plan) -> tuple[Any, Session]:
    """A clone of a UnetPatcher whose UNet calls follow the plan, and the session, whose `calls` says whether it was used at all.

    A wrapper that is already there stays and acts inside. Callables only are handed over: `clone()` copies everything else deeply.
    """
    clone = patcher.clone()
    session = Session(anatomy(clone.model.diffusion_model), plan)
    inner = clone.model_options.get(WRAPPER)

    def wrapper(apply_model: Any, call: dict[str, Any]) -> Any:
        session.roles = tuple(UNCOND if mark else COND for mark in call["cond_or_uncond"])
        with session:
            if inner is not None:
                return inner(apply_model, call)
            return apply_model(call["input"], call["timestep"], **call["c"])

    clone.set_model_unet_function_wrapper(wrapper)
    return clone, session
