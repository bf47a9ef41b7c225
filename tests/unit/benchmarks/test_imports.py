"""The import benchmark, run for real once."""

from __future__ import annotations

from benchmarks import imports


def test_the_real_thing_imports_nothing_big() -> None:
    result = imports.measure(1)
    assert {row[0] for row in result.tables[0].rows} == {imports.IMPORT, imports.HELP, imports.COMMAND, imports.BARE}
    assert all(values[0] > 0 for values in result.samples.values())
    assert result.gates[-1].holds


def test_a_slow_or_heavy_import_misses_its_limit() -> None:
    samples = {name: [0.1] for name in (imports.IMPORT, imports.HELP, imports.COMMAND, imports.BARE)}
    samples |= {f"{imports.IMPORT}, processor time": [0.1], f"{imports.HELP}, processor time": [0.4]}
    result = imports.summarise(samples, ["torch"], 1)
    assert [gate.holds for gate in result.gates] == [True, False, False]
    assert "torch" in result.about
