"""What every test lives under: no network, and none of the painter's own models or settings."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

import hypothesis
import pytest

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):  # before torch is imported: beside each other they share the cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))

hypothesis.settings.register_profile("any machine", deadline=None)  # how long an example takes says more of the machine
hypothesis.settings.load_profile("any machine")

_connect = socket.socket.connect


def _connect_on_this_machine(self: socket.socket, address: Any) -> None:
    host = address[0] if self.family in (socket.AF_INET, socket.AF_INET6) else None
    if host is not None and host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        raise AssertionError(f"a test tried to reach {host} over the network")
    _connect(self, address)


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # in this order: what a test patched is mended before its folder is cleared away
    monkeypatch.setattr(socket.socket, "connect", _connect_on_this_machine)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("REFONLY_MODELS_DIR", str(tmp_path / "models of the painter"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--webui", help="folder of an installed WebUI, for tests/webui")
    parser.addoption("--python", help="its python; by default the one of its venv")
    parser.addoption("--trained", help="folder with a LoRA and a checkpoint, SD 1.5, that sd-scripts made")
    parser.addoption("--flag", action="append", default=[], help="one more command-line flag for it")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A real WebUI is tested by hand only; its tests are not even collected without one."""
    return True if collection_path.name == "webui" and collection_path.parent == Path(__file__).parent and not config.getoption("--webui") else None
