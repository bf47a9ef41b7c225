"""What has to be installed, read from pyproject.toml, and the stamp that says that it is."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_ARRAY = re.compile(r"^([\w-]+)\s*=\s*\[\s*\n(.*?)^\]", re.MULTILINE | re.DOTALL)
_ITEM = re.compile(r'^\s*(["\'])(.*)\1,?\s*$', re.MULTILINE)


@dataclass(frozen=True)
class Group:
    """Packages that are installed together. `megabytes` is the disk that they take at most on a machine without CUDA, measured."""

    name: str
    requirements: tuple[str, ...]
    megabytes: int
    with_dependencies: bool = True


_MEGABYTES = {"studio": 3000, "test": 1100, "ldm": 20, "dataset": 300, "ray": 300, "dev": 400}


def read_groups(pyproject: Path) -> dict[str, Group]:
    """The groups by name: "studio" is what the project itself needs, the others are its extras.

    Reads only what our own file uses (arrays with one string a line): Python 3.10 has no TOML reader. A test compares it with the real one.
    """
    arrays = {name: tuple(item for _, item in _ITEM.findall(body)) for name, body in _ARRAY.findall(pyproject.read_text(encoding="utf-8"))}
    arrays["studio"] = arrays["dependencies"]
    return {name: Group(name, arrays[name], size, with_dependencies=name != "ldm") for name, size in _MEGABYTES.items() if name in arrays}


def fingerprint(group: Group, constraints: Path, python: tuple[int, int] = sys.version_info[:2]) -> str:
    """Changes whenever the group would be installed differently."""
    parts = (*group.requirements, str(group.with_dependencies), f"{python[0]}.{python[1]}", constraints.read_text(encoding="utf-8"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class Stamp:
    """Which groups were installed completely: a small file inside the environment, so that it goes when the environment goes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def missing(self, wanted: Iterable[tuple[Group, str]]) -> list[Group]:
        """The groups whose fingerprint is not stamped."""
        done = self._read()
        return [group for group, print_ in wanted if done.get(group.name) != print_]

    def add(self, group: Group, print_: str) -> None:
        """Stamp one group as installed."""
        text = json.dumps(self._read() | {group.name: print_}, indent=1)
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, self.path)

    def _read(self) -> dict[str, str]:
        try:
            done = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none yet, or cut off: then everything is checked again
            return {}
        return done if isinstance(done, dict) else {}
