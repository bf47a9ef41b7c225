"""`--resume` skips what is finished, and only that."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from lib_refonly.errors import BadModel
from tests.unit.cli.conftest import Run
from tests.unit.cli.fakes import FakeEngine, draw

BATCH = ("color", "reference.png", "lines", "-o", "out", "--resume", "--json")


@pytest.fixture
def finished(run: Run, engine: FakeEngine) -> None:
    """Three drawings, coloured."""
    draw(Path("reference.png"), colour="red")
    for width, name in ((16, "a.png"), (17, "b.png"), (18, "c.png")):
        draw(Path("lines") / name, width)
    assert run(*BATCH).code == 0
    engine.requests.clear()


@pytest.mark.usefixtures("finished")
def test_finished_ones_are_skipped(run: Run, engine: FakeEngine) -> None:
    ran = run(*BATCH)
    assert (ran.code, engine.requests) == (0, [])
    assert [row["status"] for row in ran.rows[:-1]] == ["skipped"] * 3
    assert ran.rows[0]["out"] == str(Path("out/a.png"))


@pytest.mark.usefixtures("finished")
def test_without_resume_all_are_made_again(run: Run, engine: FakeEngine) -> None:
    run(*(word for word in BATCH if word != "--resume"))
    assert len(engine.requests) == 3


def _missing() -> None:
    Path("out/b.png").unlink()


def _cut_off() -> None:
    path = Path("out/b.png")
    path.write_bytes(path.read_bytes()[:45])


def _without_its_end() -> None:
    path = Path("out/b.png")
    path.write_bytes(path.read_bytes()[:-12])


def _damaged() -> None:
    data = bytearray(Path("out/b.png").read_bytes())
    data[data.index(b"IDAT") + 8] ^= 0xFF
    Path("out/b.png").write_bytes(data)


def _foreign() -> None:
    draw(Path("out/b.png"))


def _other_lines() -> None:
    draw(Path("lines/b.png"), 17, "grey")


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_missing, None),
        (_cut_off, "no whole picture"),
        (_without_its_end, "no whole PNG"),
        (_damaged, "no whole picture"),
        (_foreign, "not made by this command"),
        (_other_lines, "have changed since"),
    ],
)
def test_what_is_not_finished_is_made_again_and_says_why(run: Run, spoil: object, why: str | None) -> None:
    spoil()  # type: ignore[operator]
    ran = run(*BATCH)
    assert [row["status"] for row in ran.rows[:-1]] == ["skipped", "done", "skipped"]
    reasons = [note for note in ran.rows[1]["notes"] if note.startswith("made again")]
    assert reasons == [] if why is None else why in reasons[0]
    with Image.open("out/b.png") as picture:
        picture.load()
        assert picture.size == (17, 24)


@pytest.mark.usefixtures("finished")
@pytest.mark.parametrize("changed", [("--steps", "19"), ("--model", "other"), ("--reference-weight", "0.5"), ("--also-reference", "lines/a.png")])
def test_other_settings_make_them_again(run: Run, engine: FakeEngine, changed: tuple[str, str]) -> None:
    run(*BATCH, *changed)
    assert len(engine.requests) == 3


@pytest.mark.usefixtures("finished")
def test_another_reference_makes_them_again(run: Run, engine: FakeEngine) -> None:
    draw(Path("reference.png"), colour="blue")
    run(*BATCH)
    assert len(engine.requests) == 3


@pytest.mark.usefixtures("finished")
def test_missing_layers_and_variations_count_as_unfinished(run: Run, engine: FakeEngine) -> None:
    ran = run(*BATCH, "--layer")
    assert "some of its files are missing" in ran.rows[0]["notes"][0]
    assert len(engine.requests) == 3
    run(*BATCH, "--layer")
    assert len(engine.requests) == 3


@pytest.mark.usefixtures("finished")
def test_a_drawing_that_became_unreadable_is_reported_though_its_result_is_there(run: Run) -> None:
    Path("lines/b.png").write_bytes(b"")
    ran = run(*BATCH)
    assert ran.code == 8
    assert [row["status"] for row in ran.rows[:-1]] == ["skipped", "failed", "skipped"]


def test_a_long_folder_goes_on_where_it_was_stopped(run: Run, engine: FakeEngine) -> None:
    draw(Path("reference.png"), colour="red")
    for number in range(30):
        draw(Path("lines") / f"{number:02}.png", 20 + number)
    engine.failing = {40: BadModel("The model is gone.")}
    assert run(*BATCH).code == 4
    engine.failing = {}
    engine.groups.clear()
    ran = run(*BATCH)
    assert [row["status"] for row in ran.rows[:-1]] == ["skipped"] * 20 + ["done"] * 10
    assert engine.groups == [8, 2]
    assert ran.rows[-1]["exit_code"] == 0
