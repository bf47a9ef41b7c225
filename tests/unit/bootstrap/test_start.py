"""From arguments to the program that runs, with everything outside replaced."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from lib_refonly.errors import Offline
from lib_refonly.studio.bootstrap import chromium, drawing_parts, start
from lib_refonly.studio.bootstrap.handover import venv_python
from tests.unit.bootstrap.project import Project


@pytest.fixture
def became(project: Project, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that would have replaced this process. Setting up is recorded as ["ensure", group, ...]."""
    commands: list[list[str]] = []
    monkeypatch.setattr(start, "become", lambda command: commands.append(list(command)) or 5)
    monkeypatch.setattr(start, "ensure", lambda names, *_: commands.append(["ensure", *names]))
    monkeypatch.setattr(chromium, "ensure", lambda _: commands.append(["chromium"]))
    monkeypatch.setattr(drawing_parts, "ensure", lambda *_: commands.append(["drawing parts"]))
    monkeypatch.chdir(project.root)
    return commands


def test_a_command_runs_in_the_environment(project: Project, became: list[list[str]]) -> None:
    words = ["color", "a b.png", "--", "--help"]
    assert start.start(words, project.setup) == 5
    python = str(venv_python(project.setup.venv))
    assert became == [["ensure", "studio"], [python, str(project.root / "studio.py"), *words]]


@pytest.mark.parametrize(
    ("words", "groups", "pytest_words"),
    [
        ([], ["studio", "test", "ldm"], ["-rs", *start._ON_CORES]),
        (["--dev", "tests/unit", "-x"], ["studio", "test", "ldm", "dev"], ["-rs", "tests/unit", "-x"]),
        (["--setup-only"], ["studio", "test", "ldm"], None),
    ],
)
def test_the_tests_run_in_it_too(project: Project, became: list[list[str]], words: list[str], groups: list[str], pytest_words: list[str] | None) -> None:
    code = start.start(["test", *words], project.setup)
    run = [] if pytest_words is None else [[str(venv_python(project.setup.venv)), "-m", "pytest", *pytest_words]]
    assert became == [["ensure", *groups], ["chromium"], ["drawing parts"], *run]
    assert code == (5 if run else 0)


@pytest.mark.parametrize("words", [["--help"], ["color", "-h"], ["--version"]])
def test_help_needs_no_environment(project: Project, became: list[list[str]], words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        start.start(words, project.setup)
    assert left.value.code == 0
    assert became == []
    assert capsys.readouterr().out


def test_help_of_test_needs_none_either(project: Project, became: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert start.start(["test", "--help"], project.setup) == 0
    assert became == []
    assert "--setup-only" in capsys.readouterr().out


@pytest.mark.parametrize(("raised", "code", "says"), [(Offline("No network."), 7, "No network."), (KeyboardInterrupt(), 130, "go on from here")])
def test_what_goes_wrong_is_a_sentence_and_a_code(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], raised: BaseException, code: int, says: str
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(start, "ensure", fail)
    assert start.start(["color"], project.setup) == code
    assert says in capsys.readouterr().err


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A machine without a browser, on which apt-get brings one. The calls."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> None:
        calls.append(command)

    monkeypatch.setattr(chromium.shutil, "which", lambda name: f"/usr/bin/{name}" if name == "chromium" and len(calls) == 2 else None)
    monkeypatch.setattr(chromium.subprocess, "run", run)
    return calls


def test_debian_as_root_gets_its_chromium(apt: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chromium, "_is_debian_root", lambda: True)
    said: list[str] = []
    assert chromium.ensure(said.append) == "/usr/bin/chromium"
    assert [call[:2] for call in apt] == [["apt-get", "update"], ["apt-get", "install"]]


def test_elsewhere_it_is_said_that_the_browser_tests_are_skipped(apt: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chromium, "_is_debian_root", lambda: False)
    said: list[str] = []
    assert chromium.ensure(said.append) is None
    assert apt == []
    assert "will be skipped" in said[0]


def test_without_node_the_tests_of_the_drawings_are_skipped_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    said: list[str] = []
    drawing_parts.ensure(tmp_path, said.append)
    assert "node is not installed" in said[-1]
    assert "skipped" in said[-1]
    assert not (tmp_path / ".data").exists()
