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


def main(config: Path, minutes: float | None = None, steps: int | None = None) -> int:
    """Train (or go on training) what `config` describes, then export. Returns the exit code.

    Raises:
        BadSettings: a missing table, an unknown key or an unknown kind of training.
    """
    tables = read(config)
    overrides = {k: v for k, v in (("minutes", minutes), ("steps", steps)) if v is not None}
    from lib_refonly.training.loop import LoopConfig, Run

    run_table = dict(tables.get("run", {}))
    folder, data = (Path(run_table.pop(k)) for k in ("folder", "data"))
    kind = run_table.pop("kind")
    loop = build(LoopConfig, dict(tables.get("loop", {})) | overrides, "loop")
    run = Run(make_task(kind, tables.get(kind, {}), data, run_table), loop, folder)
    step = run.train()
    print(f"{kind}: step {step} of {loop.steps}; averaged weights in {run.export()}")
    return 0


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
    unknown = sorted(set(run) - {"kind", "folder", "data", "vae", "start", "heldout"})
    if unknown:
        raise BadSettings(f"{config}: [run] does not know {', '.join(unknown)}.")
    return tables


def build(cls: type, table: dict[str, Any], name: str) -> Any:
    """A config dataclass from a TOML table; unknown keys are refused by name."""
    fields = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(set(table) - fields)
    if unknown:
        raise BadSettings(f"[{name}] does not know {', '.join(unknown)}. It knows {', '.join(sorted(fields))}.")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in table.items()})


def make_task(kind: str, table: dict[str, Any], data: Path, run: dict[str, Any]) -> Any:
    """The task called `kind`. `run` holds what is left of [run]: folders of the models to start from."""
    if kind == "vae":
        from lib_refonly.training.vae import VaeConfig, VaeTask

        return VaeTask(build(VaeConfig, table, kind), data)
    folders = {name: Path(value) for name, value in run.items()}
    if kind == "base":
        from lib_refonly.training.base import BaseConfig, BaseTask

        return BaseTask(build(BaseConfig, table, kind), data, **folders)
    if kind == "refonly":
        from lib_refonly.training.refonly import RefOnlyConfig, RefOnlyTask

        return RefOnlyTask(build(RefOnlyConfig, table, kind), data, **folders)
    raise BadSettings(f"[run] kind: {kind!r} is none of vae, base, refonly.")
