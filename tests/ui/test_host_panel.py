"""The WebUI's panel as a painter uses it, in a real browser, under the gradio of AUTOMATIC1111, of Forge and of the studio."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from lib_refonly.imaging.decode import open_picture
from lib_refonly.refonly.panel import UNITS, PanelSettings, UnitSettings
from lib_refonly.settings import specs
from lib_refonly.stylecode.settings import StyleSettings
from lib_refonly.ui.request import names
from tests.ui.host_facts import COLUMN, EVIL, LATER, MODELS, PASTED, PREPROCESSOR, TABS, digest, pasted_picture
from tests.ui.host_venvs import NotHere, python_with_gradio

Pictures = dict[str, Path]
HOSTS = {"A1111": "3.41.2", "Forge": "4.40.0", "studio": ""}
PANEL = "refonly-txt2img"
_STARTS_IN_SECONDS = 180


@dataclass
class Host:
    """A page that is served. `components`: what its script's `ui` would hand back, by tab."""

    name: str
    address: str
    components: dict[str, list[dict[str, Any]]]
    log: Path

    @property
    def hands_over(self) -> str:
        """The type of a picture's value: gradio 3 sends what it shows, the others a file."""
        return "str" if self.name == "A1111" else "PosixPath"


@pytest.fixture(scope="module", params=list(HOSTS))
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    pytest.importorskip("gradio", reason="page tests need gradio")
    try:
        python = python_with_gradio(HOSTS[request.param]) if HOSTS[request.param] else Path(sys.executable)
    except NotHere as why:
        pytest.skip(str(why))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("host") / "log.txt"
    command = [str(python), str(Path(__file__).with_name("host_page.py")), str(port), *(["--wrapped-events"] if request.param == "Forge" else [])]
    with log.open("w") as errors, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as server:
        assert server.stdout is not None
        watch = threading.Timer(_STARTS_IN_SECONDS, server.kill)
        watch.start()
        told = next((line for line in server.stdout if line.startswith("{")), "")
        watch.cancel()
        assert told, f"the page of {request.param} did not start:\n{log.read_text()}"
        said = json.loads(told)
        assert said["gradio"] == (HOSTS[request.param] or said["gradio"])
        yield Host(request.param, f"http://127.0.0.1:{port}/", said["components"], log)
        server.kill()  # asked to close, gradio 3 may wait for the browser for ever


class Panel:
    """One tab's panel in an open page; settings by their names, as a painter would reach them."""

    def __init__(self, page: Any, tab: str) -> None:
        self.page, self.tab, self.prefix = page, tab, f"#refonly-{tab}"

    def enable(self) -> None:
        self.page.check(f"{self.prefix}-panel-checkbox input")
        self.page.wait_for_selector(f"{self.prefix}-look")

    def open(self, *accordions: str) -> None:
        for name in accordions:
            self.page.click(f"{self.prefix}-{name} .label-wrap")

    def unit(self, number: int) -> None:
        title = "Reference 1" if number == 1 else str(number)
        self.page.locator(f"{self.prefix}-units button:text-is('{title}') >> visible=true").last.click()  # gradio 6 has them twice, first to measure them
        self.page.wait_for_selector(f"{self.prefix}-unit-{number}-weight")

    def number(self, name: str, value: float) -> None:
        self.page.fill(f"{self.prefix}-{name} input[type=number]", str(value))
        self.page.keyboard.press("Tab")

    def text(self, name: str, value: str) -> None:
        self.page.fill(f"{self.prefix}-{name} :is(textarea, input)", value)

    def radio(self, name: str, choice: str) -> None:
        self.page.locator(f"{self.prefix}-{name} label", has=self.page.locator(f"span:text-is('{choice}')")).click()

    def options(self, name: str, having: str) -> list[str]:
        """Open a dropdown and read what it offers, once that is among it: a list that is open does not grow when more comes to it."""
        offered: list[str] = []
        for _ in range(60):
            self.page.click(f"{self.prefix}-{name} input")
            self.page.wait_for_selector(f"{self.prefix}-{name} ul li")
            offered = [one.lstrip("\u2713 ").strip() for one in self.page.locator(f"{self.prefix}-{name} ul li").all_inner_texts()]
            if having in offered:
                return offered
            self.page.keyboard.press("Escape")
            self.page.keyboard.press("Tab")
            self.page.wait_for_timeout(500)
        raise AssertionError(f"{having} did not come: {offered}")

    def choose(self, name: str, title: str) -> None:
        at = self.options(name, title).index(title)
        self.page.locator(f"{self.prefix}-{name} ul li").nth(at).click()
        self.page.wait_for_function("([box, title]) => document.querySelector(box).value === title", arg=[f"{self.prefix}-{name} input", title])

    def shown(self, name: str) -> str:
        return self.page.input_value(f"{self.prefix}-{name} :is(textarea, input)")

    def give(self, zone: str, path: Path) -> None:
        self.page.set_input_files(f"{self.prefix}-{zone} input[type=file]", str(path))
        self.wait_for_picture(zone)

    def wait_for_picture(self, zone: str, instead_of: str | None = None) -> str:
        """Until the zone shows a picture, another one than `instead_of`. Returns its address."""
        there = "([zone, old]) => { const src = document.querySelector(`${zone} img`)?.src; return src && src !== old && src }"
        return self.page.wait_for_function(there, arg=[f"{self.prefix}-{zone}", instead_of]).json_value()

    def look(self) -> None:
        self.page.click(f"{self.prefix}-look")

    def generate(self) -> dict[str, Any]:
        """What the script would be handed now."""
        box = f"#{self.tab}_received textarea"
        before = self.page.input_value(box)
        self.page.click(f"#{self.tab}_generate")
        self.page.wait_for_function("([box, before]) => document.querySelector(box).value !== before", arg=[box, before])
        return json.loads(self.page.input_value(box))


OpenPanel = Callable[..., Panel]


@pytest.fixture
def open_panel(browser: Any, host: Host) -> Iterator[OpenPanel]:
    """`open_panel(dark=False, enabled=True)`: a fresh tab with txt2img's panel. Errors in its console or in the terminal fail the test, and so do requests
    to other hosts."""
    pages: list[Any] = []
    errors: list[str] = []

    def heard(error: str) -> None:
        if not error.startswith("AbortError"):  # gradio 4 ends its own event stream so, and on a busy machine does not catch it
            errors.append(error)

    def open_(dark: bool = False, enabled: bool = True) -> Panel:
        page = browser.new_page()
        pages.append(page)
        page.set_viewport_size({"width": 1000, "height": 1400})
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.on("request", lambda request: None if request.url.startswith((host.address, "data:", "blob:")) else errors.append(request.url))
        page.on("console", lambda message: heard(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: heard(str(error)))
        page.goto(host.address + ("?__theme=dark" if dark else ""))
        panel = Panel(page, "txt2img")
        page.wait_for_selector(f"{panel.prefix}-panel-checkbox")
        if enabled:
            panel.enable()
        return panel

    known = len(host.log.read_text())
    yield open_
    hurt = [page.evaluate("window.hurt") for page in pages]
    for page in pages:
        page.close()
    assert errors == [], "the page's console, or other hosts"
    assert not any(hurt), "mark-up in a name was carried out"
    assert "Traceback" not in host.log.read_text()[known:]


# --- what the script's ui hands back ------------------------------------------------------------------------------------------------------------------


def defaults() -> list[Any]:
    unit = [None, None, *asdict(UnitSettings()).values()]
    return [*asdict(PanelSettings()).values(), None, *unit * UNITS, *asdict(StyleSettings()).values(), ""]


@pytest.mark.parametrize("tab", TABS)
def test_components_stand_in_the_order_of_the_arguments_with_value_and_label(host: Host, tab: str) -> None:
    parts = host.components[tab]
    assert [part["value"] for part in parts] == defaults()
    assert len(parts) == len(names())
    assert all(part["label"] for part in parts)
    labels = [spec.label for spec in specs(PanelSettings).values()]
    assert [part["label"] for part in parts[: len(labels)]] == labels
    assert {part["name"] for part in parts} == {"checkbox", "dropdown", "slider", "radio", "image", "textbox"}


def test_ids_differ_between_the_tabs(host: Host) -> None:
    ids = [part["id"] for tab in TABS for part in host.components[tab]]
    assert None not in ids
    assert len(set(ids)) == len(ids)


# --- settings -----------------------------------------------------------------------------------------------------------------------------------------


def test_untouched_it_hands_over_the_defaults(open_panel: OpenPanel, host: Host) -> None:
    panel = open_panel()
    got = panel.generate()
    assert [name for name, _ in got["handed"]] == names()
    assert got["settings"] == asdict(PanelSettings(enabled=True))
    assert (got["drawing"], got["units"]) == (None, [])
    assert panel.shown("model") == "The first that fits"
    panel.page.uncheck(f"{panel.prefix}-panel-checkbox input")
    panel.page.wait_for_selector(f"{panel.prefix}-look", state="hidden")
    assert panel.generate()["settings"]["enabled"] is False


def test_everything_that_is_set_is_handed_over(open_panel: OpenPanel, host: Host, pictures: Pictures) -> None:
    panel = open_panel()
    panel.give("drawing", pictures["lines"])
    panel.give("unit-1-picture", pictures["reference"])
    panel.number("unit-1-weight", 0.35)
    panel.choose("model", MODELS[1][0])
    panel.number("strength", 1.5)
    panel.number("line-strength", 0.8)
    panel.open("lines")
    panel.choose("preprocessor", PREPROCESSOR)
    panel.radio("polarity", "light on dark")
    for name, value in {"line-block": 9, "line-c": 3, "line-start": 0.1, "line-end": 0.9}.items():
        panel.number(name, value)
    panel.radio("fitting", "crop")
    panel.open("more")
    panel.radio("background", "white")
    panel.radio("fit", "crop")
    panel.radio("passes", "high")
    panel.page.check(f"{panel.prefix}-must input")
    panel.unit(2)
    panel.give("unit-2-picture", pictures["lines"])
    panel.open("unit-2-more")
    panel.give("unit-2-mask", pictures["reference"])
    panel.number("unit-2-start", 0.2)
    panel.number("unit-2-end", 0.7)
    panel.text("unit-2-blocks", "M:0, OUT:1.2")

    got = panel.generate()
    assert got["settings"] == asdict(
        PanelSettings(
            enabled=True,
            model=MODELS[1][1],
            strength=1.5,
            line_strength=0.8,
            line_start=0.1,
            line_end=0.9,
            preprocessor=PREPROCESSOR,
            polarity="light on dark",
            line_block=9,
            line_c=3,
            fitting="crop",
            background="white",
            fit="crop",
            passes="high",
            must=True,
        )
    )
    lines, reference = open_picture(pictures["lines"]), open_picture(pictures["reference"])
    assert got["drawing"] == digest(lines)
    assert got["units"] == [
        {"picture": digest(reference), "mask": None, **asdict(UnitSettings(weight=0.35))},
        {"picture": digest(lines), "mask": digest(reference.convert("L")), **asdict(UnitSettings(start=0.2, end=0.7, blocks="M:0, OUT:1.2"))},
    ]
    types = dict(got["handed"])
    assert {types[name] for name in ("drawing", "unit 1 picture", "unit 2 picture", "unit 2 mask")} == {host.hands_over}


def test_models_are_shown_by_title_and_come_with_refresh(open_panel: OpenPanel) -> None:
    panel = open_panel()
    *known, last = panel.options("model", MODELS[-1][0])
    assert known == ["The first that fits", *(title for title, _ in MODELS)]
    count = int(re.findall(r"\d+", last)[0])
    assert count, "the list was brought up to date when the panel was switched on"
    panel.page.keyboard.press("Escape")
    panel.page.click(f"{panel.prefix}-refresh")
    panel.choose("model", LATER.format(count + 1))
    assert panel.generate()["settings"]["model"] == LATER.format(count + 1).lower()


def test_what_a_picture_s_parameters_set_is_handed_over(open_panel: OpenPanel, host: Host, pictures: Pictures) -> None:
    """Read parameters sets components from outside. A model that is not there any more must reach the script, which says so."""
    panel = open_panel(enabled=False)
    panel.page.click("#txt2img_paste")
    pasted = panel.wait_for_picture("unit-1-picture")
    panel.page.wait_for_selector(f"{panel.prefix}-look")
    panel.page.wait_for_timeout(500)  # switching on brings the lists up to date
    got = panel.generate()
    assert got["settings"] == asdict(replace(PanelSettings(), **PASTED))
    assert [unit["picture"] for unit in got["units"]] == [digest(pasted_picture())]
    drop(panel, "unit-1-picture", pictures["reference"])  # the zone is still ours: files are handed over undecoded
    panel.wait_for_picture("unit-1-picture", pasted)
    got = panel.generate()
    assert dict(got["handed"])["unit 1 picture"] == host.hands_over
    assert [unit["picture"] for unit in got["units"]] == [digest(open_picture(pictures["reference"]))]


def test_the_tabs_are_apart(open_panel: OpenPanel, pictures: Pictures) -> None:
    panel = open_panel()
    panel.page.focus(f"{panel.prefix}-strength input[type=range]")
    for _ in range(3):
        panel.page.keyboard.press("ArrowRight")
    panel.give("drawing", pictures["lines"])
    assert panel.generate()["settings"]["strength"] == pytest.approx(1.15)
    panel.page.get_by_role("button", name="img2img", exact=True).or_(panel.page.get_by_role("tab", name="img2img", exact=True)).first.click()
    other = Panel(panel.page, "img2img")
    other.enable()
    got = other.generate()
    assert (got["settings"]["strength"], got["drawing"]) == (1.0, None)
    tabs = panel.page.locator("#refonly-img2img-units button >> visible=true").all_inner_texts()
    assert sorted({*tabs} & set("1234")) == ["2"], "fewer units are shown, as the WebUI's settings say"


# --- pictures -----------------------------------------------------------------------------------------------------------------------------------------


def held(page: Any, path: Path) -> Any:
    return page.evaluate_handle(
        """([bytes, name]) => { const held = new DataTransfer();
        held.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/png'})); return held }""",
        [list(path.read_bytes()), path.name],
    )


def drop(panel: Panel, zone: str, path: Path) -> None:
    for event in ("dragover", "drop"):
        panel.page.dispatch_event(f"{panel.prefix}-{zone}", event, {"dataTransfer": held(panel.page, path)})


def test_pictures_are_dropped_replaced_and_taken_out(open_panel: OpenPanel, host: Host, pictures: Pictures) -> None:
    panel = open_panel()
    drop(panel, "drawing", pictures["reference"])
    first = panel.wait_for_picture("drawing")
    drop(panel, "drawing", pictures["lines"])
    panel.wait_for_picture("drawing", first)
    assert panel.page.url == host.address, "the browser left the page"
    assert panel.generate()["drawing"] == digest(open_picture(pictures["lines"]))
    panel.page.click(f"{panel.prefix}-drawing :is(button[aria-label='Clear'], button[aria-label='Remove Image'])")
    panel.page.wait_for_selector(f"{panel.prefix}-drawing img", state="detached")
    assert panel.generate()["drawing"] is None


def test_a_picture_is_pasted_where_the_pointer_is(open_panel: OpenPanel, pictures: Pictures) -> None:
    panel = open_panel()
    paste = "held => document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: held, bubbles: true, cancelable: true}))"
    panel.page.hover(f"{panel.prefix}-unit-1-picture")
    held(panel.page, pictures["reference"]).evaluate(paste)
    panel.wait_for_picture("unit-1-picture")
    panel.page.hover(f"{panel.prefix}-strength")
    held(panel.page, pictures["reference"]).evaluate(paste)  # beside the zones the WebUI has its own way
    got = panel.generate()
    assert (got["drawing"], len(got["units"])) == (None, 1)


def test_each_unit_has_its_own_picture(open_panel: OpenPanel, pictures: Pictures) -> None:
    panel = open_panel()
    for number in range(1, UNITS + 1):
        panel.unit(number)
        panel.give(f"unit-{number}-picture", pictures["reference" if number % 2 else "lines"])
        panel.number(f"unit-{number}-weight", number / 4)
    got = panel.generate()
    digests = [digest(open_picture(pictures[name])) for name in ("reference", "lines")] * 2
    assert [(unit["picture"], unit["weight"]) for unit in got["units"]] == list(zip(digests, (0.25, 0.5, 0.75, 1.0), strict=True))


def test_what_the_model_will_see_is_shown(open_panel: OpenPanel, pictures: Pictures) -> None:
    panel = open_panel()
    panel.look()
    panel.page.wait_for_selector(f"{panel.prefix}-view :text('Add a reference')")
    panel.give("drawing", pictures["lines"])
    panel.give("unit-1-picture", pictures["reference"])
    panel.look()
    panel.page.wait_for_selector(f"{panel.prefix}-view figure:nth-child(2) img")
    sizes = panel.page.evaluate(f"[...document.querySelectorAll('{panel.prefix}-view img')].map(one => one.naturalWidth)")
    assert sizes == [384, 384]


def test_a_file_that_is_no_picture_gets_a_sentence(open_panel: OpenPanel, tmp_path: Path) -> None:
    panel = open_panel()
    bad = tmp_path / "broken.png"
    bad.write_bytes(b"this is no picture")
    panel.page.set_input_files(f"{panel.prefix}-drawing input[type=file]", str(bad))
    panel.page.wait_for_selector(f"{panel.prefix}-drawing img", state="attached")
    panel.look()
    panel.page.wait_for_selector(f"{panel.prefix}-view [role=alert]:has-text('no picture')")
    assert "no picture" in panel.generate()["error"]
    assert "Traceback" not in panel.page.inner_text("body")


# --- presets ------------------------------------------------------------------------------------------------------------------------------------------


def test_presets_are_saved_loaded_and_deleted(open_panel: OpenPanel, pictures: Pictures) -> None:
    name = f"mine {EVIL}"
    panel = open_panel()
    panel.open("more")
    panel.number("strength", 0.6)
    panel.choose("model", MODELS[1][0])
    panel.page.click(f"{panel.prefix}-preset-save")
    panel.page.wait_for_selector(f"{panel.prefix}-preset-message [role=alert]:has-text('Give the preset a name')")
    panel.text("preset-name", name)
    panel.page.click(f"{panel.prefix}-preset-save")
    panel.page.wait_for_selector(f"{panel.prefix}-preset-message :text('is saved')")
    assert name in panel.page.inner_text(f"{panel.prefix}-preset-message")

    later = open_panel()
    later.open("more")
    later.give("drawing", pictures["lines"])
    later.page.click(f"{later.prefix}-preset input")
    later.page.wait_for_selector(f"{later.prefix}-preset ul li")
    later.choose("preset", name)
    later.page.wait_for_function("box => document.querySelector(box).value === '0.6'", arg=f"{later.prefix}-strength input[type=number]")
    got = later.generate()
    assert (got["settings"]["strength"], got["settings"]["model"]) == (0.6, MODELS[1][1])
    assert got["drawing"] is not None, "pictures stay"
    assert later.page.locator(f"{later.prefix}-preset img, {later.prefix}-preset-message img").count() == 0

    later.page.click(f"{later.prefix}-preset-delete")
    later.page.wait_for_selector(f"{later.prefix}-preset-message :text('is deleted')")
    later.page.click(f"{later.prefix}-preset-delete")
    later.page.wait_for_selector(f"{later.prefix}-preset-message :text('Choose the preset')")


# --- looks --------------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_into_the_column_and_into_the_theme(open_panel: OpenPanel, dark: bool) -> None:
    panel = open_panel(dark)
    panel.open("lines", "more", "unit-1-more")
    panel.page.wait_for_selector(f"{panel.prefix}-preset-save")
    panel.look()
    panel.page.wait_for_selector(f"{panel.prefix}-view p")
    column = panel.page.locator("#txt2img_settings").bounding_box()
    assert column["width"] == pytest.approx(COLUMN, abs=1)
    parts = panel.page.evaluate("[...document.querySelectorAll('#txt2img_settings [id^=refonly-]')].map(one => one.getBoundingClientRect().right)")
    assert max(parts) <= column["x"] + column["width"] + 1
    assert panel.page.evaluate("document.documentElement.scrollWidth") <= 1000
    assert (luminance(panel.page, f"{panel.prefix}-drawing", "backgroundColor") < 80) is dark
    contrast = luminance(panel.page, f"{panel.prefix}-view p", "color") - luminance(panel.page, f"{panel.prefix}-drawing", "backgroundColor")
    assert (contrast > 70) if dark else (contrast < -60)


def luminance(page: Any, selector: str, what: str) -> float:
    colour = page.evaluate("([s, w]) => getComputedStyle(document.querySelector(s))[w]", [selector, what])
    return sum(int(v) for v in re.findall(r"\d+", colour)[:3]) / 3


# --- strangers ----------------------------------------------------------------------------------------------------------------------------------------


def test_addresses_are_never_fetched(host: Host) -> None:
    """A picture given as an address, as a request from outside may hold it."""
    config = json.loads(ask(host, "GET", "/config"))
    zone, button = (component_id(config, f"{PANEL}-{part}") for part in ("drawing", "look"))
    index, function = next((i, one) for i, one in enumerate(config["dependencies"]) if button in json.dumps(one["targets"]).strip("[]").split(", "))
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        address = f"http://127.0.0.1:{stranger.getsockname()[1]}/x.png"
        given = address if host.name == "A1111" else {"path": address, "url": address, "meta": {"_type": "gradio.FileData"}}
        data = [given if one == zone else value for one, value in zip(map(str, function["inputs"]), defaults(), strict=True)]
        body = {"data": data, "fn_index": function.get("id", index), "session_hash": "stranger"}
        if host.name == "A1111":
            said = ask(host, "POST", "/run/predict", body)
            assert "Addresses and file names are not opened" in json.loads(said)["data"][0]
        else:
            prefix = config.get("api_prefix", "")
            ask(host, "POST", f"{prefix}/queue/join", body)
            assert '"success":false' in ask(host, "GET", f"{prefix}/queue/data?session_hash=stranger").replace(" ", "")
        stranger.settimeout(0.2)
        with pytest.raises(TimeoutError):
            stranger.accept()


def component_id(config: Any, elem_id: str) -> str:
    return str(next(one["id"] for one in config["components"] if one["props"].get("elem_id") == elem_id))


def ask(host: Host, method: str, path: str, body: Any = None) -> str:
    connection = http.client.HTTPConnection(urlsplit(host.address).netloc, timeout=60)
    connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, text
    return text
