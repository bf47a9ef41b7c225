"""The files of a data set: layout, resuming, reading while it grows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lib_refonly.errors import BadSettings
from lib_refonly.training.drawings import packages
from lib_refonly.training.drawings.build import build, main
from lib_refonly.training.drawings.dataset import DrawingSet

COUNT, SIZE = 18, 32


@pytest.fixture(scope="module")
def made(npm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("drawings") / "train"
    build(out, seed=3, count=COUNT, size=SIZE, npm=npm)
    return out


def test_layout(made: Path) -> None:
    drawings = DrawingSet(made)
    assert len(drawings) == len(drawings.meta) == COUNT
    assert drawings.size == SIZE
    assert drawings.pictures.shape == (COUNT, 2, SIZE, SIZE, 3)
    assert drawings.alpha.shape == drawings.blueprints.shape == (COUNT, 2, SIZE, SIZE)
    assert {drawings.pictures.dtype, drawings.alpha.dtype, drawings.blueprints.dtype} == {np.dtype(np.uint8)}
    assert set(drawings.meta[0]) == {"id", "group", "style", "caption", "captionB", "attributes", "digest"}
    assert drawings.description["packages"] == packages.pinned()
    assert len(drawings.description["content"]) == 64
    assert not drawings.pictures.flags.writeable


def test_black_outside_and_white_lines(made: Path) -> None:
    drawings = DrawingSet(made)
    empty = drawings.alpha == 0
    assert empty.any()
    assert not drawings.pictures[empty].any()
    assert (drawings.blueprints[empty] < 16).mean() > 0.98  # the adaptive threshold may draw just beside an edge
    assert all(drawing.max() > 100 and np.median(drawing) == 0 for pair in drawings.blueprints for drawing in pair)


def test_a_build_is_repeatable_and_resumes(made: Path, npm: Path, tmp_path: Path) -> None:
    again = tmp_path / "train"
    shutil.copytree(made, again)
    (again / "done.json").write_text('{"done": 7}')
    lines = (again / "meta.jsonl").read_text("utf-8").splitlines(keepends=True)
    (again / "meta.jsonl").write_text("".join(lines[:9]) + lines[9][:20], "utf-8")
    for name in ("pictures", "alpha", "blueprint"):
        np.load(again / f"{name}.npy", mmap_mode="r+")[7:] = 99
    assert len(DrawingSet(again)) == len(DrawingSet(again).meta) == 7
    build(again, seed=3, count=COUNT, size=SIZE, npm=npm, workers=2)
    for file in made.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_finished_set_is_left_as_it_is(made: Path, npm: Path) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in made.glob("*.npy")}
    build(made, seed=3, count=COUNT, size=SIZE, npm=npm)
    assert {file.name: file.stat().st_mtime_ns for file in made.glob("*.npy")} == before


def test_another_set_in_the_folder_is_refused(made: Path, npm: Path) -> None:
    with pytest.raises(ValueError, match="another data set"):
        build(made, seed=4, count=COUNT, size=SIZE, npm=npm)


def test_command_line(npm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--out", str(tmp_path / "h"), "--count", "5", "--seed", "1", "--split", "heldout", "--size", "16", "--npm", str(npm)])
    assert "5/5" in capsys.readouterr().out
    assert {record["group"] for record in DrawingSet(tmp_path / "h").meta} == {"adventurer", "micah", "open-peeps", "big-ears", "openmoji"}


def test_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train, heldout"):
        build(tmp_path, seed=0, count=1, split="validation")


def test_missing_node_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(packages.DrawingToolsMissing, match="Install node"):
        packages.ensure(tmp_path)


def test_other_versions_do_not_count_as_installed(tmp_path: Path) -> None:
    for name, version in packages.pinned().items():
        folder = tmp_path / "node_modules" / name
        folder.mkdir(parents=True)
        (folder / "package.json").write_text(json.dumps({"version": version}))
    assert packages.installed(tmp_path)
    (tmp_path / "node_modules" / "openmoji" / "package.json").write_text('{"version": "16.0.0"}')
    assert not packages.installed(tmp_path)


def test_a_folder_that_is_no_set(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="no data set"):
        DrawingSet(tmp_path)
