"""The painter's own RefOnly and stylecode models: what can be set, what there is to start from, and the recipe that it comes to. Headers and configs only."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_refonly.adapters import refonly_adapter
from lib_refonly.errors import BadModel, BadSettings
from lib_refonly.models.registry import EMBEDDED, ModelStore, user_folder
from lib_refonly.models.weights import read_json
from lib_refonly.onepic.shelf import bases
from lib_refonly.settings import check, setting
from lib_refonly.stylecode import shelf
from lib_refonly.training.jobs.names import slug

WHOLE, ADAPTER = "The whole model", "An adapter"
ADAPTERS = "adapters"
"""Of the painter's models folder."""
_LONG = 10**7
_LARGE = 256
"""First width of a UNet from which it is a full-size one, which learns at far lower rates."""
Titled = list[tuple[str, str]]
Tables = dict[str, Any]


@dataclass(frozen=True)
class OwnModel:
    """What every training has. The fields' Specs say what they mean.

    Raises:
        BadSettings: a value outside its range.
    """

    title: str = setting("", "Title of the model", "What lists of models show. Empty takes the title of the job.")
    steps: int = setting(1000, "Steps", "How long it learns. Look at the sample sheets, and stop when they are good.", minimum=1, maximum=_LONG, step=1)
    batch: int = setting(8, "Batch", "Pairs or pictures a step. Less needs less memory.", minimum=1, maximum=256, step=1)
    size: int = setting(256, "Size", "Pixels of a side. Half the size is about four times as fast, and shows less.", minimum=64, maximum=1024, step=64)
    lr: float = setting(0.0, "Learning rate", "How much each step changes. 0 takes what suits the model.", minimum=0.0, maximum=0.1)
    save_every: int = setting(100, "Steps between two savings", "A crash costs at most so many steps.", minimum=1, maximum=_LONG, step=1)
    sample_every: int = setting(250, "Steps between two sample sheets", "On a processor a sheet takes as long as some steps.", minimum=1, maximum=_LONG, step=1)
    train_encoder: bool = setting(False, "Train what reads the pictures, too", "Of adapters and stylecode models. It needs many different pictures.")

    def __post_init__(self) -> None:
        check(self)
        if self.size % 64:
            raise BadSettings(f"Size: {self.size} is no multiple of 64.")


@dataclass(frozen=True)
class OwnRefOnly(OwnModel):
    """A RefOnly model or an adapter, of a folder of pictures that show the same characters several times."""

    start: str = setting("tiny-refonly", "Start from", "It is gone on with; it stays as it is itself.")
    form: str = setting(WHOLE, "What is made", "An adapter goes onto a text-to-image model, and still reads its prompt.", choices=(WHOLE, ADAPTER))
    cut: bool = setting(True, "Cut the figure out", "By the segmentation model (ISNet), where it is installed. Pictures with transparency are cut out anyway.")
    low: float = setting(0.90, "Least similarity of a pair", "Lower finds more pairs, and more wrong ones.", minimum=0.0, maximum=1.0, step=0.01)
    high: float = setting(0.98, "Greatest similarity of a pair", "What is more alike is the same twice.", minimum=0.0, maximum=1.0, step=0.01)
    per_picture: int = setting(4, "Partners of a picture", "At most so many pairs with the most similar pictures.", minimum=1, maximum=50, step=1)
    smallest: int = setting(128, "Smallest picture", "Pixels; pictures with a shorter side are left out.", minimum=8, maximum=1024, step=8)


@dataclass(frozen=True)
class OwnStyle(OwnModel):
    """A stylecode model, of a folder with a subfolder for each style."""

    start: str = setting("tiny-stylecode-1", "Start from", "It is gone on with; it stays as it is itself. Its codes are others than the new model's.")


def refonly_starts() -> Titled:
    """(title, name) of what a RefOnly model or an adapter can start from. Converted files are left out: trainers read folders."""
    models = [(entry.title, entry.name) for entry in ModelStore().entries() if entry.installed and entry.path is not None and entry.path.is_dir()]
    return models + [(f"{info.title or info.name} (adapter)", f"{ADAPTERS}/{info.name}") for info in _adapters().values()]


def style_starts() -> Titled:
    """(title, name) of what a stylecode model can start from; the author's own has another vision model, and is left out."""
    return [(str(one.info.code), one.info.code.name) for one in shelf.files() if one.info.vision is not None]


def _adapters() -> dict[Path, refonly_adapter.AdapterInfo]:
    found: dict[Path, refonly_adapter.AdapterInfo] = {}
    for folder in (EMBEDDED, user_folder() / ADAPTERS):
        for path in sorted(folder.glob("*.safetensors")) if folder.is_dir() else ():
            try:
                if path.resolve().is_relative_to(folder.resolve()):
                    found[path] = refonly_adapter.describe(path)
            except (BadModel, OSError):  # something else that lies there
                continue
    return found


def recipe(settings: OwnModel, pictures: Path, folder: Path, only: bool = False) -> Tables:
    """The tables of a training file, for `studio.py dataset train`, whose run is in `folder`. only: make the set, train nothing.

    Raises:
        BadSettings: what is chosen does not go together. BadModel: the model to start from is not there, or can't be trained on.
    """
    if isinstance(settings, OwnRefOnly):
        kind, run, rate, own = _refonly(settings)
        pairs = {"low": settings.low, "high": settings.high, "per_picture": settings.per_picture}
        prepare = pairs | {"cut": settings.cut, "smallest": settings.smallest, "side": max(1024, settings.smallest)}
    elif isinstance(settings, OwnStyle):
        (kind, run, rate, own), prepare = _style(settings), {}
    else:
        raise TypeError(settings)
    lr, steps = settings.lr or rate, settings.steps
    return {
        "run": {"kind": kind, "folder": str(folder), "data": str(folder / "data"), **{name: str(path) for name, path in run.items()}},
        "prepare": {"pictures": str(pictures), "only": only, **prepare},
        kind: {"size": settings.size, "title": settings.title, **own},
        "loop": {
            "steps": steps, "batch": settings.batch, "lr": lr, "lr_end": lr / 20, "warmup": min(100, steps // 10), "log_every": min(20, max(1, steps // 50)),
            "save_every": settings.save_every, "sample_every": settings.sample_every,
        },
    }  # fmt: skip


_Parts = tuple[str, Mapping[str, Path], float, Mapping[str, Any]]
"""Kind, folders and files of [run], learning rate that suits, and what else is in the kind's table."""


def _refonly(settings: OwnRefOnly) -> _Parts:
    if settings.low > settings.high:
        raise BadSettings("The least similarity of a pair lies above the greatest. Lower it, or raise the other.")
    if settings.start.startswith(f"{ADAPTERS}/"):
        if settings.form == WHOLE:
            raise BadSettings("You start from an adapter, which can't become a whole model. Choose that an adapter is made, or start from a model.")
        path, info = _adapter(settings.start.partition("/")[2])
        base = _base(lambda unet: unet.get("cross_attention_dim") == info.base.cross_attention, info.name)
        return "adapter", {"base": base, "start": path}, _rate(base, 1e-3, 1e-4), {"train_encoder": settings.train_encoder}
    start = _folder(settings.start)
    if settings.form == WHOLE:
        return "refonly", {"vae": start / "vae", "start": start}, _rate(start, 1e-4, 5e-6), {}
    own = read_json(start / "unet" / "config.json")
    same = ("block_out_channels", "layers_per_block", "cross_attention_dim")
    base = _base(lambda unet: all(unet.get(key) == own.get(key) for key in same), settings.start)
    return "adapter", {"base": base, "start": start}, _rate(base, 2e-3, 1e-4), {"train_encoder": settings.train_encoder}


def _folder(name: str) -> Path:
    """A RefOnly model's. Raises: BadModel: it is not there, a single file, or learnt something else than what is trained here."""
    path = ModelStore().get(name).path
    assert path is not None
    if not path.is_dir():
        raise BadModel(f"{name} is a single file, which can't be trained on. Start from a model that is a folder.")
    scheduler = read_json(path / "scheduler" / "scheduler_config.json")
    told = (scheduler.get("prediction_type", "epsilon"), scheduler.get("beta_schedule"))
    if told != ("v_prediction", "scaled_linear"):
        raise BadModel(f"{name} predicts otherwise ({told[0]}, {told[1]}) than what is trained here (v_prediction, scaled_linear). Start from another model.")
    return path


def _adapter(name: str) -> tuple[Path, refonly_adapter.AdapterInfo]:
    for path, info in _adapters().items():
        if info.name == name:
            return path, info
    raise BadModel(f"The adapter {name} is not installed. Choose another one to start from.")


def _base(fits: Any, name: str) -> Path:
    for folder in bases().values():
        if fits(read_json(folder / "unet" / "config.json")):
            return folder
    raise BadModel(f"There is no text-to-image model that {name} goes with. Put one in diffusers' folder layout into {user_folder()}.")


def _style(settings: OwnStyle) -> _Parts:
    file = next((one for one in shelf.files() if one.info.code.name == settings.start and one.info.vision is not None), None)
    if file is None:
        raise BadModel(f"The stylecode model {settings.start} is not installed. Choose another one to start from.")
    base = shelf.base_for(file.info)
    own = {
        **_shapes(file, settings), "train_encoder": settings.train_encoder, "offset": 0.2, "noisy": 0.7,
        "native_size": max(file.info.native_size, settings.size),
        "name": f"{slug(settings.title)}-{secrets.token_hex(4)}",
    }  # fmt: skip
    return "stylecode", {"base": base, "start": file.path}, _rate(base, *((4e-4, 1e-5) if settings.train_encoder else (1e-3, 2e-5))), own


def _shapes(file: shelf.StyleFile, settings: OwnStyle) -> dict[str, int]:
    """What has to be built for its weights. Raises: BadModel: this trainer builds others. BadSettings: the size does not go with it."""
    from lib_refonly.stylecode.autoencoder import AutoencoderShape
    from lib_refonly.stylecode.model import Parts, autoencoder_shape, vision_shape
    from lib_refonly.stylecode.vision import VisionShape

    parts, told = Parts(file.path, file.info), file.info.vision or {}
    try:
        vision = vision_shape(parts.vision.infos, told["heads"], told["layers"])
        own = autoencoder_shape(parts.autoencoder.infos, file.info.heads)
    except (KeyError, ValueError) as error:
        raise BadModel(f"{file.path.name} is damaged ({error}).") from error
    if settings.size % vision.size or (settings.size // vision.size).bit_count() != 1:
        raise BadSettings(f"Size: {file.info.code} reads pictures of {vision.size} px. Choose {vision.size}, {2 * vision.size} or {4 * vision.size}.")
    width = vision.width
    built = AutoencoderShape(width, own["output_dim"], own["d_model"], decoder_ff=own["decoder_ff"])
    if vision != VisionShape(width, 4 * width, vision.layers, width // 32, vision.size) or AutoencoderShape(**own) != built:
        raise BadModel(f"{file.path.name} has another shape than what is trained here. Start from another model.")
    return {"vision_size": vision.size, "vision_width": width, "vision_layers": vision.layers, "d_model": own["d_model"], "decoder_ff": own["decoder_ff"]}


def _rate(folder: Path, small: float, large: float) -> float:
    """The learning rate for a model of that size."""
    channels = read_json(folder / "unet" / "config.json").get("block_out_channels") or [0]
    return large if channels[0] >= _LARGE else small
