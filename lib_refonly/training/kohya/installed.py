"""Which trainers are installed, and where: `trainers.json` in the trainers' folder. Who installs them is `studio/trainers`."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.infotext import write_atomically

FILE = "trainers.json"
SD_SCRIPTS = "sd-scripts"
HOW = "Install it first: python3 studio.py trainers install sd-scripts --from FOLDER-OR-TAG"


@dataclass(frozen=True)
class Installed:
    """A trainer that was installed to the end.

    folder: its source. python: its environment's. version, commit: as git calls them, "unknown" without git. torch: its version. options: the list of its
    parsers' options, a file.
    """

    name: str
    folder: str
    python: str
    version: str
    commit: str
    torch: str
    options: str


def home() -> Path:
    """The trainers' folder: $REFONLY_TRAINERS_DIR, else `.refonly/trainers` in the home folder."""
    chosen = os.environ.get("REFONLY_TRAINERS_DIR")
    return Path(chosen) if chosen else Path.home() / ".refonly" / "trainers"


def listed(folder: Path | None = None) -> list[Installed]:
    """All that are installed. Raises: BadSettings: the list is damaged; it is not touched."""
    path = (folder or home()) / FILE
    try:
        told: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise BadSettings(f"{path} can't be read ({type(error).__name__}). Remove it, then install the trainers again.") from error
    names = {field.name for field in dataclasses.fields(Installed)}
    rows = told.get("trainers") if isinstance(told, dict) else None
    if not isinstance(rows, list) or any(not isinstance(row, dict) or set(row) != names or not all(isinstance(v, str) for v in row.values()) for row in rows):
        raise BadSettings(f"{path} is no list of trainers. Remove it, then install the trainers again.")
    return [Installed(**row) for row in rows]


def find(name: str = SD_SCRIPTS, folder: Path | None = None) -> Installed:
    """One trainer, whose source and Python are there.

    Raises:
        BadSettings: it is not installed, or was moved or removed since.
    """
    one = next((one for one in listed(folder) if one.name == name), None)
    if one is None:
        raise BadSettings(f"{name} is not installed. {HOW}")
    gone = [path for path in (one.folder, one.python) if not Path(path).exists()]
    if gone:
        raise BadSettings(f"{name} is no longer where it was installed: {gone[0]} is not there. Put it back, or install it again.")
    return one


def remember(one: Installed, folder: Path | None = None) -> None:
    """Add it, or replace the one of its name. Raises: BadSettings, CannotWrite."""
    place = folder or home()
    _write([*(old for old in listed(place) if old.name != one.name), one], place)


def forget(name: str, folder: Path | None = None) -> None:
    """Raises: BadSettings, CannotWrite."""
    place = folder or home()
    _write([old for old in listed(place) if old.name != name], place)


def _write(rows: list[Installed], folder: Path) -> None:
    write_atomically(folder / FILE, json.dumps({"trainers": [dataclasses.asdict(row) for row in rows]}, indent=1, ensure_ascii=False).encode())
