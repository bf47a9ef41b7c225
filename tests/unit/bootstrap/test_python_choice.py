"""An unfit Python gets a sentence or hands over to a fit one; what it reads has no syntax that it does not know."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lib_refonly.studio.bootstrap.handover import ROOT, is_fit, unfit_message

READ_BY_OLD_PYTHONS = (
    "studio.py",
    "lib_refonly/__init__.py",
    "lib_refonly/studio/__init__.py",
    "lib_refonly/studio/bootstrap/__init__.py",
    "lib_refonly/studio/bootstrap/handover.py",
)


@pytest.mark.parametrize("name", READ_BY_OLD_PYTHONS)
def test_what_old_pythons_read_is_old_syntax(name: str) -> None:
    source = (ROOT / name).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 6))
    assert "from __future__ import annotations" not in source  # an error before 3.7
    for node in ast.walk(tree):
        annotation = getattr(node, "annotation", None) or getattr(node, "returns", None)
        assert not isinstance(annotation, ast.Subscript | ast.BinOp), f"{name}: old Pythons evaluate {ast.unparse(annotation)}: put it in quotes"


@pytest.mark.parametrize(("version", "fit"), [((3, 9), False), ((3, 10), True), ((3, 13), True), ((3, 14), False), ((2, 7), False)])
def test_versions(version: tuple[int, int], fit: bool) -> None:
    assert is_fit((*version, 0, "final", 0)) is fit


def test_the_message_says_what_is_wrong_and_what_to_do() -> None:
    assert "too old" in unfit_message((3, 8, 1))
    assert "too new" in unfit_message((3, 14, 0))
    assert "3.10 to 3.13" in unfit_message((3, 8, 1))


def _run_as(version: str, path: Path, root: Path) -> subprocess.CompletedProcess[str]:
    """Run studio.py of `root` under a Python that claims to be of another version, with `path` as the only place to find others."""
    pretend = f"import sys, runpy; sys.version_info = {version}; sys.argv = ['studio.py', 'color', 'a b.png']; runpy.run_path('studio.py', run_name='__main__')"
    environment = {**os.environ, "PATH": str(path)}
    environment.pop("REFONLY_HANDED_OVER", None)
    return subprocess.run([sys.executable, "-c", pretend], cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A copy of what an old Python reads, without an environment beside it."""
    for name in READ_BY_OLD_PYTHONS:
        target = tmp_path / "clone" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path / "clone"


@pytest.mark.parametrize(("version", "age"), [((3, 8, 0), "too old"), ((3, 15, 0), "too new")])
def test_without_a_fit_python_there_is_one_sentence(tmp_path: Path, bare: Path, version: tuple[int, int, int], age: str) -> None:
    done = _run_as(repr(version), tmp_path, bare)
    assert done.returncode == 1
    assert age in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="the stub is a POSIX script")
def test_a_fit_python_on_path_takes_over(tmp_path: Path, bare: Path) -> None:
    for name, works in (("python3.13", "exit 1"), ("python3.12", "exit 0"), ("python3.11", "exit 0")):
        stub = tmp_path / name
        stub.write_text(f'#!/bin/sh\nif [ "$1" = "-c" ]; then {works}; fi\necho "{name} got:" "$@"\nexit 5\n')
        stub.chmod(0o755)
    done = _run_as("(3, 8, 0)", tmp_path, bare)
    assert done.stdout == "python3.12 got: studio.py color a b.png\n"
    assert done.returncode == 5
