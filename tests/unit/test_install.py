"""install.py and preload.py, as a WebUI runs them."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_where_everything_is_there_nothing_is_done(called: list[list[str]]) -> None:
    begun = time.process_time()
    load("install")
    assert called == []
    assert time.process_time() - begun < 0.3


def test_only_what_is_missing_and_without_its_dependencies(called: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    install = load("install")
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None if name == "cv2" else object())
    install.main()
    (command,) = called
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert "--no-deps" in command
    assert [word for word in command if "==" in word] == [install.WANTED["cv2"]]


@pytest.mark.parametrize("how", ["flag", "environment", "launch"])
def test_skip_install_is_honoured(how: str, called: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    install = load("install")
    monkeypatch.setattr(install, "missing", lambda: ["opencv"])
    if how == "flag":
        monkeypatch.setattr(sys, "argv", ["launch.py", "--skip-install"])
    elif how == "environment":
        monkeypatch.setenv("COMMANDLINE_ARGS", "--api --skip-install")
    else:
        launch = ModuleType("launch")
        launch.args = argparse.Namespace(skip_install=True)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "launch", launch)
    install.main()
    assert called == []
    assert "opencv is missing" in capsys.readouterr().out


def test_offline_it_says_what_is_missing_and_ends(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    install = load("install")
    monkeypatch.setattr(install, "missing", lambda: ["opencv"])
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1))
    install.main()
    assert "pip install --no-deps opencv" in capsys.readouterr().out


def test_what_the_host_came_with_is_never_installed() -> None:
    assert not {"torch", "numpy", "gradio", "transformers"} & {package.partition("=")[0] for package in load("install").WANTED.values()}


def test_the_flags() -> None:
    parser = argparse.ArgumentParser()
    load("preload").preload(parser)
    assert parser.parse_args(["--refonly-models-dir", "models"]).refonly_models_dir == "models"
