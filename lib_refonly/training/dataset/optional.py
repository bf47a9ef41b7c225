"""The packages of the groups `dataset` and `ray`, which only these commands need."""

from __future__ import annotations

import importlib
from typing import Any

from lib_refonly.errors import PainterError

_PACKAGES = {"faiss": "faiss-cpu", "pyarrow": "pyarrow", "ray": "ray"}


def needed(module: str) -> Any:
    """A module of an optional package, such as `faiss`, `ray` or `pyarrow.parquet`.

    Raises:
        PainterError: it is not installed; the text says what to do.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = _PACKAGES[module.partition(".")[0]]
        raise PainterError(
            f"{package} is not installed here. Start this as `studio.py dataset ...`, which installs it, or run: pip install {package}"
        ) from error
