"""Results: kept, read back, and shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.results import Gate, Result, Table, load_all, machine, report, save

RESULT = Result(
    "imports",
    "Imports",
    "How it was measured.",
    (Table(("what", "seconds"), (("one", "0.1"), ("two", "0.2"))),),
    {"one": [0.1, 0.1]},
    (Gate("seconds:", 0.1, 0.3),),
    "python -m benchmarks imports",
    {"processor": "Abacus"},
)


def test_read_back_as_written(tmp_path: Path) -> None:
    save(RESULT, tmp_path / "new")
    assert load_all(tmp_path / "new") == [RESULT]


def test_json_keeps_every_measurement(tmp_path: Path) -> None:
    assert json.loads(save(RESULT, tmp_path).read_text("utf-8"))["samples"] == {"one": [0.1, 0.1]}


def test_sections_are_in_one_order_whatever_ran_last(tmp_path: Path) -> None:
    for name in ("imports", "studio", "unet-step-sd21", "unet-step-sd15"):
        save(Result(name, f"Title {name}", "", (), {}), tmp_path)
    text = report(load_all(tmp_path))
    places = [text.index(f"## Title {name}") for name in ("unet-step-sd15", "unet-step-sd21", "studio", "imports")]
    assert places == sorted(places)


def test_markdown_tells_table_gate_command_and_machine() -> None:
    text = RESULT.markdown()
    assert "| what | seconds |\n| --- | ---: |\n| one | 0.1 |\n| two | 0.2 |" in text
    assert "Held: seconds: 0.1, at most 0.3." in text
    assert "`python -m benchmarks imports`" in text
    assert "processor: Abacus" in text


@pytest.mark.parametrize(("value", "holds"), [(0.29, True), (0.3, True), (0.31, False)])
def test_gate(value: float, holds: bool) -> None:
    gate = Gate("seconds:", value, 0.3)
    assert gate.holds is holds
    assert gate.markdown().startswith("Held" if holds else "**Missed**")


def test_machine_names_what_numbers_depend_on() -> None:
    found = machine("cpu", 1)
    assert {"processor", "memory", "system", "Python", "torch", "diffusers", "load at the start"} == set(found)
    assert "1 thread used" in found["processor"]
    assert "2 threads used" in machine("cpu", 2)["processor"]
