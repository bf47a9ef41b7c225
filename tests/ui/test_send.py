"""javascript/refonly_send.js in a real browser, on a page with a WebUI's ids and global functions. (tests/webui and real WebUIs are driven by hand.)"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lib_refonly.ui.start_panel import installed, sample_cards
from tests.ui.fakes import character

ROOT = Path(__file__).resolve().parents[2]
HOST = """
function switch_to_txt2img() { window.tab = "txt2img"; }
function switch_to_img2img() { window.tab = "img2img"; }
function selectCheckpoint(name) { window.checkpoint = name; }
function inputAccordionChecked(id, on) {
    document.getElementById(id).visibleCheckbox.checked = on;
    document.querySelector(`#${id}-checkbox input`).checked = on;
}
const later = [];
function onUiLoaded(act) { later.push(act); }
function onAfterUiUpdate(act) { later.push(act); }
"""
"""What A1111's own scripts give, as far as the extension uses it."""


def zone(elem_id: str, picture: str = "") -> str:
    shown = f'<img src="{picture}"><button aria-label="Clear"></button>' if picture else '<input type="file">'
    return f'<div id="{elem_id}" class="refonly-zone">{shown}</div>'


def data(colour: str) -> str:
    held = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(held, "PNG")
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"


def gallery(name: str, *pictures: str, selected: int | None = None) -> str:
    small = "".join(
        f'<button class="thumbnail-item thumbnail-small {"selected" if i == selected else ""}"><img src="{p}"></button>' for i, p in enumerate(pictures)
    )
    inside = f'<div id="{name}_gallery" class="gradio-gallery">{small}</div><div id="image_buttons_{name}" class="image-buttons"></div>'
    return f'<div id="{name}_results_panel">{inside}</div>'


def panel(tab: str, **pictures: str) -> str:
    zones = zone(f"refonly-{tab}-drawing", pictures.get("drawing", "")) + zone(f"refonly-{tab}-unit-1-picture", pictures.get("reference", ""))
    return f'<div id="refonly-{tab}-panel-checkbox"><input type="checkbox"></div><div id="refonly-{tab}-panel">{zones}</div>'


@pytest.fixture
def webui(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """`webui(html, host=True)`: a WebUI's page with these parts. Without `host` its global functions are missing."""
    pages = []

    def open_(html: str, host: bool = True) -> Any:
        page = browser.new_page()
        pages.append(page)
        page.set_content(f'<body class="gradio-container">{html}</body>')
        page.on("pageerror", lambda error: pytest.fail(str(error)))
        if host:
            page.add_script_tag(content=HOST)
            page.evaluate('document.querySelectorAll("[id$=-panel]").forEach((one) => { one.visibleCheckbox = {}; })')
        for name in ("refonly.js", "refonly_send.js"):
            page.add_script_tag(content=(ROOT / "javascript" / name).read_text("utf-8"))
        # A zone keeps what it was given: the bytes of the last file.
        page.evaluate("""() => document.addEventListener("change", async (event) => {
            const [file] = event.target.files ?? [];
            if (file) event.target.closest("[id]").dataset.given = btoa(String.fromCharCode(...new Uint8Array(await file.arrayBuffer())));
        })""")
        if host:
            page.evaluate("() => { later.forEach((act) => act()); later.forEach((act) => act()); }")
        return page

    yield open_
    for page in pages:
        page.close()


def given(page: Any, elem_id: str) -> str:
    """The picture that a zone was given, as data: text."""
    page.wait_for_function("(id) => document.getElementById(id).dataset.given", arg=elem_id)
    return "data:image/png;base64," + page.evaluate("(id) => document.getElementById(id).dataset.given", elem_id)


def is_on(page: Any, tab: str) -> bool:
    return page.evaluate("(tab) => document.querySelector(`#refonly-${tab}-panel-checkbox input`).checked", tab)


@pytest.fixture
def samples(tmp_path: Path) -> str:
    from lib_refonly.ui.samples import find_samples

    for name in ("1 Anna", "2 Bert"):
        (tmp_path / "samples" / name).mkdir(parents=True)
        for part, lines in (("lines", True), ("reference", False)):
            character(lines, 24 + len(name)).save(tmp_path / "samples" / name / f"{part}.png")
    return sample_cards(find_samples(tmp_path / "samples"))


def file_of(tmp_path: Path, sample: str, part: str) -> str:
    return f"data:image/png;base64,{base64.b64encode((tmp_path / 'samples' / sample / f'{part}.png').read_bytes()).decode()}"


def test_a_sample_fills_the_panel_of_its_tab(webui: Any, samples: str, tmp_path: Path) -> None:
    page = webui(samples + panel("txt2img") + panel("img2img") + zone("img2img_image"))
    page.locator("[data-refonly-try=txt2img]").nth(1).click()
    assert given(page, "refonly-txt2img-unit-1-picture") == file_of(tmp_path, "2 Bert", "reference")
    assert given(page, "refonly-txt2img-drawing") == file_of(tmp_path, "2 Bert", "lines")
    assert page.evaluate("window.tab") == "txt2img"
    assert is_on(page, "txt2img")
    assert not is_on(page, "img2img")
    page.locator("[data-refonly-try=img2img]").nth(0).click()
    assert given(page, "refonly-img2img-unit-1-picture") == file_of(tmp_path, "1 Anna", "reference")
    assert given(page, "refonly-img2img-drawing") == file_of(tmp_path, "1 Anna", "lines")
    assert given(page, "img2img_image") == file_of(tmp_path, "1 Anna", "lines")
    assert page.evaluate("window.tab") == "img2img"


def test_the_chosen_picture_of_a_gallery_goes_to_the_panel(webui: Any) -> None:
    red, blue, green = map(data, ("red", "blue", "green"))
    galleries = gallery("txt2img", red, blue, selected=1) + gallery("img2img", green) + gallery("extras", red)
    page = webui(galleries + panel("txt2img") + panel("img2img"))
    page.click("#txt2img_results_panel button:has-text('→ RefOnly reference')")
    assert given(page, "refonly-txt2img-unit-1-picture") == blue
    page.click("#img2img_results_panel button:has-text('→ RefOnly drawing')")
    assert given(page, "refonly-img2img-drawing") == green
    assert is_on(page, "img2img")
    page.click("#extras_results_panel button:has-text('→ RefOnly drawing')")
    assert given(page, "refonly-txt2img-drawing") == red
    assert page.locator("#txt2img_results_panel .refonly-send").count() == 1  # however often the page is updated


def test_the_panels_pictures_go_to_img2img(webui: Any) -> None:
    red, blue = data("red"), data("blue")
    page = webui(panel("txt2img", drawing=red, reference=blue) + zone("img2img_image"))
    page.click("button:has-text('drawing → img2img')")
    assert given(page, "img2img_image") == red
    assert page.evaluate("window.tab") == "img2img"
    page.evaluate("delete document.getElementById('img2img_image').dataset.given")
    page.click("button:has-text('reference → img2img')")
    assert given(page, "img2img_image") == blue


def test_buttons_that_have_nothing_to_send_are_not_seen(webui: Any) -> None:
    page = webui(gallery("txt2img") + panel("txt2img", drawing=data("red")))
    assert not page.is_visible("button:has-text('→ RefOnly reference')")
    assert page.is_visible("button:has-text('drawing → img2img')")
    assert not page.is_visible("button:has-text('reference → img2img')")


@pytest.mark.parametrize(("chosen", "size"), [("refonly-tiny-base.safetensors [0123]", "256"), ("mine.safetensors", "512")])
def test_a_sample_sets_the_size_where_the_example_is_loaded(webui: Any, samples: str, chosen: str, size: str) -> None:
    edges = "".join(f'<div id="txt2img_{edge}"><input type="number" value="512"></div>' for edge in ("width", "height"))
    host = f'<div id="setting_sd_model_checkpoint"><input value="{chosen}"></div>{edges}'
    page = webui(samples + panel("txt2img") + host)
    page.evaluate("() => document.addEventListener('input', () => { window.written = (window.written ?? 0) + 1; })")
    page.locator("[data-refonly-try=txt2img]").nth(0).click()
    given(page, "refonly-txt2img-drawing")
    page.wait_for_function("(size) => [...document.querySelectorAll('[id^=txt2img_] input')].every((one) => one.value === size)", arg=size)
    assert (page.evaluate("window.written") or 0) == (2 if size == "256" else 0)


def test_the_example_is_loaded_by_the_host(webui: Any) -> None:
    page = webui(installed('tiny "base".safetensors [0123]'))
    page.click("text=Load it")
    assert page.evaluate("window.checkpoint") == 'tiny "base".safetensors [0123]'


def test_forge_lists_its_checkpoints_anew_before_one_is_loaded(webui: Any) -> None:
    page = webui(installed("tiny.safetensors") + '<button id="forge_refresh_checkpoint" onclick="window.before = [window.checkpoint]"></button>')
    page.click("text=Load it")
    assert page.evaluate("window.before.length") == 1
    page.wait_for_function("window.checkpoint === 'tiny.safetensors'")
    assert page.evaluate("window.before[0]") is None


def test_a_canvas_goes_into_a_tab(webui: Any) -> None:
    fields = '<div id="refonly-img2img-canvas"><input></div><div id="img2img_prompt"><textarea>old</textarea></div>'
    fields += '<div id="img2img_neg_prompt"><textarea>kept</textarea></div><div id="img2img_steps"><input type="number"><input type="range"></div>'
    page = webui(f'{fields}<div id="refonly-img2img-canvas-row"></div>')
    page.evaluate("window.heard = []; document.addEventListener('input', (event) => heard.push(event.target.value))")
    page.evaluate("""refonlyParcel(JSON.stringify(
        { tab: "img2img", canvas: "{1}", fields: { prompt: "a cat <lora:x:1>", neg_prompt: "", steps: "20", other: "1" } }))""")
    assert page.evaluate("window.heard") == ["{1}", "a cat <lora:x:1>", "20"]
    assert page.input_value("#img2img_neg_prompt textarea") == "kept"
    assert page.evaluate("window.tab") == "img2img"


def test_a_gallery_s_picture_goes_into_the_first_free_panel(webui: Any) -> None:
    composer = '<div id="tabs"><div class="tab-nav"><button>txt2img</button><button onclick="window.tab = \'ONE-PIC\'"> ONE-PIC </button></div></div>'
    page = webui(gallery("txt2img", data("red")) + composer + '<div id="refonly-onepic-composer"></div>')
    page.evaluate("""window.refonlyOnePic = {
        state: () => ({ panels: [{ role: "context", picture: "x" }, { role: "target" }, { role: "context", picture: null }] }),
        setPicture: (root, number, address) => { window.put = [root.id, number, address]; },
    }""")
    page.click("#txt2img_results_panel button:has-text('→ ONE-PIC')")
    page.wait_for_function("window.put")
    assert page.evaluate("window.put") == ["refonly-onepic-composer", 3, data("red")]
    assert page.evaluate("window.tab") == "ONE-PIC"


def test_without_the_hosts_functions_nothing_breaks(webui: Any, samples: str) -> None:
    page = webui(samples + panel("txt2img") + installed("x"), host=False)
    page.locator("[data-refonly-try=txt2img]").first.click()
    given(page, "refonly-txt2img-drawing")
    assert is_on(page, "txt2img")
    page.click("text=Load it")
