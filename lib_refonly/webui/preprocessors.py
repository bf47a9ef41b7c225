"""The line detectors of the host's ControlNet (A1111's extension, or what Forge's family has built in): they work on our drawings too."""

from __future__ import annotations

import logging
import sys
from typing import Any

import numpy as np
import torch
from PIL import Image

from lib_refonly.errors import BadPicture, Offline
from lib_refonly.refonly.host_plan import Preprocess

_log = logging.getLogger(__name__)

PREFIX = "ControlNet: "
_LINES = ("lineart", "canny", "scribble", "softedge", "mlsd", "hed", "pidinet", "teed")
_SLIDERS = ("slider_1", "slider_2", "slider_3")


def controlnet_preprocessors() -> dict[str, Preprocess]:
    """By the name that our list shows. Empty without ControlNet, or with one that is not known here: the panel must come up all the same."""
    try:
        return {PREFIX + name: _called(name, one) for name, one in sorted(_registered().items()) if any(kind in name for kind in _LINES)}
    except Exception:
        _log.exception("Reference Only: ControlNet's preprocessors can't be listed")
        return {}


def _registered() -> dict[str, Any]:
    """Looked for in what the host has imported, never imported from here: an import of ours could come before the extension's own."""
    shared = sys.modules.get("modules_forge.shared")
    if shared is not None:
        return dict(shared.supported_preprocessors)
    extension = sys.modules.get("scripts.supported_preprocessor")
    return {} if extension is None else dict(extension.Preprocessor.all_processors)


def _called(name: str, preprocessor: Any) -> Preprocess:
    def call(picture: Image.Image) -> Image.Image:
        try:
            # The sliders' own defaults, as ControlNet's panel gives them: some detectors can't do without.
            sliders = {slider: _default(preprocessor, slider) for slider in _SLIDERS}
            with torch.no_grad():
                out = preprocessor(input_image=np.array(picture.convert("RGB")), resolution=int(_default(preprocessor, "slider_resolution")), **sliders)
            return Image.fromarray(np.asarray(getattr(out, "value", out)).astype(np.uint8))
        except OSError as error:  # whatever library downloads: its "no connection" is one of these
            _log.exception("Reference Only: %s%s", PREFIX, name)
            raise Offline(f"ControlNet's preprocessor {name!r} needs a file that could not be loaded. Use it once while online, or take auto.") from error
        except Exception as error:
            _log.exception("Reference Only: %s%s", PREFIX, name)
            raise BadPicture(f"ControlNet's preprocessor {name!r} failed on this drawing ({error}). Take another one, or auto.") from error

    return call


def _default(preprocessor: Any, slider: str) -> Any:
    return getattr(preprocessor, slider).gradio_update_kwargs["value"]
