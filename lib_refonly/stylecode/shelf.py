"""Which stylecode models there are, and the checkpoints that the studio paints with. Headers and configs only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lib_refonly.errors import BadModel
from lib_refonly.models.registry import EMBEDDED, user_folder
from lib_refonly.models.weights import read_json
from lib_refonly.stylecode.codes.known import RELEASED, TINY, CodeModel
from lib_refonly.stylecode.model import StylecodeInfo, describe

FOLDER = "stylecodes"
"""Of the painter's models folder: stylecode models, and SigLIP's file for the author's."""
SIGLIP = Path("siglip") / "model.safetensors"
_FILES = ("*.safetensors", "*.bin")


@dataclass(frozen=True)
class StyleFile:
    """An installed stylecode model."""

    path: Path
    info: StylecodeInfo


def files(folders: Iterable[Path] | None = None) -> list[StyleFile]:
    """The installed models; files that are something else, or damaged, are passed over. `folders`: default the embedded and the painter's own."""
    found: dict[str, StyleFile] = {}
    for path in _candidates((EMBEDDED, user_folder() / FOLDER) if folders is None else folders):
        info = _info(path, path.stat().st_mtime_ns)
        if info is not None:
            found.setdefault(info.code.name, StyleFile(path, info))
    return list(found.values())


@lru_cache(maxsize=64)
def _info(path: Path, stamp: int) -> StylecodeInfo | None:
    """None for anything else. Kept, because the list is asked for at each sign that a painter types."""
    try:
        return describe(path)
    except (BadModel, OSError):
        return None


def _candidates(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        for pattern in _FILES:
            for path in sorted(folder.glob(pattern)) if folder.is_dir() else ():
                if path.resolve().is_relative_to(folder.resolve()):  # a link that leads elsewhere is not followed
                    yield path


def known() -> tuple[CodeModel, ...]:
    """Whose codes can be read: those of the installed models, and of the public ones."""
    there = {file.info.code.name: file.info.code for file in files()}
    return tuple((there | {model.name: model for model in (RELEASED, TINY) if model.name not in there}).values())


def find(model: CodeModel | None = None) -> StyleFile:
    """The installed model of a code; without one, the first there is.

    Raises:
        BadModel: it is not installed.
    """
    there = files()
    for file in there:
        if model is None or file.info.code == model:
            return file
    named = f"The stylecode model {model} is not" if model else "No stylecode model is"
    there_is = f" (there is: {', '.join(str(file.info.code) for file in there)})" if there else ""
    raise BadModel(f"{named} installed{there_is}. Its file belongs into the folder {FOLDER} of your models folder.")


def siglip() -> Path | None:
    """SigLIP's vision model, which the author's release reads pictures with."""
    path = user_folder() / FOLDER / SIGLIP
    return path if path.is_file() else None


def base_for(info: StylecodeInfo, folders: Iterable[Path] | None = None) -> Path:
    """A text-to-image model in diffusers' folder layout whose UNet the stylecode model goes with.

    Raises:
        BadModel: none is installed.
    """
    for root in (EMBEDDED, user_folder()) if folders is None else folders:
        for folder in sorted(root.iterdir()) if root.is_dir() else ():
            if (folder / "text_encoder").is_dir() and (folder / "unet" / "config.json").is_file() and _fits(folder, info):
                return folder
    raise BadModel(f"No checkpoint that {info.code} goes with is installed. Put one in diffusers' folder layout into {user_folder()}.")


def _fits(folder: Path, info: StylecodeInfo) -> bool:
    try:
        config = read_json(folder / "unet" / "config.json")
    except BadModel:
        return False
    return all(config.get(key) == info.unet.get(key) for key in ("block_out_channels", "layers_per_block", "cross_attention_dim"))
