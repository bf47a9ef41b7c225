"""The benchmark of context reuse: which setting the aim is held against."""

from __future__ import annotations

from benchmarks.context_reuse import BETWEEN, ENOUGH, ONE, REUSED, WHOLE, projects, summarise


def test_the_cheapest_that_is_near_enough_is_held_against_the_aim() -> None:
    seconds = {ONE: [2.0, 2.0], "exact": [8.0, 8.0]} | {f"reuse {reuse}": [10.0 / reuse] * 2 for reuse in REUSED[1:]}
    real = {ONE: [10.0, 20.0], WHOLE: [40.0, 80.0], BETWEEN: [10.0, 20.0]}
    wholes = {1: 1.0} | dict.fromkeys(REUSED[1:], 0.5)
    near = {2: [ENOUGH + 5, ENOUGH], 3: [ENOUGH + 9, ENOUGH - 1], 4: [30.0], 5: [20.0]}
    found = summarise(seconds, real, wholes, near, "a clock")
    assert found.gates[0].value == 2.5
    assert "(reuse 2)" in found.gates[0].text
    assert not found.gates[0].holds
    assert summarise(seconds, real, wholes, dict.fromkeys(near, [10.0]), "a clock").gates[0].value == 4.0


def test_its_canvases_can_be_painted() -> None:
    for project in projects():
        project.check_ready()
