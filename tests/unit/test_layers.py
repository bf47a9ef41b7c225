"""Who may import whom. Reads the source, so that an import inside a function counts too."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE = ("lib_refonly", "lib_refonly.errors", "lib_refonly.locks", "lib_refonly.settings")

MAY_IMPORT = {
    "conditioning": ("conditioning",),
    "imaging": ("imaging",),
    "hosts": ("conditioning", "hosts"),
    "models": ("models", "refonly"),
    "refonly": ("conditioning", "hosts", "imaging", "models", "refonly"),
    "adapters": ("adapters", "conditioning", "hosts", "models", "refonly"),
    "stylecode": ("conditioning", "hosts", "imaging", "models", "refonly", "stylecode"),
    "onepic": ("conditioning", "hosts", "imaging", "models", "onepic", "refonly"),
    "training": ("adapters", "conditioning", "hosts", "imaging", "models", "onepic", "refonly", "stylecode", "training"),
}
"""Of our own packages, besides errors, locks and settings: what each part of the core knows."""


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, in full; `from a import b` gives both a and a.b, since b may be a module."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *([node.module] if node.module else [])))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def sources(*places: str) -> list[Path]:
    found = [path for place in places for path in ([ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py"))]
    return sorted(path for path in found if path.exists())


def top(module: str) -> str:
    return module.partition(".")[0]


ALL = sources("lib_refonly", "scripts", "benchmarks", "studio.py", "install.py", "preload.py")


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_webui_knows_the_host_and_only_pages_know_gradio(path: Path) -> None:
    place = path.relative_to(ROOT).parts[:2]
    used = {top(module) for module in imports(path)}
    if place != ("lib_refonly", "webui"):
        assert not used & {"modules", "modules_forge", "ldm_patched", "backend"}
    if place[0] == "lib_refonly" and place[1] not in ("ui", "studio", "webui"):
        assert "gradio" not in used


@pytest.mark.parametrize(("part", "allowed"), MAY_IMPORT.items())
def test_the_core_knows_nothing_above_it(part: str, allowed: tuple[str, ...]) -> None:
    files = sources(f"lib_refonly/{part}")
    assert files
    own = {(path, module) for path in files for module in imports(path) if top(module) == "lib_refonly"}
    fine = tuple(f"lib_refonly.{name}" for name in allowed)
    wrong = [
        f"{path.relative_to(ROOT)}: {module}"
        for path, module in sorted(own)
        if not any(module == one or module.startswith(one + ".") for one in (*fine, *BASE[1:])) and module not in (BASE[0], "lib_refonly.__version__")
    ]
    assert wrong == []


def test_the_bootstrap_needs_nothing_installed() -> None:
    parts = "lib_refonly.training.drawings.packages"
    files = [ROOT / "studio.py", *sources("lib_refonly/studio/bootstrap", "lib_refonly/locks.py"), ROOT / f"{parts.replace('.', '/')}.py"]
    foreign = {module for path in files for module in imports(path) if top(module) not in sys.stdlib_module_names}
    allowed = ("lib_refonly.errors", "lib_refonly.locks", "lib_refonly.studio.bootstrap", "lib_refonly.studio.cli", parts)
    assert [module for module in sorted(foreign) if not module.startswith(allowed)] == []
