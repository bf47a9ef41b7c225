from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.bootstrap.project import Project, make


@pytest.fixture
def project(tmp_path: Path) -> Project:
    if os.name == "nt":
        pytest.skip("the stub of the environment's Python is a POSIX script")
    return make(tmp_path / "a path with spaces, ä and 字")
