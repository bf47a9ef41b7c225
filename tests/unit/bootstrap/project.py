"""A small project to set up, whose environment's Python is a script: it plays pip from a plan and writes down how it was called."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from lib_refonly.studio.bootstrap.start import Setup

PYPROJECT = """\
[project]
name = "small"
dependencies = [
    "alpha>=1",
    "beta",
]
[project.optional-dependencies]
test = [
    "gamma",
]
ldm = [
    "delta==2.0",
]
dev = [
    "epsilon",
]
"""

_STUB = """\
#!{python} -IS
import json, os, sys, time
from pathlib import Path

root = Path({root!r})
if sys.argv[1] == "-c":
    sys.exit(0)
with open(root / "calls.jsonl", "a", encoding="utf-8") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
plan = json.loads((root / "plan.json").read_text(encoding="utf-8"))
packages = root / ".venv" / "lib" / "python3.11" / "site-packages"
for line in plan["lines"]:
    print(line, flush=True)
for name in plan["half"]:
    (packages / (name + "-1.0.dist-info")).mkdir(parents=True, exist_ok=True)
for name in plan["installs"]:
    info = packages / (name + "-1.0.dist-info")
    info.mkdir(parents=True, exist_ok=True)
    (info / "RECORD").write_text("")
(root / "pip-is-here").write_text(str(os.getpid()))
time.sleep(plan["sleeps"])
sys.exit(plan["code"])
"""


@dataclass
class Project:
    """`said` is what the painter was told."""

    root: Path
    said: list[str] = field(default_factory=list)

    @property
    def setup(self) -> Setup:
        return Setup(self.root)

    @property
    def packages(self) -> Path:
        return self.root / ".venv" / "lib" / "python3.11" / "site-packages"

    def pip_will(self, lines: tuple[str, ...] = (), installs: tuple[str, ...] = (), half: tuple[str, ...] = (), sleeps: float = 0, code: int = 0) -> None:
        """What the stub does when it is called as pip."""
        plan = {"lines": lines, "installs": installs, "half": half, "sleeps": sleeps, "code": code}
        (self.root / "plan.json").write_text(json.dumps(plan), encoding="utf-8")

    def calls(self) -> list[list[str]]:
        """The arguments of every call of the stub as pip."""
        path = self.root / "calls.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def make(root: Path) -> Project:
    """Lay the project out, with an environment that looks finished but has nothing stamped."""
    binaries = root / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (root / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (root / "constraints.txt").write_text("alpha==1.0\nbeta==1.0\n", encoding="utf-8")
    (root / ".venv" / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n", encoding="utf-8")
    python = binaries / "python"
    python.write_text(_STUB.format(python=sys.executable, root=str(root)), encoding="utf-8")
    python.chmod(0o755)
    project = Project(root)
    project.packages.mkdir(parents=True)
    project.pip_will()
    return project
