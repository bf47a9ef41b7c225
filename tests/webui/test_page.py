"""The page of a real WebUI in a real browser."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.webui.webui import SAMPLES, WebUI

SLOW = 300_000  # milliseconds: a random checkpoint of true width on a CPU


@pytest.fixture
def page(webui: WebUI, request: pytest.FixtureRequest) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1500, "height": 1400})
        page.set_default_timeout(SLOW)
        page.goto(f"http://127.0.0.1:{webui.port}")
        page.wait_for_selector("#txt2img_generate")
        page.wait_for_selector("#refonly-txt2img-panel")
        yield page
        page.screenshot(path=str(webui.models.parent / f"{request.node.name}.png"), full_page=True)
        browser.close()


def number(page: Any, name: str, value: int, tab: str = "txt2img") -> None:
    box = page.locator(f"#{tab}_{name} input[type=number]").first
    box.fill(str(value))
    box.press("Enter")


def put(page: Any, zone: str, file: Path, tab: str = "txt2img") -> None:
    page.locator(f"#refonly-{tab}-{zone} input[type=file]").set_input_files(str(file))
    page.wait_for_selector(f"#refonly-{tab}-{zone} img")


def opened(page: Any, tab: str = "txt2img") -> None:
    page.locator(f"#refonly-{tab}-panel > .label-wrap, #refonly-{tab}-panel button.label-wrap").first.click()
    page.wait_for_selector(f"#refonly-{tab}-drawing", state="visible")


def test_drop_generate_and_paste_back(webui: WebUI, page: Any) -> None:
    """page: drop two pictures, press Generate, see the picture; its parameters bring the panel back"""
    sample = sorted(SAMPLES.iterdir())[0]
    for name, value in (("steps", 3), ("width", 128), ("height", 128)):
        number(page, name, value)
    opened(page)
    put(page, "drawing", sample / "lines.png")
    put(page, "unit-1-picture", sample / "reference.png")
    page.locator("#refonly-txt2img-look").click()
    page.wait_for_selector("#refonly-txt2img-view img")
    page.locator("#txt2img_generate").click()
    page.wait_for_function("document.querySelector('#html_info_txt2img')?.innerText.includes('RefOnly model')")
    text = page.locator("#html_info_txt2img").last.inner_text()
    assert "RefOnly unit 1" in text
    assert page.locator("#txt2img_gallery img").count()
    parameters = next(line for line in text.splitlines() if line.startswith("Steps:"))
    page.reload()
    page.wait_for_selector("#refonly-txt2img-panel")
    page.locator("#txt2img_prompt textarea").fill(f"a cat\n{parameters}")
    page.locator("#txt2img_tools #paste").click()
    page.wait_for_selector("#refonly-txt2img-drawing img", state="attached")
    page.wait_for_selector("#refonly-txt2img-unit-1-picture img", state="attached")
    assert page.locator("#refonly-txt2img-panel-checkbox input").is_checked()


def test_batch_tab(webui: WebUI, page: Any, tmp_path: Path) -> None:
    """page: img2img's batch tab: a folder of drawings, each coloured like the panel's reference"""
    samples = sorted(SAMPLES.iterdir())
    given, made = tmp_path / "drawings", tmp_path / "coloured"
    given.mkdir()
    for number_, sample in enumerate(samples[:2]):
        Image.open(sample / "lines.png").convert("RGB").resize((128, 128)).save(given / f"{number_}.png")
    page.locator("#tabs > .tab-nav button", has_text="img2img").first.click()
    page.locator("#mode_img2img > .tab-nav button", has_text="Batch").click()
    for label in ("From directory", "Directory"):
        tab = page.locator("#img2img_batch_tab button", has_text=label)
        if tab.count():
            tab.first.click()
    page.locator("#img2img_batch_input_dir textarea, #img2img_batch_input_dir input").fill(str(given))
    page.locator("#img2img_batch_output_dir textarea, #img2img_batch_output_dir input").fill(str(made))
    for name, value in (("steps", 3), ("width", 128), ("height", 128)):
        number(page, name, value, "img2img")
    opened(page, "img2img")
    put(page, "unit-1-picture", samples[0] / "reference.png", "img2img")
    page.locator("#img2img_generate").click()
    end = time.monotonic() + SLOW / 1000
    while len(list(made.glob("*.png"))) < 2 and time.monotonic() < end:
        page.wait_for_timeout(500)
    texts = [Image.open(path).info["parameters"] for path in sorted(made.iterdir())]
    assert len(texts) == 2
    drawings = [text.partition("RefOnly line drawing: ")[2][:16] for text in texts]
    assert drawings[0] != drawings[1]
    assert all(drawings)


def test_an_error_stands_on_the_page(webui: WebUI, page: Any) -> None:
    """page: what can't be applied is said under the picture"""
    for name, value in (("steps", 1), ("width", 64), ("height", 64)):
        number(page, name, value)
    opened(page)
    page.locator("#txt2img_generate").click()
    page.wait_for_function("document.querySelector('#tab_txt2img')?.innerText.includes('has no picture')")
