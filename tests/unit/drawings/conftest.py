"""Where the drawing tests find the node packages."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lib_refonly.training.drawings.packages import installed

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def npm() -> Path:
    """The folder of the installed node packages; tests that need them are skipped without."""
    folder = Path(os.environ.get("REFONLY_DRAWINGS_NPM", ROOT / ".data" / "npm"))
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if not installed(folder):
        pytest.skip(f"the drawing packages are not in {folder}: build any data set once, or set REFONLY_DRAWINGS_NPM")
    return folder
