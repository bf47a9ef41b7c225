from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lib_refonly.studio.cli import main
from lib_refonly.studio.commands import failures
from tests.unit.cli.fakes import FakeEngine


@dataclass
class Ran:
    """What one call of the command line left behind."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Ran]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def run(engine: FakeEngine, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call the command line in a folder of the test's own, with the fake engine."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(failures.write_log, "__defaults__", (tmp_path / "logs",))

    def call(*arguments: str | Path) -> Ran:
        code = main([str(argument) for argument in arguments], engine)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call
