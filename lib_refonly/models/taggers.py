"""Which taggers are installed: any folder in a models folder that has a tagger's two files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lib_refonly.models.registry import user_folder

FILES = ("model.onnx", "selected_tags.csv")


def installed(roots: Iterable[Path] | None = None) -> list[Path]:
    """Their folders, by name. roots: the painter's models folder when not said. What a link leads out to is left aside."""
    found: dict[str, Path] = {}
    for root in (user_folder(),) if roots is None else roots:
        inside = root.resolve()
        for folder in sorted(root.iterdir()) if root.is_dir() else ():
            files = [folder / name for name in FILES]
            if all(file.is_file() and file.resolve().is_relative_to(inside) for file in files):
                found.setdefault(folder.name, folder)
    return sorted(found.values(), key=lambda folder: folder.name.lower())
