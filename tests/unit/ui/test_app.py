"""The studio's command line and what its page is made of."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.infotext import save_png
from lib_refonly.models.registry import ModelEntry
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.studio import app
from lib_refonly.studio.engine import infotext
from lib_refonly.ui import about_panel, models_panel, restore, samples
from tests.ui.fakes import character


def test_a_port_in_use_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind((app.LOCAL, 0))
        taken.listen()
        assert app.main(["--port", str(taken.getsockname()[1]), "--no-browser"]) == 2
    assert "in use" in capsys.readouterr().err


@pytest.mark.parametrize("auth", ["anna", "anna:", ":secret"])
def test_half_a_password_is_refused(auth: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["--auth", auth]) == 2
    assert "anna:secret" in capsys.readouterr().err


def test_only_this_machine_unless_asked() -> None:
    assert app._parser().parse_args([]).host == "127.0.0.1"
    assert app._parser().parse_args(["--listen"]).host == "0.0.0.0"


def test_samples_need_both_pictures(tmp_path: Path) -> None:
    for name in ("b", "a", "half"):
        (tmp_path / name).mkdir()
        character(False, 32).save(tmp_path / name / "reference.png")
    for name in ("a", "b"):
        character(True, 32).save(tmp_path / name / "lines.png")
    found = samples.find_samples(tmp_path)
    assert [one.name for one in found] == ["a", "b"]
    assert samples.card(found[0]).size == (440, 220)
    assert samples.find_samples(tmp_path / "none") == []


def test_notices_are_found(tmp_path: Path) -> None:
    (tmp_path / "art").mkdir()
    for name in ("LICENSE", "art/NOTICE.txt", "art/picture.txt"):
        (tmp_path / name).write_text("x")
    assert [path.name for path in about_panel.notices([tmp_path / "LICENSE", tmp_path / "missing", tmp_path / "art"])] == ["LICENSE", "NOTICE.txt"]


def test_memory_is_said_in_words() -> None:
    assert models_panel.memory_text(ModelEntry("m", "M", None, 512, 6_000_000_000)) == (
        "Needs about 6.0 GB of memory on a CPU, 3.0 GB on a graphics card. Paints at 512 px."
    )


def test_any_other_picture_holds_no_settings(tmp_path: Path) -> None:
    character(True, 32).save(tmp_path / "x.png")
    assert restore.found_in(str(tmp_path / "x.png")) is None


def test_what_a_picture_leaves_out_was_at_its_default(tmp_path: Path) -> None:
    made = RefOnlySettings(seed=3, guidance=1.0, paper="black", lines_back=0.5)
    save_png(tmp_path / "x.png", character(True, 32), infotext(made, "tiny", (64, 64), 1.0))
    found = restore.must_find(str(tmp_path / "x.png"))
    assert found.model == "tiny"
    assert (found.settings["paper"], found.settings["seed"], found.settings["fit"]) == ("black", "3", "pad")


@pytest.mark.parametrize(
    ("weights", "back"),
    [
        ((), [1, 1, 1, 1]),
        ((1.0, 1.0), [1, 1, 1, 1]),
        ((1.0, 0.35), [1, 0.35, 1, 1]),
        ((0.5, 0.0, 2.0), [0.5, 0, 2, 1]),
        ((4.0, 1.0), [2, 0.5, 1, 1]),
        ((0.0,), [0, 1, 1, 1]),
        ((1, 2, 1, 1, 4), [0.5, 1, 0.5, 0.5]),
    ],
)
def test_weights_come_back(tmp_path: Path, weights: tuple[float, ...], back: list[float]) -> None:
    save_png(tmp_path / "x.png", character(True, 32), infotext(RefOnlySettings(seed=1), "tiny", (64, 64), 1.0, weights))
    assert restore.must_find(str(tmp_path / "x.png")).weights_of(4, 2.0) == back


@pytest.mark.parametrize("text", ["one two", "1 -1", "nan", "inf 1", "1, 2"])
def test_nonsense_for_weights_is_refused(text: str) -> None:
    with pytest.raises(BadSettings, match="can't be read"):
        restore.Found({}, "", text).weights_of(4, 2.0)


def test_the_models_own_guidance_stays_the_models_own(tmp_path: Path) -> None:
    for made in (RefOnlySettings(seed=3), RefOnlySettings(seed=3, guidance=2.5)):
        save_png(tmp_path / "x.png", character(True, 32), infotext(made, "tiny", (64, 64), 2.5))
        assert float(restore.must_find(str(tmp_path / "x.png")).settings["guidance"]) == made.guidance
