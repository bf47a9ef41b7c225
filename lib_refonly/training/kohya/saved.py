"""Settings that the Train page saved for sd-scripts: TOML as sd-scripts reads it, and in a comment before it what sd-scripts has no word for there.

Such a file may be anybody's. What it says is checked like what a page says; where the results go it does not decide.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from lib_refonly.errors import BadSettings
from lib_refonly.settings import specs
from lib_refonly.training.kohya import config, options, presets, toml_text
from lib_refonly.training.kohya.canvases import FILE as CANVASES
from lib_refonly.training.kohya.config import Pictures
from lib_refonly.training.kohya.goals import GOALS
from lib_refonly.training.kohya.settings import KohyaSettings
from lib_refonly.training.pictures import PictureFolder

MARK = "# refonly: "
_LARGEST = 1 << 20
_LONGEST_TEXT = 20_000
_PATHS = ("pretrained_model_name_or_path", "vae", "clip_l", "t5xxl", "ae", "network_weights", "tokenizer_cache_dir")
"""Settings that name files or folders of this machine."""
_NOT_SETTINGS = ("output_dir", "save_model_as", "save_state")
"""What `config.config` writes besides settings."""


@dataclass(frozen=True)
class Saved:
    """What a file holds. task: of `presets.TASKS`. pictures: their folder; word: the caption where there is none; both may be "". left_out: keys of
    sd-scripts that are no setting here, and are not used."""

    task: str
    goal: str
    settings: KohyaSettings
    pictures: str = ""
    word: str = ""
    left_out: tuple[str, ...] = ()


def written(saved: Saved) -> str:
    """The file. Raises: BadSettings: what the goal needs is missing, or does not fit."""
    about = {"task": saved.task, "goal": saved.goal, "pictures": saved.pictures, "word": saved.word, "sample_prompts": saved.settings.sample_prompts}
    values = config.config(GOALS[saved.goal], replace(saved.settings, sample_prompts=""), Path(config.OUT))
    return f"{MARK}{json.dumps(about)}\n{toml_text.written(values)}"


def is_saved(path: Path) -> bool:
    """Whether a file begins like one. One that can't be read does not."""
    try:
        with path.open("rb") as file:
            return file.read(len(MARK)) == MARK.encode()
    except OSError:
        return False


def read(path: Path, task: str = "", goal: str = "") -> Saved:
    """What a file holds. task, goal: what it is read as when it does not say them.

    Raises:
        BadSettings: it is no TOML, too large, says no goal, or has keys or values that the goal's script does not take.
    """
    try:
        data = path.read_bytes() if path.stat().st_size <= _LARGEST else b""
    except OSError as error:
        raise BadSettings(f"{path.name} can't be read: {error.strerror or error}.") from error
    if not data:
        raise BadSettings("This file is empty, or too large for settings.")
    about = _about(data)
    known = about["task"] in presets.TASKS and about["goal"] in GOALS
    task, goal = (about["task"], about["goal"]) if known else (task, goal)
    if goal not in GOALS:
        raise BadSettings("This file does not say what is to be trained. Choose that on the Train page, load the file there, and save it again.")
    values = options.flat(config.read_toml(path))
    settings = config.settings_of(values, goal)
    left_out = tuple(sorted(set(values) - set(vars(settings)) - set(GOALS[goal].fixed) - set(_NOT_SETTINGS) - set(config.ALSO.get(GOALS[goal].kind, ()))))
    prompts = about["sample_prompts"] if known else ""
    return Saved(task, goal, replace(settings, sample_prompts=prompts or settings.sample_prompts), about["pictures"], about["word"], left_out)


def _about(data: bytes) -> dict[str, str]:
    """The comment's texts; "" for what it does not say, or says wrongly."""
    line = data.split(b"\n", 1)[0].decode("utf-8", "replace")
    try:
        told = json.loads(line.removeprefix(MARK)) if line.startswith(MARK) else {}
    except (ValueError, RecursionError):
        told = {}
    told = told if isinstance(told, dict) else {}
    names = ("task", "goal", "pictures", "word", "sample_prompts")
    return {name: told[name][:_LONGEST_TEXT] if isinstance(told.get(name), str) else "" for name in names}


def here(saved: Saved, source: Path, pictures: str = "", checkpoint: str = "", steps: int | None = None) -> Saved:
    """For this machine: with the folders and files that were named on the command line, and every path whole. Paths in the file are relative to it.

    Raises:
        BadSettings: a checkpoint or another file that is not on this machine, or lies on another one; the text says what to name instead.
    """
    changed: dict[str, str | int] = {} if steps is None else {"max_train_steps": steps}
    for name in _PATHS:
        given = checkpoint if name == _PATHS[0] else ""
        value = given or str(getattr(saved.settings, name))
        if value:
            changed[name] = str(_there(value, Path.cwd() if given else source.parent, name))
    folder = str(_whole(pictures, Path.cwd())) if pictures else str(_whole(saved.pictures, source.parent)) if saved.pictures else ""
    return replace(saved, settings=replace(saved.settings, **changed), pictures=folder)


def _there(value: str, base: Path, name: str) -> Path:
    path, how = _whole(value, base), "Name yours with --checkpoint FILE." if name == _PATHS[0] else f"Correct {name} in the file, or take that line out."
    if not path.exists():
        raise BadSettings(f"{value} is not on this machine ({name}). {how}")
    return path


def _whole(value: str, base: Path) -> Path:
    """Raises: BadSettings: a path on another machine: merely looking there may send the painter's password hash."""
    if value.replace("\\", "/").startswith("//"):
        raise BadSettings(f"{value} is on another machine. Copy it to this one.")
    return Path(os.path.abspath(base / Path(value).expanduser()))  # without .. in it: it is shown


def paths(settings: KohyaSettings) -> list[tuple[str, str]]:
    """(label, path) of what a training reads besides its pictures."""
    labels = specs(KohyaSettings)
    return [(labels[name].label, str(getattr(settings, name))) for name in _PATHS if getattr(settings, name)]


def pictures_for(goal: str, folder: str, word: str) -> list[Pictures] | Path:
    """What a training is given to learn from: a folder of pictures, or ONE-PIC's folder of canvases.

    Raises:
        BadSettings: no folder, no pictures in it, or none of canvases.
    """
    found = PictureFolder(folder)
    if GOALS[goal].kind == "onepic":
        if not (found.path / CANVASES).is_file():
            raise BadSettings("ONE-PIC is trained on canvases. Make them of your pictures first: on the Train page in step 2, or by studio.py data canvases.")
        return found.path
    if not found.names():
        raise BadSettings(f"There are no pictures in {found.path}. Add some (PNG, JPEG, WebP), then start again.")
    return [Pictures(found.path, class_tokens=" ".join(word.split()))]
