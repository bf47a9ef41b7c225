"""Are these keys and values what sd-scripts' parser knows? It ignores unknown keys in silence and takes values of any type from a TOML file.

`options.json` was recorded by `record.py` from the version that this project was tried with; another version can be asked for its own.
"""

from __future__ import annotations

import difflib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadSettings
from lib_refonly.training.kohya.goals import CHOSEN, ONEPIC
from lib_refonly.training.kohya.installed import Installed

RECORDED = Path(__file__).with_name("options.json")
_ROOT = Path(__file__).resolve().parents[3]
_ASK_SECONDS = 300

NOT_FROM_FILES = {
    "config_file": "one file is enough",
    "dataset_config": "it is given apart",
    "output_config": "it writes a file instead of training",
    "dataset_class": "it runs any code",
    "lr_scheduler_type": "it runs any code; take lr_scheduler",
    "resume": "a job goes on by itself where it was stopped",
    "logging_dir": "a job keeps its own log",
    "deepspeed": "several cards are set up by accelerate's own file",
    "huggingface_repo_id": "it sends the result away",
    "huggingface_token": "secrets don't belong into files that are shared",
    "huggingface_path_in_repo": "it sends the result away",
    "huggingface_repo_type": "it sends the result away",
    "huggingface_repo_visibility": "it sends the result away",
    "save_state_to_huggingface": "it sends the result away",
    "resume_from_huggingface": "it needs the network",
    "async_upload": "it sends the result away",
    "wandb_api_key": "secrets don't belong into files that are shared",
    "wandb_run_name": "it sends what is trained away",
    "log_tracker_config": "it is for trackers that send what is trained away",
}
"""Options that a settings file, which may be someone else's, must not set."""
_NETWORKS = ("networks.lora", "networks.lora_flux", "networks.dylora", "networks.oft", "networks.oft_flux", "lycoris.kohya", CHOSEN, ONEPIC)
_NO_PICKLES = ("pretrained_model_name_or_path", "vae", "clip_l", "t5xxl", "ae", "network_weights", "weights", "base_weights")
_PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")


@dataclass(frozen=True)
class Option:
    """One option of a parser. kind: "str", "int", "float" or "bool". many: it takes a list."""

    kind: str
    many: bool = False
    choices: tuple[Any, ...] = ()
    default: Any = None


@dataclass(frozen=True)
class Options:
    """What one sd-scripts knows: `scripts` by script and name, `dataset` by table ("general", "datasets", "subsets") and name."""

    version: str
    scripts: Mapping[str, Mapping[str, Option]]
    dataset: Mapping[str, Mapping[str, str]]
    dataset_embedding: Mapping[str, Mapping[str, str]]


@lru_cache(maxsize=1)
def recorded() -> Options:
    """The options of the version that this project was tried with."""
    return read(RECORDED.read_text(encoding="utf-8"))


def read(text: str) -> Options:
    """What `record.py` wrote.

    Raises:
        BadSettings: it is something else.
    """
    try:
        told = json.loads(text)
        scripts: dict[str, dict[str, Option]] = {}
        for row in told["options"]:
            for script in row["in"]:
                scripts.setdefault(script, {})[row["name"]] = _option(row)
        return Options(told["version"], scripts, told["dataset"], told["dataset_embedding"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadSettings(f"This is no list of sd-scripts' options ({type(error).__name__}).") from error


def _option(row: Mapping[str, Any]) -> Option:
    kind = {"int": "int", "float": "float", "int_or_float": "float", "bool": "bool"}.get(row["type"], "str")
    return Option(kind, row.get("nargs") in ("*", "+"), tuple(one for one in row.get("choices", ()) if one is not None), row.get("default"))


def of(trainer: Installed) -> Options:
    """The options of an installed sd-scripts, as they were asked for when it was installed. Raises: BadSettings: the list is gone or damaged."""
    try:
        return read(Path(trainer.options).read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSettings(f"{trainer.options} can't be read ({error.strerror}). Install {trainer.name} again.") from error


def ask(python: Path, folder: Path) -> str:
    """The options of another sd-scripts, from its own parsers, as `read` takes them. Takes some seconds, since they import torch.

    Raises:
        BadSettings: it does not start; the text has its last line.
    """
    command = [str(python), "-m", f"{__package__}.record", str(folder)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(path) for path in (folder, _ROOT)), "PYTHONIOENCODING": "utf-8", "CUDA_VISIBLE_DEVICES": ""}
    try:
        made = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", env=environment, timeout=_ASK_SECONDS, check=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadSettings(f"sd-scripts in {folder} does not answer: {error}. Install it again: python3 studio.py trainers install sd-scripts") from error
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip() or "it ended without a word").splitlines()[-1]
        raise BadSettings(f"sd-scripts in {folder} does not start: {reason}. Install it again: python3 studio.py trainers install sd-scripts") from error
    text = made.stdout[made.stdout.find("{\n") :]  # its libraries may print before
    read(text)
    return text


def check(script: str, values: Mapping[str, Any], options: Options | None = None, also: Sequence[str] = ()) -> None:
    """Before the start. `values`: of a TOML file; its tables are sections without a meaning, as in sd-scripts. `also`: keys that are known to us alone.

    Raises:
        BadSettings: every key that the script does not know, with the nearest one, and every value that does not fit.
    """
    known = (options or recorded()).scripts[script]
    wrong = [*_wrong(script, flat(values), known, also)]
    if wrong:
        raise BadSettings(" ".join(wrong))


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Sections dissolved, as sd-scripts does it."""
    made: dict[str, Any] = {}
    for name, value in values.items():
        made |= value if isinstance(value, Mapping) else {name: value}
    return made


def _wrong(script: str, values: Mapping[str, Any], known: Mapping[str, Option], also: Sequence[str]) -> Iterator[str]:
    for name, value in values.items():
        if name in NOT_FROM_FILES:
            yield f"{name} can't be set in a settings file: {NOT_FROM_FILES[name]}."
        elif name not in known:
            if name not in also:
                yield unknown(name, [*known, *also], f"{script}.py")
        elif not fits(value, known[name]):
            yield f"{name}: {_short(value)} is not {_wanted(known[name])}."
        else:
            yield from _unsafe(name, value)


def unknown(name: str, known: Sequence[str], where: str) -> str:
    """A sentence that names the nearest known key."""
    near = difflib.get_close_matches(name, known, 1, 0.6)
    return f"{where} has no {_short(name)}.{f' Is it {near[0]}?' if near else ''}"


def fits(value: Any, option: Option) -> bool:
    """Whether a TOML value is of the option's type and among its choices."""
    if option.many:
        # a single number is read as a list of one by the scripts that take several
        return (isinstance(value, list) and all(fits(one, Option(option.kind, choices=option.choices)) for one in value)) or (
            option.kind == "float" and fits(value, Option("float"))
        )
    kind = {"bool": bool, "int": int, "str": str, "float": (int, float)}[option.kind]
    if not isinstance(value, kind) or (isinstance(value, bool) and option.kind != "bool"):
        return False
    return not option.choices or value in option.choices


def _wanted(option: Option) -> str:
    if option.choices:
        return "one of " + ", ".join(map(str, option.choices))
    one = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a text"}[option.kind]
    return f"a list, each of which is {one}" if option.many else one


def _unsafe(name: str, value: Any) -> Iterator[str]:
    """Values that would run code: modules of any name, and pickled weights."""
    if name == "network_module" and value not in _NETWORKS:
        yield f"network_module: {_short(value)} is none that is known here ({', '.join(_NETWORKS)})."
    if name == "optimizer_type" and not value.replace("_", "").isalnum():
        yield f"optimizer_type: {_short(value)} would import any module. Give the plain name of an optimizer."
    if name == "log_with" and value != "tensorboard":
        yield "log_with: only tensorboard; the others send what is trained away."
    if name in _NO_PICKLES:
        for path in value if isinstance(value, list) else [value]:
            if path.lower().endswith(_PICKLES):
                yield f"{name}: {Path(path).name} is a format that can run code. Convert it to .safetensors."


def check_dataset(values: Mapping[str, Any], embedding: bool = False, options: Options | None = None) -> None:
    """The same for a dataset file of folders of pictures.

    Raises:
        BadSettings: unknown keys with the nearest one, wrong types, no `[[datasets]]`, or a folder that is not named.
    """
    options = options or recorded()
    known = options.dataset_embedding if embedding else options.dataset
    wrong = [*_wrong_table(values.get("general", {}), known["general"], "[general]")]
    wrong += [unknown(name, ("general", "datasets"), "The dataset file") for name in values if name not in ("general", "datasets")]
    datasets = values.get("datasets")
    if not isinstance(datasets, list) or not datasets:
        raise BadSettings(" ".join([*wrong, "The dataset file has no [[datasets]]."]))
    for dataset in datasets:
        wrong += _wrong_table(dataset, known["datasets"], "[[datasets]]")
        subsets = dataset.get("subsets") if isinstance(dataset, Mapping) else None
        for subset in subsets if isinstance(subsets, list) else []:
            wrong += _wrong_table(subset, known["subsets"], "[[datasets.subsets]]")
            if not (isinstance(subset, Mapping) and subset.get("image_dir")):
                wrong.append("[[datasets.subsets]]: image_dir is missing, the folder of the pictures.")
        if not subsets:
            wrong.append("[[datasets]] has no [[datasets.subsets]].")
    if wrong:
        raise BadSettings(" ".join(wrong))


def _wrong_table(table: Any, known: Mapping[str, str], where: str) -> Iterator[str]:
    if not isinstance(table, Mapping):
        yield f"{where} is no table."
        return
    kinds: dict[str, Any] = {"bool": bool, "int": int, "str": str, "float": (int, float), "list": (list, int, str), "dict": dict}
    for name, value in table.items():
        if name not in known:
            yield unknown(name, tuple(known), where)
        elif not isinstance(value, kinds.get(known[name], object)) or (isinstance(value, bool) and known[name] != "bool"):
            yield f"{where}: {name} can't be {_short(value)}."


def _short(value: Any) -> str:
    shown = value if isinstance(value, str) else repr(value)
    return repr(shown[:60]) if isinstance(value, str) else shown[:60]
