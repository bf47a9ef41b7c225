"""The node packages that the drawings are made of: pinned in package.json, installed beside the data."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
MANIFEST = HERE / "package.json"
GENERATOR = HERE / "generate.mjs"


class DrawingToolsMissing(RuntimeError):
    """node or npm is not installed, or the packages could not be fetched."""


def pinned() -> dict[str, str]:
    """Package name to version, as package.json pins them."""
    return json.loads(MANIFEST.read_text("utf-8"))["dependencies"]


def installed(folder: Path) -> bool:
    """Whether every pinned package lies in ``folder``/node_modules in its pinned version."""

    def version(name: str) -> str | None:
        try:
            return json.loads((folder / "node_modules" / name / "package.json").read_text("utf-8"))["version"]
        except (OSError, ValueError, KeyError):
            return None

    return all(version(name) == wanted for name, wanted in pinned().items())


def ensure(folder: Path) -> Path:
    """Install the pinned packages into ``folder`` unless they are there; returns ``folder``.

    Raises:
        DrawingToolsMissing: without node and npm, or when npm fails.
    """
    if shutil.which("node") is None:
        raise DrawingToolsMissing("node is not installed: the drawings are made by it. Install node 18 or newer.")
    if installed(folder):
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise DrawingToolsMissing("npm is not installed: it fetches the parts that the drawings are made of.")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(MANIFEST, folder / "package.json")
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if finished.returncode or not installed(folder):
        raise DrawingToolsMissing(f"npm could not install the drawing packages into {folder}:\n{finished.stderr.strip()}")
    return folder
