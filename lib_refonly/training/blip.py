"""Captions in sentences by BLIP (Salesforce's), through transformers, from a folder on this machine. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lib_refonly.errors import BadModel, BadSettings
from lib_refonly.models.weights import read_header, read_json

_WEIGHTS = "model.safetensors"
_NEEDED = f"It has to hold config.json, {_WEIGHTS} and the tokenizer's files, as blip-image-captioning-large on huggingface.co does."
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's, which BLIP uses where its folder names no others."""
_LONGEST = 40
"""Tokens of a caption."""


class Blip:
    """One model, read at once.

    Raises:
        BadSettings: no whole path, or no folder. BadModel: it holds no BLIP model for captions, or transformers is missing.
    """

    def __init__(self, folder: str) -> None:
        path = Path(folder.strip().strip('"')).expanduser()
        if not folder.strip() or not path.is_absolute() or not path.is_dir():
            raise BadSettings(f"Give the whole path of the folder of a BLIP model. {_NEEDED}")
        if read_json(path / "config.json").get("model_type") != "blip" or not (path / _WEIGHTS).is_file():
            raise BadModel(f"{path.name} holds no BLIP model that can be used. {_NEEDED}")
        read_header(path / _WEIGHTS)  # a WebUI may rename a damaged file when it is loaded: it is found out before
        self._model, self._tokenizer = _loaded(path)
        shape = read_json(path / "preprocessor_config.json") if (path / "preprocessor_config.json").is_file() else {}
        self._mean, self._std = (np.array(shape.get(name, usual), np.float32) for name, usual in (("image_mean", _MEAN), ("image_std", _STD)))

    def caption(self, picture: Image.Image) -> str:
        """One sentence. Transparency counts as white."""
        import torch

        side = self._model.config.vision_config.image_size
        on_white = Image.new("RGB", picture.size, "white")
        on_white.paste(picture.convert("RGB"), mask=picture.convert("RGBA").getchannel("A"))
        pixels = np.asarray(on_white.resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
        given = torch.from_numpy(((pixels - self._mean) / self._std).transpose(2, 0, 1)[None].astype(np.float32))
        with torch.no_grad():
            told = self._model.generate(pixel_values=given.to(self._model.device), max_new_tokens=_LONGEST)
        begin = self._model.config.text_config.bos_token_id  # which the tokenizer does not always know for a special one
        return str(self._tokenizer.decode([one for one in told[0].tolist() if one != begin], skip_special_tokens=True)).strip()


def _loaded(path: Path) -> tuple[Any, Any]:
    try:
        import torch
        from transformers import AutoTokenizer, BlipForConditionalGeneration
    except ImportError as error:
        raise BadModel("BLIP needs the package transformers, which is not installed here.") from error
    try:
        made: Any = BlipForConditionalGeneration.from_pretrained(path, use_safetensors=True, output_loading_info=True, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise BadModel(f"{path.name} can't be loaded as a BLIP model. {_NEEDED}") from error
    model, told = made
    if told["missing_keys"]:
        raise BadModel(f"{path.name} is no whole BLIP model for captions: {len(told['missing_keys'])} of its weights are missing. {_NEEDED}")
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer
