"""javascript/refonly_onepic.js, the ONE-PIC composer, in a real browser: on a page of its own, and in pages of the three versions of gradio.

What it makes is read by the Python side (`lib_refonly.onepic`), and what that shows the model is compared with the composer's own view.
"""

from __future__ import annotations

import base64
import io
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib_refonly.onepic.compose import composed
from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.project import CELL, Panel, Project, blank
from tests.ui.host_venvs import NotHere, page_of, python_with_gradio

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ("refonly_onepic.js", "refonly_onepic_model.js")  # as hosts load them: by their names
RED, GREEN, BLUE = (220, 40, 40), (40, 180, 60), (40, 60, 210)
ROOT_JS = "document.getElementById('composer')"
Pixels = Any


class Composer:
    """The composer in an open page. Panels count from 0 here, as in the project's JSON."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("filechooser", lambda _: None)  # from the beginning: a key would be quicker than playwright's first listening

    def state(self) -> dict[str, Any]:
        """The textbox' JSON once everything is written; the Python side can read it."""
        text = self.page.evaluate(f"refonlyOnePic.flush({ROOT_JS})")
        assert self.page.input_value("#project textarea") == text
        Project.read(text)
        return json.loads(text)

    def project(self) -> Project:
        return Project.read(json.dumps(self.state()))

    def panel(self, at: int) -> dict[str, Any]:
        return self.state()["panels"][at]

    def load(self, project: Project) -> None:
        assert self.page.evaluate(f"(text) => refonlyOnePic.load({ROOT_JS}, text)", project.written())
        self.drawn()

    def drawn(self) -> None:
        """Until all pictures are decoded and the page shows the state as it is now."""
        self.page.evaluate("""async () => {
            const grid = document.querySelector(".refonly-onepic-grid");
            do await new Promise(requestAnimationFrame); while (grid.getAttribute("aria-busy") === "true");
        }""")

    def cell(self, at: int) -> Any:
        self.drawn()
        return self.page.locator(".refonly-onepic-panel").nth(at)

    def button(self, name: str) -> Any:
        return self.page.locator(f".refonly-onepic-button[title='{name}']")

    def select(self, at: int) -> None:
        """As a painter does who has no mouse."""
        while (now := self.selected()) != at:
            self.cell(now).focus()
            columns = self.state()["layout"]["columns"]
            step = "ArrowDown" if at // columns > now // columns else "ArrowUp" if at // columns < now // columns else "ArrowRight" if at > now else "ArrowLeft"
            self.page.keyboard.press(step)

    def selected(self) -> int:
        self.drawn()
        return int(self.page.get_attribute(".refonly-onepic-panel[aria-selected=true]", "data-at"))

    def focused(self) -> int:
        return self.page.evaluate("Number(document.activeElement?.dataset.at ?? -1)")

    def status(self) -> str:
        return self.page.inner_text(".refonly-onepic-status")

    def says(self, text: str) -> None:
        self.page.wait_for_function("(text) => document.querySelector('.refonly-onepic-status').textContent.includes(text)", arg=text)

    def point(self, at: int, x: float, y: float) -> tuple[float, float]:
        """Where on the page a share (0..1) of a panel's sides is."""
        box = self.cell(at).bounding_box()
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    def drag(self, at: int, *path: tuple[float, float]) -> None:
        self.page.mouse.move(*self.point(at, *path[0]))
        self.page.mouse.down()
        for place in path[1:]:
            self.page.mouse.move(*self.point(at, *place), steps=8)
        self.page.mouse.up()

    def drop(self, selector: str, *files: tuple[str, bytes, str], address: str = "") -> None:
        """Files (name, bytes, type), or an address, let go over an element."""
        given = [[name, base64.b64encode(data).decode(), kind] for name, data, kind in files]
        self.page.evaluate(
            """([selector, files, address]) => {
                const held = new DataTransfer();
                for (const [name, data, type] of files) held.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, { type }));
                if (address) held.setData("text/uri-list", address);
                const how = { dataTransfer: held, bubbles: true, cancelable: true, composed: true };
                for (const name of ["dragenter", "dragover", "drop"]) document.querySelector(selector).dispatchEvent(new DragEvent(name, how));
            }""",
            [selector, given, address],
        )

    def drop_on(self, at: int, *files: tuple[str, bytes, str]) -> None:
        self.drop(f".refonly-onepic-panel[data-at='{at}']", *files)
        self.filled(at)

    def filled(self, at: int, count: int = 1) -> None:
        self.page.wait_for_function(f"() => refonlyOnePic.state({ROOT_JS}).panels[{at}].picture")
        self.drawn()

    def paste(self, name: str, data: bytes, text: str = "") -> bool:
        """Whether somebody took it."""
        return self.page.evaluate(
            """([name, data, text]) => {
                const held = new DataTransfer();
                held.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, { type: "image/png" }));
                if (text) held.setData("text/plain", text);
                const event = new ClipboardEvent("paste", { clipboardData: held, bubbles: true, cancelable: true });
                return !(document.activeElement ?? document.body).dispatchEvent(event);
            }""",
            [name, base64.b64encode(data).decode(), text],
        )

    def seen(self) -> Pixels:
        """The pixels of "What the model sees", [height, width, 3]. It is closed again."""
        self.page.click("text=What the model sees")
        self.drawn()
        address = self.page.evaluate("document.querySelector('.refonly-onepic-seen').toDataURL()")
        assert not self.page.is_visible(".refonly-onepic-panel")
        self.page.click("text=What the model sees")
        return pixels_of(address)

    def saved(self, name: str) -> bytes:
        with self.page.expect_download() as held:
            self.button(name).click()
        return Path(held.value.path()).read_bytes()

    def shown(self, at: int, x: float, y: float) -> tuple[int, ...]:
        """The colour that is drawn in a panel."""
        script = """([cell, x, y]) => {
            const canvas = cell.querySelector("canvas");
            return [...canvas.getContext("2d").getImageData(x * canvas.width, y * canvas.height, 1, 1).data].slice(0, 3);
        }"""
        self.drawn()
        return tuple(self.page.evaluate(script, [self.cell(at).element_handle(), x, y]))


def encoded(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    held = io.BytesIO()
    image.save(held, kind, **more)
    return held.getvalue()


def flat(colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> bytes:
    return encoded(Image.new("RGB", size, colour))


def png(name: str, colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> tuple[str, bytes, str]:
    return name, flat(colour, size), "image/png"


def halves(left: tuple[int, int, int], right: tuple[int, int, int], size: tuple[int, int]) -> bytes:
    picture = Image.new("RGB", size, left)
    picture.paste(right, (size[0] // 2, 0, *size))
    return encoded(picture)


def waves(width: int, height: int, seed: int) -> bytes:
    y, x = np.mgrid[:height, :width]
    colours = [127 + 100 * np.sin(x / 23 + seed), 127 + 100 * np.cos(y / 31 - seed), 127 + 100 * np.sin((x + 2 * y) / 41)]
    return encoded(Image.fromarray(np.stack(colours, -1).astype(np.uint8)))


def bytes_of(address: str) -> bytes:
    return base64.b64decode(address.partition(",")[2])


def pixels_of(address: str) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(bytes_of(address))).convert("RGB")).astype(int)


def brushed(panel: dict[str, Any]) -> Pixels:
    """[height, width] of a panel's mask, which has to be white on black."""
    mask = Image.open(io.BytesIO(bytes_of(panel["mask"])))
    assert mask.convert("RGBA").getchannel("A").getextrema() == (255, 255)
    values = np.asarray(mask.convert("L"))
    assert set(np.unique(values)) <= {0, 255}
    return values > 127


def close(colour: Any, other: Any, by: int = 3) -> bool:
    return bool(np.abs(np.asarray(colour).astype(int) - np.asarray(other).astype(int)).max() <= by)


OpenComposer = Callable[..., Composer]


@pytest.fixture
def composer(browser: Any) -> Iterator[OpenComposer]:
    """`composer(width=900, height=900, scripts=SCRIPTS, before="", html="")`: a fresh page with the composer. An error on the page fails the test."""
    opened: list[Composer] = []

    def open_(width: int = 900, height: int = 900, scripts: tuple[str, ...] = SCRIPTS, before: str = "", html: str = "", dark: bool = False) -> Composer:
        page = browser.new_page()
        one = Composer(page)
        opened.append(one)
        page.set_viewport_size({"width": width, "height": height})
        page.goto((ROOT / "tests/ui/onepic_page.html").as_uri())
        page.add_style_tag(path=str(ROOT / "style.css"))
        page.evaluate("([html, dark]) => { document.body.insertAdjacentHTML('beforeend', html); document.body.classList.toggle('dark', dark); }", [html, dark])
        if before:
            page.evaluate(before)
        for name in scripts:
            page.add_script_tag(path=str(ROOT / "javascript" / name))
        page.wait_for_selector(".refonly-onepic-panel")
        one.drawn()
        return one

    yield open_
    for one in opened:
        errors = one.errors
        one.page.close()
        assert errors == []


# --- pictures in ------------------------------------------------------------------------------------------------------------------------------------------


def test_it_begins_with_an_empty_canvas_and_writes_only_what_changed(composer: OpenComposer) -> None:
    one = composer()
    assert one.page.input_value("#project textarea") == ""
    assert one.project() == blank(Layout(2, 2))
    assert list(one.state()) == ["format", "version", "task", "layout", "panel", "panels", "prompt", "negative", "reuse", "alone", "control_alone"]


def test_a_picture_is_dropped_into_a_panel_and_written_to_the_textbox(composer: OpenComposer) -> None:
    one = composer()
    one.page.evaluate("() => { window.heard = 0; document.querySelector('#project textarea').addEventListener('input', () => { window.heard++; }); }")
    red = flat(RED)
    one.drop_on(1, ("a.png", red, "image/png"))
    one.page.wait_for_function("() => window.heard === 1")  # by itself, after a moment
    panels = json.loads(one.page.input_value("#project textarea"))["panels"]
    assert [panel["picture"] is not None for panel in panels] == [False, True, False, False]
    assert bytes_of(panels[1]["picture"]) == red
    assert close(one.shown(1, 0.5, 0.5), RED)
    one.says("Picture in panel 2.")


def test_several_pictures_fill_the_empty_context_panels_in_order(composer: OpenComposer) -> None:
    one = composer()
    one.drop_on(1, png("a.png", RED))
    one.drop(".refonly-onepic-status", png("b.png", GREEN), png("c.png", BLUE))
    one.filled(2)
    pictures = [panel["picture"] and bytes_of(panel["picture"]) for panel in one.state()["panels"]]
    assert pictures == [flat(GREEN), flat(RED), flat(BLUE), None]  # the target is left alone
    one.says("2 pictures placed.")
    one.drop(".refonly-onepic-status", png("d.png", RED))
    one.says("No context panel is empty")
    one.page.keyboard.press("Tab")
    one.page.locator(".refonly-onepic-panel").first.focus()
    one.page.keyboard.press("Control+z")
    assert [bool(panel["picture"]) for panel in one.state()["panels"]] == [False, True, False, False]  # both were one step


def test_more_pictures_than_room(composer: OpenComposer) -> None:
    one = composer()
    one.drop_on(3, *(png(f"{i}.png", (i * 40, 0, 0)) for i in range(6)))
    pictures = [pixels_of(panel["picture"])[0, 0, 0] for panel in one.state()["panels"]]
    assert pictures == [40, 80, 120, 0]  # the first one went where it was dropped
    one.says("There was no empty context panel for 2 more.")


def test_a_picture_of_the_page_is_dropped_by_its_address(composer: OpenComposer) -> None:
    one = composer()
    asked: list[str] = []
    one.page.on("request", lambda request: asked.append(request.url))
    one.drop(".refonly-onepic-panel", address=f"data:image/png;base64,{base64.b64encode(flat(BLUE)).decode()}")
    one.filled(0)
    assert bytes_of(one.panel(0)["picture"]) == flat(BLUE)
    one.drop(".refonly-onepic-panel", address="https://example.org/a.png")
    one.says("There is no picture in what was dropped.")
    assert not [address for address in asked if address.startswith("http")]


def test_paste_goes_into_the_selected_panel_while_focus_or_pointer_are_there(composer: OpenComposer) -> None:
    one = composer()
    one.page.focus("#beside")
    one.page.mouse.move(2, 895)
    assert not one.paste("a.png", flat(RED))
    one.cell(2).focus()
    one.select(2)
    assert one.paste("a.png", flat(RED))
    one.filled(2)
    one.page.focus("#beside")
    one.page.mouse.move(*one.point(0, 0.5, 0.5))
    before = one.panel(2)["picture"]
    assert one.paste("b.png", flat(BLUE))  # the pointer is over it
    one.page.wait_for_function(f"(old) => refonlyOnePic.state({ROOT_JS}).panels[2].picture !== old", arg=before)
    assert [panel["picture"] and bytes_of(panel["picture"]) for panel in one.state()["panels"]] == [None, None, flat(BLUE), None]
    one.page.focus(".refonly-onepic-label")
    assert not one.paste("table.png", flat(RED), text="a table")  # text for a text field


def test_paste_comes_before_the_zones_of_the_panels(composer: OpenComposer) -> None:
    zone = '<div id="studio-header"></div><div id="zone" class="refonly-zone" style="height: 20px"><input type="file"></div>'
    one = composer(html=zone, scripts=("refonly.js", *SCRIPTS))
    one.cell(0).focus()
    assert one.paste("a.png", flat(RED))
    one.filled(0)
    assert one.page.evaluate("document.querySelector('#zone input').files.length") == 0
    one.page.focus("#beside")
    one.page.hover("#zone")
    assert one.paste("a.png", flat(GREEN))
    assert one.page.evaluate("document.querySelector('#zone input').files.length") == 1


def test_an_empty_panel_is_clicked_to_choose_files(composer: OpenComposer, tmp_path: Path) -> None:
    one = composer()
    (tmp_path / "a.png").write_bytes(flat(RED))
    for at in (0, 3):
        with one.page.expect_file_chooser() as chooser:
            one.cell(at).click()
        chooser.value.set_files(str(tmp_path / "a.png"))
        one.filled(at)
        assert one.selected() == at
    choosers: list[Any] = []
    one.page.on("filechooser", lambda chooser: choosers.append(chooser))
    one.cell(0).click()  # it has a picture now
    one.drag(1, (0.2, 0.5), (0.8, 0.5))  # no click
    one.page.wait_for_timeout(150)
    assert choosers == []
    with one.page.expect_file_chooser() as chooser:
        one.button("Choose a picture").click()
    chooser.value.set_files(str(tmp_path / "a.png"))
    one.filled(1)


def test_a_large_picture_is_scaled_down_and_small_ones_keep_their_bytes(composer: OpenComposer) -> None:
    one = composer()
    one.drop_on(0, ("wide.png", flat(RED, (4000, 1001)), "image/png"))
    one.says("wide.png was larger than 2048 px and is now 2048 × 513 px.")
    address = one.panel(0)["picture"]
    assert address.startswith("data:image/png;")
    assert pixels_of(address).shape == (513, 2048, 3)
    photo = encoded(Image.new("RGB", (2048, 30), GREEN), "JPEG")
    one.drop_on(1, ("photo.png", photo, "image/png"))  # its name and type are wrong
    assert one.panel(1)["picture"] == f"data:image/jpeg;base64,{base64.b64encode(photo).decode()}"
    one.drop_on(2, ("old.bmp", encoded(Image.new("RGB", (20, 30), BLUE), "BMP"), "image/bmp"))
    assert one.panel(2)["picture"].startswith("data:image/png;")
    assert close(pixels_of(one.panel(2)["picture"]), BLUE, 0)


def test_a_wrong_file_is_told_by_its_name_and_changes_nothing(composer: OpenComposer) -> None:
    one = composer()
    before = one.state()
    one.drop(".refonly-onepic-panel", ("notes.txt", b"hello", "text/plain"))
    one.says("This file is no picture: notes.txt.")
    assert one.page.get_attribute(".refonly-onepic-status", "role") == "status"
    one.drop(".refonly-onepic-panel", ("broken.png", flat(RED)[:40], "image/png"))
    one.says("This file is no picture: broken.png.")
    assert one.state() == before
    one.drop(".refonly-onepic-panel", ("notes.txt", b"hello", "text/plain"), png("good.png", RED))
    one.says("This file is no picture: notes.txt.")
    one.filled(0)


def test_a_label_is_text_and_nothing_else(composer: OpenComposer) -> None:
    one = composer()
    one.page.fill(".refonly-onepic-label", "<img src=x onerror=alert(1)>")
    one.page.keyboard.press("Enter")
    one.drawn()
    assert one.panel(0)["label"] == "<img src=x onerror=alert(1)>"
    assert one.page.locator("#composer img").count() == 0
    assert "<img src=x" in one.cell(0).inner_text()


# --- placing ----------------------------------------------------------------------------------------------------------------------------------------------


def test_a_picture_is_dragged_in_its_panel(composer: OpenComposer) -> None:
    one = composer()
    one.drop_on(0, ("wide.png", halves(RED, BLUE, (400, 200)), "image/png"))
    assert close(one.shown(0, 0.25, 0.5), RED)
    assert close(one.shown(0, 0.75, 0.5), BLUE)
    one.drag(0, (0.3, 0.5), (0.55, 0.8))  # at fit crop it is twice as wide as the panel: half a panel's side can be moved each way
    panel = one.panel(0)
    assert panel["x"] == pytest.approx(0.5, abs=0.01)
    assert panel["y"] == 0
    assert close(one.shown(0, 0.7, 0.5), RED)
    assert close(one.shown(0, 0.8, 0.5), BLUE)
    one.drag(0, (0.1, 0.5), (0.9, 0.5), (0.85, 0.5))
    assert one.panel(0)["x"] == 1  # no farther
    one.page.keyboard.press("Control+z")
    assert one.panel(0)["x"] == panel["x"]  # the whole drag was one step
    one.page.keyboard.press("Control+z")
    assert one.panel(0)["x"] == 0
    one.page.keyboard.press("Control+Shift+z")
    one.page.keyboard.press("Control+y")
    assert one.panel(0)["x"] == 1


def test_the_wheel_zooms_the_selected_panel_and_scrolls_the_page_elsewhere(composer: OpenComposer) -> None:
    one = composer(height=400)
    one.drop_on(0, ("a.png", halves(RED, BLUE, (200, 200)), "image/png"))
    one.page.evaluate("scrollTo(0, 0)")
    one.page.mouse.move(*one.point(0, 0.6, 0.3))
    one.page.focus("#beside")
    one.page.evaluate("scrollTo(0, 0)")
    one.page.mouse.wheel(0, 60)
    one.page.wait_for_function("scrollY > 0")
    assert one.panel(0)["zoom"] == 1
    one.cell(0).focus()
    place = one.point(0, 0.6, 0.4)
    one.page.mouse.move(*place)
    down = one.page.evaluate("scrollY")
    for _ in range(3):
        one.page.mouse.wheel(0, -200)
    one.page.wait_for_function(f"() => refonlyOnePic.state({ROOT_JS}).panels[0].zoom > 2")
    assert one.page.evaluate("scrollY") == down
    panel = one.project().panels[0]
    left, top, right, bottom = panel.placed((200, 200), 512, 512)
    assert (0.6 * 512 - left) / (right - left) == pytest.approx(0.6, abs=0.01)  # what was under the pointer still is
    assert (0.4 * 512 - top) / (bottom - top) == pytest.approx(0.4, abs=0.01)
    one.page.keyboard.press("Control+z")
    assert one.panel(0)["zoom"] == 1  # turns of the wheel are one step
    for _ in range(30):
        one.page.keyboard.press("+")
    assert one.panel(0)["zoom"] == 10
    one.page.keyboard.press("0")
    assert one.panel(0)["zoom"] == 1
    for _ in range(40):
        one.page.keyboard.press("-")
    assert one.panel(0)["zoom"] == 0.1
    assert close(one.shown(0, 0.5 - 0.02, 0.5), RED)
    assert one.shown(0, 0.2, 0.2) == one.shown(0, 0.9, 0.9)  # the border's mean all around
    one.button("Zoom and position as fitted").click()
    assert one.panel(0)["zoom"] == 1


def touch(one: Composer, kind: str, *places: tuple[float, float]) -> None:
    points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
    one.page.touch_session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def pinch(one: Composer, at: int, begin: tuple[tuple[float, float], tuple[float, float]], end: tuple[tuple[float, float], tuple[float, float]]) -> None:
    one.page.touch_session = one.page.context.new_cdp_session(one.page)
    a, b = (one.point(at, *place) for place in begin)
    touch(one, "touchStart", a)
    touch(one, "touchStart", a, b)
    goal = [one.point(at, *place) for place in end]
    for step in range(1, 9):
        places = [(x + (to_x - x) * step / 8, y + (to_y - y) * step / 8) for (x, y), (to_x, to_y) in zip((a, b), goal, strict=True)]
        touch(one, "touchMove", *places)
    touch(one, "touchEnd")


@pytest.mark.parametrize("tool", ["v", "b"])
def test_two_fingers_zoom_and_move(composer: OpenComposer, tool: str) -> None:
    one = composer()
    one.drop_on(0, ("a.png", flat(RED, (300, 300)), "image/png"))
    one.cell(0).focus()
    one.page.keyboard.press(tool)
    pinch(one, 0, ((0.4, 0.5), (0.6, 0.5)), ((0.3, 0.6), (0.7, 0.6)))  # twice as far apart, and a tenth down
    panel = one.panel(0)
    assert panel["zoom"] == pytest.approx(2, abs=0.03)
    assert panel["x"] == pytest.approx(0, abs=0.01)
    assert panel["y"] == pytest.approx(0.2, abs=0.02)  # 0.1 of the panel, of the half panel that can be moved
    assert panel["mask"] is None  # with the brush in hand too: the first finger's dot is taken back
    one.page.keyboard.press("Control+z")
    assert one.panel(0)["zoom"] == 1
    assert one.panel(0)["picture"]


def test_one_finger_moves_and_paints(composer: OpenComposer) -> None:
    one = composer()
    one.drop_on(0, ("wide.png", flat(RED, (400, 200)), "image/png"))
    one.page.touch_session = one.page.context.new_cdp_session(one.page)
    for key, place in (("v", 0.75), ("b", 0.6)):
        one.cell(0).focus()
        one.page.keyboard.press(key)
        touch(one, "touchStart", one.point(0, 0.5, 0.5))
        touch(one, "touchMove", one.point(0, 0.55, 0.5))
        touch(one, "touchMove", one.point(0, place, 0.5))
        touch(one, "touchEnd")
    assert one.panel(0)["x"] == pytest.approx(0.5, abs=0.01)
    mask = brushed(one.panel(0))
    assert mask[256, 256:307].all()


def test_pictures_lie_where_the_python_side_puts_them(composer: OpenComposer) -> None:
    one = composer()
    chance = random.Random(3)
    cases = []
    for _ in range(300):
        size, natural = [chance.randrange(64, 1024, 8) for _ in "wh"], [chance.randint(1, 2048) for _ in "wh"]
        x, y = (chance.choice([0, 1, -1, chance.uniform(-1, 1)]) for _ in "xy")
        cases.append((chance.choice(["crop", "pad", "stretch"]), chance.choice([1, 0.1, 10, chance.uniform(0.1, 10)]), x, y, size, natural))
    script = """(cases) => cases.map(([fit, zoom, x, y, [width, height], natural]) => {
        const picture = { width: natural[0], height: natural[1] };
        const lies = refonlyOnePic.model.placement({ width, height }, picture, { fit, zoom, x, y });
        return [lies.left, lies.top, lies.left + lies.width, lies.top + lies.height];
    })"""
    wanted = [list(Panel(fit=fit, zoom=zoom, x=x, y=y).placed((natural[0], natural[1]), *size)) for fit, zoom, x, y, size, natural in cases]
    assert one.page.evaluate(script, cases) == wanted


# --- the mask ---------------------------------------------------------------------------------------------------------------------------------------------


def brush(one: Composer, at: int, key: str, size: int) -> None:
    one.cell(at).focus()
    one.page.keyboard.press(key)
    one.page.fill(".refonly-onepic-range", str(size))
    one.drawn()


def test_a_stroke_of_the_brush_lies_where_it_was_drawn(composer: OpenComposer) -> None:
    one = composer()
    one.drop_on(0, png("a.png", RED))
    brush(one, 0, "b", 40)
    one.drag(0, (0.25, 0.5), (0.75, 0.5))
    panel = one.panel(0)
    assert panel["mask_use"] == "hide"
    mask = brushed(panel)
    assert mask.shape == (512, 512)
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max()) == (pytest.approx(236, abs=2), pytest.approx(275, abs=2))  # 40 px wide
    assert (columns.min(), columns.max()) == (pytest.approx(108, abs=3), pytest.approx(403, abs=3))  # with round ends
    assert mask.sum() == pytest.approx(256 * 40 + np.pi * 20**2, rel=0.03)
    assert panel["x"] == panel["y"] == 0  # the brush does not move the picture
    assert close(one.shown(0, 0.5, 0.9), RED)
    assert one.shown(0, 0.5, 0.5)[0] < 160  # greyed out
    assert close(one.seen()[256, 256], (127, 127, 127), 0)


def test_eraser_clear_and_undo(composer: OpenComposer) -> None:
    one = composer()
    one.drop_on(0, png("a.png", RED))
    brush(one, 0, "b", 64)
    one.drag(0, (0.2, 0.5), (0.8, 0.5))
    whole = brushed(one.panel(0))
    brush(one, 0, "e", 64)
    one.drag(0, (0.5, 0.2), (0.5, 0.8))
    rest = brushed(one.panel(0))
    assert not rest[256, 230:282].any()
    assert rest[256, 120:200].all()
    assert (rest <= whole).all()
    one.cell(0).focus()
    one.page.keyboard.press("Control+z")
    assert (brushed(one.panel(0)) == whole).all()
    one.page.keyboard.press("Control+z")
    assert one.panel(0)["mask"] is None
    one.page.keyboard.press("Control+y")
    one.page.keyboard.press("Control+y")
    assert (brushed(one.panel(0)) == rest).all()
    one.button("Clear the mask").click()
    assert one.panel(0)["mask"] is None
    one.button("Undo (Ctrl+Z)").click()
    assert (brushed(one.panel(0)) == rest).all()
    one.page.fill(".refonly-onepic-range", "256")
    one.drag(0, (0.0, 0.4), (1.0, 0.4), (1.0, 0.6), (0.0, 0.6))
    assert one.panel(0)["mask"] is None  # all of it is erased: there is none
    before = one.state()
    one.drag(3, (0.2, 0.2), (0.7, 0.7))
    assert one.state() == before  # there was nothing to erase


def pen(one: Composer, at: int, force: float, *path: tuple[float, float], button: str = "left") -> None:
    session = one.page.context.new_cdp_session(one.page)
    for i, place in enumerate([path[0], *path, path[-1]]):
        x, y = one.point(at, *place)
        kind = "mousePressed" if i == 0 else "mouseReleased" if i == len(path) + 1 else "mouseMoved"
        more = {"button": button, "buttons": 1, "clickCount": 1} if kind != "mouseMoved" else {"button": button, "buttons": 1}
        session.send("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, "pointerType": "pen", "force": force, **more})


def test_a_pens_pressure_makes_the_stroke_wider(composer: OpenComposer) -> None:
    one = composer()
    brush(one, 0, "b", 100)
    pen(one, 0, 0.25, (0.2, 0.25), (0.8, 0.25))
    pen(one, 0, 1.0, (0.2, 0.75), (0.8, 0.75))
    mask = brushed(one.panel(0))
    assert mask[:256, 256].sum() == pytest.approx(100 * (0.2 + 0.8 * 0.25), abs=4)
    assert mask[256:, 256].sum() == pytest.approx(100, abs=4)


def test_in_a_target_the_brush_paints_and_only_there(composer: OpenComposer) -> None:
    one = composer()
    one.drop_on(3, png("a.png", GREEN))
    assert composed(one.project()).target[64:, 64:].all()
    brush(one, 3, "b", 30)
    one.drag(3, (0.3, 0.3), (0.6, 0.7))
    panel = one.panel(3)
    assert (panel["role"], panel["mask_use"]) == ("target", "paint")
    target = composed(one.project()).target
    assert 0 < target.sum() < 200
    seen = one.seen()
    hatched = np.abs(seen[512:, 512:] - GREEN).max(-1) > 8
    cells = hatched.reshape(64, CELL, 64, CELL).any((1, 3))
    assert (cells == target[64:, 64:]).all()  # whole cells of 8 px, the very ones that the Python side paints
    assert (np.abs(seen[:512] - 127).max()) == 0  # and nothing elsewhere: empty panels are grey
    one.page.click(".refonly-onepic-button:text-is('Hide')")
    assert one.panel(3)["mask_use"] == "hide"
    assert composed(one.project()).target[64:, 64:].all()


def test_the_preview_is_what_the_python_side_composes(composer: OpenComposer) -> None:
    one = composer()
    stroke = Image.new("L", (100, 60), 0)
    stroke.paste(255, (20, 10, 70, 31))
    see_through = Image.new("RGBA", (90, 120), (10, 200, 90, 0))
    see_through.paste((200, 30, 30, 255), (20, 20, 70, 100))
    panels = (
        Panel(picture=waves(300, 200, 1), zoom=1.7, x=-0.4, y=0.8),
        Panel(picture=waves(200, 300, 2), fit="pad", x=0.5, mask=encoded(stroke)),
        Panel(picture=encoded(see_through), fit="stretch", zoom=0.7, x=-1, y=-0.3),
        Panel(role="target", picture=waves(256, 192, 4), mask=encoded(stroke), mask_use="paint"),
        Panel(mask=encoded(stroke), mask_use="paint"),
        Panel(role="target", mask=encoded(stroke), mask_use="paint"),
    )
    project = Project(layout=Layout(2, 3), width=256, height=192, panels=panels)
    one.load(project)
    wanted = composed(project)
    got = np.asarray(Image.open(io.BytesIO(one.saved("Save the canvas as PNG"))).convert("RGB")).astype(int)
    difference = np.abs(got - np.asarray(wanted.canvas))
    assert difference.mean() < 1.5  # two ways of scaling
    assert (difference.max(-1) > 40).mean() < 0.01
    hatched = (np.abs(one.seen() - got).max(-1) > 4).reshape(48, CELL, 96, CELL).any((1, 3))
    assert (hatched == wanted.target).mean() > 0.998  # the mask is scaled in two ways, too
    assert hatched[24:, 64:].all()


# --- panels -----------------------------------------------------------------------------------------------------------------------------------------------


def test_panels_are_swapped_by_their_handles(composer: OpenComposer) -> None:
    one = composer()
    one.drop_on(0, png("a.png", RED))
    one.page.fill(".refonly-onepic-label", "first")
    one.page.keyboard.press("Enter")
    before = one.state()["panels"]
    handle = one.cell(0).locator(".refonly-onepic-handle")
    box = handle.bounding_box()
    one.page.mouse.move(box["x"] + 10, box["y"] + 10)
    one.page.mouse.down()
    one.page.mouse.move(*one.point(3, 0.5, 0.5), steps=5)
    one.drawn()
    assert one.cell(3).get_attribute("data-over") == "true"
    one.page.mouse.up()
    assert one.state()["panels"] == [before[3], before[1], before[2], before[0]]
    assert one.selected() == 3
    assert close(one.shown(3, 0.5, 0.5), RED)
    assert one.page.locator("[data-over=true], [data-carried=true]").count() == 0
    one.cell(3).focus()
    one.page.keyboard.press("Control+z")
    assert one.state()["panels"] == before
    one.select(0)
    one.page.keyboard.press("Alt+Shift+ArrowRight")
    assert one.state()["panels"] == [before[1], before[0], before[2], before[3]]
    assert one.selected() == one.focused() == 1


def test_roles_fit_and_copies(composer: OpenComposer) -> None:
    one = composer()
    one.drop_on(0, ("wide.png", waves(400, 200, 1), "image/png"))
    one.drag(0, (0.5, 0.5), (0.7, 0.5))
    x = one.panel(0)["x"]
    assert x > 0.3
    one.page.click("summary")
    one.page.click("text=All context panels")
    copies = one.state()["panels"]
    assert [(panel["picture"] == copies[0]["picture"], panel["x"]) for panel in copies] == [(True, x), (True, x), (True, x), (False, 0)]
    one.page.click("summary")
    one.page.click(".refonly-onepic-menu .refonly-onepic-button:text-is('Panel 4')")
    assert one.panel(3)["picture"] == copies[0]["picture"]
    assert one.panel(3)["role"] == "target"
    one.drawn()
    assert not one.page.is_visible("text=All context panels")
    one.page.select_option("select[aria-label=Fit]", "stretch")
    assert (one.panel(0)["fit"], one.panel(0)["x"]) == ("stretch", 0)
    one.page.click(".refonly-onepic-button:text-is('Target')")
    assert one.panel(0)["role"] == "target"
    assert one.cell(0).get_attribute("data-painted") == "all"
    assert "Target" in one.cell(0).inner_text()
    one.button("Remove the picture").click()
    assert one.panel(0)["picture"] is None


def test_a_mask_goes_with_the_picture_that_it_was_drawn_over(composer: OpenComposer) -> None:
    one = composer()
    brush(one, 0, "b", 60)
    one.drag(0, (0.3, 0.3), (0.6, 0.6))
    one.drop_on(0, png("a.png", RED))
    assert one.panel(0)["mask"]  # it was there first
    one.drop(".refonly-onepic-panel[data-at='0']", png("b.png", BLUE))
    one.page.wait_for_function(f"() => !refonlyOnePic.state({ROOT_JS}).panels[0].mask")
    assert bytes_of(one.panel(0)["picture"]) == flat(BLUE)


def test_a_label_stays_with_the_panel_that_it_was_written_for(composer: OpenComposer) -> None:
    one = composer()
    one.drop_on(1, png("a.png", RED))
    one.page.click(".refonly-onepic-label")
    one.page.keyboard.type("\u3000 the\u3000cat\u00a0 ")
    one.cell(1).click()
    assert [panel["label"] for panel in one.state()["panels"]] == ["the cat", "", "", ""]
    assert one.selected() == 1
    assert one.page.input_value(".refonly-onepic-label") == ""


def test_layouts_and_sizes(composer: OpenComposer) -> None:
    one = composer()
    one.page.click("[data-layout='1x3'].refonly-onepic-button")
    state = one.state()
    assert state["layout"] == {"rows": 1, "columns": 3}
    assert [panel["role"] for panel in state["panels"]] == ["context", "context", "target"]  # an empty one was dropped, not the target
    one.page.select_option("[aria-label=Rows]", "4")
    assert one.state()["layout"] == {"rows": 4, "columns": 2}  # 9 panels at most
    one.page.select_option("[aria-label=Columns]", "4")
    assert one.state()["layout"] == {"rows": 2, "columns": 4}
    one.drawn()
    assert one.page.locator(".refonly-onepic-panel").count() == 8
    one.page.fill("[aria-label='Panel width, px']", "387")
    one.page.keyboard.press("Tab")
    one.says("A panel is 384 × 512 px now.")
    assert one.state()["panel"] == {"width": 384, "height": 512}
    box = one.cell(0).bounding_box()
    assert box["width"] / box["height"] == pytest.approx(384 / 512, rel=0.02)
    one.page.fill("[aria-label='Panel height, px']", "2048")
    one.page.keyboard.press("Tab")
    one.page.fill("[aria-label='Panel width, px']", "2048")
    one.page.keyboard.press("Tab")
    one.says("A canvas of 8192 × 4096 px is too large.")
    assert one.state()["panel"] == {"width": 384, "height": 2048}
    one.page.locator("#beside").focus()
    one.drawn()
    assert one.page.input_value("[aria-label='Panel width, px']") == "384"


def test_a_smaller_layout_keeps_what_is_worth_keeping(composer: OpenComposer) -> None:
    one = composer()
    one.drop_on(1, png("b.png", RED))
    one.drop_on(2, png("c.png", GREEN))
    before = one.state()
    one.page.click("[data-layout='1x3'].refonly-onepic-button")
    assert [panel["picture"] and bytes_of(panel["picture"]) for panel in one.state()["panels"]] == [flat(RED), flat(GREEN), None]
    one.page.click("[data-layout='1x2'].refonly-onepic-button")
    one.says("The new layout has no room for 1 of the panels")
    assert [panel["role"] for panel in one.state()["panels"]] == ["context", "target"]
    one.cell(0).focus()
    one.page.keyboard.press("Control+z")
    one.page.keyboard.press("Control+z")
    assert one.state() == before


def test_what_has_no_target_is_told(composer: OpenComposer) -> None:
    one = composer()
    assert "Nothing would be painted" not in one.page.inner_text(".refonly-onepic-feet")
    one.select(3)
    one.page.keyboard.press("t")
    one.drawn()
    assert "Nothing would be painted" in one.page.inner_text(".refonly-onepic-feet")
    one.page.keyboard.press("t")
    assert one.panel(3)["role"] == "target"


# --- history and keys -------------------------------------------------------------------------------------------------------------------------------------


def test_at_least_fifty_steps_can_be_taken_back_and_forth(composer: OpenComposer) -> None:
    one = composer()

    def now() -> str:
        return one.page.evaluate(f"JSON.stringify(refonlyOnePic.state({ROOT_JS}))")

    states = [now()]
    one.cell(0).focus()
    for i in range(52):
        one.page.keyboard.press("ArrowRight" if i % 2 == 0 else "ArrowLeft")
        one.page.keyboard.press("t")
        states.append(now())
    for wanted in reversed(states[:-1]):
        one.page.keyboard.press("Control+z")
        assert now() == wanted
    one.page.keyboard.press("Control+z")
    for wanted in states[1:]:
        one.page.keyboard.press("Control+Shift+z")
        assert now() == wanted
    one.drawn()
    assert one.button("Redo (Ctrl+Y)").get_attribute("aria-disabled") == "true"


def test_keys(composer: OpenComposer) -> None:
    one = composer()
    press = one.page.keyboard.press
    heard = one.page.evaluate("() => { window.heard = []; document.addEventListener('keydown', (event) => window.heard.push(event.key)); return window.heard }")
    assert heard == []
    one.cell(0).focus()
    for key, at in (("ArrowRight", 1), ("ArrowRight", 1), ("ArrowDown", 3), ("ArrowLeft", 2), ("ArrowUp", 0)):
        press(key)
        assert one.focused() == at
        assert [one.cell(i).get_attribute("tabindex") for i in range(4)] == ["0" if i == at else "-1" for i in range(4)]
    assert one.cell(3).get_attribute("aria-label") == "Panel 4, row 2, column 2, Target, empty"
    one.drop_on(0, png("a.png", RED))
    assert one.cell(0).get_attribute("aria-label") == "Panel 1, row 1, column 1, Context, with a picture"
    tools = {"b": "Brush (B)", "e": "Eraser (E)", "v": "Move (V)"}
    for key, title in tools.items():
        press(key)
        one.drawn()
        assert one.button(title).get_attribute("aria-pressed") == "true"
    press("b")
    size = int(one.page.input_value(".refonly-onepic-range"))
    press("]")
    one.drawn()
    assert int(one.page.input_value(".refonly-onepic-range")) > size
    press("[")
    press("[")
    one.drawn()
    assert int(one.page.input_value(".refonly-onepic-range")) < size
    press("?")
    assert one.page.is_visible(".refonly-onepic-keys")
    press("Escape")
    assert not one.page.is_visible(".refonly-onepic-keys")
    press("Escape")
    one.drawn()
    assert one.button("Move (V)").get_attribute("aria-pressed") == "true"
    assert one.page.evaluate("window.heard") == []  # a WebUI's own keys hear nothing of all this
    press("Escape")
    assert one.page.evaluate("window.heard") == ["Escape"]  # nothing left to leave: it is the page's
    press("Delete")
    assert one.panel(0)["picture"] is None
    for key in ("Enter", "Space"):
        with one.page.expect_file_chooser() as chooser:
            press(key)
        chooser.value.set_files([{"name": "k.png", "mimeType": "image/png", "buffer": flat(GREEN)}])
        one.filled(0)
        press("Delete")
    one.drop_on(0, ("wide.png", flat(RED, (400, 200)), "image/png"))
    press("Shift+ArrowRight")
    assert one.panel(0)["x"] == pytest.approx(8 / 256, abs=0.001)


def test_keys_leave_text_fields_alone(composer: OpenComposer) -> None:
    one = composer()
    one.drop_on(0, png("a.png", RED))
    one.page.click(".refonly-onepic-label")
    one.page.keyboard.type("Tub v e")
    one.page.keyboard.press("Delete")
    one.page.keyboard.press("ArrowLeft")
    one.page.keyboard.press("Enter")
    panel = one.panel(0)
    assert (panel["label"], panel["role"], bool(panel["picture"])) == ("Tub v e", "context", True)


def test_escape_takes_back_a_gesture(composer: OpenComposer) -> None:
    one = composer()
    one.drop_on(0, ("wide.png", flat(RED, (400, 200)), "image/png"))
    one.cell(0).focus()
    for tool in ("v", "b"):
        one.page.keyboard.press(tool)
        before = one.state()
        one.page.mouse.move(*one.point(0, 0.3, 0.5))
        one.page.mouse.down()
        one.page.mouse.move(*one.point(0, 0.6, 0.5), steps=4)
        one.page.keyboard.press("Escape")
        one.page.mouse.up()
        assert one.state() == before


# --- files and textboxes ----------------------------------------------------------------------------------------------------------------------------------


def made(one: Composer) -> dict[str, Any]:
    """A project with something of everything."""
    one.drop_on(0, ("a.png", waves(200, 100, 1), "image/png"))
    one.drop_on(3, ("b.png", waves(100, 100, 2), "image/png"))
    brush(one, 3, "b", 50)
    one.drag(3, (0.3, 0.3), (0.6, 0.6))
    one.page.keyboard.press("Escape")
    one.drag(0, (0.5, 0.5), (0.6, 0.5))
    return one.state()


def test_a_project_is_saved_and_opened(composer: OpenComposer, tmp_path: Path) -> None:
    one = composer()
    state = made(one)
    saved = one.saved("Save project")
    one.says("onepic.json saved.")
    assert json.loads(saved) == state
    Project.read(saved)
    (tmp_path / "onepic.json").write_bytes(saved)
    other = composer()
    with other.page.expect_file_chooser() as chooser:
        other.button("Open project").click()
    chooser.value.set_files(str(tmp_path / "onepic.json"))
    other.says("Project opened.")
    assert other.state() == state
    third = composer()
    third.drop(".refonly-onepic-panel", ("mine.json", saved, "application/json"))
    third.says("Project opened.")
    assert third.state() == state
    assert (third.seen() == one.seen()).all()
    third.cell(0).focus()
    third.page.keyboard.press("Control+z")
    assert third.project() == blank(Layout(2, 2))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("{", "This file is no ONE-PIC project: x.json."),
        ('{"a": 1}', "This file is no ONE-PIC project: x.json."),
        ({"version": 2}, "This project is of another version."),
        ({"layout": {"rows": 4, "columns": 4}}, "A layout has 1 to 4 rows and columns, and 9 panels at most."),
        ({"layout": {"rows": 1, "columns": 3}}, "The project has 4 panels where its layout has 3."),
        ({"panels": [{"role": "context", "picture": "https://example.org/a.png"}] * 4}, "The picture of panel 1 is none."),
        ({"panels": [{"role": "context", "mask": "data:image/svg+xml;base64,AAAA"}] * 4}, "The mask of panel 1 is no picture."),
        (
            {"panel": {"width": 2048, "height": 2048}, "layout": {"rows": 2, "columns": 4}, "panels": [{"role": "target"}] * 8},
            "A canvas of 8192 × 4096 px is too large.",
        ),
    ],
)
def test_a_file_that_is_no_project_is_told_and_changes_nothing(composer: OpenComposer, change: Any, told: str) -> None:
    one = composer()
    asked: list[str] = []
    one.page.on("request", lambda request: asked.append(request.url))
    before = one.state()
    text = change if isinstance(change, str) else json.dumps(before | change)
    one.drop(".refonly-onepic-panel", ("x.json", text.encode(), "application/json"))
    one.says(told)
    assert one.state() == before
    assert not [address for address in asked if address.startswith("http")]


def test_a_picture_that_cannot_be_shown_is_told(composer: OpenComposer) -> None:
    one = composer()
    state = one.state()
    state["panels"][1]["picture"] = "data:image/png;base64,AAAA"
    assert one.page.evaluate(f"(text) => refonlyOnePic.load({ROOT_JS}, text)", json.dumps(state))
    one.says("The picture or mask of panel 2 cannot be shown.")
    assert "cannot be shown" in one.cell(1).inner_text()


def test_python_sends_a_project_through_the_second_textbox(composer: OpenComposer) -> None:
    one = composer()
    sent = json.dumps({**one.state(), "task": "try-on", "prompt": "a <coat>", "reuse": 3, "alone": False, "layout": {"rows": 1, "columns": 4}})
    for _ in range(2):  # the same one again, after the painter changed it
        one.page.evaluate("(text) => { document.querySelector('#pushed textarea').value = text; }", sent)
        one.says("Project opened.")
        assert one.page.input_value("#pushed textarea") == ""
        assert one.state() == json.loads(sent)
        one.cell(0).focus()
        one.page.keyboard.press("Control+z")
        assert one.project() == blank(Layout(2, 2))
    one.page.evaluate("() => { document.querySelector('#pushed textarea').value = 'nonsense'; }")
    one.says("This is no ONE-PIC project.")
    assert one.project() == blank(Layout(2, 2))


def test_what_a_webui_writes_into_the_first_textbox_is_taken_over(composer: OpenComposer) -> None:
    one = composer(before=f"() => {{ document.querySelector('#project textarea').value = {json.dumps(blank(Layout(3, 1)).written())}; }}")
    assert one.page.locator(".refonly-onepic-panel").count() == 3
    assert one.button("Undo (Ctrl+Z)").get_attribute("aria-disabled") == "true"  # the page began so
    one.cell(0).focus()
    one.page.keyboard.press("t")
    one.state()
    one.page.evaluate("(text) => { document.querySelector('#project textarea').value = text; }", blank(Layout(1, 2)).written())
    one.page.wait_for_function("() => document.querySelectorAll('.refonly-onepic-panel').length === 2")
    one.page.evaluate("() => { document.querySelector('#project textarea').value = ''; }")
    one.page.wait_for_function("() => document.querySelector('#project textarea').value")  # what is seen is what counts
    assert one.project() == blank(Layout(1, 2))


def test_a_page_that_is_built_anew_gets_the_same_composer(composer: OpenComposer) -> None:
    one = composer()
    state = made(one)
    one.page.evaluate(f"() => {{ const root = {ROOT_JS}; refonlyOnePic.mount(root); refonlyOnePic.mount(root); }}")
    assert one.page.locator(".refonly-onepic-body").count() == 1
    one.page.evaluate(f"() => {{ {ROOT_JS}.innerHTML = ''; refonlyOnePic.mount({ROOT_JS}); }}")
    assert one.page.locator(".refonly-onepic-panel").count() == 4
    assert one.state() == state
    one.page.evaluate(f"() => {{ const old = {ROOT_JS}; old.replaceWith(old.cloneNode()); }}")  # another element, as gradio does
    one.page.wait_for_selector(".refonly-onepic-panel")
    assert one.state() == state
    assert one.page.locator(".refonly-onepic-body").count() == 1


def test_pictures_are_set_from_the_page(composer: OpenComposer) -> None:
    one = composer()
    address = f"data:image/png;base64,{base64.b64encode(flat(BLUE)).decode()}"
    put = f"([number, url]) => refonlyOnePic.setPicture({ROOT_JS}, number, url)"
    assert one.page.evaluate(put, [2, address]) is True
    assert one.panel(1)["picture"] == address
    assert one.page.evaluate(put, [5, address]) is False
    assert one.page.evaluate(put, [1, "https://example.org/a.png"]) is False
    one.says("This file is no picture: Panel 1.")
    assert one.page.evaluate(put, [2, None]) is True
    assert one.project() == blank(Layout(2, 2))


@pytest.mark.parametrize("scripts", [SCRIPTS, SCRIPTS[::-1], SCRIPTS * 2])
def test_the_scripts_may_come_in_any_order(composer: OpenComposer, scripts: tuple[str, ...]) -> None:
    one = composer(scripts=scripts)
    assert one.page.locator(".refonly-onepic-body").count() == 1
    globals_ = one.page.evaluate("Object.keys(window).filter((name) => /onepic/i.test(name))")
    assert globals_ == ["refonlyOnePic"]


def test_words_can_be_translated_as_the_webui_does(composer: OpenComposer) -> None:
    german = {"Target": "Ziel", "Drop, paste or click": "Ablegen, einfügen oder klicken", "This file is no picture: {name}.": "Kein Bild: {name}!"}
    one = composer(before=f"() => {{ window.localization = {json.dumps(german)}; }}")
    assert "Ziel" in one.cell(3).inner_text()
    assert "Ablegen" in one.cell(0).inner_text()
    one.drop(".refonly-onepic-panel", ("notes.txt", b"hello", "text/plain"))
    one.says("Kein Bild: notes.txt!")


def test_it_works_inside_a_shadow_tree(composer: OpenComposer) -> None:
    one = composer()
    one.page.evaluate("""() => {
        const app = document.body.appendChild(document.createElement("gradio-app"));
        app.attachShadow({ mode: "open" }).innerHTML = '<textarea id="inner"></textarea><div class="refonly-onepic" data-target="#inner"></div>';
        document.body.append(document.createElement("i"));
    }""")
    one.page.wait_for_function("() => document.querySelector('gradio-app').shadowRoot.querySelector('.refonly-onepic-panel')")
    inner = "document.querySelector('gradio-app').shadowRoot.querySelector('.refonly-onepic')"
    one.page.evaluate(f"() => {{ {inner}.querySelector('.refonly-onepic-panel').focus(); }}")
    one.page.keyboard.press("t")
    text = one.page.evaluate(f"() => {{ refonlyOnePic.flush({inner}); return document.querySelector('gradio-app').shadowRoot.querySelector('#inner').value; }}")
    assert json.loads(text)["panels"][0]["role"] == "target"
    assert one.panel(0)["role"] == "context"  # the other one is another


# --- looks ------------------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [340, 400, 1400])
@pytest.mark.parametrize("layout", ["2x2", "1x3", "3x1"])
def test_it_fits_narrow_and_wide_columns(composer: OpenComposer, width: int, layout: str) -> None:
    one = composer(width=width)
    one.page.click(f"[data-layout='{layout}'].refonly-onepic-button")
    one.button("Keys").click()
    one.drawn()
    assert one.page.evaluate("document.documentElement.scrollWidth") <= width
    inside = "([node, width]) => { const box = node.getBoundingClientRect(); return box.left >= 0 && box.right <= width }"
    for part in one.page.locator("#composer :is(button, select, input, summary, [role=gridcell])").element_handles():
        if part.is_visible():
            assert one.page.evaluate(inside, [part, width]), part.inner_html()
    assert one.cell(0).bounding_box()["width"] > 90
    one.drop_on(0, png("a.png", RED))
    one.page.click("summary")
    menu = one.page.locator(".refonly-onepic-menu-items").bounding_box()
    assert menu["x"] >= 0
    assert menu["x"] + menu["width"] <= width


def test_every_control_has_a_name(composer: OpenComposer) -> None:
    one = composer()
    names = one.page.evaluate("""() => [...document.querySelectorAll("#composer :is(button, input, select, summary, [role=gridcell], canvas[role])")]
        .map((one) => one.getAttribute("aria-label") || (one.matches("button, summary") && one.textContent.trim()) || one.outerHTML)""")
    assert [name for name in names if name.startswith("<")] == []


# --- gradio -----------------------------------------------------------------------------------------------------------------------------------------------

_PAGE = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.ui import host_page
from lib_refonly.ui import shim
import gradio as gr
with gr.Blocks(analytics_enabled=False) as page:
    shim.listener()
    gr.HTML('<div id="composer" class="refonly-onepic" data-target="#project" data-source="#pushed"></div>')
    project, pushed = (gr.Textbox(elem_id=name, elem_classes=["refonly-onepic-wire"]) for name in ("project", "pushed"))
    go, push, got = gr.Button("Go", elem_id="go"), gr.Button("Push", elem_id="push"), gr.Textbox(elem_id="got")
    go.click(lambda text: text, [project], [got])
    push.click(lambda: sys.argv[3], None, [pushed])
host_page._add_to_head(host_page.looks_and_scripts("refonly.js", "refonly_stream.js", "refonly_onepic.js", "refonly_onepic_model.js"))
page.queue()
page.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), prevent_thread_lock=True, quiet=True, share=False)
print("ready", flush=True)
sys.stdin.read()
page.close(verbose=False)
"""


@pytest.fixture(params=["3.41.2", "4.40.0", ""])
def gradio_page(request: pytest.FixtureRequest, browser: Any, tmp_path: Path) -> Iterator[Composer]:
    """The composer on a page of this gradio; "": the studio's."""
    pytest.importorskip("gradio", reason="page tests need gradio")
    try:
        python = python_with_gradio(request.param) if request.param else Path(sys.executable)
    except NotHere as why:
        pytest.skip(str(why))
    with page_of(python, _PAGE, tmp_path / "log.txt", blank(Layout(1, 3), 384).written()) as (address, _):
        page = browser.new_page()
        one = Composer(page)
        page.set_viewport_size({"width": 900, "height": 1000})
        page.goto(address)
        page.wait_for_selector(".refonly-onepic-panel")
        yield one
        page.close()
    assert one.errors == []


def test_gradio_gets_what_is_seen_and_shows_what_it_sends(gradio_page: Composer) -> None:
    one, page = gradio_page, gradio_page.page

    def received(changed: Callable[[Project], bool]) -> Project:
        """What Python is handed when a button is clicked, once that is as wanted."""
        page.click("#go")
        page.wait_for_function("() => document.querySelector('#got textarea').value.startsWith('{')")
        for _ in range(50):
            if changed(Project.read(page.input_value("#got textarea"))):
                break
            page.wait_for_timeout(100)
        return Project.read(page.input_value("#got textarea"))

    assert not page.is_visible("#project")
    one.drop_on(0, png("a.png", RED))
    brush(one, 0, "b", 40)
    one.drag(0, (0.25, 0.5), (0.75, 0.5))
    state = one.state()
    assert received(lambda got: got.panels[0].mask is not None) == Project.read(json.dumps(state))
    page.click("#push")
    one.says("Project opened.")
    assert page.locator(".refonly-onepic-panel").count() == 3
    page.wait_for_timeout(300)
    assert received(lambda got: got.layout == Layout(1, 3)) == blank(Layout(1, 3), 384)
    one.cell(0).focus()
    page.keyboard.press("Control+z")
    assert one.state() == state
    page.click("#push")  # the same once more
    one.says("Project opened.")
    page.wait_for_timeout(300)
    assert received(lambda got: got.layout == Layout(1, 3)) == blank(Layout(1, 3), 384)
