"""The studio's own virtual environment: made, checked and mended."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from lib_refonly.errors import CannotWrite, PainterError
from lib_refonly.studio.bootstrap.handover import NEWEST, OLDEST, venv_python

_PROBE = f"import sys, pip; sys.exit(not {OLDEST} <= sys.version_info[:2] <= {NEWEST})"


def is_running_in(venv: Path) -> bool:
    """Whether this very process runs in the environment."""
    return Path(sys.prefix).resolve() == venv.resolve()


def is_usable(venv: Path) -> bool:
    """Whether the environment's Python runs, is of a fit version, and has pip."""
    try:
        return subprocess.run([venv_python(venv), "-c", _PROBE], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def ensure(venv: Path) -> None:
    """Leave a usable environment at `venv`: an existing one is kept, a broken one is made anew, half-installed packages are cleared away.

    Raises:
        CannotWrite: the folder cannot be written.
        PainterError: Python's venv module is missing, or something else lies at `venv`.
    """
    if not is_usable(venv):
        _refuse_foreign(venv)
        _create(venv)
    for packages in venv.glob("Lib/site-packages") if sys.platform == "win32" else venv.glob("lib/python*/site-packages"):
        clear_half_installed(packages)


def clear_half_installed(packages: Path) -> None:
    """Remove the traces of an installation that was killed, so that pip installs that package again.

    pip writes a package's RECORD last: without it the package is not whole. `~name` folders are what pip had set aside meanwhile.
    """
    leftovers = [info for info in packages.glob("*.dist-info") if not (info / "RECORD").exists()]
    for folder in [*leftovers, *packages.glob("~*")]:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_foreign(venv: Path) -> None:
    if venv.is_symlink() or venv.is_file() or (venv.is_dir() and any(venv.iterdir()) and not (venv / "pyvenv.cfg").exists()):
        raise PainterError(f"{venv} is in the way: no Python environment that the studio made. Rename or remove it, then start again.")


def _create(venv: Path) -> None:
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise PainterError(
            f"This Python {version} comes without its venv module. On Debian and Ubuntu, run: sudo apt install python{version}-venv\n"
            "Then start again. (Elsewhere, install Python from its own installer.)"
        )
    command = [sys.executable, "-m", "venv", "--clear", str(venv)]
    made = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if made.returncode == 0 and is_usable(venv):
        return
    reason = (made.stderr.strip() or made.stdout.strip() or "it does not run").splitlines()[-1]
    raise CannotWrite(f"The environment {venv} could not be made: {reason}. Is the folder writable, and is there space on the disk?")
