"""The example checkpoint for Forge's loader, which asks a list of known networks what a file is. `tiny-base` is narrower than any of them."""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from lib_refonly.models.registry import EMBEDDED
from lib_refonly.refonly.ldm_yaml import unet_params

_FOLDER = EMBEDDED / "tiny-base"
_ASKED = ("model_channels", "context_dim", "use_linear_in_transformer")
"""What the list tells networks apart by, besides what all of Stable Diffusion 1.x have."""
_KNOWN_AS = "RefOnlyTinyBase"


def teach() -> None:
    """Put `tiny-base`, and what else has its network, on the list of Forge and Forge Neo. Any other WebUI is left alone (reForge has another kind of list)."""
    if "modules_forge" not in sys.modules:
        return
    try:
        listed = importlib.import_module("huggingface_guess.model_list")
        engine = importlib.import_module("backend.diffusion_engine.sd15").StableDiffusion
        if not taught():
            network = _network(listed)
            listed.models.append(network)
            engine.matched_guesses.append(network)  # Forge Neo asks for the very class
    except (ImportError, AttributeError) as error:
        print(f"RefOnly: this WebUI's loader has no list of networks as Forge's has ({error}), so the small example checkpoint can't be loaded.")


def taught() -> bool:
    """Whether the loader knows the example."""
    listed = sys.modules.get("huggingface_guess.model_list")
    return any(network.__name__ == _KNOWN_AS for network in getattr(listed, "models", ()))


def choose_first() -> None:
    """A Forge that had no checkpoint when it started does not see that its only one is chosen, and has to be told."""
    if not taught():
        return
    from modules.sd_models import model_data
    from modules_forge.main_entry import refresh_model_loading_parameters

    if not model_data.forge_loading_parameters.get("checkpoint_info"):
        refresh_model_loading_parameters()


def _network(listed: Any) -> type:
    params = unet_params(json.loads((_FOLDER / "unet" / "config.json").read_text("utf-8")))
    return type(
        _KNOWN_AS,
        (listed.SD15,),
        {
            "huggingface_repo": str(_FOLDER),  # joined to the loader's own folder, which an absolute path replaces
            "unet_config": listed.SD15.unet_config | {name: params[name] for name in _ASKED},
            "unet_extra_config": {"num_heads": -1, "num_head_channels": params["num_head_channels"]},
            "model_type": lambda self, state_dict, prefix="": listed.ModelType.V_PREDICTION,
        },
    )
