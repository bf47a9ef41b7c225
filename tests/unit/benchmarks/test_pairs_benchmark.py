"""The benchmark of pairs: its embeddings are what it says, what it computes, and the aims that it is held against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import pairs
from benchmarks.pairs import EXACT, GOAL, LISTS, MATRIX, computed, make, plot, summarise


def test_the_embeddings_are_in_groups_and_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one.npy", "two.npy"):
        make(tmp_path / name, 3000, 64)
    assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "two.npy").read_bytes()
    rows = np.load(tmp_path / "one.npy")
    assert (rows.shape, rows.dtype) == ((3000, 64), np.float32)
    assert np.ptp(np.linalg.norm(rows, axis=1)) > 5, "not normalised"
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -1)
    nearest = cosines.max(axis=1)
    assert 0.2 < np.median(cosines) < 0.6
    assert ((nearest > 0.9) & (nearest < 0.98)).mean() > 0.3
    assert 0.02 < (nearest > 0.98).mean() < 0.5


def test_what_was_too_large_is_computed_from_the_largest_that_was_run() -> None:
    found = {1000: {MATRIX: {"seconds": 2.0, "bytes": 1e7}}, 3000: {LISTS: {"seconds": 1.0, "bytes": 1e7}}}
    assert computed(found, 3000, MATRIX) == (18.0, 36e6)
    seconds, size = computed(found, 3000, EXACT)
    assert np.isnan(seconds)
    assert np.isnan(size)


def ways(count: int, recall: float = 0.995, seconds: float = 60.0, size: float = 4e9) -> dict[str, dict[str, float]]:
    lists = {"seconds": seconds, "bytes": size, "pairs": 2.0 * count, "recall": recall}
    return {LISTS: lists} | ({MATRIX: {"seconds": 1.0, "bytes": 4.0 * count**2, "pairs": 9.0}} if count < 50_000 else {})


@pytest.mark.parametrize(
    ("values", "held"),
    [({}, [True, True, True]), ({"recall": 0.98}, [False, True, True]), ({"size": 9e9}, [True, False, True]), ({"seconds": 1000.0}, [True, True, False])],
)
def test_a_million_is_held_against_recall_memory_and_time(values: dict[str, float], held: list[bool]) -> None:
    gates = summarise({10_000: ways(10_000), GOAL: ways(GOAL, **values)}).gates
    assert [gate.holds for gate in gates] == [True, *held]


def test_the_table_tells_measured_from_computed() -> None:
    text = summarise({10_000: ways(10_000), 100_000: ways(100_000)}).markdown()
    assert "| 100,000 | matrix of all pairs | (100) | (40.0) | - | - |" in text
    assert "| 100,000 | inverted lists | 60.0 | 4.00 | 200,000 | 0.9950 |" in text


def test_the_plot_shows_every_contender() -> None:
    found = {10_000: ways(10_000) | {EXACT: {"seconds": 3.0, "bytes": 1e8}}, 30_000: ways(30_000)}
    pixels = np.asarray(plot(found)).reshape(-1, 3)
    for colour in pairs._COLOURS.values():
        wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        assert (pixels == wanted).all(axis=1).sum() > 200


def test_the_contenders_are_run_and_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path / "embeddings.npy", 1500)
    found = {what: pairs._run(what, str(tmp_path), 1500) for what in (EXACT, LISTS, MATRIX)}
    assert found[LISTS]["recall"] >= 0.99
    assert 0.98 * found[EXACT]["pairs"] <= found[LISTS]["pairs"] <= found[EXACT]["pairs"]
    assert found[MATRIX]["pairs"] > found[EXACT]["pairs"], "with itself, copies, and no limit a picture"
    assert all(way["bytes"] > 3e7 for way in found.values())
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings.npy"]


def test_sizes_are_given_to_their_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    monkeypatch.setattr(pairs, "measure", lambda sizes: asked.append(list(sizes)) or summarise({10_000: ways(10_000)}))
    places = ["--results", str(tmp_path / "results"), "--out", str(tmp_path / "benchmarks.md")]
    assert command.main(["pairs", "--sizes", "10000,30000", *places]) == 0
    assert command.main(["pairs", *places]) == 0
    assert asked == [[10_000, 30_000], list(pairs.SIZES)]
    text = (tmp_path / "benchmarks.md").read_text("utf-8")
    assert "## Similar pairs" in text


@pytest.mark.parametrize("size", ["1", "10000,", "ten", "-5"])
def test_other_sizes_are_refused(size: str) -> None:
    with pytest.raises(SystemExit):
        command.main(["pairs", f"--sizes={size}"])
