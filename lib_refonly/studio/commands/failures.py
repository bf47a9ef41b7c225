"""A fault of ours: the traceback goes to a file, the terminal gets one sentence."""

from __future__ import annotations

import datetime
import os
import tempfile
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h."""


def write_log(error: BaseException, folder: Path = ROOT / "logs") -> Path:
    """Write the traceback to a new file in `folder`, or in the system's temporary folder when that cannot be written. Returns its path."""
    now = datetime.datetime.now()
    name = f"studio-{now:%Y%m%d-%H%M%S-%f}-{os.getpid()}.log"
    text = "".join(traceback.format_exception(error))
    try:
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError:
        path = Path(tempfile.gettempdir()) / name
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


def sentence(error: BaseException, log: Path) -> str:
    """What the terminal shows."""
    return f"Something went wrong that should not ({type(error).__name__}). Please report it with this file: {log}"
