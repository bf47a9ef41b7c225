"""The preprocessors of the ControlNet extension, where it is installed: its line detectors work on our drawings too."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from lib_refonly.refonly.host_plan import Preprocess

PREFIX = "ControlNet: "
_LINES = ("lineart", "canny", "scribble", "softedge", "mlsd", "hed", "pidinet", "teed")
_RESOLUTION = 512


def controlnet_preprocessors() -> dict[str, Preprocess]:
    """By the name that our list shows. Empty without the extension."""
    return {PREFIX + name: _called(found) for name, found in sorted(_all().items()) if any(kind in name for kind in _LINES)}


def _all() -> dict[str, Any]:
    shared = sys.modules.get("modules_forge.shared")
    if shared is not None:  # Forge's family: preprocessors are registered with the host
        return dict(getattr(shared, "supported_preprocessors", {}))
    return dict(_of_extension())


def _of_extension() -> Iterator[tuple[str, Any]]:
    module = sys.modules.get("scripts.supported_preprocessor") or sys.modules.get("scripts.preprocessor.preprocessor")
    kind = getattr(module, "Preprocessor", None)
    for one in kind.get_all_preprocessors() if kind is not None else ():
        yield one.name, one


def _called(preprocessor: Any) -> Preprocess:
    def call(picture: Image.Image) -> Image.Image:
        rgb = np.asarray(picture.convert("RGB"))
        out = preprocessor(rgb, _RESOLUTION) if "forge" in type(preprocessor).__module__ else preprocessor(input_image=rgb, resolution=_RESOLUTION)
        array = np.asarray(getattr(out, "value", out))
        return Image.fromarray(array.astype(np.uint8))

    return call
