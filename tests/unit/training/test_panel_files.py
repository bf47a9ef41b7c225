"""ONE-PIC's training sets of the painter's own pictures: what is read, what is refused, and what trainers find."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib_refonly.errors import BadSettings
from lib_refonly.onepic.shelf import told
from lib_refonly.studio.cli import main
from lib_refonly.training import panel_files
from lib_refonly.training.drawings.dataset import DrawingSet
from lib_refonly.training.kohya.canvases import Canvases
from lib_refonly.training.panel_files import build, read
from lib_refonly.training.panels import GREY, KINDS

SQUARE = Canvases.named("reference,lines/lines,target", 64, 64)
COLOURS = {"reference": (255, 0, 0), "lines": (0, 255, 0), "target": (0, 0, 255)}
KIND = {kind: number for number, kind in enumerate(KINDS)}


def draw(path: Path, colour: tuple[int, int, int] = (9, 9, 9), size: tuple[int, int] = (64, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two records, girl and boy; the boy has no caption."""
    mine = tmp_path / "mine"
    for name, colour in COLOURS.items():
        draw(mine / name / "girl.png", colour)
        draw(mine / name / "boy.jpg", colour)
    (mine / "target" / "girl.txt").write_text("a girl,\ncurls ", encoding="utf-8")
    return mine


def refusal(source: Path, canvases: Canvases = SQUARE) -> list[str]:
    with pytest.raises(BadSettings) as caught:
        read(source, canvases)
    return str(caught.value).split("\n- ")[1:]


def manifest(folder: Path, *rows: object) -> Path:
    path = folder / "set.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


GIRL = {"reference": "reference/girl.png", "lines": "lines/girl.png", "target": "target/girl.png", "caption": "a girl"}


# --- the two forms ------------------------------------------------------------------------------------------------------------------------------------


def test_a_folder_is_matched_by_name_without_ending(folder: Path) -> None:
    (folder / "lines" / "Thumbs.db").write_bytes(b"no picture")
    (folder / ".hidden").mkdir()
    records, notes = read(folder, SQUARE)
    assert [(record.name, record.caption) for record in records] == [("boy", ""), ("girl", "a girl, curls")]
    assert records[0].pictures == {name: folder / name / "boy.jpg" for name in COLOURS}
    assert notes == ["1 of 2 records have no caption: boy"]


def test_panels_may_be_numbered(tmp_path: Path) -> None:
    for name in ("1", "2", "target"):
        draw(tmp_path / name / "a.png")
    records, _ = read(tmp_path, Canvases.named("1x3", 64, 64))
    assert list(records[0].pictures) == ["1", "2", "target"]


def test_lines_of_json(folder: Path) -> None:
    records, notes = read(manifest(folder, GIRL, GIRL | {"caption": None}), SQUARE)
    assert [(record.name, record.caption) for record in records] == [("line 1", "a girl"), ("line 2", "")]
    assert records[0].pictures["lines"].samefile(folder / "lines" / "girl.png")
    assert notes == ["1 of 2 records have no caption: line 2"]


def test_a_table(folder: Path) -> None:
    path = folder / "set.csv"
    path.write_text('\ufeffcaption,target,lines,reference\r\n"girl, ""curls""",target/girl.png,lines/girl.png,reference/girl.png\r\n', encoding="utf-8")
    (record,), notes = read(path, SQUARE)
    assert record.caption == 'girl, "curls"'
    assert record.pictures["reference"].samefile(folder / "reference" / "girl.png")
    assert notes == []


# --- what is refused ----------------------------------------------------------------------------------------------------------------------------------


def test_everything_wrong_is_told_at_once(folder: Path) -> None:
    (folder / "lines" / "girl.png").unlink()
    (folder / "reference" / "boy.jpg").write_bytes(b"\xff\xd8\xff and no more")
    draw(folder / "target" / "boy.png", size=(20, 20))
    (folder / "target" / "girl.txt").write_bytes(b"\xff\xfe\x00")
    draw(folder / "refrence" / "girl.png")
    said = refusal(folder)
    assert said[:3] == [
        "the folder refrence is no panel's; panels are reference, lines, target",
        "target/boy.png and target/boy.jpg claim the same record",
        "target/girl.txt can't be read as UTF-8 text (UnicodeDecodeError)",
    ]
    assert said[3].startswith("boy, reference: This is no picture that can be opened here")
    assert said[4:] == ["boy, target: boy.png is only 20 x 20 px, for a panel of 64 x 64", "girl, lines: there is no picture"]


def test_an_empty_set(tmp_path: Path) -> None:
    assert refusal(tmp_path) == [f"{tmp_path} has no record. A folder needs pictures in reference/, lines/, target/; a manifest needs lines."]
    (tmp_path / "set.jsonl").write_text("\n", encoding="utf-8")
    assert len(refusal(tmp_path / "set.jsonl")) == 1


@pytest.mark.parametrize("place", ["../outside.png", "{root}/../outside.png", "link.png", "lines/../../outside.png"])
def test_nothing_is_opened_outside_the_manifest_s_folder(folder: Path, place: str) -> None:
    draw(folder.parent / "outside.png")
    os.symlink(folder.parent / "outside.png", folder / "link.png")
    name = Path(place).name
    assert refusal(manifest(folder, GIRL | {"lines": place.format(root=folder)})) == [f"line 1, lines: {name} lies outside mine"]


def test_nor_outside_a_folder(folder: Path) -> None:
    (folder / "lines" / "girl.png").unlink()
    draw(folder.parent / "outside.png")
    os.symlink(folder.parent / "outside.png", folder / "lines" / "girl.png")
    assert refusal(folder) == ["girl, lines: girl.png lies outside mine"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"refrence": "a.png"}, "line 1: refrence is no panel's; panels are reference, lines, target"),
        ({"lines": ""}, "line 1, lines: there is no picture"),
        ({"lines": "lines/nobody.png"}, "line 1, lines: There is no file 'nobody.png'"),
        ({"lines": "lines"}, "line 1, lines: 'lines' is a folder, not a picture"),
        ({"lines": "a\u0000b.png"}, "line 1, lines: this can't be a file (ValueError)"),
        ({"caption": ["a", "b"]}, "line 1: caption has to be a text"),
    ],
)
def test_faults_of_a_manifest(folder: Path, row: dict[str, object], said: str) -> None:
    assert refusal(manifest(folder, GIRL | row)) == [said]


def test_lines_that_are_no_objects(folder: Path) -> None:
    path = folder / "set.jsonl"
    path.write_text(f'{json.dumps(GIRL)}\n\n[1]\n{{"lines": \n', encoding="utf-8")
    assert refusal(path) == ["line 3 is no JSON object", "line 4 is no JSON object"]


def test_a_table_whose_line_is_longer_than_its_head(folder: Path) -> None:
    path = folder / "set.csv"
    path.write_text("reference,lines,target\nreference/girl.png,lines/girl.png,target/girl.png,a girl\n", encoding="utf-8")
    assert refusal(path) == ["line 2: a column without a name is no panel's; panels are reference, lines, target"]


@pytest.mark.parametrize(("name", "data", "said"), [("set.txt", b"x", "a .jsonl or a .csv"), ("set.csv", b"\xff\xfe", "UTF-8"), ("none.csv", None, "no file")])
def test_other_files(tmp_path: Path, name: str, data: bytes | None, said: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(BadSettings, match=said):
        read(tmp_path / name, SQUARE)


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    for number in range(30):
        draw(tmp_path / "lines" / f"{number:02}.png")
    said = refusal(tmp_path)
    assert len(said) == panel_files.MOST_TOLD + 1
    assert said[-1] == "... and 40 more"


# --- what is written ----------------------------------------------------------------------------------------------------------------------------------


def test_canvases_for_sd_scripts(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    canvases = Canvases.named("reference,lines/lines,target", 64, 128, "colorize", "Mine")
    assert build(folder, canvases, out) == (2, ["1 of 2 records have no caption: boy"])
    assert sorted(path.name for path in (out / "canvases").iterdir()) == ["00001.png", "00002.png", "00002.txt"]
    assert (out / "canvases" / "00002.txt").read_text(encoding="utf-8") == "a girl, curls"
    seen = np.asarray(Image.open(out / "canvases" / "00002.png"))
    assert seen.shape == (256, 128, 3)
    for number, name in enumerate(canvases.names):
        row, column = divmod(number, 2)
        assert tuple(seen[64 + 128 * row, 32 + 64 * column]) == COLOURS[name]
    assert Canvases.read(out) == canvases
    told_of_it = told({"refonly_onepic": (out / "onepic.json").read_text(encoding="utf-8")})
    assert told_of_it == {"task": "colorize", "layout": "2x2", "panels": [["reference", "lines"], ["lines", "target"]], "title": "Mine", "size": [64, 128]}


def test_the_data_file_is_toml_that_names_the_folder(folder: Path, tmp_path: Path) -> None:
    from lib_refonly.training.cli import tomllib

    out = tmp_path / 'a "set"'
    build(folder, SQUARE, out)
    tables = tomllib.loads((out / "dataset.toml").read_text(encoding="utf-8"))
    (data,) = tables["datasets"]
    assert (data["resolution"], data["enable_bucket"]) == ([128, 128], False)
    assert data["subsets"] == [{"image_dir": str(out / "canvases"), "caption_extension": ".txt", "num_repeats": 1}]


@pytest.mark.parametrize(("task", "edge"), [("", (0, 0, 255)), ("colorize", (255, 0, 0))])
def test_pictures_are_fitted_as_the_task_has_it(tmp_path: Path, task: str, edge: tuple[int, int, int]) -> None:
    """A wide picture, blue between red ends: cropped, its ends are gone; padded, its border goes on above it."""
    wide = np.full((64, 128, 3), (0, 0, 255), np.uint8)
    wide[:, :20], wide[:, -20:], wide[0], wide[-1] = (255, 0, 0), (255, 0, 0), (255, 0, 0), (255, 0, 0)
    for name in COLOURS:
        draw(tmp_path / "mine" / name / "a.png")
        Image.fromarray(wide).save(tmp_path / "mine" / name / "a.png")
    build(tmp_path / "mine", Canvases.named("reference,lines/lines,target", 64, 64, task), tmp_path / "out")
    assert tuple(np.asarray(Image.open(tmp_path / "out" / "canvases" / "00001.png"))[5, 32]) == edge


def test_a_set_for_our_own_trainer(folder: Path, tmp_path: Path) -> None:
    build(folder, SQUARE, tmp_path / "out", own=True)
    made = DrawingSet(tmp_path / "out")
    assert (len(made), made.size) == (2, 64)
    assert made.pictures.shape == (2, len(KINDS), 64, 64, 3)
    for name, colour in COLOURS.items():
        assert tuple(made.pictures[1, KIND[name], 30, 30]) == colour
    assert (made.pictures[:, KIND["garment"]] == GREY).all()
    assert made.meta[1] == {"id": "girl", "group": "own", "captions": ["a girl, curls"] * len(KINDS)}


@pytest.mark.parametrize(
    ("canvases", "own", "said"),
    [
        (Canvases.named("2x2", 64, 64), True, "which are called target, reference"),
        (Canvases.named("lines,target", 64, 128), True, "square panels"),
        (Canvases.named("lines,target", 72, 64), False, "144 x 64 px; both have to be multiples of 64"),
        (Canvases.named("lines,target", 64, 64, "no-task"), False, "There is no task"),
        (Canvases.named("lines,target", 32, 64), False, "64 to 2048"),
    ],
)
def test_sets_that_no_trainer_could_read(folder: Path, tmp_path: Path, canvases: Canvases, own: bool, said: str) -> None:
    with pytest.raises(BadSettings, match=said):
        build(folder, canvases, tmp_path / "out", own)
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_over_or_before_all_is_well(folder: Path, tmp_path: Path) -> None:
    (folder / "lines" / "girl.png").unlink()
    with pytest.raises(BadSettings, match="no picture"):
        build(folder, SQUARE, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(BadSettings, match="not empty"):
        build(folder, SQUARE, folder)


# --- what all canvases have in common -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["lines,lines", "target,target", "lines,target/lines", "a b,target", "caption,target", "", "9x9", "target," + "a," * 9 + "b"])
def test_rows_that_are_no_canvas(text: str) -> None:
    with pytest.raises(BadSettings):
        Canvases.named(text, 64, 64)


@pytest.mark.parametrize(("text", "rows", "columns"), [("a,b/c,target", (16, 32), (8, 16)), ("a,target,b", (0, 16), (8, 16)), ("target/a", (0, 16), (0, 8))])
def test_where_the_target_is(text: str, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    assert Canvases.named(text, 64, 128).target_cells == (slice(*rows), slice(*columns))


@pytest.mark.parametrize("text", ["", "[]", '{"panels": [["target"]]}', '{"panels": 3, "size": 64, "task": "", "title": ""}'])
def test_a_damaged_description(tmp_path: Path, text: str) -> None:
    (tmp_path / "onepic.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadSettings, match="studio.py data canvases"):
        Canvases.read(tmp_path)


# --- the command --------------------------------------------------------------------------------------------------------------------------------------


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*more: str) -> int:
        return main(["data", "canvases", str(folder), "--panels", "reference,lines/lines,target", "--out", str(tmp_path / "out"), *more])

    assert run("--size", "64") == 2
    assert run("--size", "64x64", "--task", "colorize", "--title", "Mine") == 0
    said = capsys.readouterr()
    assert said.out == f"2 canvases in {tmp_path / 'out'}\n"
    assert said.err.endswith("1 of 2 records have no caption: boy\n")
    assert (Canvases.read(tmp_path / "out").task, Canvases.read(tmp_path / "out").title) == ("colorize", "Mine")
    assert run("--size", "64x64") == 2
