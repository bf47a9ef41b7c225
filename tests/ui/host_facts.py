"""What `host_page.py` and its tests agree on. It needs Pillow only."""

from __future__ import annotations

import hashlib

from PIL import Image

UNITS_SHOWN = {"txt2img": 4, "img2img": 2}
TABS = tuple(UNITS_SHOWN)
COLUMN = 640
"""Width of A1111's settings column on a usual screen, in pixels."""
EVIL = "<img src=x onerror=window.hurt=1>"
MODELS = [(f"Tiny {EVIL}", "tiny-refonly"), ("Adapter", "tiny-adapter")]
LATER = "Asked {} times"
"""The title of one more model, each time that the page asks for models anew. Before, none fits the checkpoint."""
PREPROCESSOR = f"scribble {EVIL}"
PASTED = {"enabled": True, "model": "not-installed", "strength": 0.35}
"""What "Read parameters" sets, besides unit 1's picture."""


def digest(picture: Image.Image | None) -> str | None:
    """Mode, size and pixels of a picture in one line."""
    return None if picture is None else f"{picture.mode} {picture.width}x{picture.height} {hashlib.sha256(picture.tobytes()).hexdigest()[:16]}"


def pasted_picture() -> Image.Image:
    return Image.new("RGB", (30, 20), "teal")
