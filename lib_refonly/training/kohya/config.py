"""Settings and pictures as the two TOML files that sd-scripts reads. The same files also run on the command line as they stand."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.settings import from_mapping, specs
from lib_refonly.training.jobs.names import checked_file
from lib_refonly.training.kohya import options, toml_text
from lib_refonly.training.kohya.goals import GOALS, Goal
from lib_refonly.training.kohya.options import Option, Options
from lib_refonly.training.kohya.settings import KohyaSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG, DATASET, PROMPTS, OUT = "config.toml", "dataset.toml", "prompts.txt", "out"
ALSO: Mapping[str, tuple[str, ...]] = {"onepic": ("canvases",)}
"""Keys of ours that a goal's file has besides its script's, by the goal's kind."""
_WORDS = ("optimizer_args", "network_args")
"""Lists in sd-scripts, one line with spaces here."""
_TAKES_A_LIST = ("text_encoder_lr",)


@dataclass(frozen=True)
class Pictures:
    """One folder of pictures with their captions beside them. repeats: how often each is seen in an epoch. class_tokens: the caption where there is none.

    reg: pictures of the class in general, which keep it from being forgotten.
    """

    folder: Path
    repeats: int = 1
    class_tokens: str = ""
    reg: bool = False


def config(goal: Goal, settings: KohyaSettings, out: Path, known: Options | None = None) -> dict[str, Any]:
    """What config.toml holds. out: the folder of the results.

    Raises:
        BadSettings: a setting that the goal's script does not have was changed, or does not fit; what the goal needs is missing.
    """
    _needs(goal, settings)
    script = (known or options.recorded()).scripts[goal.script]
    values: dict[str, Any] = {"output_dir": str(out), "save_model_as": "safetensors", "save_state": True}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if field.name in script and not _left_away(value, script[field.name].default):
            values[field.name] = value.split() if field.name in _WORDS else [value] if field.name in _TAKES_A_LIST else value
        elif field.name not in script and value != field.default:
            values[field.name] = value  # for the check to refuse
    values |= goal.fixed
    options.check(goal.script, values, known, ALSO.get(goal.kind, ()))
    return values


def _left_away(value: Any, default: Any) -> bool:
    """Whether an option is better not written: sd-scripts has no value for it by default, and neither is one given here."""
    return (default is None and value in ("", 0, 0.0) and not isinstance(value, bool)) or (value is False and default is False) or value == ""


def _needs(goal: Goal, settings: KohyaSettings) -> None:
    checked_file(settings.output_name)
    needed = {"pretrained_model_name_or_path": "a checkpoint"}
    if goal.family == "flux":
        needed |= {"clip_l": "CLIP-L", "t5xxl": "T5-XXL", "ae": "the autoencoder"}
    if goal.kind == "embedding":
        needed |= {"token_string": "the new word"}
    missing = [what for name, what in needed.items() if not getattr(settings, name)]
    if missing:
        raise BadSettings(f"{goal.title} needs {', '.join(missing)}. Choose it first.")
    if goal.kind == "embedding" and not settings.token_string.isalnum():
        raise BadSettings(f"{settings.token_string[:40]!r} can't be a new word. Take letters and digits without spaces.")
    if goal.makes == "lora" and settings.cache_text_encoder_outputs and not (settings.network_train_unet_only or goal.fixed.get("network_train_unet_only")):
        raise BadSettings("Read captions once: the text encoders can't be trained then. Tick UNet alone, too.")


def dataset(pictures: Sequence[Pictures]) -> dict[str, Any]:
    """What dataset.toml holds; size, batch and the like are in config.toml.

    Raises:
        BadSettings: no pictures, or a folder that is not there.
    """
    if not pictures:
        raise BadSettings("There are no pictures to train on. Name a folder.")
    for one in pictures:
        if not one.folder.is_dir():
            raise BadSettings(f"{one.folder} is no folder. Choose the folder of the pictures again.")
    subsets = []
    for one in pictures:
        named = {"class_tokens": one.class_tokens} if one.class_tokens else {}
        subsets.append({"image_dir": str(one.folder.resolve()), "num_repeats": one.repeats, **named, **({"is_reg": True} if one.reg else {})})
    values = {"datasets": [{"subsets": subsets}]}
    options.check_dataset(values)
    return values


def write(job: Path, goal_name: str, settings: KohyaSettings, pictures: Sequence[Pictures] | Path, known: Options | None = None) -> None:
    """config.toml and dataset.toml into a job's folder; for ONE-PIC `pictures` is the folder of canvases, which has its own dataset.toml.

    Raises:
        BadSettings: see `config` and `dataset`. CannotWrite: the folder can't be written to.
    """
    goal = GOALS[goal_name]
    prompts = "\n".join(line.strip() for line in settings.sample_prompts.splitlines() if line.strip())
    if prompts:
        settings = dataclasses.replace(settings, sample_prompts=str(job / PROMPTS))
    values = config(goal, settings, job / OUT, known)
    if isinstance(pictures, Path):
        if goal.kind != "onepic":
            raise BadSettings(f"{goal.title} is not trained on canvases. Choose a folder of pictures.")
        values["canvases"] = str(pictures.resolve())
        described = read_toml(pictures / DATASET)
    elif goal.kind == "onepic":
        raise BadSettings("ONE-PIC is trained on canvases. Make them of your pictures first: studio.py data canvases")
    else:
        described = dataset(pictures)
    if prompts:
        write_atomically(job / PROMPTS, (prompts + "\n").encode())
    write_atomically(job / DATASET, toml_text.written(described).encode())
    write_atomically(job / CONFIG, toml_text.written(values).encode())


def read(job: Path, goal_name: str) -> KohyaSettings:
    """The settings of a job's config.toml, also one that was written by hand; keys that are no setting here are left out, but have to be sd-scripts'.

    Raises:
        BadSettings: no such file, no TOML, keys that the goal's script does not have, or values that do not fit.
    """
    settings = settings_of(options.flat(read_toml(job / CONFIG)), goal_name)
    if settings.sample_prompts == str(job / PROMPTS):
        prompts = (job / PROMPTS).read_text(encoding="utf-8").rstrip("\n") if (job / PROMPTS).is_file() else ""
        return dataclasses.replace(settings, sample_prompts=prompts)
    return settings


def settings_of(values: Mapping[str, Any], goal_name: str) -> KohyaSettings:
    """The settings among a TOML file's values, without its sections. Raises: BadSettings: as `read`."""
    goal = GOALS[goal_name]
    options.check(goal.script, values, also=ALSO.get(goal.kind, ()))
    hints = get_type_hints(KohyaSettings)
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name in hints:
            one = " ".join(value) if name in _WORDS else value[0] if name in _TAKES_A_LIST and isinstance(value, list) and value else value
            given[name] = float(one) if hints[name] is float and isinstance(one, int) else one
    return from_mapping(KohyaSettings, _absent(options.recorded().scripts[goal.script], hints) | given)


def _absent(script: Mapping[str, Option], hints: Mapping[str, Any]) -> dict[str, Any]:
    """What settings are when a file does not name them: sd-scripts' own defaults, not ours."""
    made, ours = {}, KohyaSettings()
    for name, spec in specs(KohyaSettings).items():
        if name in script:
            value = hints[name]() if script[name].default is None else script[name].default
            needed = value == "" != getattr(ours, name)
            outside = spec.minimum is not None and spec.maximum is not None and not spec.minimum <= value <= spec.maximum
            if not (needed or outside or (spec.choices is not None and value not in spec.choices)):
                made[name] = value
    return made


def read_toml(path: Path) -> dict[str, Any]:
    """Raises: BadSettings: no such file, or it is no TOML; the text says in which line."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSettings(f"{path.name} can't be read: {error.strerror or error}.") from error
    except ValueError as error:  # also what is no UTF-8
        raise BadSettings(f"{path.name} is no TOML: {error}.") from error
