"""The WebUI's own interrogators for the Train page: CLIP's (BLIP's sentence and what CLIP adds) and DeepBooru. Forge Neo has neither."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from PIL import Image

from lib_refonly.errors import BadModel
from lib_refonly.imaging.tagger import readable
from lib_refonly.training.captions import Captioner, Describe, unescaped

_GONE = "The WebUI's {} could not describe the picture; its console says why. {}Captions that were written are kept."
_MISSING = "Its model is not on this machine: connect to the internet once, or put it into {}. "


def interrogators() -> list[Captioner]:
    """Those that this WebUI has."""
    found = []
    if importlib.util.find_spec("modules.interrogate") is not None:
        found.append(Captioner("host/clip", "Sentences and words: CLIP interrogator of this WebUI", _clip, _clip_downloads()))
    if importlib.util.find_spec("modules.deepbooru") is not None:
        found.append(Captioner("host/deepbooru", "Tags: DeepBooru of this WebUI", _deepbooru, _deepbooru_downloads()))
    return found


def _clip() -> Describe:
    """`interrogate` swallows its errors and writes <error> at the end; ranks are left out of captions."""
    from modules import shared
    from modules.call_queue import queue_lock

    def describe(picture: Image.Image) -> str:
        with queue_lock:
            told = str(shared.interrogator.interrogate(_on_white(picture)))
        if "<error>" in told:
            raise BadModel(_GONE.format("CLIP interrogator", _MISSING.format(_models("BLIP")) if _clip_downloads() else ""))
        return unescaped(told)

    return describe


def _deepbooru() -> Describe:
    from modules import deepbooru
    from modules.call_queue import queue_lock

    def describe(picture: Image.Image) -> str:
        with queue_lock:
            try:
                deepbooru.model.start()
                try:
                    told = deepbooru.model.tag_multi(_on_white(picture), force_disable_ranks=True)
                finally:
                    deepbooru.model.stop()
            except Exception as error:  # whatever is wrong, the host's own page would show it just so
                missing = _MISSING.format(_models("torch_deepdanbooru")) if _deepbooru_downloads() else ""
                raise BadModel(_GONE.format("DeepBooru", missing)) from error
        return ", ".join(readable(unescaped(tag.strip())) for tag in str(told).split(","))

    return describe


def _on_white(picture: Image.Image) -> Image.Image:
    ground = Image.new("RGB", picture.size, "white")
    ground.paste(picture.convert("RGB"), mask=picture.convert("RGBA").getchannel("A"))
    return ground


def _clip_downloads() -> str:
    from modules import shared

    folder: Any = getattr(shared.cmd_opts, "clip_models_path", None)
    clip = Path(folder or os.path.expanduser("~/.cache/clip")) / "ViT-L-14.pt"
    wanted = ["BLIP, 0.9 GB"] * (not _has("BLIP", ".pth")) + ["CLIP ViT-L/14, 0.9 GB"] * (not clip.is_file())
    return " and ".join(wanted)


def _deepbooru_downloads() -> str:
    return "" if _has("torch_deepdanbooru", ".pt") else "DeepDanbooru, 0.6 GB"


def _has(folder: str, ending: str) -> bool:
    return any(path.suffix == ending for path in _models(folder).glob("*")) if _models(folder).is_dir() else False


def _models(folder: str) -> Path:
    from modules import paths

    return Path(paths.models_path) / folder
