"""The page, as a painter uses it: a real browser, the fake engine."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lib_refonly.imaging.infotext import read_infotext, read_png_infotext
from tests.ui.conftest import Studio

OpenPage = Callable[..., Any]
Pictures = dict[str, Path]


def give(page: Any, zone: str, path: Path) -> None:
    """Choose a file in a zone and wait until the page shows it."""
    page.set_input_files(f"#{zone} input[type=file]", str(path))
    page.wait_for_selector(f"#{zone} img")


def give_both(page: Any, pictures: Pictures) -> None:
    give(page, "refonly-reference-1", pictures["reference"])
    give(page, "refonly-lines-file", pictures["lines"])
    page.wait_for_selector("#refonly-model-view figure:nth-child(2) img")


def wait_idle(page: Any) -> None:
    page.wait_for_selector("#refonly-go:not([disabled])")
    page.wait_for_selector("#refonly-stage .refonly-stage", state="hidden")


def set_number(page: Any, field: str, value: float) -> None:
    box = f"#refonly-{field} input[type=number]"
    for _ in range(20):  # a field that has just come into sight may be filled once more by gradio
        page.fill(box, str(value))
        page.keyboard.press("Tab")
        page.wait_for_timeout(150)
        if float(page.input_value(box) or "nan") == value:
            break


def open_tab(page: Any, name: str) -> None:
    """One of the studio's tabs; those that have no room are in a menu."""
    tab, more = page.get_by_role("tab", name=name, exact=True), page.locator("#studio-tabs").get_by_role("button", name="More tabs")
    tab.or_(more).first.wait_for()
    if not tab.count():
        more.click()
        tab = page.locator("#studio-tabs .overflow-dropdown button", has_text=name)
    tab.first.click()


def drop(page: Any, zone: str, path: Path) -> None:
    """Drop a file from outside onto the middle of a zone."""
    transfer = page.evaluate_handle(
        """([bytes, name]) => { const held = new DataTransfer();
        held.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/png'})); return held }""",
        [list(path.read_bytes()), path.name],
    )
    for event in ("dragover", "drop"):
        page.dispatch_event(f"#{zone}", event, {"dataTransfer": transfer})


def source(page: Any, zone: str) -> str:
    return page.get_attribute(f"#{zone} img", "src")


def downloaded(page: Any, button: str, into: Path) -> Path:
    with page.expect_download() as waiting:
        page.click(f"#{button}")
    target = into / waiting.value.suggested_filename
    waiting.value.save_as(target)
    return target


def test_drop_and_colour(open_page: OpenPage, studio: Studio, pictures: Pictures, tmp_path: Path) -> None:
    page = open_page()
    drop(page, "refonly-reference-1", pictures["reference"])
    page.wait_for_selector("#refonly-reference-1 img")
    drop(page, "refonly-lines-file", pictures["lines"])
    page.wait_for_selector("#refonly-lines-file img")
    page.click("#refonly-go")
    page.wait_for_selector("#refonly-picture img")
    wait_idle(page)
    (request,) = studio.engine.requests
    assert request.lines.size == (384, 384)
    assert len(request.references) == 1
    saved = downloaded(page, "refonly-save-picture", tmp_path)
    assert saved.name == "my drawing-coloured-4242.png"
    assert read_infotext(read_png_infotext(saved))[2]["Seed"] == "4242"
    assert Image.open(downloaded(page, "refonly-save-layer", tmp_path)).mode == "RGBA"


def test_a_dropped_picture_replaces_the_one_that_is_there(open_page: OpenPage, pictures: Pictures) -> None:
    page = open_page()
    give(page, "refonly-reference-1", pictures["reference"])
    before = source(page, "refonly-reference-1")
    drop(page, "refonly-reference-1", pictures["lines"])
    page.wait_for_function("old => { const now = document.querySelector('#refonly-reference-1 img'); return now && now.src !== old }", arg=before)
    assert page.url.endswith("/"), "the browser left the page"


def test_pasting_fills_the_first_free_zone(open_page: OpenPage, pictures: Pictures) -> None:
    page = open_page()
    page.evaluate(
        """bytes => { const held = new DataTransfer(); held.items.add(new File([new Uint8Array(bytes)], 'pasted.png', {type: 'image/png'}));
        document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: held, bubbles: true, cancelable: true})) }""",
        list(pictures["reference"].read_bytes()),
    )
    page.wait_for_selector("#refonly-reference-1 img")


def test_a_drawing_on_paper_is_taken_by_the_camera(open_page: OpenPage) -> None:
    page = open_page()
    page.click("#refonly-lines-file button[aria-label='Capture from camera']")
    page.click("#refonly-lines-file button:has-text('Click to Access Webcam')")
    page.wait_for_function("() => document.querySelector('#refonly-lines-file video')?.videoWidth > 0")
    page.click("#refonly-lines-file button[aria-label='capture photo']")
    page.wait_for_selector("#refonly-lines-file img")
    page.wait_for_selector("#refonly-model-view figure img")


def test_a_sample_is_ready_with_one_click(open_page: OpenPage, studio: Studio) -> None:
    page = open_page()
    page.click("#refonly-samples button >> nth=0")
    page.wait_for_selector("#refonly-lines-file img")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#refonly-picture img")
    assert len(studio.engine.requests) == 1


def test_what_the_model_sees_follows_the_settings(open_page: OpenPage, pictures: Pictures) -> None:
    page = open_page()
    give(page, "refonly-reference-1", pictures["lines"])
    give(page, "refonly-lines-file", pictures["reference"])  # a colour picture: its lines are found
    page.wait_for_selector("#refonly-model-view figure:nth-child(2) img")
    before = page.get_attribute("#refonly-model-view figure:nth-child(1) img", "src")
    assert page.locator("#refonly-model-view .refonly-notes li").count() >= 1
    page.click("#refonly-adjust > button")
    set_number(page, "line-c", 50)
    page.wait_for_function("old => document.querySelector('#refonly-model-view figure img')?.src !== old", arg=before)


def test_variations_history_and_restoring(open_page: OpenPage, studio: Studio, pictures: Pictures) -> None:
    page = open_page()
    give_both(page, pictures)
    set_number(page, "count", 3)
    page.click("#refonly-go")
    page.wait_for_selector("#refonly-variations button >> nth=2")
    wait_idle(page)
    first = source(page, "refonly-picture")
    page.click("#refonly-variations button >> nth=2")
    page.wait_for_function("old => document.querySelector('#refonly-picture img').src !== old", arg=first)
    page.click("#refonly-seed-keep")
    page.wait_for_function("() => document.querySelector('#refonly-seed input').value === '4244'")
    set_number(page, "count", 1)
    page.click("#refonly-go")
    page.wait_for_selector("#refonly-history button >> nth=1")
    wait_idle(page)
    assert studio.engine.requests[-1].settings.seed == 4244

    page.click('#refonly-lines-file button[aria-label="Remove Image"]')
    page.click("#refonly-history button >> nth=1")  # the older run
    page.wait_for_selector("#refonly-lines-file img")
    page.wait_for_function("() => document.querySelector('#refonly-count input[type=number]').value === '3'")
    assert page.input_value("#refonly-seed input") == "4242"
    assert page.locator("#refonly-variations button img").count() == 3


def test_stop_keeps_what_is_finished(open_page: OpenPage, studio: Studio, pictures: Pictures) -> None:
    page = open_page()
    give_both(page, pictures)
    studio.steps.clear()
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#refonly-stage [role=progressbar]")
    page.wait_for_selector("#refonly-stage img")  # the live preview
    page.keyboard.press("Escape")
    page.wait_for_selector("#refonly-message:has-text('Stopped')")
    wait_idle(page)
    assert studio.engine.ended.wait(60)
    assert source(page, "refonly-reference-1"), "inputs stay"
    assert page.locator("#refonly-history img").count() == 0


def test_closing_the_tab_ends_its_job(open_page: OpenPage, studio: Studio, pictures: Pictures) -> None:
    page = open_page()
    give_both(page, pictures)
    set_number(page, "count", 16)
    studio.steps.clear()
    page.click("#refonly-go")
    page.wait_for_selector("#refonly-stage:has-text('Step'), #refonly-stage:has-text('step')")
    page.close()
    assert studio.engine.ended.wait(60)


def test_a_second_tab_waits_and_says_so(open_page: OpenPage, studio: Studio, pictures: Pictures) -> None:
    first, second = open_page(), open_page()
    give_both(first, pictures)
    give_both(second, pictures)
    studio.steps.clear()
    first.click("#refonly-go")
    first.wait_for_selector("#refonly-stage:has-text('Step')")
    second.click("#refonly-go")
    second.wait_for_selector("#refonly-stage:has-text('1 other job comes first')")
    studio.steps.set()
    first.wait_for_selector("#refonly-picture img")
    second.wait_for_selector("#refonly-picture img")
    assert first.locator("#refonly-history img").count() == second.locator("#refonly-history img").count() == 1, "tabs don't share a history"


def test_a_file_that_is_no_picture(open_page: OpenPage, studio: Studio, pictures: Pictures, tmp_path: Path) -> None:
    page = open_page()
    give(page, "refonly-reference-1", pictures["reference"])
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"this is no picture")
    page.set_input_files("#refonly-lines-file input[type=file]", str(bad))
    page.wait_for_selector("#refonly-message [role=alert]:has-text('no picture')")
    page.wait_for_selector("#refonly-lines-file img", state="detached")
    assert source(page, "refonly-reference-1"), "the other picture stays"
    assert "Traceback" not in page.inner_text("body")


def test_a_missing_picture_is_asked_for(open_page: OpenPage, studio: Studio, pictures: Pictures) -> None:
    page = open_page()
    page.click("#refonly-go")
    page.wait_for_selector("#refonly-message [role=alert]:has-text('line art')")
    give(page, "refonly-lines-file", pictures["lines"])
    page.click("#refonly-go")
    page.wait_for_selector("#refonly-message [role=alert]:has-text('reference')")
    assert studio.engine.requests == []


def test_settings_come_back_from_a_picture(open_page: OpenPage, pictures: Pictures, tmp_path: Path) -> None:
    page = open_page()
    give_both(page, pictures)
    set_number(page, "reference-strength", 2)
    set_number(page, "seed", 77)
    page.click("#refonly-more > button")
    page.wait_for_selector("#refonly-weight-1 input[type=number]")
    set_number(page, "weight-1", 0.35)
    page.click("#refonly-go")
    page.wait_for_selector("#refonly-picture img")
    saved = downloaded(page, "refonly-save-picture", tmp_path)

    other = open_page()
    other.click("#refonly-read > button")
    other.set_input_files("#refonly-read-zone input[type=file]", str(saved))
    other.wait_for_selector("#refonly-message:has-text('settings of that picture are back')")
    other.wait_for_function("() => document.querySelector('#refonly-seed input').value === '77'")
    assert other.input_value("#refonly-reference-strength input[type=number]") == "2"
    other.click("#refonly-more > button")
    other.wait_for_function("() => document.querySelector('#refonly-weight-1 input[type=number]')?.value === '0.35'")  # gradio fills it once it is shown
    assert other.input_value("#refonly-weight-2 input[type=number]") == "1"

    third = open_page()
    give(third, "refonly-lines-file", saved)  # dropped as line art: offered, not taken
    third.wait_for_selector("#refonly-offer")
    assert third.input_value("#refonly-seed input") == "-1"
    third.click("#refonly-offer")
    third.wait_for_function("() => document.querySelector('#refonly-seed input').value === '77'")


def test_reading_settings_from_any_picture_is_refused(open_page: OpenPage, pictures: Pictures) -> None:
    page = open_page()
    page.click("#refonly-read > button")
    page.set_input_files("#refonly-read-zone input[type=file]", str(pictures["lines"]))
    page.wait_for_selector("#refonly-message [role=alert]:has-text('holds no settings')")


def test_before_after_moves_by_keyboard(open_page: OpenPage, pictures: Pictures) -> None:
    page = open_page()
    give_both(page, pictures)
    page.click("#refonly-go")
    page.wait_for_selector("#refonly-picture img")
    page.get_by_role("tab", name="Before / after").click()
    page.focus(".refonly-compare input")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("getComputedStyle(document.querySelector('.refonly-compare')).getPropertyValue('--cut')") == "55%"


def test_everything_needed_is_reachable_by_tab(open_page: OpenPage) -> None:
    page = open_page()
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("(document.activeElement.closest('[id^=refonly-], [id^=studio-]') || document.body).id"))
        outline = page.evaluate("(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle !== 'none' || s.boxShadow !== 'none' })()")
        assert outline or page.evaluate("document.activeElement === document.body"), page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
    assert {"studio-theme", "refonly-reference-1", "refonly-lines-file", "refonly-go", "refonly-samples"} <= reached


def luminance(page: Any, selector: str, what: str) -> float:
    colour = page.evaluate("([s, w]) => getComputedStyle(document.querySelector(s))[w]", [selector, what])
    return sum(int(v) for v in re.findall(r"\d+", colour)[:3]) / 3


@pytest.mark.parametrize("dark", [False, True])
def test_theme_follows_the_system_and_the_button(open_page: OpenPage, dark: bool) -> None:
    page = open_page(dark=dark)
    page.wait_for_function(f"() => document.body.classList.contains('dark') === {str(dark).lower()}")
    body = "gradio-app"
    assert (luminance(page, body, "backgroundColor") < 60) is dark
    assert (luminance(page, "#studio-header h1", "color") > 180) is dark
    page.click("#studio-theme")
    page.wait_for_function(f"() => document.body.classList.contains('dark') !== {str(dark).lower()}")
    page.reload()
    page.wait_for_selector("#refonly-go")
    page.wait_for_function(f"() => document.body.classList.contains('dark') !== {str(dark).lower()}")
    page.evaluate("localStorage.clear()")


@pytest.mark.parametrize("width", [390, 1024, 1440])
def test_nothing_sticks_out(open_page: OpenPage, width: int) -> None:
    page = open_page(width=width, height=844)
    for tab in ("Styles", "ONE-PIC", "Train", "Batch", "Models", "About", "Colour"):
        open_tab(page, tab)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
    button = page.locator("#refonly-go").bounding_box()
    assert button["y"] + button["height"] <= 844, "the Colour button is on the first screen"


def test_batch_goes_on_after_a_bad_drawing(open_page: OpenPage, pictures: Pictures, tmp_path: Path) -> None:
    page = open_page()
    evil = tmp_path / "<img src=x onerror=window.hurt=1>.png"
    evil.write_bytes(b"nothing")
    page.get_by_role("tab", name="Batch", exact=True).click()
    give(page, "refonly-batch-reference", pictures["reference"])
    page.set_input_files("#refonly-batch-drawings input[type=file]", [str(pictures["lines"]), str(evil), str(pictures["reference"])])
    page.wait_for_selector("#refonly-batch-drawings :text('reference')")
    page.click("#refonly-batch-go")
    page.wait_for_selector("#refonly-batch-errors :text('left out')")
    page.wait_for_selector("#refonly-batch-zip")
    assert "2 of 3" in page.inner_text("#refonly-batch-state")
    archive = downloaded(page, "refonly-batch-zip", tmp_path)
    with zipfile.ZipFile(archive) as packed:
        assert sorted(packed.namelist()) == ["my drawing.png", "reference.png"]
        assert Image.open(BytesIO(packed.read("my drawing.png"))).size == (384, 384)
    assert page.evaluate("window.hurt") is None
    assert page.locator("#refonly-batch-errors img").count() == 0


def test_file_names_are_only_text(open_page: OpenPage, pictures: Pictures, tmp_path: Path) -> None:
    page = open_page()
    evil = tmp_path / "a<script>window.hurt=1<.png"
    evil.write_bytes(pictures["lines"].read_bytes())
    give(page, "refonly-reference-1", pictures["reference"])
    give(page, "refonly-lines-file", evil)
    page.click("#refonly-go")
    page.wait_for_selector("#refonly-picture img")
    assert page.evaluate("window.hurt") is None
    assert "<" not in downloaded(page, "refonly-save-picture", tmp_path).name


def test_a_model_is_downloaded_only_with_consent_and_used_at_once(open_page: OpenPage, studio: Studio, pictures: Pictures) -> None:
    page = open_page()
    page.get_by_role("tab", name="Models", exact=True).click()
    assert "Needs about 6.0 GB" in page.inner_text("#refonly-models-cards")
    assert page.is_disabled("#refonly-models-fetch")
    page.check("#refonly-models-consent input")
    page.click("#refonly-models-fetch:not([disabled])")
    page.wait_for_selector("#refonly-models-message:has-text('is installed')")
    page.get_by_role("tab", name="Colour", exact=True).click()
    give_both(page, pictures)
    page.click("#refonly-go")
    page.wait_for_selector("#refonly-picture img")
    assert studio.engine.requests[-1].model == "big"

    other = open_page()
    other.get_by_role("tab", name="Models", exact=True).click()
    other.wait_for_selector("#refonly-models-use :text('Reference Only 0.1.2')")
    other.wait_for_selector("#refonly-models-wanted :text('Reference Only 0.1.2')", state="detached")


def test_the_cut_out_is_downloaded_beside_the_models(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("tab", name="Models", exact=True).click()
    card = page.locator("#refonly-models-cards article", has_text="Character cut-out")
    assert "Not installed" in card.inner_text()
    chosen = page.locator("#refonly-models-use input:checked").get_attribute("value")
    page.check("#refonly-models-wanted label:has-text('Character cut-out') input")
    page.check("#refonly-models-consent input")
    page.click("#refonly-models-fetch:not([disabled])")
    page.wait_for_selector("#refonly-models-message:has-text('used from the next picture on')")
    assert "Not installed" not in card.inner_text()
    assert page.locator("#refonly-models-use input:checked").get_attribute("value") == chosen
    page.wait_for_selector("#refonly-models-wanted :text('Character cut-out')", state="detached")
