"""Samplers by name, built from a model's own scheduler_config.json."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from lib_refonly.errors import BadModel, BadSettings
from lib_refonly.refonly.settings import SAMPLERS

_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    # Name -> diffusers class (LMSScheduler is ours), and what makes it this sampler whatever the model's config says.
    "UniPC": ("UniPCMultistepScheduler", {}),
    "DDIM": ("DDIMScheduler", {}),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": False}),
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_karras_sigmas": True}),
    "Euler": ("EulerDiscreteScheduler", {"use_karras_sigmas": False}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "LMS": ("LMSScheduler", {"use_karras_sigmas": False}),
    "PNDM": ("PNDMScheduler", {}),
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    # The released code ran on diffusers 0.21, where UniPC ended at the smallest sigma; later versions end at zero unless told.
    "UniPC": {"final_sigmas_type": "sigma_min"},
    # Without it PNDM opens with twelve Runge-Kutta steps, which SD's own configuration leaves out.
    "PNDM": {"skip_prk_steps": True},
}


def make_scheduler(name: str, scheduler_config: Mapping[str, Any]) -> Any:
    """A fresh diffusers scheduler. Prediction type, noise schedule, offset and spacing come from `scheduler_config`; fields that the sampler
    does not know (the config may have been written for another one) are left out.

    Raises:
        BadSettings: `name` is none of SAMPLERS, or the sampler cannot run this model.
        BadModel: the config has values that the sampler refuses.
    """
    if name not in SAMPLERS:
        raise BadSettings(f"Sampler: {name!r} is none of {', '.join(SAMPLERS)}.")
    class_name, fixed = _CLASSES[name]
    cls = _class(class_name)
    known = set(inspect.signature(cls.__init__).parameters) - {"self"}
    if scheduler_config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in known:
        raise BadSettings(f"Sampler: {name} cannot run this model (its noise goes down to zero signal). Take UniPC, DDIM or Euler.")
    config = _DEFAULTS.get(name, {}) | dict(scheduler_config) | fixed
    try:
        return cls(**{key: value for key, value in config.items() if key in known})
    except (ValueError, TypeError, NotImplementedError, AttributeError, RuntimeError) as error:
        raise BadModel(f"scheduler_config.json does not fit the sampler {name}: {error}.") from None


def _class(name: str) -> Any:
    if name == "LMSScheduler":
        from lib_refonly.refonly.lms import LMSScheduler

        return LMSScheduler
    import diffusers

    return getattr(diffusers, name)
