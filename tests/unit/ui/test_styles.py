"""What the Styles page does without a browser."""

from __future__ import annotations

import base64
import copy
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lib_refonly.errors import BadPicture, BadSettings, Interrupted
from lib_refonly.imaging.infotext import save_png
from lib_refonly.studio.desk import Desk
from lib_refonly.studio.jobs import Waiting
from lib_refonly.studio.style_engine import StylePaintSettings
from lib_refonly.studio.style_jobs import Painted, Step, Wish, code_job, paint_job
from lib_refonly.stylecode.asked import Style
from lib_refonly.stylecode.card import make_card
from lib_refonly.stylecode.codes import RELEASED, TINY, Code, read, write_v1
from lib_refonly.stylecode.codes.blend import distance, random_style
from lib_refonly.stylecode.library import Imported, Library
from lib_refonly.ui import style_recipes, style_work
from lib_refonly.ui.style_library_events import summary
from lib_refonly.ui.style_session import Grid, StyleSession
from tests.ui.fakes import SquarePainter, squares

KNOWN = (TINY, RELEASED)
ONE, OTHER, THIRD = (style_recipes.rounded(random_style(number), TINY) for number in (1, 2, 3))
DRAFT = StylePaintSettings(width=64, height=64, steps=2)


def nobody(name: str) -> str | None:
    return None


@pytest.fixture
def painter() -> SquarePainter:
    free = threading.Event()
    free.set()
    return SquarePainter(free)


# --- recipes ------------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 4])
def test_nine_around_a_mixture(count: int) -> None:
    parts = [ONE, OTHER, THIRD, style_recipes.rounded(random_style(4), TINY)][:count]
    mixture, found = style_recipes.mix_of([(part.code, 1) for part in parts], KNOWN, nobody)
    assert found == [replace(part, notes=()) for part in parts]
    cells = style_recipes.mix_cells(mixture, found, 0.3)
    assert len({cell.code for cell in cells}) == 9
    assert [cell.title for cell in cells].count("The mixture") == 1
    middle = cells[style_recipes.MIDDLE].style
    for number, part in enumerate(found, 1):
        (leaning,) = (cell.style for cell in cells if cell.title == f"More of {number}")
        assert distance(leaning.latent, part.latent) < distance(middle.latent, part.latent)
    assert all(distance(cell.style.latent, middle.latent) < 0.3 for cell in cells if cell.title.startswith("Variation"))


def test_a_cells_code_says_what_is_painted() -> None:
    cells = [*style_recipes.random_cells(5, TINY), *style_recipes.like_cells(ONE, 0.4, 7), *style_recipes.mix_cells(ONE, [ONE, OTHER], 0.2)]
    for cell in cells:
        assert read(cell.code).latent == cell.style.latent
        assert read(cell.style.code).latent == cell.style.latent


def test_numbers_are_shown_and_give_the_same_again() -> None:
    cells = style_recipes.random_cells(41, TINY)
    assert [cell.title for cell in cells] == [str(number) for number in range(41, 50)]
    assert cells == style_recipes.random_cells(41, TINY)
    like = style_recipes.like_cells(ONE, 0.3, 8)
    assert like == style_recipes.like_cells(ONE, 0.3, 8)
    assert like[style_recipes.MIDDLE].style == ONE
    assert style_recipes.like_cells(ONE, 0.3, 9)[1].style == like[2].style


def test_the_middle_is_painted_first() -> None:
    order = style_recipes.from_the_middle()
    assert order[0] == style_recipes.MIDDLE
    assert sorted(order) == list(range(9))


def test_a_mixture_wants_two_of_one_model() -> None:
    with pytest.raises(BadSettings, match="needs two"):
        style_recipes.mix_of([(ONE.code, 1), ("", 1), ("  ", 1)], KNOWN, nobody)
    with pytest.raises(BadSettings, match="Style 3: "):
        style_recipes.mix_of([(ONE.code, 1), ("", 1), ("nonsense", 1)], KNOWN, nobody)
    with pytest.raises(BadSettings, match="different models"):
        style_recipes.mix_of([(ONE.code, 1), (write_v1([0.1 * i - 1 for i in range(20)]), 1)], KNOWN, nobody)


def test_a_name_of_the_library_can_be_mixed() -> None:
    mixture, _ = style_recipes.mix_of([("Ink", 1), (OTHER.code, 0)], KNOWN, {"Ink": ONE.code}.get)
    assert style_recipes.shortest(mixture) == style_recipes.shortest(ONE)


def test_how_far_two_styles_are_apart() -> None:
    assert style_recipes.apart(ONE, ONE) == (pytest.approx(0, abs=1e-9), "the same style")
    assert style_recipes.apart(ONE, Style(tuple(-x for x in ONE.latent), TINY))[1] == "opposites"
    with pytest.raises(BadSettings, match="different models"):
        style_recipes.apart(ONE, Style(OTHER.latent, RELEASED))


# --- jobs ---------------------------------------------------------------------------------------------------------------------------------------------


def wish(*styles: Style) -> Wish:
    return Wish(tuple(style.latent for style in styles), TINY, "a cat", DRAFT)


def test_pictures_come_one_by_one(painter: SquarePainter) -> None:
    events = list(paint_job(painter, wish(ONE, OTHER), Desk(), threading.Event()))
    pictures = [event for event in events if isinstance(event, Painted)]
    assert [one.number for one in pictures] == [0, 1]
    assert pictures[1].picture.tobytes() == squares(OTHER.latent, (64, 64)).tobytes()
    # A reader that is slow is spared the steps; those that come belong to the picture that comes next.
    told = [event for event in events if isinstance(event, Step | Painted)]
    assert [one.number for one in told] == sorted(one.number for one in told)
    assert all(0 <= one.done <= 1 for one in told if isinstance(one, Step))


def test_a_stop_keeps_what_is_painted(painter: SquarePainter) -> None:
    stop = threading.Event()
    events = paint_job(painter, wish(ONE, OTHER, THIRD), Desk(), stop)
    painter._wait.clear()
    done: list[Painted] = []

    def follow() -> None:
        for event in events:
            if isinstance(event, Painted):
                done.append(event)
                stop.set()

    with pytest.raises(Interrupted):
        follow()
    assert len(done) == 1


def test_a_code_waits_for_its_turn(painter: SquarePainter) -> None:
    desk = Desk()
    events: Iterator[Any]
    with desk.turn(lambda: False, lambda _: None):
        events = code_job(painter, [squares(ONE.latent, (64, 64))], desk, threading.Event())
        assert next(events) == Waiting(1)
    *_, code = events
    assert isinstance(code, Code)
    assert code.model == TINY


# --- a tab's memory -----------------------------------------------------------------------------------------------------------------------------------


def test_a_copy_of_a_session_is_a_new_one() -> None:
    session = StyleSession()
    session.chosen = "Ink"
    session.preview = ("code", Image.new("RGB", (8, 8)))
    other = copy.deepcopy(session)
    assert (other.chosen, other.preview, other.mix) == ("", None, Grid())


def test_a_part_has_one_job() -> None:
    session = StyleSession()
    first, elsewhere = session.begin("mix", 1), session.begin("explore")
    session.move_on("mix", 1)
    assert not first.stop.is_set(), "it is for the same"
    session.move_on("mix", 2)
    assert first.stop.is_set()
    assert first.quiet
    second = session.begin("mix", 2)
    session.stop("mix")
    assert second.stop.is_set()
    assert not second.quiet
    assert not elsewhere.stop.is_set()
    session.stop("never begun")


def test_a_sessions_files_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lib_refonly.ui.style_session._KEEP", 2)
    session = StyleSession()
    paths = [session.write("a.json", b"{}") for _ in range(4)]
    assert [path.exists() for path in paths] == [False, False, True, True]


# --- pictures and texts -------------------------------------------------------------------------------------------------------------------------------


def test_a_painted_picture_gives_its_code(tmp_path: Path) -> None:
    save_png(tmp_path / "x.png", squares(ONE.latent, (64, 64)), style_work.infotext(wish(ONE), ONE))
    assert style_work.card_code(tmp_path / "x.png") == ONE.code
    assert style_work.must_have_code(tmp_path / "x.png") == ONE.code


def test_gradio_3_sends_texts_of_data() -> None:
    card = make_card(squares(ONE.latent, (64, 64)), Code(ONE.latent, TINY, "long"))
    text = f"data:image/png;base64,{base64.b64encode(card).decode()}"
    assert style_work.card_code(text) == ONE.code
    assert style_work.picture_of(text).size == (1024, 640)
    with pytest.raises(BadPicture):
        style_work.card_code("/etc/passwd")


def test_a_picture_without_a_code(tmp_path: Path) -> None:
    squares(ONE.latent, (64, 64)).save(tmp_path / "x.png")
    assert style_work.card_code(tmp_path / "x.png") is None
    with pytest.raises(BadPicture, match="no code inside"):
        style_work.must_have_code(tmp_path / "x.png")


def test_a_library_that_cannot_be_used_does_not_stop_codes(painter: SquarePainter, tmp_path: Path) -> None:
    def refused() -> Library:
        raise BadSettings("The library was written by a newer version.")

    shop = style_work.StyleShop(painter, refused, Desk(), lambda: KNOWN)
    assert shop.read(ONE.code).latent == ONE.latent
    library = Library(tmp_path / "styles.sqlite", lambda: KNOWN)
    library.save("Ink wash", Code(ONE.latent, TINY, "long"))
    shop = style_work.StyleShop(painter, lambda: library, Desk(), lambda: KNOWN)
    assert shop.read("ink wash").code == ONE.code


def test_an_import_in_words() -> None:
    assert summary(Imported(1, 0)) == "1 style added."
    said = summary(Imported(7, 2, tuple((str(i), f"{i} (2)") for i in range(7)), ("A", "B")))
    assert said.startswith("7 styles added, 2 here already. 0 is called 0 (2) here")
    assert "2 more were renamed." in said
    assert said.endswith("The model of A, B is not here.")
