"""`pytest tests/webui --webui DIR [--python PY]`: run by hand, with a WebUI that is already there (docs/hosts.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.webui import checkpoints, controlnets, sdxl, styles
from tests.webui.webui import PROBE, RESULTS, ROOT, WebUI, linked, python_of

_found: dict[str, dict[str, str]] = {}


def _installed(request: pytest.FixtureRequest, base: Path) -> WebUI:
    option: Any = request.config.getoption
    folder = Path(option("--webui")).resolve()
    return WebUI(folder, option("--python") or python_of(folder), base / "checkpoints", base / "models", tuple(option("--flag")))


@pytest.fixture(scope="session")
def at_rest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> WebUI:
    """The WebUI, not started."""
    host = _installed(request, tmp_path_factory.mktemp("at_rest"))
    _found["host"] = {"name": host.name}
    return host


@pytest.fixture(scope="session")
def webui(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebUI]:
    host = _installed(request, tmp_path_factory.mktemp("webui"))
    host.checkpoints.mkdir()
    host.models.mkdir()
    (checkpoints.of_true_width if host.is_forge else checkpoints.small)(host.checkpoints)
    if host.loads_tiny:
        checkpoints.embedded(host.checkpoints)
    checkpoints.models(host.models, host.is_forge)
    if not host.is_forge:
        sdxl.checkpoint(host.checkpoints)
        sdxl.adapters(host.models / "adapters")
    styles.style_model(host.models / "stylecodes", host.is_forge)
    checkpoints.lora(host.loras, host.is_forge)
    checkpoints.embedding(host.embeddings)
    host.flags += controlnets.prepared(host)
    links = [linked(host.folder, ROOT), linked(host.folder, PROBE)]
    try:
        host.start()
        _found["host"] = {"name": host.name}
        yield host
    finally:
        host.stop()
        for link in filter(None, links):
            link.unlink()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or (report.when == "setup" and not report.passed):
        name = report.nodeid.rpartition("::")[2]
        said = report.outcome if report.passed or report.failed else f"skipped: {report.longrepr[2].removeprefix('Skipped: ')}"  # type: ignore[index]
        _found.setdefault("cases", {})[name] = said


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Keep what was found, for the table in docs/hosts.md (`python -m tests.webui.table`). A run of a few cases changes only theirs."""
    if "host" not in _found:
        return
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{_found['host']['name'].lower()}.json"
    old = json.loads(path.read_text("utf-8")) if path.exists() else {}
    path.write_text(json.dumps(old | _found.get("cases", {}), indent=1, sort_keys=True) + "\n", "utf-8")
