"""What can be chosen in the panel, what of it fits the loaded checkpoint, and the one model that is kept in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lib_refonly.adapters import ip_adapter, refonly_adapter, vision
from lib_refonly.errors import BadModel
from lib_refonly.models.registry import ModelStore
from lib_refonly.models.sniff import ModelKind, sniff
from lib_refonly.models.weights import read_header
from lib_refonly.refonly.hosted import HostedParts, load_hosted, read_hosted
from lib_refonly.refonly.image_encoder import ImagePromptSpec
from lib_refonly.webui.host import Checkpoint
from lib_refonly.webui.loaded import AdapterModel, FullModel, Loaded

FULL, IP_ADAPTER, ADAPTER = "full", "ip-adapter", "adapter"
_SMALLEST_SD = 512
"""Channels inside Stable Diffusion's VAE; the embedded one is narrower."""
_EXAMPLE = "It belongs to the small example checkpoint, which the RefOnly tab installs in AUTOMATIC1111's WebUI."
_FILES = ("*.safetensors", "*.bin", "*.pth", "*.pt")


@dataclass(frozen=True)
class Choice:
    """One line of the panel's model list. `stamp` changes when the file does."""

    name: str
    title: str
    path: Path
    stamp: float
    kind: str = FULL


@dataclass(frozen=True)
class Shelf:
    """Where models lie: RefOnly models in `store`; adapters and image encoders as files in folders, the hosts' ControlNet ones among them."""

    store: ModelStore
    adapters: tuple[Path, ...] = ()
    encoders: tuple[Path, ...] = ()

    def choices(self) -> list[Choice]:
        full = [Choice(e.name, e.title, e.path, _stamp(e.path)) for e in self.store.entries() if e.installed and e.path]
        return full + [choice for path in _files(self.adapters) if (choice := _adapter(path)) is not None]

    def encoder_for(self, features: int, reads: str) -> Path | None:
        """An image encoder that gives numbers of that width."""
        for path in _files(self.encoders):
            found = _widths(path, _stamp(path))
            if found is not None and found[0 if reads == "embeds" else 1] == features:
                return path
        return None


def _files(folders: tuple[Path, ...]) -> Iterator[Path]:
    for folder in folders:
        inside = folder.resolve()
        for pattern in _FILES:
            for path in sorted(folder.rglob(pattern)) if folder.is_dir() else ():
                if path.resolve().is_relative_to(inside):  # a link that leads elsewhere is not followed
                    yield path


def _stamp(path: Path) -> float:
    return max(file.stat().st_mtime for file in ([path, *path.glob("*/*")] if path.is_dir() else [path]))


def _adapter(path: Path) -> Choice | None:
    kind = _kind(path, _stamp(path))
    if kind is None:
        return None
    title = refonly_adapter.describe(path).title if kind == ADAPTER else ""
    return Choice(path.stem, title or path.stem, path, _stamp(path), kind)


@lru_cache(maxsize=256)
def _kind(path: Path, stamp: float) -> str | None:
    try:
        if refonly_adapter.METADATA in read_header(path).metadata:
            refonly_adapter.describe(path)
            return ADAPTER
        return IP_ADAPTER if sniff(path) is ModelKind.IP_ADAPTER else None
    except (BadModel, OSError):
        return None


@lru_cache(maxsize=256)
def _widths(path: Path, stamp: float) -> tuple[int, int] | None:
    return vision.widths(path)


def problem(shelf: Shelf, choice: Choice, checkpoint: Checkpoint) -> str:
    """Why a model can't be used with the loaded checkpoint, in a sentence; "" when it can."""
    try:
        if choice.kind == FULL:
            return _full_problem(choice, checkpoint)
        sites = checkpoint.anatomy().sites
        if choice.kind == ADAPTER:
            own = refonly_adapter.describe(choice.path)
            fits = own.base.cross_attention == sites[0].width and set(own.sites) == {site.name for site in sites}
            return "" if fits else f"{choice.title} is made for another kind of checkpoint than {checkpoint.name}."
        info = ip_adapter.describe(choice.path)
        if (info.width, info.cross_attentions) != (sites[0].width, len(sites)):
            return f"{choice.title} is made for {info.made_for}, which {checkpoint.name} is not."
        return _no_encoder(shelf, choice, info)
    except BadModel as error:
        return str(error)
    return ""


def _full_problem(choice: Choice, checkpoint: Checkpoint) -> str:
    parts = _parts(choice.path, choice.stamp)
    if checkpoint.latents is None:
        return f"{choice.title} needs a Stable Diffusion 1.x or 2.x checkpoint; {checkpoint.name} has another kind of VAE."
    if checkpoint.latents != parts.latents:
        small = parts.latents.ends[1][0] < _SMALLEST_SD
        wanted = _EXAMPLE if small else "Load any Stable Diffusion 1.x or 2.x checkpoint."
        return f"{choice.title} does not fit {checkpoint.name}: their VAEs make different latents. {wanted}"
    checkpoint.anatomy()
    return ""


def about(shelf: Shelf, choice: Choice) -> str:
    """An adapter in a painter's words: what it goes with, and what it lacks.

    Raises:
        BadModel: its file changed since it was listed.
    """
    if choice.kind == ADAPTER:
        return "A Reference Only adapter: it follows a reference and a drawing."
    info = ip_adapter.describe(choice.path)
    return f"For {info.made_for}: it follows a reference. {_no_encoder(shelf, choice, info)}".strip()


def _no_encoder(shelf: Shelf, choice: Choice, info: ip_adapter.IpAdapterInfo) -> str:
    if shelf.encoder_for(info.features, info.reads) is not None:
        return ""
    wide = f"{choice.title} reads an image encoder that is not installed ({info.features} numbers wide)."
    return f"{wide} The RefOnly tab downloads adapters with theirs; or put it into {shelf.encoders[0]}."


def fitting(shelf: Shelf, checkpoint: Checkpoint) -> Iterator[Choice]:
    return (choice for choice in shelf.choices() if not problem(shelf, choice, checkpoint))


def find(shelf: Shelf, name: str, checkpoint: Checkpoint) -> Choice:
    """The model called `name` ("" = the first that fits), which fits the loaded checkpoint.

    Raises:
        BadModel: there is none, or it does not fit; the text says why.
    """
    every = shelf.choices()
    if not name:
        first = next((choice for choice in every if not problem(shelf, choice, checkpoint)), None)
        if first is None:
            raise BadModel(problem(shelf, every[0], checkpoint) if every else "No Reference Only model is installed. The RefOnly tab says where to get one.")
        return first
    chosen = next((choice for choice in every if choice.name == name), None)
    if chosen is None:
        raise BadModel(f"There is no model {name[:80]!r}. There is: {', '.join(choice.name for choice in every) or 'none'}.")
    why = problem(shelf, chosen, checkpoint)
    if why:
        raise BadModel(why)
    return chosen


@lru_cache(maxsize=32)
def _parts(path: Path, stamp: float) -> HostedParts:
    return read_hosted(path)


_kept: tuple[tuple[object, ...], Loaded] | None = None


def loaded(shelf: Shelf, choice: Choice, checkpoint: Checkpoint) -> Loaded:
    """In memory; the one that was used last is kept there.

    Raises:
        BadModel: damaged.
    """
    global _kept
    key = (choice, type(checkpoint.unet), checkpoint.dtype, None if choice.kind == FULL else [site.name for site in checkpoint.anatomy().sites])
    if _kept is None or _kept[0] != key:
        _kept = None  # before the next one is read: two would be in memory at once
        _kept = key, _load(shelf, choice, checkpoint)
    return _kept[1]


def _load(shelf: Shelf, choice: Choice, checkpoint: Checkpoint) -> Loaded:
    if choice.kind == FULL:
        return FullModel(load_hosted(_parts(choice.path, choice.stamp), type(checkpoint.unet), checkpoint.dtype))
    sites = checkpoint.anatomy().sites
    if choice.kind == ADAPTER:
        found = refonly_adapter.read_adapter(choice.path)
        found.check(checkpoint.anatomy())
        return AdapterModel(found.adapter, found.image_encoder, found.prompt_spec)
    info = ip_adapter.describe(choice.path)
    path = shelf.encoder_for(info.features, info.reads)
    if path is None:
        raise BadModel(problem(shelf, choice, checkpoint))
    return AdapterModel(ip_adapter.read_ip_adapter(choice.path, sites), vision.read_encoder(path), ImagePromptSpec())
