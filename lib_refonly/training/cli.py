"""`studio.py train CONFIG.toml`: one file says what is learnt, from what, and how long."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDERS: dict[str, tuple[set[str], set[str]]] = {
    "vae": (set(), set()),
    "base": ({"vae"}, {"start", "panels"}),
    "refonly": ({"vae"}, {"start", "heldout"}),
    "adapter": ({"base", "start"}, {"heldout"}),
    "stylecode": ({"base"}, {"start", "heldout"}),
    "onepic": ({"base"}, {"start", "heldout"}),
    "lora": ({"base"}, set()),
    "embedding": ({"base"}, set()),
}
"""What is trained -> the folders (or models) that [run] must name and those that it may, besides folder and data."""


def main(config: Path, minutes: float | None = None, steps: int | None = None, export_only: bool = False, folder: Path | None = None) -> int:
    """Train (or go on training) what `config` describes, then export. Returns the exit code.

    folder: train there instead of where `config` says. export_only: write the averaged weights of the last checkpoint and train nothing; the training
    itself may be running.

    Raises:
        BadSettings: a missing table, an unknown key or an unknown kind of training.
    """
    tables = read(config)
    overrides = {k: v for k, v in (("minutes", minutes), ("steps", steps)) if v is not None}
    import torch

    from lib_refonly.training.loop import LoopConfig, Run

    run_table = dict(tables.get("run", {}))
    place, data = (Path(run_table.pop(k)) for k in ("folder", "data"))
    kind = run_table.pop("kind")
    loop = build(LoopConfig, dict(tables.get("loop", {})) | overrides, "loop")
    if "prepare" in tables and not export_only and not _prepared(tables, folder or place, data, run_table):
        return 0
    torch.manual_seed(loop.seed)
    run = Run(make_task(kind, tables.get(kind, {}), data, run_table), loop, folder or place)
    if export_only:
        run.load()
        run.export()
    else:
        run.train(export=True)
    print(f"{kind}: step {run.step} of {loop.steps}; averaged weights in {run.folder / 'export'}")
    return 0


def _prepared(tables: dict[str, Any], folder: Path, data: Path, run: dict[str, Any]) -> bool:
    """See `own.prepare`. What it holds out goes into `run`."""
    from lib_refonly.training.own.pairs import HELDOUT
    from lib_refonly.training.own.prepare import Prepare, prepare

    kind, size = tables["run"]["kind"], tables.get(tables["run"]["kind"], {}).get("size")
    if not isinstance(size, int):
        raise BadSettings(f"[prepare] needs a size in the table [{kind}].")
    vae = Path(run["vae"]) if "vae" in run else Path(run["base"]) / "vae"
    if not prepare(build(Prepare, tables["prepare"], "prepare"), kind, size, vae, folder, data):
        return False
    if (data / HELDOUT).is_dir():
        run.setdefault("heldout", data / HELDOUT)
    return True


def read(config: Path) -> dict[str, Any]:
    """The tables of a training file.

    Raises:
        BadSettings: no such file, no TOML, or the [run] table lacks kind, folder or data.
    """
    try:
        tables = tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSettings(f"{config}: cannot be read ({error.strerror}).") from error
    except tomllib.TOMLDecodeError as error:
        raise BadSettings(f"{config}: is no valid TOML: {error}.") from error
    run = tables.get("run", {})
    missing = [k for k in ("kind", "folder", "data") if k not in run]
    if missing:
        raise BadSettings(f"{config}: the table [run] lacks {', '.join(missing)}.")
    if run["kind"] not in FOLDERS:
        raise BadSettings(f"{config}: the kind {run['kind']!r} is none of {', '.join(FOLDERS)}.")
    needed, optional = FOLDERS[run["kind"]]
    missing = sorted(needed - set(run))
    unknown = sorted(set(run) - needed - optional - {"kind", "folder", "data"})
    if missing or unknown:
        wrong = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"does not know {', '.join(unknown)}"] * bool(unknown)
        raise BadSettings(f"{config}: the table [run] {' and '.join(wrong)}.")
    return tables


def build(cls: type, table: dict[str, Any], name: str) -> Any:
    """A config dataclass from a TOML table; unknown keys are refused by name."""
    fields = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(set(table) - fields)
    if unknown:
        raise BadSettings(f"[{name}] does not know {', '.join(unknown)}. It knows {', '.join(sorted(fields))}.")
    missing = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING and f.name not in table]
    if missing:
        raise BadSettings(f"[{name}] lacks {', '.join(missing)}.")
    return cls(**{k: _hashable(v) for k, v in table.items()})


def _hashable(value: Any) -> Any:
    return tuple(_hashable(one) for one in value) if isinstance(value, list) else value


def make_task(kind: str, table: dict[str, Any], data: Path, run: dict[str, Any]) -> Any:
    """The task of one of the kinds in FOLDERS. `run` holds what is left of [run]: folders of the models to start from."""
    if kind == "vae":
        from lib_refonly.training.vae import VaeConfig, VaeTask

        return VaeTask(build(VaeConfig, table, kind), data)
    folders = {name: Path(value) for name, value in run.items()}
    if kind == "base":
        from lib_refonly.training.base import BaseConfig, BaseTask

        return BaseTask(build(BaseConfig, table, kind), data, **folders)
    if kind == "adapter":
        from lib_refonly.training.adapter import AdapterConfig, AdapterTask

        return AdapterTask(build(AdapterConfig, table, kind), data, **folders)
    if kind == "onepic":
        from lib_refonly.training.onepic import OnePicConfig, OnePicTask

        return OnePicTask(build(OnePicConfig, table, kind), data, **folders)
    if kind == "lora":
        from lib_refonly.training.lora import LoraConfig, LoraTask

        return LoraTask(build(LoraConfig, table, kind), data, **folders)
    if kind == "embedding":
        from lib_refonly.training.embedding import EmbeddingConfig, EmbeddingTask

        return EmbeddingTask(build(EmbeddingConfig, table, kind), data, **folders)
    if kind == "stylecode":
        from lib_refonly.training.stylecode import StyleConfig, StyleTask

        return StyleTask(build(StyleConfig, table, kind), data, **folders)
    from lib_refonly.training.refonly import RefOnlyConfig, RefOnlyTask

    return RefOnlyTask(build(RefOnlyConfig, table, kind), data, **folders)
