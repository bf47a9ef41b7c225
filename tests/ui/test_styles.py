"""The Styles page, as a painter uses it: a real browser, a painter that paints coloured squares."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lib_refonly.stylecode.card import make_card, read_card
from lib_refonly.stylecode.codes import TINY, Code, read, write_long, write_short
from lib_refonly.stylecode.codes.blend import mix, random_style
from lib_refonly.stylecode.library import Library
from tests.ui.conftest import Studio
from tests.ui.fakes import squares
from tests.ui.test_page import downloaded, drop, set_number

OpenPage = Callable[..., Any]
ONE, OTHER = (Code(random_style(number), TINY, "long") for number in (1, 2))


@pytest.fixture
def styles(open_page: OpenPage) -> Callable[[], Any]:
    """A page, with Styles in front."""

    def open_() -> Any:
        page = open_page()
        page.get_by_role("tab", name="Styles", exact=True).click()
        page.wait_for_selector(box("code"))
        return page

    return open_


def box(name: str) -> str:
    return f"#refonly-styles-{name} :is(textarea, input:not([type=range]))"


def tab(page: Any, name: str) -> None:
    page.locator("#refonly-styles-parts").get_by_role("tab", name=name, exact=True).click()


def type_in(page: Any, name: str, text: str) -> None:
    page.wait_for_selector(box(name))
    page.fill(box(name), text)


def wait_value(page: Any, name: str, value: str) -> None:
    page.wait_for_function("([selector, value]) => document.querySelector(selector)?.value === value", arg=[box(name), value])


def wait_other_value(page: Any, name: str, value: str) -> str:
    there = "([selector, value]) => { const now = document.querySelector(selector)?.value; return now && now !== value }"
    page.wait_for_function(there, arg=[box(name), value])
    return page.input_value(box(name))


def use(page: Any, code: str) -> None:
    """Type a code and wait until it is read."""
    type_in(page, "code", code)
    page.wait_for_selector("#refonly-styles-said p")
    page.wait_for_selector(box("long"))


def wait_idle(page: Any, part: str) -> None:
    page.wait_for_selector(f"#refonly-styles{part}-go:not([disabled])")
    page.wait_for_selector(f"#refonly-styles{part}-stop[disabled]")


def painted(page: Any, grid: str) -> int:
    """How many cells of a grid show a picture, and not the empty tile."""
    return page.locator(f"#refonly-styles-{grid}-grid button img:not([src*='not-yet'])").count()


def wait_grid(page: Any, part: str, count: int = 9) -> None:
    page.wait_for_function(
        "([grid, count]) => document.querySelectorAll(`#refonly-styles-${grid}-grid button img:not([src*='not-yet'])`).length >= count",
        arg=[part, count],
    )


def test_a_pictures_code_is_made_shown_and_copied(styles: Callable[[], Any], pictures: dict[str, Path], browser: Any, studio: Studio) -> None:
    page = styles()
    page.click("#refonly-styles-make-go")
    page.wait_for_selector("#refonly-styles-make-message [role=alert]:has-text('Add a picture first')")
    page.set_input_files("#refonly-styles-picture-1 input[type=file]", str(pictures["reference"]))
    page.wait_for_selector("#refonly-styles-picture-1 img")
    page.wait_for_selector("#refonly-styles-make-message [role=alert]", state="detached")  # the zone has heard of its picture
    page.click("#refonly-styles-make-go")
    code = wait_other_value(page, "code", "")
    assert read(code).form == "short"
    page.wait_for_selector(f"#refonly-styles-make-message:has-text('{code}')")
    wait_value(page, "long", read(code).long)
    browser.grant_permissions(["clipboard-read", "clipboard-write"], origin=studio.address)
    page.click("#refonly-styles-code button")
    page.wait_for_function("code => navigator.clipboard.readText().then((text) => text === code)", arg=code)


def test_codes_are_read_as_they_are_typed(styles: Callable[[], Any]) -> None:
    page = styles()
    type_in(page, "code", "not a code")
    page.wait_for_selector("#refonly-styles-said [role=alert]:has-text('has 21, 27 or 29 symbols')")
    slip = list(ONE.long)
    slip[8] = "A" if slip[8] != "A" else "B"
    type_in(page, "code", "".join(slip))
    page.wait_for_selector("#refonly-styles-said [data-kind=warning]:has-text('was read so')")
    wait_value(page, "long", ONE.long)
    type_in(page, "code", ONE.short)
    page.wait_for_selector("#refonly-styles-said:has-text('tiny-stylecode')")
    type_in(page, "code", "")
    page.wait_for_selector(box("long"), state="hidden")
    page.click("#refonly-styles-go")
    page.wait_for_selector("#refonly-styles-message [role=alert]:has-text('Give a code first')")


def test_preview_and_share_card(styles: Callable[[], Any], studio: Studio, tmp_path: Path) -> None:
    page = styles()
    use(page, ONE.short)
    page.click("#refonly-styles-settings > button")
    set_number(page, "styles-strength", 0.5)
    set_number(page, "styles-seed", 7)
    type_in(page, "prompt", "a cat")
    page.keyboard.press("Tab")
    page.click("#refonly-styles-go")
    page.wait_for_selector("#refonly-styles-picture img")
    wait_idle(page, "")
    ((latent, prompt, settings),) = studio.painter.wishes
    assert (prompt, settings.seed, settings.strength) == ("a cat", 7, 0.5)
    assert write_short(latent, TINY) == ONE.short
    page.click("#refonly-styles-make-card")
    page.wait_for_selector("#refonly-styles-card img")
    saved = downloaded(page, "refonly-styles-save-card", tmp_path)
    assert read_card(saved.read_bytes()) == ONE.long
    type_in(page, "code", OTHER.short)  # the picture is not this style's
    page.wait_for_selector("#refonly-styles-make-card", state="hidden")

    other = styles()
    assert other.input_value(box("code")) == "", "another tab has a style of its own"
    other.set_input_files("#refonly-styles-picture-1 input[type=file]", str(saved))
    wait_value(other, "code", ONE.long)
    other.wait_for_selector("#refonly-styles-make-message:has-text('has its style')")
    assert page.input_value(box("code")) == OTHER.short


@pytest.mark.parametrize("where", ["refonly-styles-read-zone", "refonly-styles-prompt", "refonly-styles-right"])
def test_a_card_may_be_dropped_anywhere_on_the_page(styles: Callable[[], Any], tmp_path: Path, where: str) -> None:
    page = styles()
    card = tmp_path / "card.png"
    card.write_bytes(make_card(squares(ONE.latent, (64, 64)), ONE))
    drop(page, where, card)
    wait_value(page, "code", ONE.long)
    page.wait_for_selector("#refonly-styles-message:has-text('is in the box')")


def test_a_picture_without_a_code_and_a_file_that_is_none(styles: Callable[[], Any], pictures: dict[str, Path], tmp_path: Path) -> None:
    page = styles()
    drop(page, "refonly-styles-read-zone", pictures["reference"])
    page.wait_for_selector("#refonly-styles-message [role=alert]:has-text('no code inside')")
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"this is no picture")
    page.set_input_files("#refonly-styles-picture-2 input[type=file]", str(bad))
    page.wait_for_selector("#refonly-styles-make-message [role=alert]:has-text('no picture')")


def test_a_mixture_and_a_cell_of_its_grid(styles: Callable[[], Any], studio: Studio) -> None:
    page = styles()
    use(page, ONE.short)
    tab(page, "Mix")
    page.click("#refonly-styles-mix-1-current")
    wait_value(page, "mix-1-code", ONE.short)
    type_in(page, "mix-2-code", OTHER.short)
    latents = [read(code.short).latent for code in (ONE, OTHER)]
    wait_value(page, "mix-code", write_short(mix(latents, [1, 1]), TINY))
    set_number(page, "styles-mix-2-weight", 0.25)
    mixed = write_short(mix(latents, [1, 0.25]), TINY)
    wait_value(page, "mix-code", mixed)
    wait_grid(page, "mix")  # a moved weight paints by itself
    wait_idle(page, "-mix")
    studio.painter.wishes.clear()
    page.click("#refonly-styles-mix-go")
    page.wait_for_selector("#refonly-styles-mix-stop:not([disabled])")
    wait_idle(page, "-mix")
    assert len(studio.painter.wishes) == 9
    assert write_short(studio.painter.wishes[0][0], TINY) == mixed, "the middle comes first"
    assert studio.painter.wishes[0][2].steps == 10
    page.click("#refonly-styles-mix-grid button >> nth=3")
    code = wait_other_value(page, "code", ONE.short)
    assert code != mixed
    assert read(code).latent in [latent for latent, _, _ in studio.painter.wishes]
    page.wait_for_selector("#refonly-styles-picture img")  # its draft is shown at once
    page.wait_for_selector("#refonly-styles-make-card")
    page.click("#refonly-styles-mix-take")
    wait_value(page, "code", mixed)
    type_in(page, "mix-2-code", "nonsense")
    page.wait_for_selector("#refonly-styles-mix-said [role=alert]:has-text('Style 2')")
    page.click("#refonly-styles-mix-more")
    page.wait_for_selector(box("mix-3-code"))
    page.click("#refonly-styles-mix-more")
    page.wait_for_selector(box("mix-4-code"))
    page.wait_for_selector("#refonly-styles-mix-more", state="hidden")


def test_stop_in_the_middle_of_a_grid_keeps_what_is_painted(styles: Callable[[], Any], studio: Studio) -> None:
    page = styles()
    tab(page, "Explore")
    studio.steps.clear()
    page.click("#refonly-styles-explore-random")
    wait_grid(page, "explore", 2)
    page.click("#refonly-styles-explore-stop")
    page.wait_for_selector("#refonly-styles-explore-message:has-text('Stopped')")
    wait_idle(page, "-explore")
    studio.steps.set()
    assert 2 <= painted(page, "explore") < 9
    assert page.locator("#refonly-styles-explore-grid button img").count() == 9
    page.click("#refonly-styles-explore-grid button >> nth=8")  # not painted, but known
    wait_value(page, "code", write_short(random_style(9), TINY))


def test_random_styles_by_number_and_more_like_one(styles: Callable[[], Any], studio: Studio) -> None:
    page = styles()
    tab(page, "Explore")
    page.click("#refonly-styles-explore-new")
    number = int(wait_other_value(page, "explore-number", "1"))
    page.click("#refonly-styles-explore-take")
    code = wait_other_value(page, "code", "")
    assert code == write_short(random_style(number), TINY)

    other = styles()
    tab(other, "Explore")
    type_in(other, "explore-number", str(number))
    other.keyboard.press("Tab")
    other.click("#refonly-styles-explore-take")
    wait_value(other, "code", code)
    other.click("#refonly-styles-explore-go")
    wait_grid(other, "explore")
    first = [latent for latent, _, _ in studio.painter.wishes]
    assert write_short(first[0], TINY) == code
    assert len(set(first)) == 9
    studio.painter.wishes.clear()
    wait_idle(other, "-explore")
    studio.steps.clear()
    other.click("#refonly-styles-explore-go")
    other.wait_for_selector("#refonly-styles-explore-stop:not([disabled])")
    studio.steps.set()
    wait_idle(other, "-explore")
    assert [latent for latent, _, _ in studio.painter.wishes] == first, "the same number gives the same styles"


def test_two_styles_are_compared(styles: Callable[[], Any], studio: Studio) -> None:
    page = styles()
    tab(page, "Compare")
    type_in(page, "compare-a-code", ONE.short)
    page.click("#refonly-styles-compare-go")
    page.wait_for_selector("#refonly-styles-compare-message [role=alert]:has-text('style B')")
    type_in(page, "compare-b-code", ONE.long)
    page.wait_for_selector("#refonly-styles-compare-said:has-text('Distance 0.00: the same style')")
    type_in(page, "compare-b-code", OTHER.short)
    page.wait_for_selector("#refonly-styles-compare-said:has-text('little in common')")
    page.click("#refonly-styles-compare-go")
    for letter in "ab":
        page.wait_for_selector(f"#refonly-styles-compare-{letter}-picture img")
    assert len({settings.seed for _, _, settings in studio.painter.wishes}) == 1


def test_the_library(styles: Callable[[], Any], studio: Studio, tmp_path: Path) -> None:
    page = styles()
    use(page, ONE.short)
    page.click("#refonly-styles-go")
    page.wait_for_selector("#refonly-styles-picture img")
    tab(page, "Library")
    page.wait_for_selector("#refonly-styles-listed:has-text('Nothing here yet')")
    page.click("#refonly-styles-saving > button")
    _save(page, "Ink <b>wash</b>", "quiet, paper")
    page.wait_for_selector("#refonly-styles-library-message [role=alert]")  # < and > can't be in a name
    _save(page, "Ink wash", "quiet, paper")
    page.wait_for_selector("#refonly-styles-library-message:has-text('Ink wash is in the library')")
    library = Library(studio.library)
    assert library.get("ink wash").thumbnail, "its preview"
    use(page, OTHER.short)
    _save(page, "Loud", "poster")
    page.wait_for_selector("#refonly-styles-gallery button >> nth=1")
    _save(page, "Loud", "")
    page.wait_for_selector("#refonly-styles-library-message:has-text('Press the button again')")
    page.click("#refonly-styles-save:has-text('Replace')")
    page.wait_for_selector("#refonly-styles-library-message:has-text('Loud is in the library')")
    assert library.get("Loud").tags == ("poster",)

    type_in(page, "search", "paper")
    page.wait_for_selector("#refonly-styles-listed:has-text('1 style.')")
    page.click("#refonly-styles-gallery button >> nth=0")
    page.wait_for_selector("#refonly-styles-about:has-text('Ink wash')")
    page.click("#refonly-styles-use")
    wait_value(page, "code", ONE.long)
    page.click("#refonly-styles-favourite")
    page.wait_for_selector("#refonly-styles-favourite:has-text('No favourite')")
    type_in(page, "search", "")
    page.wait_for_selector("#refonly-styles-listed:has-text('2 styles.')")
    page.check("#refonly-styles-favourites input")
    page.wait_for_selector("#refonly-styles-listed:has-text('1 style.')")
    page.uncheck("#refonly-styles-favourites input")
    page.wait_for_selector("#refonly-styles-listed:has-text('2 styles.')")
    page.click("#refonly-styles-nearest")
    page.wait_for_selector("#refonly-styles-listed:has-text('Nearest to Ink wash')")
    assert "Loud ·" in page.inner_text("#refonly-styles-gallery")
    page.click("#refonly-styles-everything")
    page.wait_for_selector("#refonly-styles-listed:has-text('2 styles.')")

    page.click("#refonly-styles-change > button")
    type_in(page, "new-name", "Loud")
    page.click("#refonly-styles-rename")
    page.wait_for_selector("#refonly-styles-library-message [role=alert]:has-text('already')")
    type_in(page, "new-name", "Wet ink")
    page.click("#refonly-styles-rename")
    page.wait_for_selector("#refonly-styles-library-message:has-text('called Wet ink')")
    type_in(page, "new-tags", "one, two")
    page.click("#refonly-styles-retag")
    page.wait_for_selector("#refonly-styles-about li:has-text('two')")
    type_in(page, "code", "Wet ink:2 Loud")  # names have no spaces among weights
    type_in(page, "code", "wet ink")
    wait_value(page, "long", ONE.long)

    page.click("#refonly-styles-export")
    page.wait_for_selector("#refonly-styles-save-export")
    saved = downloaded(page, "refonly-styles-save-export", tmp_path)
    assert {one["name"] for one in json.loads(saved.read_text("utf-8"))["styles"]} == {"Wet ink", "Loud"}
    page.click("#refonly-styles-delete")
    page.wait_for_selector("#refonly-styles-delete:has-text('Really')")
    assert len(library.search()) == 2
    page.click("#refonly-styles-delete")
    page.wait_for_selector("#refonly-styles-library-message:has-text('Wet ink is deleted')")
    page.wait_for_selector("#refonly-styles-about", state="hidden")
    assert [style.name for style in library.search()] == ["Loud"]

    with page.expect_file_chooser() as choosing:
        page.click("#refonly-styles-import")
    choosing.value.set_files(str(saved))
    page.wait_for_selector("#refonly-styles-library-message:has-text('1 style added, 1 here already')")
    assert Image.open(BytesIO(library.get("Wet ink").thumbnail)).size == (256, 256)
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    with page.expect_file_chooser() as choosing:
        page.click("#refonly-styles-import")
    choosing.value.set_files(str(bad))
    page.wait_for_selector("#refonly-styles-library-message [role=alert]:has-text('no file of styles')")


def _save(page: Any, name: str, tags: str) -> None:
    type_in(page, "name", name)
    type_in(page, "tags", tags)
    page.click("#refonly-styles-save")


def test_a_broken_library_is_told_and_the_rest_works(styles: Callable[[], Any], studio: Studio) -> None:
    studio.library.parent.mkdir(parents=True, exist_ok=True)
    studio.library.write_bytes(b"SQLite format 3\x00" + b"x" * 3000)
    page = styles()
    tab(page, "Library")
    page.wait_for_selector("#refonly-styles-library-message:has-text('was damaged')")
    use(page, ONE.short)
    assert write_long(ONE.latent, TINY) == page.input_value(box("long"))


def test_closing_the_tab_ends_its_grid(styles: Callable[[], Any], studio: Studio) -> None:
    page = styles()
    tab(page, "Explore")
    studio.steps.clear()
    page.click("#refonly-styles-explore-random")
    page.wait_for_selector("#refonly-styles-explore-progress:has-text('Picture 1 of 9')")
    page.close()
    studio.steps.set()
    second = styles()
    use(second, OTHER.short)
    second.click("#refonly-styles-go")
    second.wait_for_selector("#refonly-styles-picture img")
