"""Writing captions on the Train page: a real browser, and a tagger that knows colours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lib_refonly.training.captions import Captioner
from lib_refonly.ui import caption_panel
from tests.tiny_tagger import install
from tests.ui.test_training_page import box, caption, look, studio, train  # noqa: F401 fixtures

MESSAGE = "#refonly-train-captions-message"


@pytest.fixture
def girl(tmp_path: Path) -> Path:
    folder = tmp_path / "girl"
    folder.mkdir()
    for name, colour in (("a", "red"), ("b", "blue"), ("c", "white")):
        Image.new("RGB", (300, 300), colour).save(folder / f"{name}.png")
    (folder / "b.txt").write_text("by hand, red hair\n")
    (folder / "d.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def tagger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFONLY_MODELS_DIR", str(tmp_path / "models"))
    install(tmp_path / "models" / "my-tagger")


def opened(page: Any, girl: Path) -> Any:
    look(page, girl)
    page.click("#refonly-train-captions > button")
    page.wait_for_selector("#refonly-train-captions-write")
    return page


def wait_text(page: Any, folder: Path, **wanted: str) -> None:
    """What the page shows and what is on the disk."""
    for name, text in wanted.items():
        page.wait_for_function("([one, text]) => document.querySelector(one)?.value === text", arg=[caption(f"{name}.png"), text])
        assert (folder / f"{name}.txt").read_text().strip() == text


@pytest.mark.usefixtures("tagger")
def test_captions_are_written_changed_and_taken_back(train: Callable[[], Any], girl: Path) -> None:  # noqa: F811
    page = opened(train(), girl)
    page.wait_for_function("(one) => document.querySelector(one)?.value === 'Tagger my-tagger'", arg="#refonly-train-captions-who input")
    page.fill(box("word"), "mihoxyz")
    page.fill(box("captions-left-out"), "Miho_(idol)")
    page.click("#refonly-train-captions-write")
    page.wait_for_selector(f"{MESSAGE}:has-text('2 captions are written')")
    page.wait_for_selector("#refonly-train-captions-problems:has-text('d.png')")
    wait_text(page, girl, a="mihoxyz, red hair", b="by hand, red hair", c="mihoxyz, white background")
    assert not (girl / "b.txt.bak").exists()

    page.check("#refonly-train-captions-again input")
    page.click("#refonly-train-captions-write:not([disabled])")
    page.wait_for_selector(f"{MESSAGE}:has-text('3 captions are written')")
    wait_text(page, girl, b="mihoxyz, blue hair")
    assert (girl / "b.txt.bak").read_text() == "by hand, red hair\n"
    page.click("#refonly-train-captions-back")
    page.wait_for_selector(f"{MESSAGE}:has-text('3 captions are as before')")
    wait_text(page, girl, b="by hand, red hair")

    page.fill(box("captions-tag"), "Red_Hair")
    page.click("#refonly-train-captions-replace")
    page.wait_for_selector(f"{MESSAGE}:has-text('2 captions are changed')")
    wait_text(page, girl, a="mihoxyz", b="by hand")
    page.wait_for_selector("#refonly-train-facts .refonly-tags:not(:has-text('red hair'))")


def test_without_a_tagger_it_says_what_can_be_done(train: Callable[[], Any], girl: Path, tmp_path: Path) -> None:  # noqa: F811
    page = opened(train(), girl)
    page.click("#refonly-train-captions-write")
    page.wait_for_selector(f"{MESSAGE} [role=alert]:has-text('The Models page')")
    page.fill(box("captions-blip"), str(tmp_path))
    page.click("#refonly-train-captions-write:not([disabled])")
    page.wait_for_selector(f"{MESSAGE} [role=alert]:has-text('config.json')")
    assert not (girl / "a.txt").exists()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """In the tagger's place: one that goes on when it is told to."""
    go = threading.Event()

    def describe(picture: Image.Image) -> str:
        go.wait(60)
        return "<img src=x onerror=alert(1)>"

    monkeypatch.setattr(caption_panel, "by_taggers", lambda: [Captioner("slow", "A slow one", lambda: describe)])
    yield go
    go.set()


def test_stop_ends_it_after_the_picture_at_hand(train: Callable[[], Any], girl: Path, slow: threading.Event) -> None:  # noqa: F811
    page = opened(train(), girl)
    page.click("#refonly-train-captions-write")
    page.click("#refonly-train-captions-stop:not([disabled])")
    page.wait_for_selector("#refonly-train-captions-stop:has-text('Stopping')")
    slow.set()
    page.wait_for_selector(f"{MESSAGE}:has-text('1 caption is written. Stopped')")
    wait_text(page, girl, a="<img src=x onerror=alert(1)>")
    assert not (girl / "c.txt").exists()
    assert page.evaluate("window.hurt") is None
