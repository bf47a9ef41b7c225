"""`studio.py dataset`: what it prints, its exit codes, and that its packages are installed at its first start."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lib_refonly.models.registry import ModelStore
from lib_refonly.studio.bootstrap import start
from lib_refonly.studio.bootstrap.handover import ROOT, venv_python
from lib_refonly.studio.bootstrap.requirements import read_groups
from lib_refonly.training.dataset import optional
from lib_refonly.training.dataset.tables import read_pairs
from tests.unit.bootstrap.project import make
from tests.unit.cli.conftest import Run


@pytest.fixture(autouse=True)
def no_segmenter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelStore, "segmenter", lambda self: None)


@pytest.fixture
def embeddings(tmp_path: Path) -> Path:
    """Ten pictures around each of six directions."""
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.standard_normal((6, 16)), 10, axis=0) + 0.2 * rng.standard_normal((60, 16))
    np.save(tmp_path / "embeddings.npy", rows.astype(np.float32))
    return tmp_path / "embeddings.npy"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        picture = Image.new("RGB", (64, 64))
        ImageDraw.Draw(picture).ellipse((8 + 3 * number, 8, 40 + 3 * number, 50), fill=(40 * number, 200, 90), outline="white", width=3)
        picture.save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no")
    return folder


def test_pairs_are_written_and_told(run: Run, embeddings: Path) -> None:
    ran = run("dataset", "pairs", embeddings, "-o", "pairs.parquet", "--min", "0.9", "--max", "0.99", "--per-picture", "3", "--exact")
    assert ran.code == 0
    pairs = read_pairs(Path("pairs.parquet"))
    assert ran.out.startswith(f"{len(pairs.a)} pairs of ")
    assert "every picture was compared with every other" in ran.out
    assert np.bincount(pairs.a).max() == 3
    assert pairs.cosine.min() >= 0.9
    assert pairs.cosine.max() <= 0.99
    assert (pairs.a // 10 == pairs.b // 10).all()


def test_lists_say_their_recall(run: Run, embeddings: Path) -> None:
    ran = run("dataset", "pairs", embeddings, "-o", "pairs.csv", "--lists", "6", "--recall", "0.95")
    assert ran.code == 0
    assert "of 6 lists were searched for each, recall " in ran.out
    assert json.loads(Path("pairs.csv.json").read_text("utf-8"))["found"]["recall"] >= 0.95


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["missing.npy", "-o", "p.csv"], 2, "There is no file missing.npy"),
        (["EMBEDDINGS", "-o", "p.txt"], 2, ".parquet or .csv"),
        (["EMBEDDINGS", "-o", "nowhere/p.csv"], 2, "There is no folder"),
        (["EMBEDDINGS", "-o", "p.csv", "--min", "0.99"], 2, "the lower limit is not above the upper one"),
        (["EMBEDDINGS", "-o", "p.csv", "--per-picture", "0"], 2, "At least 1 pair"),
        (["EMBEDDINGS", "-o", "p.csv", "--recall", "2"], 2, "recall is above 0 and at most 1"),
    ],
)
def test_what_is_wrong_is_one_sentence(run: Run, embeddings: Path, words: list[str], code: int, says: str) -> None:
    ran = run("dataset", "pairs", *(str(embeddings) if word == "EMBEDDINGS" else word for word in words))
    assert ran.code == code
    assert says in ran.err
    assert ran.err.count("\n") == 1
    assert list(Path().iterdir()) == []


def test_missing_packages_are_named_with_what_to_do(run: Run, embeddings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(optional.importlib, "import_module", missing)
    ran = run("dataset", "pairs", embeddings, "-o", "p.parquet")
    assert ran.code == 1
    assert "pyarrow is not installed here. Start this as `studio.py dataset ...`" in ran.err


def test_a_set_is_built_and_told(run: Run, pictures: Path) -> None:
    words = ("dataset", "build", pictures, "--out", "set", "--smallest", "32", "--min", "0.2", "--max", "1", "--per-picture", "2", "--shard", "4")
    ran = run(*words)
    assert ran.code == 0
    assert "No segmentation model is used" in ran.err
    assert "6 of 7 pictures kept" in ran.out
    manifest = json.loads(Path("set/manifest.json").read_text("utf-8"))
    assert f"{manifest['samples']} samples in {len(manifest['shards'])} shards" in ran.out
    assert Path("set/report.md").is_file()
    assert run(*words).out == ran.out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["missing", "--out", "set"], 2, "There is no folder"),
        (["PICTURES", "--out", "PICTURES"], 2, "outside"),
        (["PICTURES", "--out", "set", "--side", "4"], 2, "Sides are"),
        (["PICTURES", "--out", "set", "--segmenter", "none.onnx"], 2, "There is no segmentation model none.onnx"),
        (["PICTURES", "--out", "set", "--encoder", "nowhere", "--smallest", "32"], 4, "nowhere"),
    ],
)
def test_a_wrong_build_is_one_sentence(run: Run, pictures: Path, words: list[str], code: int, says: str) -> None:
    ran = run("dataset", "build", *(str(pictures) if word == "PICTURES" else word for word in words))
    assert ran.code == code
    assert says in ran.err


def test_its_packages_are_installed_at_its_first_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, ensured = make(tmp_path), list[tuple[str, ...]]()
    monkeypatch.setattr(start, "ensure", lambda names, *_: ensured.append(tuple(names)))
    monkeypatch.setattr(start, "become", lambda command: ensured.append(tuple(command)) or 0)
    spread = ["dataset", "build", "x", "--out", "y", "--ray=local"]
    for words in (["dataset", "pairs", "x.npy", "-o", "p.csv"], ["models"], spread):
        start.start(words, project.setup)
    command = (str(venv_python(project.setup.venv)), str(tmp_path / "studio.py"))
    first, second = [("studio", "dataset"), (*command, "dataset", "pairs", "x.npy", "-o", "p.csv")], [("studio",), (*command, "models")]
    assert ensured == [*first, *second, ("studio", "dataset", "ray"), (*command, *spread)]


def test_the_group_names_what_the_code_asks_for() -> None:
    groups = read_groups(ROOT / "pyproject.toml")
    wanted = {*groups["dataset"].requirements, *groups["ray"].requirements}
    assert wanted == set(optional._PACKAGES.values())
    assert wanted <= set(groups["test"].requirements)
