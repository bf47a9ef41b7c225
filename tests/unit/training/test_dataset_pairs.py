"""Similar pairs: exactly those of the brute force, at most k, within bounded memory, and the same after an end in the middle."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lib_refonly.errors import BadSettings, CannotWrite, PainterError
from lib_refonly.training.dataset import lists, optional, tables, window
from lib_refonly.training.dataset.pairs import PairSettings, find_pairs, report_path
from lib_refonly.training.dataset.tables import read_pairs, write_pairs
from lib_refonly.training.dataset.vectors import Embeddings
from lib_refonly.training.dataset.window import Best, Pairs, Window

ROOT = Path(__file__).resolve().parents[3]


def groups(count: int, width: int = 24, seed: int = 0) -> np.ndarray:
    """Embeddings in groups of about six, of any length, with cosines from 0.8 to 1 within a group; every twentieth is a copy."""
    rng = np.random.default_rng(seed)
    middles = rng.standard_normal((max(2, count // 6), width))
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    own = rng.standard_normal((count, width)) / np.sqrt(width)
    rows = middles[rng.integers(len(middles), size=count)] + rng.uniform(0.05, 0.5, (count, 1)) * own
    rows[19::20] = rows[18::20][: len(rows[19::20])]
    return (rows * rng.uniform(0.1, 9, (count, 1))).astype(np.float32)


def brute(rows: np.ndarray, chosen: Window) -> set[tuple[int, int]]:
    """(a, b) by one matrix in float64 and a sort."""
    unit = rows.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = unit @ unit.T
    found = set()
    for a, row in enumerate(cosines):
        fine = [b for b in range(len(rows)) if b != a and chosen.low <= row[b] and (row[b] <= chosen.high or chosen.high == 1)]
        found |= {(a, b) for b in sorted(fine, key=lambda b: (-row[b], b))[: chosen.per_picture]}
    return found


def found(path: Path) -> set[tuple[int, int]]:
    pairs = read_pairs(path)
    made = list(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))
    assert len(made) == len(set(made))
    return set(made)


def saved(folder: Path, rows: np.ndarray) -> Path:
    np.save(folder / "embeddings.npy", rows)
    return folder / "embeddings.npy"


@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("chosen", [Window(), Window(0.9, 0.98, 1), Window(0.85, 1.0, 3), Window(-1, 1, 2)], ids=str)
def test_all_pairs_of_the_brute_force_and_no_others(tmp_path: Path, kind: Any, chosen: Window) -> None:
    rows = groups(400).astype(kind)
    report = find_pairs(saved(tmp_path, rows), tmp_path / "p.parquet", PairSettings(chosen, exact=True))
    wanted = brute(rows, chosen)
    assert wanted
    # Copies have the same cosine to the last bit or nearly: which of two equal ones is taken may differ from float64.
    pairs = read_pairs(tmp_path / "p.parquet")
    assert len(pairs.a) == len(wanted) == report.pairs
    assert len(found(tmp_path / "p.parquet") & wanted) >= 0.97 * len(wanted)
    unit = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    assert np.abs((unit[pairs.a] * unit[pairs.b]).sum(axis=1) - pairs.cosine).max() < 2e-6
    assert np.bincount(pairs.a).max() <= chosen.per_picture


def test_both_directions_stand_where_both_have_room(tmp_path: Path) -> None:
    find_pairs(saved(tmp_path, groups(300)), tmp_path / "p.parquet", PairSettings(Window(per_picture=300)))
    pairs = found(tmp_path / "p.parquet")
    assert pairs
    assert {(b, a) for a, b in pairs} == pairs


def test_the_near_identical_take_no_places(tmp_path: Path) -> None:
    """Fifty copies of a picture would fill any top-K; the one partner below the ceiling is found behind them."""
    rows = np.zeros((52, 8), np.float32)
    rows[:, 0] = 1
    rows[:51, 1] = np.linspace(0, 0.01, 51)
    rows[51, :2] = 1, 0.3
    find_pairs(saved(tmp_path, rows), tmp_path / "p.parquet", PairSettings(Window(0.9, 0.98, 2)))
    assert {pair for pair in found(tmp_path / "p.parquet") if pair[0] < 51} == {(a, 51) for a in range(51)}


@pytest.mark.parametrize("few", [3, 40])
def test_lists_find_the_promised_share(tmp_path: Path, few: int) -> None:
    rows = groups(3000)
    report = find_pairs(saved(tmp_path, rows), tmp_path / "p.parquet", PairSettings(lists=few, sample=400, recall=0.97))
    wanted = brute(rows, Window())
    assert report.method == "lists"
    assert report.recall is not None
    assert report.recall >= 0.97
    share = len(found(tmp_path / "p.parquet") & wanted) / len(wanted)
    assert share >= 0.94
    assert abs(share - report.recall) < 0.05
    assert 1 <= report.probes <= few
    known = json.loads(report_path(tmp_path / "p.parquet").read_text("utf-8"))
    assert known["found"]["recall"] == report.recall


def test_a_higher_recall_asks_more_lists(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    path = saved(tmp_path, rng.standard_normal((2000, 6)).astype(np.float32))  # nothing separates groups here
    chosen = Window(0.9, 0.999, 10)
    probes = [find_pairs(path, tmp_path / f"{recall}.parquet", PairSettings(chosen, lists=60, recall=recall)).probes for recall in (0.5, 0.9, 1.0)]
    assert probes[0] < probes[1] < probes[2]
    wanted = brute(np.load(path), chosen)
    assert len(found(tmp_path / "1.0.parquet") & wanted) >= 0.999 * len(wanted)


def test_everything_in_one_list_is_the_exact_search(tmp_path: Path) -> None:
    path = saved(tmp_path, groups(500))
    find_pairs(path, tmp_path / "one.parquet", PairSettings(lists=1))
    find_pairs(path, tmp_path / "all.parquet", PairSettings(exact=True))
    assert found(tmp_path / "one.parquet") == found(tmp_path / "all.parquet")


vectors = st.integers(2, 30).flatmap(
    lambda count: st.lists(
        st.lists(st.integers(-4, 4), min_size=3, max_size=3).filter(any),
        min_size=count,
        max_size=count,
    )
)


@given(vectors, st.floats(0.0, 0.95), st.integers(1, 4), st.integers(1, 9), st.integers(1, 40))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_best_are_kept_however_they_are_offered(monkeypatch: pytest.MonkeyPatch, raw: list[list[int]], low: float, most: int, part: int, held: int) -> None:
    """In portions of any size, thinned out at any time: as the brute force, up to the order of equal cosines."""
    monkeypatch.setattr(window, "_PRODUCTS", part)
    monkeypatch.setattr(window, "_CANDIDATES", held)
    unit = np.array(raw, np.float64)
    unit = (unit / np.linalg.norm(unit, axis=1, keepdims=True)).astype(np.float32)
    cosines = unit @ unit.T
    assume(np.abs(cosines - low).min() > 1e-5)  # one on the very edge falls to either side
    chosen, rows = Window(low, 0.999, most), np.arange(len(raw))
    best = Best(chosen)
    for start in range(0, len(raw), part):
        best.offer(rows, unit, rows[start : start + part], unit[start : start + part])
        assert best._count <= max(held, 2 * most * len(raw))
    pairs = best.pairs()
    np.fill_diagonal(cosines, -9)
    for a in range(len(raw)):
        fine = np.sort(cosines[a][(cosines[a] >= np.float32(low)) & (cosines[a] <= np.float32(0.999))])[::-1]
        np.testing.assert_allclose(pairs.cosine[pairs.a == a], fine[:most], atol=1e-6)


def test_memory_does_not_grow_with_the_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine million candidate pairs would take 180 MB. They are thinned out on the way."""
    monkeypatch.setattr(window, "_CANDIDATES", 2**17)
    monkeypatch.setattr(window, "_PRODUCTS", 2**17)
    rng = np.random.default_rng(0)
    rows = (np.array([[3.0, 0, 0, 0, 0, 0, 0, 0]]) + rng.standard_normal((3000, 8)) * 0.3).astype(np.float32)
    path = saved(tmp_path, rows)
    assert len(brute(rows[:200], Window(0.7, 1, 200))) > 30_000
    tracemalloc.start()
    try:
        find_pairs(path, tmp_path / "p.parquet", PairSettings(Window(0.7, 1, 3), exact=True))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6


def test_ended_in_the_middle_and_begun_again_it_writes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "_BLOCK_ROWS", 256)
    path, chosen = saved(tmp_path, groups(1500)), PairSettings(lists=20)
    whole, ended = tmp_path / "whole.parquet", tmp_path / "ended.parquet"
    find_pairs(path, whole, chosen)
    for block in range(1, 4):

        def stop(share: float, what: str, block: int = block) -> None:
            if what == "finding pairs" and share >= block * 256 / 1500 - 1e-9:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            find_pairs(path, ended, chosen, stop)
        assert not ended.exists()
    work = ended.with_name("ended.parquet.work")
    assert len(list(work.glob("rows-*.npz"))) == 3
    asked: list[float] = []
    find_pairs(path, ended, chosen, lambda share, what: asked.append(share) if what == "finding pairs" else None)
    assert len(asked) == 3, "finished blocks are not searched again"
    assert ended.read_bytes() == whole.read_bytes()
    assert not work.exists()


def test_killed_by_the_system_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = saved(tmp_path, groups(3000, 32)), tmp_path / "p.parquet"
    code = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from lib_refonly.training.dataset import lists, pairs
lists._BLOCK_ROWS = 256
pairs.find_pairs(Path({str(path)!r}), Path({str(out)!r}), pairs.PairSettings(exact=True), lambda share, what: what == "finding pairs" and time.sleep(0.2))
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    work, waited = out.with_name(out.name + ".work"), time.monotonic()
    while not list(work.glob("rows-*.npz")) and process.poll() is None and time.monotonic() - waited < 30:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
    assert process.wait() != 0
    finished = len(list(work.glob("rows-*.npz")))
    assert 1 <= finished < 12
    assert not out.exists()
    monkeypatch.setattr(lists, "_BLOCK_ROWS", 256)
    asked: list[str] = []
    find_pairs(path, out, PairSettings(exact=True), lambda _, what: asked.append(what))
    assert asked.count("finding pairs") == 12 - finished
    find_pairs(path, tmp_path / "q.parquet", PairSettings(exact=True))
    assert out.read_bytes() == (tmp_path / "q.parquet").read_bytes()
    assert not work.exists()


def test_blocks_of_another_size_are_not_taken_for_whole_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = saved(tmp_path, groups(600)), tmp_path / "p.csv"

    def stop(_: float, what: str) -> None:
        if what == "finding pairs":
            raise KeyboardInterrupt

    with monkeypatch.context() as smaller:
        smaller.setattr(lists, "_BLOCK_ROWS", 256)
        with pytest.raises(KeyboardInterrupt):
            find_pairs(path, out, tell=stop)
    find_pairs(path, out)
    find_pairs(path, tmp_path / "whole.csv")
    assert found(out) == found(tmp_path / "whole.csv")


def test_what_is_finished_is_not_searched_again_unless_something_changed(tmp_path: Path) -> None:
    rows = groups(300)
    path, out = saved(tmp_path, rows), tmp_path / "p.parquet"
    said: list[str] = []
    first = find_pairs(path, out, tell=lambda _, what: said.append(what))
    assert "finding pairs" in said
    said.clear()
    again = find_pairs(path, out, tell=lambda _, what: said.append(what))
    assert "finding pairs" not in said
    assert (again.pairs, again.pictures) == (first.pairs, first.pictures)
    find_pairs(path, out, PairSettings(Window(per_picture=1)), lambda _, what: said.append(what))
    assert "finding pairs" in said
    said.clear()
    rows[7] += 1
    saved(tmp_path, rows)
    find_pairs(path, out, PairSettings(Window(per_picture=1)), lambda _, what: said.append(what))
    assert "finding pairs" in said


def test_blocks_of_other_settings_are_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "_BLOCK_ROWS", 256)
    path, out = saved(tmp_path, groups(600)), tmp_path / "p.csv"

    def stop(_: float, what: str) -> None:
        if what == "finding pairs":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_pairs(path, out, PairSettings(Window(per_picture=9)), stop)
    find_pairs(path, out, PairSettings(Window(per_picture=1)))
    assert np.bincount(read_pairs(out).a).max() == 1


def test_a_folder_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path, out = saved(tmp_path, groups(50)), tmp_path / "p.csv"
    work = tmp_path / "p.csv.work"
    work.mkdir()
    (work / "thesis.txt").write_text("mine")
    with pytest.raises(BadSettings, match="in the way"):
        find_pairs(path, out)
    assert (work / "thesis.txt").read_text() == "mine"


def wrong_rows() -> dict[str, tuple[Any, str]]:
    rows = groups(20)
    nan, endless, zero = rows.copy(), rows.copy(), rows.copy()
    nan[3, 1], endless[4, 0], zero[5] = np.nan, np.inf, 0
    return {
        "NaN": (nan, "row 3 has values that are no numbers"),
        "infinite": (endless, "row 4 has values that are no numbers"),
        "zeros": (zero, "row 5 is all zeros"),
        "one dimension": (rows[0], r"Embeddings are float32 or float16 \[pictures, width\]"),
        "three dimensions": (rows[None], "float32 or float16"),
        "whole numbers": (rows.astype(np.int64), "float32 or float16"),
        "float64": (rows.astype(np.float64), "float32 or float16"),
        "one row": (rows[:1], "at least 2"),
        "no rows": (rows[:0], "at least 2"),
        "no width": (rows[:, :0], "width 0"),
    }


@pytest.mark.parametrize("case", wrong_rows())
def test_wrong_embeddings_are_refused_by_name(tmp_path: Path, case: str) -> None:
    rows, says = wrong_rows()[case]
    with pytest.raises(BadSettings, match=says):
        find_pairs(saved(tmp_path, rows), tmp_path / "p.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings.npy"]


def test_extreme_lengths_are_no_zeros(tmp_path: Path) -> None:
    rows = groups(40)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    plain, extreme = tmp_path / "plain.csv", tmp_path / "extreme.csv"
    find_pairs(saved(tmp_path, rows), plain)
    rows[::2] *= 1e-25
    rows[1::2] *= 1e25
    find_pairs(saved(tmp_path, rows), extreme)
    assert found(plain) == found(extreme)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x93NUMPY\x01\x00v\x00{'descr': '|O'", b"PK\x03\x04" + bytes(40)])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(data)
    with pytest.raises(BadSettings, match=r"no \.npy file"):
        find_pairs(path, tmp_path / "p.parquet")


def test_a_cut_off_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, groups(100))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BadSettings, match=r"no \.npy file"):
        find_pairs(path, tmp_path / "p.parquet")


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}, 2], object), allow_pickle=True)
    with pytest.raises(BadSettings):
        Embeddings(tmp_path / "x.npy")


@pytest.mark.parametrize(("name", "says"), [("p.txt", "parquet or .csv"), ("nowhere/p.csv", "no folder"), ("folder.csv", "is a folder")])
def test_wrong_places_are_refused_before_the_work(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(BadSettings, match=says):
        find_pairs(tmp_path / "missing.npy", tmp_path / name)


@pytest.mark.parametrize("make", [lambda: Window(0.9, 0.8), lambda: Window(0.9, 1.1), lambda: Window(per_picture=0), lambda: Window(float("nan"))])
def test_wrong_windows_are_refused(make: Any) -> None:
    with pytest.raises(BadSettings):
        make()


@pytest.mark.parametrize("values", [{"recall": 0}, {"recall": 1.1}, {"lists": -1}, {"sample": 0}, {"seed": -1}])
def test_wrong_settings_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(BadSettings):
        PairSettings(**values)


@pytest.mark.parametrize("name", ["p.parquet", "p.csv"])
def test_a_full_disk_is_said_and_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path, out = saved(tmp_path, groups(100)), tmp_path / name
    out.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tables, "_write_parquet", full)
    monkeypatch.setattr(tables, "_write_csv", full)
    with pytest.raises(CannotWrite, match="No space left"):
        find_pairs(path, out)
    assert out.read_bytes() == b"old"
    monkeypatch.undo()
    assert find_pairs(path, out).pairs == len(read_pairs(out).a)


def test_without_the_packages_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(optional.importlib, "import_module", missing)
    with pytest.raises(PainterError, match=r"studio\.py dataset .* pip install pyarrow"):
        find_pairs(saved(tmp_path, groups(50)), tmp_path / "p.parquet")
    with pytest.raises(PainterError, match="pip install faiss-cpu"):
        find_pairs(tmp_path / "embeddings.npy", tmp_path / "p.csv", PairSettings(lists=2))


@pytest.mark.parametrize("name", ["p.parquet", "p.csv"])
def test_tables_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    parts = [Pairs(np.array([0, 0, 5]), np.array([2**40, 1, 0]), np.array([0.97, 0.95, 0.9], np.float32)), Pairs.joined([])]
    write_pairs(tmp_path / name, iter(parts))
    back = read_pairs(tmp_path / name)
    assert [back.a.tolist(), back.b.tolist()] == [[0, 0, 5], [2**40, 1, 0]]
    np.testing.assert_allclose(back.cosine, parts[0].cosine, atol=1e-6)
    assert [column.dtype for column in back] == [np.int64, np.int64, np.float32]


@pytest.mark.parametrize("name", ["p.parquet", "p.csv"])
def test_other_tables_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x,y\n1,2\n")
    with pytest.raises(BadSettings, match="no table of pairs"):
        read_pairs(tmp_path / name)
