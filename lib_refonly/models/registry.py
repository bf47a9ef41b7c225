"""Which RefOnly models there are: those that ship with the project, the painter's own folder, folders pointed to, and the one to download.

Listing reads configs and headers only. No torch.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lib_refonly.errors import BadModel
from lib_refonly.models.sniff import BLUEPRINT
from lib_refonly.models.weights import read_header, read_json

EMBEDDED = Path(__file__).resolve().parent.parent / "assets"
SEGMENTER = Path("segmentation") / "isnetis.onnx"
"""Where the segmentation model lies in a models folder."""
_NAME = re.compile(r"[\w][\w .()+\-]{0,127}")
_WINDOWS = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


@dataclass(frozen=True)
class ModelEntry:
    """One line of the model list. `memory`: bytes needed to colour a picture of the native size in float32 (half of it in float16).

    `path` is None for a model that is not installed. `download`: it can be fetched, or its fetching gone on with. `problem` says why one that is
    there cannot be used.
    """

    name: str
    title: str
    path: Path | None
    native_size: int
    memory: int
    download: bool = False
    problem: str = ""

    @property
    def installed(self) -> bool:
        return self.path is not None and not self.problem


RELEASED = ModelEntry("stable-diffusion-reference-only", "Reference Only 0.1.2 (the authors', 512 px, about 5 GB)", None, 512, 6_600_000_000, download=True)
"""Shown until it is installed. Its size: 867 M values of UNet and blueprint encoder, 304 M of image encoder, 84 M of VAE, in float32."""


def check_name(name: str) -> str:
    """A model name from outside (page, API, command line), unchanged.

    Raises:
        BadModel: it could mean anything but one plain folder or file in a models folder (separators, dots at an end, %, a drive, a device).
    """
    if not _NAME.fullmatch(name) or name.endswith((".", " ")) or ".." in name or _WINDOWS.fullmatch(name):
        raise BadModel(f"{name!r} is no model name. Choose one from the list.")
    return name


def user_folder() -> Path:
    """The painter's models folder: $REFONLY_MODELS_DIR, else `.refonly/models` in the home folder."""
    chosen = os.environ.get("REFONLY_MODELS_DIR")
    return Path(chosen) if chosen else Path.home() / ".refonly" / "models"


class ModelStore:
    """The models under `roots`; the first root that has a name wins. Without `roots`: the embedded models and `user_folder()`."""

    def __init__(self, roots: Iterable[Path] | None = None) -> None:
        self.roots = tuple(roots) if roots is not None else (EMBEDDED, user_folder())
        self._pointed: dict[str, Path] = {}

    def point_to(self, path: Path) -> ModelEntry:
        """Add a model folder or a converted file that lies anywhere. The painter at the machine chooses it, never a request from outside.

        Raises:
            BadModel: it is no RefOnly model.
        """
        path = path.expanduser().resolve()
        entry = _entry(path.stem if path.is_file() else path.name, path)
        if entry is None:
            raise BadModel(f"{path} is no RefOnly model. Choose the folder that holds unet, vae and image_encoder, or a converted .safetensors.")
        if entry.problem:
            raise BadModel(entry.problem)
        self._pointed[entry.name] = path
        return entry

    def entries(self) -> list[ModelEntry]:
        """Installed models by name, then what can be downloaded. Those that are there but damaged have a `problem`."""
        found: dict[str, ModelEntry] = {}
        for name, path in self._candidates():
            entry = None if name in found else _entry(name, path)
            if entry is not None:
                found[name] = entry
        released = found.get(RELEASED.name)
        if released is not None and released.problem:  # a download that was broken off: it can go on
            found[RELEASED.name] = replace(released, title=RELEASED.title, download=True)
        return sorted(found.values(), key=lambda entry: entry.name.lower()) + ([] if released else [RELEASED])

    def get(self, name: str) -> ModelEntry:
        """The installed model called `name`. It is looked up among those listed: a name is never made into a path.

        Raises:
            BadModel: no plain name, not installed, or damaged; the text says what there is.
        """
        check_name(name)
        entries = {entry.name: entry for entry in self.entries()}
        entry = entries.get(name)
        if entry is None:
            raise BadModel(f"There is no model {name!r}. There is: {', '.join(e.name for e in entries.values() if e.installed) or 'none'}.")
        if entry.problem:
            raise BadModel(entry.problem)
        if entry.path is None:
            raise BadModel(f"{entry.title} is not installed. Download it, or point to its folder.")
        return entry

    def segmenter(self) -> Path | None:
        """The file of the segmentation model, where it is installed."""
        files = (root / SEGMENTER for root in self.roots)
        return next((path for path in files if path.is_file() and path.resolve().is_relative_to(path.parents[1].resolve())), None)

    def _candidates(self) -> Iterator[tuple[str, Path]]:
        yield from self._pointed.items()
        for root in self.roots:
            inside = root.resolve()
            for path in sorted(root.iterdir()) if root.is_dir() else ():
                name = path.stem if path.suffix == ".safetensors" else path.name
                if _is_name(name) and path.resolve().is_relative_to(inside):  # a link that leads elsewhere is not followed
                    yield name, path


def _is_name(name: str) -> bool:
    try:
        return bool(check_name(name))
    except BadModel:
        return False


def _entry(name: str, path: Path) -> ModelEntry | None:
    """None: no RefOnly model at all."""
    if not _looks_right(path):
        return None
    try:
        return _read_entry(name, path)
    except (BadModel, OSError) as error:
        return ModelEntry(name, name, path, 0, 0, problem=f"{name}: {error}")


def _looks_right(path: Path) -> bool:
    if path.is_dir():
        return (path / "unet" / "config.json").is_file() and (path / "image_encoder").is_dir()
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    from lib_refonly.refonly.card import CHECKPOINT_CONFIGS

    try:
        return CHECKPOINT_CONFIGS in read_header(path).metadata
    except (BadModel, OSError):
        return False


def _read_entry(name: str, path: Path) -> ModelEntry:
    from lib_refonly.refonly.card import ModelCard, checkpoint_configs, estimate_memory, read_card

    if path.is_dir():
        unet, vae = read_json(path / "unet" / "config.json"), read_json(path / "vae" / "config.json")
        card, values = read_card(path, unet), _folder_values(path)
    else:
        header = read_header(path)
        configs = checkpoint_configs(path, header)
        vae, values = configs["vae"], header.values
        card = ModelCard.from_config(name, configs["card"])
    return ModelEntry(name, card.title or name, path, card.native_size, estimate_memory(values, vae, card.native_size))


def _folder_values(folder: Path) -> int:
    return sum(_values(folder / part) for part in ("unet", "vae", "image_encoder"))


def _values(folder: Path) -> int:
    """How many numbers a network folder holds."""
    for path in sorted(folder.glob("*.safetensors")):
        header = read_header(path)
        if folder.name == "unet" and not any(key.startswith(BLUEPRINT) for key in header.tensors):
            raise BadModel("its UNet has no blueprint encoder. This is no RefOnly model.")
        return header.values
    for path in sorted(folder.glob("*.bin")):
        return path.stat().st_size // (2 if _is_half(path) else 4)
    raise BadModel(f"{folder.name}/ has no weights.")


def _is_half(path: Path) -> bool:
    """Whether a pickle holds 16-bit numbers, told by the names in it: reading it properly would import torch."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = next(entry for entry in archive.infolist() if entry.filename.endswith("data.pkl"))
            with archive.open(names) as file:
                return re.search(rb"HalfStorage|BFloat16Storage", file.read(10_000_000)) is not None
    except (zipfile.BadZipFile, StopIteration, ValueError, NotImplementedError, RuntimeError):
        return False
