"""`studio.py color`, driven with a fake engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from lib_refonly.errors import BadModel, BadSettings, CannotWrite, Interrupted, OutOfMemory
from lib_refonly.imaging.infotext import read_infotext, read_png_infotext
from lib_refonly.studio.commands.bar import Bar
from tests.unit.cli.conftest import Run
from tests.unit.cli.fakes import NOTE, FakeEngine, draw


@pytest.fixture
def one(run: Run) -> None:
    """reference.png and lines.png in the working folder."""
    draw(Path("reference.png"), colour="red")
    draw(Path("lines.png"))


@pytest.fixture
def folder(run: Run) -> None:
    """reference.png, and three drawings in lines/."""
    draw(Path("reference.png"), colour="red")
    for width, name in ((16, "a.jpg"), (17, "b.png"), (18, "c.webp")):
        draw(Path("lines") / name, width)


def names(path: str | Path) -> list[str]:
    return sorted(os.listdir(path))


@pytest.mark.usefixtures("one")
def test_one_picture(run: Run) -> None:
    ran = run("color", "reference.png", "lines.png", "-o", "out.png", "--seed", "7")
    assert ran.code == 0
    assert ran.out.startswith("out.png  (seed 7, ")
    assert NOTE in ran.err
    with Image.open("out.png") as picture:
        assert picture.getpixel((3, 3)) == (255, 0, 0)
        fields = read_infotext(read_png_infotext(picture))[2]
    assert fields["Seed"] == "7"
    assert len(fields["RefOnly job"]) == 16


@pytest.mark.usefixtures("one")
def test_one_picture_into_a_folder_that_exists(run: Run) -> None:
    Path("done").mkdir()
    assert run("color", "reference.png", "lines.png", "-o", "done").code == 0
    assert names("done") == ["lines.png"]


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize(
    ("out", "says"),
    [("done.jpg", "ends in .png"), ("nowhere/done.png", "does not exist"), ("lines.png", "would be overwritten"), ("./reference.png", "would be overwritten")],
)
def test_a_bad_target_is_refused_before_anything_is_painted(run: Run, engine: FakeEngine, out: str, says: str) -> None:
    ran = run("color", "reference.png", "lines.png", "-o", out)
    assert (ran.code, engine.requests) == (2, [])
    assert says in ran.err


@pytest.mark.usefixtures("one")
def test_settings_reach_the_engine(run: Run, engine: FakeEngine) -> None:
    draw(Path("dress:2.png"))
    run(
        *("color", "reference.png", "lines.png", "-o", "out.png", "--strength", "0.5", "--sampler", "DPM++ 2M", "--lines", "line art", "--model", "mine"),
        *("--also-reference", "dress:2.png", "--also-reference", "reference.png:0.25", "--reference-weight", "2", "--steps", "3"),
    )
    (request,) = engine.requests
    assert request.settings.reference_strength == 0.5
    assert request.settings.sampler == "DPM++ 2M"
    assert request.settings.lines == "line art"
    assert request.settings.steps == 3
    assert request.model == "mine"
    assert [reference.weight for reference in request.references] == [2, 1, 0.25]


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize("wrong", [("--steps", "0"), ("--steps", "many"), ("--strength", "nan"), ("--also-reference", "lines.png:-1")])
def test_wrong_settings_exit_2(run: Run, engine: FakeEngine, wrong: tuple[str, str]) -> None:
    ran = run("color", "reference.png", "lines.png", "-o", "out.png", *wrong)
    assert (ran.code, engine.requests) == (2, [])


@pytest.mark.usefixtures("one")
def test_variations_and_layers_have_names_of_their_own(run: Run) -> None:
    ran = run("color", "reference.png", "lines.png", "-o", "out.png", "--variations", "2", "--layer", "--seed", "4", "--json")
    assert ran.code == 0
    assert [name for name in names(".") if name.startswith("out")] == ["out.2.layer.png", "out.2.png", "out.layer.png", "out.png"]
    with Image.open("out.layer.png") as layer:
        assert layer.mode == "RGBA"
    first, second, summary = ran.rows
    assert (first["out"], first["layer"], first["seed"]) == ("out.png", "out.layer.png", 4)
    assert (second["out"], second["layer"], second["seed"]) == ("out.2.png", "out.2.layer.png", 5)
    assert summary["done"] == 2


@pytest.mark.usefixtures("folder")
def test_a_folder_of_drawings_with_one_reference(run: Run) -> None:
    ran = run("color", "reference.png", "lines", "-o", "new/out", "--json")
    assert ran.code == 0
    assert names("new/out") == ["a.png", "b.png", "c.png"]
    assert [row["file"] for row in ran.rows[:-1]] == [str(Path("lines") / name) for name in ("a.jpg", "b.png", "c.webp")]
    assert set(ran.rows[0]) == {"file", "reference", "status", "out", "layer", "seed", "seconds", "notes", "error"}
    assert ran.rows[-1] | {"seconds": 0} == {"summary": True, "done": 3, "skipped": 0, "failed": 0, "unpaired": [], "seconds": 0, "exit_code": 0}


@pytest.mark.usefixtures("folder")
def test_two_folders_are_paired_by_name_and_the_rest_is_reported(run: Run) -> None:
    draw(Path("sheets/B.jpg"), colour="blue")
    draw(Path("sheets/z.png"))
    ran = run("color", "sheets", "lines", "-o", "out", "--json")
    assert ran.code == 0
    assert names("out") == ["b.png"]
    assert [Path(path).name for path in ran.rows[-1]["unpaired"]] == ["a.jpg", "c.webp", "z.png"]
    assert "z.png: no picture of that name in the other folder" in ran.err


@pytest.mark.usefixtures("folder")
def test_one_bad_picture_does_not_stop_the_others(run: Run) -> None:
    Path("lines/b.png").write_bytes(b"not a picture")
    ran = run("color", "reference.png", "lines", "-o", "out", "--json")
    assert ran.code == 8
    assert names("out") == ["a.png", "c.png"]
    bad = ran.rows[1]
    assert (bad["status"], bad["out"]) == ("failed", None)
    assert "b.png" in bad["error"]
    assert ran.rows[-1]["failed"] == 1


def frames(count: int) -> None:
    """reference.png, and 00.png ... in lines/, whose widths are 20, 21 ..."""
    draw(Path("reference.png"), colour="red")
    for number in range(count):
        draw(Path("lines") / f"{number:02}.png", 20 + number)


def test_an_animators_folder_goes_in_groups(run: Run, engine: FakeEngine) -> None:
    frames(19)
    ran = run("color", "reference.png", "lines", "-o", "out", "--json")
    assert (ran.code, engine.groups) == (0, [8, 8, 3])
    assert [row["out"] for row in ran.rows[:-1]] == [str(Path("out") / f"{number:02}.png") for number in range(19)]
    for number in range(19):
        with Image.open(f"out/{number:02}.png") as picture:
            assert picture.width == 20 + number
    assert len({id(request.references[0].picture) for request in engine.requests}) == 1, "the reference is opened once"


def test_what_is_so_with_every_frame_is_said_once(run: Run) -> None:
    frames(5)
    ran = run("color", "reference.png", "lines", "-o", "out")
    assert ran.err.count(NOTE) == 1
    assert ran.out.count("(seed") == 5


@pytest.mark.parametrize("error", [OutOfMemory("Too large."), BadSettings("No."), ZeroDivisionError("a bug")], ids=lambda error: type(error).__name__)
def test_a_bad_one_in_a_group_costs_only_itself(run: Run, engine: FakeEngine, error: Exception) -> None:
    frames(11)
    engine.failing = {22: error, 29: error}
    Path("lines/05.png").write_bytes(b"")
    ran = run("color", "reference.png", "lines", "-o", "out", "--json")
    assert ran.code == 8
    assert [row["status"] for row in ran.rows[:-1]] == [*("done",) * 2, "failed", *("done",) * 2, "failed", *("done",) * 3, "failed", "done"]
    assert names("out") == [f"{number:02}.png" for number in (0, 1, 3, 4, 6, 7, 8, 10)]


def test_variations_are_grouped_too(run: Run, engine: FakeEngine) -> None:
    frames(3)
    engine.failing = {21: OutOfMemory("Too large.")}
    ran = run("color", "reference.png", "lines", "-o", "out", "--variations", "3", "--seed", "5", "--json")
    assert engine.groups == [6, 1, 1, 1, 3]
    assert [(row["status"], row["seed"]) for row in ran.rows[:-1]] == [
        *(("done", seed) for seed in (5, 6, 7)),
        ("failed", None),
        *(("done", seed) for seed in (5, 6, 7)),
    ]


def test_the_bar_counts_drawings_not_groups(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[float, str]] = []
    monkeypatch.setattr(Bar, "show", lambda _, done, name: shown.append((done, name)))
    frames(10)
    run("color", "reference.png", "lines", "-o", "out", "--steps", "2")
    painted = [(done, name) for done, name in shown if done % 1 or (done, name) == (10, "09.png")]
    assert (0.5, "00.png") in painted
    assert (9.5, "09.png") in painted
    assert painted[-1] == (10, "09.png")
    assert [done for done, _ in painted] == sorted(done for done, _ in painted)


@pytest.mark.usefixtures("folder")
def test_when_all_fail_alike_the_code_says_why(run: Run, engine: FakeEngine) -> None:
    engine.failing = dict.fromkeys((16, 17, 18), OutOfMemory("Too large; try --size 256."))
    ran = run("color", "reference.png", "lines", "-o", "out")
    assert ran.code == 6
    assert ran.err.count("Too large") == 3


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("error", "code"), [(BadModel("No such model."), 4), (CannotWrite("The disk is full."), 5), (Interrupted("Stopped."), 130)])
def test_what_would_befall_all_ends_the_run(run: Run, engine: FakeEngine, error: Exception, code: int) -> None:
    engine.failing = {17: error}
    ran = run("color", "reference.png", "lines", "-o", "out")
    assert ran.code == code
    assert names("out") == ["a.png"]
    assert str(error) in ran.err
    assert "1 more would meet the same" in ran.err


@pytest.mark.usefixtures("folder")
def test_a_fault_of_ours_is_logged_and_the_rest_goes_on(run: Run, engine: FakeEngine, tmp_path: Path) -> None:
    engine.failing = {17: ZeroDivisionError("a bug")}
    ran = run("color", "reference.png", "lines", "-o", "out")
    assert ran.code == 8
    assert names("out") == ["a.png", "c.png"]
    (log,) = (tmp_path / "logs").iterdir()
    assert "ZeroDivisionError: a bug" in log.read_text()
    assert str(log) in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.usefixtures("one")
def test_a_fault_of_ours_in_one_picture_exits_70(run: Run, engine: FakeEngine) -> None:
    engine.failing = {16: ZeroDivisionError("a bug")}
    assert run("color", "reference.png", "lines.png", "-o", "out.png").code == 70


@pytest.mark.usefixtures("one")
def test_a_full_disk_leaves_nothing_half_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    ran = run("color", "reference.png", "lines.png", "-o", "out.png")
    assert ran.code == 5
    assert names(".") == ["lines.png", "reference.png"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("missing.png", "lines", "-o", "out"), 3, "no such file"),
        (("reference.png", "empty", "-o", "out"), 3, "no pictures in this folder"),
        (("reference.png", "lines", "-o", "reference.png"), 2, "needs a folder"),
        (("reference.png", "lines", "-o", "lines"), 2, "would be overwritten"),
        (("reference.png", "lines", "-o", "out", "--also-reference", "gone.png:2"), 3, "--also-reference"),
    ],
)
def test_bad_places(run: Run, engine: FakeEngine, arguments: tuple[str, ...], code: int, says: str) -> None:
    Path("empty").mkdir()
    Path("empty/.hidden.png").write_bytes(b"")
    ran = run("color", *arguments)
    assert (ran.code, engine.requests) == (code, [])
    assert says in ran.err


def test_names_with_spaces_unicode_and_dashes(run: Run) -> None:
    draw(Path("-my girl ä.png"), colour="red")
    draw(Path("-線 画.png"))
    assert run("color", "-o=-完成 1.png", "--", "-my girl ä.png", "-線 画.png").code == 0
    assert Path("-完成 1.png").exists()


@pytest.mark.skipif(os.name == "nt", reason="such names exist on POSIX only")
def test_a_name_that_is_no_unicode(run: Run) -> None:
    draw(Path("reference.png"))
    Path("lines").mkdir()
    os.rename(draw(Path("x.png")), os.fsencode("lines/") + b"\xff.png")
    ran = run("color", "reference.png", "lines", "-o", "out", "--json")
    assert ran.code == 0
    assert os.listdir(b"out") == [b"\xff.png"]


@pytest.mark.usefixtures("one")
def test_the_bar_is_shown_when_asked_and_only_then(run: Run) -> None:
    quiet = run("color", "reference.png", "lines.png", "-o", "out.png")
    assert "[#" not in quiet.err + quiet.out
    assert "\r" not in quiet.err
    loud = run("color", "reference.png", "lines.png", "-o", "out.png", "--progress", "--json")
    assert "1/1" in loud.err
    assert loud.err.rstrip("\n").endswith("\x1b[K")
    assert "\r" not in loud.out
