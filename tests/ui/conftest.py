"""A real page in a real browser, with the fake engine. Without chromium or playwright every test here is skipped, and says why."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lib_refonly.stylecode.library import Library
from tests.ui.fakes import FakeStore, FlatEngine, SquarePainter, character

_CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
_ARGUMENTS = "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run"
_CAMERA = "--use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
"""Chromium's own test camera: a moving pattern, and nobody is asked."""
_PATIENCE = 120_000
"""Milliseconds. A busy machine does not make a page wrong."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A page test that fails is run once more: on a machine that does many things at once gradio itself now and then loses what it is told. The summary
    counts each such run, and what is really wrong fails twice."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="page tests need playwright (pip install playwright)")
    if _CHROMIUM is None:
        pytest.skip("page tests need chromium (apt install chromium)")
    with playwright.sync_playwright() as driver:
        # One for all tests, with a profile on the disk: what is kept there spares loading the page's scripts again, and translating them.
        home, words = tmp_path_factory.mktemp("chromium"), f"{_ARGUMENTS} {_CAMERA}".split()
        context = driver.chromium.launch_persistent_context(home, executable_path=_CHROMIUM, args=words, accept_downloads=True)
        context.set_default_timeout(_PATIENCE)
        yield context
        context.close()


@dataclass
class Studio:
    """A running studio."""

    address: str
    engine: FlatEngine
    store: FakeStore
    steps: threading.Event
    """Set: engine and painter run freely. Cleared: a step takes them `HELD` seconds."""
    painter: SquarePainter
    library: Path


@pytest.fixture(scope="session")
def studio() -> Iterator[Studio]:
    pytest.importorskip("gradio", reason="page tests need gradio")
    from lib_refonly.studio import app

    home = app._quiet_environment()
    steps, store = threading.Event(), FakeStore()
    engine = FlatEngine(steps)
    port = app._free_port(0, app.LOCAL)
    assert port is not None
    painter, library = SquarePainter(steps), home / "styles" / "styles.sqlite"
    page = app.build(engine, store, download=_download(store), styles=painter, library=lambda: Library(library))
    page.launch(**app.launch_options(app.LOCAL, port))
    yield Studio(f"http://{app.LOCAL}:{port}/", engine, store, steps, painter, library)
    steps.set()
    page.close(verbose=False)
    shutil.rmtree(home, ignore_errors=True)


def _download(store: FakeStore) -> Callable[[str, Callable[[int, int], None], str | None], None]:
    def download(name: str, report: Callable[[int, int], None], mirror: str | None) -> None:
        report(1, 2)
        report(2, 2)
        store.install(name)

    return download


@pytest.fixture
def open_page(browser: Any, studio: Studio) -> Iterator[Callable[..., Any]]:
    """`open_page(width=1280, height=900, dark=False)`: a fresh tab, ready to use. Anything it asks of another host fails the test."""
    pages, foreign = [], []

    def open_(width: int = 1280, height: int = 900, dark: bool = False) -> Any:
        page = browser.new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.on("request", lambda request: None if request.url.startswith((studio.address, "data:", "blob:")) else foreign.append(request.url))
        page.goto(studio.address)
        page.wait_for_selector("#refonly-go")
        return page

    studio.steps.set()
    studio.engine.requests.clear()
    studio.painter.wishes.clear()
    studio.library.unlink(missing_ok=True)
    yield open_
    studio.steps.set()
    for page in pages:
        page.close()
    assert foreign == [], f"the page asked other hosts: {foreign}"


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Path]:
    """Files to drop: a reference and a drawing."""
    paths = {"reference": tmp_path / "reference.png", "lines": tmp_path / "my drawing.png"}
    character(False).save(paths["reference"])
    character(True).save(paths["lines"])
    return paths
