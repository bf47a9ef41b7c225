"""The command: what it writes, what it says it ran, and its exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.results import Gate, Result


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    return ["--results", str(tmp_path / "results"), "--out", str(tmp_path / "benchmarks.md")]


def found(value: float) -> Result:
    return Result("imports", "Imports", "About.", (), {}, (Gate("seconds:", value, 0.3),))


@pytest.mark.parametrize(("value", "code"), [(0.1, 0), (0.5, 1)])
def test_writes_the_report_and_fails_on_a_missed_limit(value: float, code: int, places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.imports.measure", lambda rounds: found(value))
    assert command.main(["imports", *places]) == code
    text = (tmp_path / "benchmarks.md").read_text("utf-8")
    assert text.startswith("# Benchmarks")
    assert "`python -m benchmarks imports`" in text
    assert "processor: " in text
    assert (tmp_path / "results" / "imports.json").exists()


def test_a_part_leaves_the_others_sections(places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.imports.measure", lambda rounds: found(0.1))
    monkeypatch.setattr("benchmarks.studio.measure", lambda *_: Result("studio", "The studio", "", (), {}))
    command.main(["studio", *places])
    command.main(["imports", *places])
    text = (tmp_path / "benchmarks.md").read_text("utf-8")
    assert text.index("## The studio") < text.index("## Imports")


def test_reports_name_no_folder_of_the_machine() -> None:
    arguments = command._parser().parse_args(["studio", "--model", "/home/anna/tiny-refonly", "--rounds", "3", "--out", "/home/anna/x.md"])
    assert command._command(arguments) == "python -m benchmarks studio --rounds 3 --model tiny-refonly"


def test_an_unknown_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["speed"]) == 1
    assert "There is no part 'speed'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--threads", "-1"], ["--sizes", "sdxl"]])
def test_wrong_numbers_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        command.main(words)
    assert left.value.code == 2


def test_a_missing_model_is_one_sentence(places: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["studio", "--model", "no-such-model", *places]) == 1
    assert "There is no model 'no-such-model'" in capsys.readouterr().err
