"""What a benchmark found: kept as JSON (with every single measurement), shown as Markdown."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lib_refonly.imaging.infotext import write_atomically

ORDER = ("unet-step-sd15", "unet-step-sd21", "context-reuse", "studio", "imports", "pairs")
"""Results by name, as the report shows them."""


@dataclass(frozen=True)
class Table:
    """Cells as they are printed."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        lines = [self.columns, tuple("---" if i == 0 else "---:" for i in range(len(self.columns))), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class Gate:
    """A limit that a measured value must not pass."""

    text: str
    value: float
    limit: float

    @property
    def holds(self) -> bool:
        return self.value <= self.limit

    def markdown(self) -> str:
        return f"{'Held' if self.holds else '**Missed**'}: {self.text} {round(self.value, 3):g}, at most {self.limit:g}."


@dataclass(frozen=True)
class Result:
    """One benchmark. `samples`: every measurement, in seconds (or bytes where the name says so)."""

    name: str
    title: str
    about: str
    tables: tuple[Table, ...]
    samples: Mapping[str, Sequence[float]]
    gates: tuple[Gate, ...] = ()
    command: str = ""
    machine: Mapping[str, str] = field(default_factory=dict)

    def markdown(self) -> str:
        machine = ", ".join(f"{what}: {value}" for what, value in self.machine.items())
        parts = [
            f"## {self.title}", self.about, *(table.markdown() for table in self.tables),
            "\n".join(f"- {gate.markdown()}" for gate in self.gates), f"`{self.command}`  \n{machine}",
        ]  # fmt: skip
        return "\n\n".join(part for part in parts if part)


def save(result: Result, folder: Path) -> Path:
    """Write FOLDER/NAME.json.

    Raises:
        CannotWrite: the folder can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.name}.json"
    write_atomically(path, (json.dumps(asdict(result), indent=1) + "\n").encode())
    return path


def load_all(folder: Path) -> list[Result]:
    """Every known result of a folder, in the report's order."""
    return [_result(json.loads(path.read_text("utf-8"))) for name in ORDER if (path := folder / f"{name}.json").is_file()]


def _result(data: dict[str, Any]) -> Result:
    tables = tuple(Table(tuple(t["columns"]), tuple(tuple(row) for row in t["rows"])) for t in data["tables"])
    return Result(**data | {"tables": tables, "gates": tuple(Gate(**gate) for gate in data["gates"])})


def report(results: Iterable[Result]) -> str:
    """docs/benchmarks.md."""
    return "\n\n".join([_HEAD, *(result.markdown() for result in results)]) + "\n"


_HEAD = """# Benchmarks

Written by `python -m benchmarks`, run from the repository's root with the studio's own Python (`.venv/bin/python`, on Windows
`.venv\\Scripts\\python.exe`). `python -m benchmarks unet --sizes sd15 --rounds 3` runs a part; the other sections stay as they are.
`python -m benchmarks --help` lists the options. Every single measurement is in `benchmarks/results/`. The exit code is 1 when a limit is missed.

A ratio is the median over rounds in which all contenders take turns, each round compared with itself only; beside it stand the lowest and the
highest. Seconds hold for the machine named below each table and nothing else."""


def machine(device: str, threads: int) -> dict[str, str]:
    """What the numbers depend on, in words. The load is the number of processes that were running or waiting when the run began."""
    import psutil
    import torch

    found = {
        "processor": f"{_processor()} ({os.cpu_count()} cores, {threads} thread{'s' if threads > 1 else ''} used)",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GB",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": version("diffusers"),
        "load at the start": f"{psutil.getloadavg()[0]:.1f}",
    }
    return {"GPU": torch.cuda.get_device_name()} | found if device.startswith("cuda") else found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
