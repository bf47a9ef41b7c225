"""The ONE-PIC page, as a painter uses it: a real browser, the real composer, and a painter that paints in one colour.

At the end the same panel on pages of the WebUIs' versions of gradio.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from lib_refonly.errors import BadModel
from lib_refonly.imaging.infotext import read_infotext, read_png_infotext
from lib_refonly.onepic.examples import example
from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.project import Panel, Project, blank
from lib_refonly.onepic.settings import OnePicPaintSettings
from lib_refonly.onepic.tasks import TASKS, task_named
from lib_refonly.stylecode.library import Library
from tests.ui.conftest import Studio
from tests.ui.fakes import HELD, FakeStore, FlatEngine, SquarePainter
from tests.ui.host_venvs import NotHere, page_of, python_with_gradio
from tests.ui.test_page import downloaded, luminance, set_number

ROOT = Path(__file__).resolve().parents[2]
OpenPage = Callable[..., Any]
COLOURS = ("teal", "orange", "purple")


class FakeCanvas:
    """Paints each target in a colour of its own. `steps_wait` as for `FlatEngine`."""

    def __init__(self, steps_wait: threading.Event) -> None:
        self._wait = steps_wait
        self.wishes: list[tuple[Project, OnePicPaintSettings]] = []
        self.error: Exception | None = None
        self.lora = "tiny-colours"

    def paint(self, project: Project, settings: OnePicPaintSettings, on_step: Callable[[int, int], None] | None = None) -> Any:
        project.check_ready()
        for step in range(settings.steps):
            self._wait.wait(HELD)
            if on_step is not None:
                on_step(step + 1, settings.steps)
        if self.error:
            raise self.error
        self.wishes.append((project, settings))
        numbers = [number for number, panel in enumerate(project.panels) if panel.role == "target"]
        targets = {number: Image.new("RGB", (project.width, project.height), colour) for number, colour in zip(numbers, COLOURS, strict=False)}
        whole = Image.new("RGB", project.size, "white")
        for number, target in targets.items():
            whole.paste(target, project.layout.box(number, project.width, project.height)[:2])
        return SimpleNamespace(painted=SimpleNamespace(targets=targets, canvas=whole), lora=self.lora, text="")


@dataclass
class CanvasStudio(Studio):
    canvas: FakeCanvas = field(default_factory=lambda: FakeCanvas(threading.Event()))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A painter's models folder: a checkpoint by its look, and a LoRA."""
    torch = pytest.importorskip("torch")
    from lib_refonly.onepic.lora import Low, save

    folder = tmp_path_factory.mktemp("models")
    (folder / "my-checkpoint" / "text_encoder").mkdir(parents=True)
    (folder / "my-checkpoint" / "unet").mkdir()
    (folder / "my-checkpoint" / "unet" / "config.json").write_text("{}")
    (folder / "onepic").mkdir()
    about = {"task": "edit", "layout": "2x2", "title": "My <b>edits</b>"}
    low = Low(torch.ones(1, 2), torch.ones(2, 1), 1)
    save(folder / "onepic" / "edits-1.safetensors", {"lora_unet_x": low}, {"refonly_onepic": json.dumps(about)})
    return folder


@pytest.fixture(scope="module")
def studio() -> Iterator[CanvasStudio]:
    """In the place of the other tests' studio: one whose canvases cost nothing."""
    pytest.importorskip("gradio", reason="page tests need gradio")
    from lib_refonly.studio import app

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GRADIO_TEMP_DIR", "")  # so that it is as it was afterwards
        yield from _served(app)


def _served(app: Any) -> Iterator[CanvasStudio]:
    home, steps, store = app._quiet_environment(), threading.Event(), FakeStore()
    engine, painter, canvas, library = FlatEngine(steps), SquarePainter(steps), FakeCanvas(steps), home / "styles" / "styles.sqlite"
    port = app._free_port(0, app.LOCAL)
    assert port is not None
    page = app.build(engine, store, styles=painter, library=lambda: Library(library), onepic=canvas)
    page.launch(**app.launch_options(app.LOCAL, port))
    yield CanvasStudio(f"http://{app.LOCAL}:{port}/", engine, store, steps, painter, library, canvas)
    steps.set()
    page.close(verbose=False)
    shutil.rmtree(home, ignore_errors=True)


class Page:
    """ONE-PIC in an open page. Panels count from 0, as in the project's JSON."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def state(self) -> dict[str, Any]:
        return self.page.evaluate("refonlyOnePic.state(document.querySelector('.refonly-onepic'))")

    def wait(self, holds: str, given: Any = None) -> None:
        """Until a JavaScript condition on the canvas' state `s`, and on what is `given`, holds."""
        self.page.wait_for_function(f"(given) => {{ const s = refonlyOnePic.state(document.querySelector('.refonly-onepic')); return {holds}; }}", arg=given)

    def drop(self, at: int, path: Path) -> None:
        transfer = self.page.evaluate_handle(
            """([bytes, name]) => { const held = new DataTransfer();
            held.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/png'})); return held }""",
            [list(path.read_bytes()), path.name],
        )
        for event in ("dragenter", "dragover", "drop"):
            self.page.dispatch_event(f".refonly-onepic-panel[data-at='{at}']", event, {"dataTransfer": transfer})
        self.wait("s.panels[given].picture", at)

    def open(self, project: Project) -> None:
        """As a painter opens a file in the composer."""
        with self.page.expect_file_chooser() as choosing:
            self.page.click(".refonly-onepic-button[title='Open project']")
        choosing.value.set_files({"name": "p.json", "mimeType": "application/json", "buffer": project.written().encode()})
        self.wait("s.panels.length === given", project.layout.panels)

    def choose(self, box: str, title: str) -> None:
        option = self.page.locator(f"#refonly-onepic-{box} ul li", has_text=title).first
        for _ in range(30):  # a list that is open does not grow when more comes to it
            self.page.click(f"#refonly-onepic-{box} input")
            self.page.wait_for_selector(f"#refonly-onepic-{box} ul li")
            if option.is_visible():
                break
            self.page.keyboard.press("Escape")
            self.page.locator("#refonly-onepic-prompt textarea").focus()
            self.page.wait_for_timeout(1000)
        option.click()
        self.page.wait_for_function("([box, title]) => document.querySelector(box).value === title", arg=[f"#refonly-onepic-{box} input", title])

    def type(self, box: str, text: str) -> None:
        self.page.fill(f"#refonly-onepic-{box} :is(textarea, input)", text)
        self.page.keyboard.press("Tab")

    def says(self, box: str, text: str) -> None:
        """Until a text is read there."""
        self.page.wait_for_function("([box, text]) => document.querySelector(box)?.innerText.includes(text)", arg=[f"#refonly-onepic-{box}", text])

    def says_not(self, box: str, text: str) -> None:
        self.page.wait_for_function("([box, text]) => !document.querySelector(box)?.innerText.includes(text)", arg=[f"#refonly-onepic-{box}", text])

    def holds(self, box: str, value: str) -> None:
        """Until a field has this value."""
        there = "([box, value]) => document.querySelector(box)?.value === value"
        self.page.wait_for_function(there, arg=[f"#refonly-onepic-{box} :is(textarea, input)", value])

    def idle(self) -> None:
        self.page.wait_for_selector("#refonly-onepic-go:not([disabled])")
        self.page.wait_for_selector("#refonly-onepic-stop[disabled]")

    def paint(self) -> None:
        before = self.shown()
        self.page.click("#refonly-onepic-go")
        self.page.wait_for_function(
            "(old) => { const now = document.querySelector('#refonly-onepic-picture img')?.src; return now && now !== old }", arg=before
        )
        self.idle()

    def shown(self, box: str = "picture") -> str | None:
        """The address of the picture that is shown."""
        return self.page.evaluate(f"document.querySelector('#refonly-onepic-{box} img')?.src")

    def colour(self, url: str) -> tuple[int, int, int]:
        """Of a picture's middle."""
        return tuple(
            self.page.evaluate(
                """async (url) => {
                    const image = new Image(); image.src = url; await image.decode();
                    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }), pen = canvas.getContext("2d");
                    pen.drawImage(image, image.width / 2, image.height / 2, 1, 1, 0, 0, 1, 1);
                    return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
                }""",
                url,
            )
        )


def rgb(name: str) -> tuple[int, ...]:
    return Image.new("RGB", (1, 1), name).getpixel((0, 0))  # type: ignore[return-value]


@pytest.fixture
def onepic(open_page: OpenPage, studio: CanvasStudio, models: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Page]:
    """`onepic(width, height, dark)`: a page with ONE-PIC in front, its canvas mounted and its tips read."""
    monkeypatch.setenv("REFONLY_MODELS_DIR", str(models))
    studio.canvas.wishes.clear()
    studio.canvas.error, studio.canvas.lora = None, "tiny-colours"

    def open_(**how: Any) -> Page:
        page = open_page(**how)
        page.get_by_role("tab", name="ONE-PIC", exact=True).click()
        one = Page(page)
        page.wait_for_selector(".refonly-onepic-panel")
        one.says("tips", "Panels 1, 2 and 3 are empty")
        one.wait("s.task === 'colorize'")
        return one

    return open_


# --- the canvas ---------------------------------------------------------------------------------------------------------------------------------------


def test_it_begins_with_a_task_in_the_size_of_the_embedded_model(onepic: Callable[..., Page]) -> None:
    one = onepic()
    state = one.state()
    assert (state["layout"], state["panel"]) == ({"rows": 2, "columns": 2}, {"width": 128, "height": 128})
    one.holds("task", "Colour a line drawing")
    one.says("about", "4 The lines, coloured like the reference.")
    assert not one.page.is_visible("#refonly-onepic-project")
    assert not one.page.is_visible("#refonly-onepic-sent")


def test_a_task_lays_out_its_panels(onepic: Callable[..., Page]) -> None:
    one = onepic()
    task = task_named("try-on")
    one.choose("task", task.title)
    one.wait("s.task === 'try-on' && s.layout.columns === 3")
    state = one.state()
    assert [panel["label"] for panel in state["panels"]] == [spec.label for spec in task.panels]
    assert [panel["role"] for panel in state["panels"]] == ["context", "target", "context"]
    assert state["panel"] == {"width": 128, "height": 128}
    one.says("about", "A garment on the left")
    assert one.page.get_attribute("#refonly-onepic-prompt textarea", "placeholder") == task.prompt_hint
    one.choose("task", "Free canvas")
    one.wait("s.task === ''")
    assert one.state()["layout"] == {"rows": 1, "columns": 3}


def test_an_example_is_on_the_canvas_at_a_click(onepic: Callable[..., Page], studio: CanvasStudio) -> None:
    one = onepic()
    one.page.click("#refonly-onepic-example")
    one.wait("s.panels.filter((panel) => panel.picture).length === 3")
    one.paint()
    one.choose("task", task_named("edit-masked").title)
    one.wait("s.task === 'edit-masked'")
    one.page.click("#refonly-onepic-example")
    one.wait("s.panels[0].mask && s.panels[2].picture && !s.panels[3].picture")
    one.holds("prompt", example(task_named("edit-masked")).prompt)
    one.says("message", "Undo, above the canvas")
    one.choose("task", "Free canvas")
    one.wait("s.task === ''")
    one.page.click("#refonly-onepic-example")
    one.says("message", "Choose a task first")


def test_every_task_can_be_chosen(onepic: Callable[..., Page]) -> None:
    one = onepic()
    for task in (*TASKS[1:], TASKS[0]):
        one.choose("task", task.title)
        one.wait("s.task === given", task.name)
        assert one.state()["layout"] == {"rows": task.layout.rows, "columns": task.layout.columns}


def test_pictures_stay_when_another_task_is_chosen(onepic: Callable[..., Page], pictures: dict[str, Path]) -> None:
    one = onepic()
    one.drop(0, pictures["reference"])
    one.drop(1, pictures["lines"])
    kept = [panel["picture"] for panel in one.state()["panels"][:2]]
    one.choose("task", "The same subject in a new scene")
    one.wait("s.task === 'subject'")
    assert [panel["picture"] for panel in one.state()["panels"]] == [*kept, None, None]
    one.choose("task", "Change a picture by words")
    one.wait("s.task === 'edit'")
    assert [panel["picture"] for panel in one.state()["panels"]] == [kept[0]] * 3 + [None]
    one.says("message", "1 picture has no place")
    one.says("tips", "When time matters, try the layout 1x2")
    one.page.click(".refonly-onepic-button[title^='Undo']")
    one.wait("s.task === 'subject' && s.panels[1].picture")
    one.holds("task", "The same subject in a new scene")  # the page follows


def test_tips_follow_the_canvas(onepic: Callable[..., Page], pictures: dict[str, Path]) -> None:
    one = onepic()
    one.says("tips", "Reuse 2 or more")
    one.drop(0, pictures["reference"])
    one.says("tips", "Panels 2 and 3 are empty")
    assert not one.page.is_visible("#refonly-onepic-repeat")
    one.drop(1, pictures["lines"])
    one.says("tips", "Panel 3 is empty")
    one.says("repeat", "Put the same picture into panel 3")
    one.page.click("#refonly-onepic-repeat")
    one.wait("s.panels[2].picture === s.panels[1].picture")
    one.says_not("tips", "empty")
    one.page.wait_for_selector("#refonly-onepic-repeat", state="hidden")
    one.page.click("#refonly-onepic-settings > button")
    set_number(one.page, "onepic-context-reuse", 3)
    one.says_not("tips", "Reuse 2 or more")


def test_models_and_loras_are_those_that_are_installed(onepic: Callable[..., Page], studio: CanvasStudio, pictures: dict[str, Path]) -> None:
    one = onepic()
    one.drop(0, pictures["reference"])
    one.choose("model", "my-checkpoint")
    one.wait("s.panel.width === 512 && s.panel.height === 512")
    assert one.state()["panels"][0]["picture"]
    one.choose("task", task_named("try-on").title)
    one.wait("s.panel.width === 384 && s.panel.height === 512")
    one.choose("lora", "My <b>edits</b>")
    one.paint()
    settings = studio.canvas.wishes[-1][1]
    assert (settings.model, settings.lora) == ("my-checkpoint", "edits-1")
    one.choose("model", "tiny-base")
    one.wait("s.panel.width === 128 && s.panel.height === 128")
    one.open(blank(Layout(1, 2), 96, 96))
    one.choose("model", "my-checkpoint")
    one.paint()
    project, settings = studio.canvas.wishes[-1]
    assert (settings.model, project.width, project.height) == ("my-checkpoint", 96, 96), "a size of the painter's own stays"


# --- painting -----------------------------------------------------------------------------------------------------------------------------------------


def test_what_is_on_the_page_is_painted_and_saved(onepic: Callable[..., Page], studio: CanvasStudio, pictures: dict[str, Path], tmp_path: Path) -> None:
    one, page = onepic(), None
    page = one.page
    one.drop(0, pictures["reference"])
    one.type("prompt", "a girl: red, <b>bold</b>")
    page.click("#refonly-onepic-settings > button")
    one.type("negative", "rain")
    set_number(page, "onepic-context-reuse", 2)
    set_number(page, "onepic-steps", 4)
    one.type("seed", "11")
    one.choose("lora", "None")
    one.paint()
    ((project, settings),) = studio.canvas.wishes
    assert settings == OnePicPaintSettings(lora="none", steps=4, seed=11)
    assert (project.prompt, project.negative, project.reuse, project.task) == ("a girl: red, <b>bold</b>", "rain", 2, "colorize")
    assert project.panels[0].picture == pictures["reference"].read_bytes()
    assert one.colour(str(one.shown())) == rgb("teal")
    one.says("message", "with the LoRA tiny-colours.")

    saved = downloaded(page, "refonly-onepic-save", tmp_path)
    assert (saved.name, Image.open(saved).size) == ("onepic-11.png", (128, 128))
    prompt, negative, fields = read_infotext(read_png_infotext(saved))
    assert (prompt, negative, fields["Seed"], fields["Size"], fields["ONE-PIC LoRA"]) == (project.prompt, "rain", "11", "128x128", "tiny-colours")
    held = json.loads(fields["ONE-PIC"])
    assert held["panels"][0]["picture"] == f"sha256:{hashlib.sha256(pictures['reference'].read_bytes()).hexdigest()}"
    page.get_by_role("tab", name="Whole canvas", exact=True).click()
    page.wait_for_selector("#refonly-onepic-canvas img")
    whole = downloaded(page, "refonly-onepic-save-canvas", tmp_path)
    assert (whole.name, Image.open(whole).size) == ("onepic-11-canvas.png", (256, 256))
    assert read_infotext(read_png_infotext(whole))[2]["Size"] == "256x256"


def test_what_was_changed_at_the_last_moment_is_painted(onepic: Callable[..., Page], studio: CanvasStudio) -> None:
    """The composer writes a little late; Paint asks for what is shown."""
    one = onepic()
    text = blank(Layout(1, 2), 64, 64).written()
    one.page.evaluate(
        "(text) => { refonlyOnePic.load(document.querySelector('.refonly-onepic'), text); document.querySelector('#refonly-onepic-go').click(); }", text
    )
    one.page.wait_for_selector("#refonly-onepic-picture img")
    one.idle()
    assert studio.canvas.wishes[0][0].layout == Layout(1, 2)


def test_stop(onepic: Callable[..., Page], studio: CanvasStudio) -> None:
    one = onepic()
    studio.steps.clear()
    one.page.click("#refonly-onepic-go")
    one.says("progress", " of 20")
    one.page.click("#refonly-onepic-stop")
    one.says("message", "Stopped.")
    one.idle()
    assert studio.canvas.wishes == []
    assert one.page.is_visible("#refonly-onepic-blank")
    studio.steps.set()
    one.paint()
    one.says_not("message", "Stopped.")


def test_a_second_tab_waits_and_says_so(onepic: Callable[..., Page], studio: CanvasStudio) -> None:
    first, second = onepic(), onepic()
    studio.steps.clear()
    first.page.click("#refonly-onepic-go")
    first.says("progress", "Step")
    second.page.click("#refonly-onepic-go")
    second.says("progress", "1 other job comes first")
    studio.steps.set()
    for one in (first, second):
        one.page.wait_for_selector("#refonly-onepic-picture img")


def test_what_goes_wrong_is_said_on_the_page(onepic: Callable[..., Page], studio: CanvasStudio) -> None:
    one = onepic()
    studio.canvas.error = BadModel("The LoRA <i>cat</i> is not installed.")
    one.page.click("#refonly-onepic-go")
    one.says("message", "The LoRA <i>cat</i> is not installed.")
    one.idle()
    studio.canvas.error = RuntimeError("a fault of ours")
    one.page.click("#refonly-onepic-go")
    one.says("message", "Something went wrong inside")
    assert "a fault of ours" not in one.page.inner_text("body")
    studio.canvas.error = None
    one.open(Project(layout=Layout(1, 2), width=64, height=64, panels=(Panel(), Panel())))
    one.page.click("#refonly-onepic-go")
    one.says("message", "No panel is the target")
    one.idle()


def test_a_damaged_picture_is_told_with_its_panel(onepic: Callable[..., Page], studio: CanvasStudio) -> None:
    one = onepic()
    state = one.state()
    state["panels"][1]["picture"] = "data:image/png;base64,AAAA"
    one.page.evaluate("(text) => refonlyOnePic.load(document.querySelector('.refonly-onepic'), text)", json.dumps(state))
    one.says("tips", "Panel 2: ")
    one.page.click("#refonly-onepic-go")
    one.says("message", "Panel 2: ")
    assert studio.canvas.wishes == []


def test_several_targets_and_one_back_into_the_canvas(onepic: Callable[..., Page], studio: CanvasStudio, tmp_path: Path) -> None:
    one, page = onepic(), None
    page = one.page
    one.open(Project(layout=Layout(1, 3), width=64, height=64, panels=(Panel(role="target"), Panel(label="a shoe"), Panel(role="target"))))
    one.paint()
    page.wait_for_selector("#refonly-onepic-several button >> nth=1")
    assert one.colour(str(one.shown())) == rgb("teal")
    before = one.shown()
    page.click("#refonly-onepic-several button >> nth=1")
    page.wait_for_function("(old) => document.querySelector('#refonly-onepic-picture img').src !== old", arg=before)
    assert one.colour(str(one.shown())) == rgb("orange")
    assert downloaded(page, "refonly-onepic-save", tmp_path).name == "onepic-0-panel-3.png"

    one.choose("into", "Panel 2, a shoe")
    page.click("#refonly-onepic-put")
    one.says("message", "The result is in panel 2 now.")
    one.wait("s.panels[1].picture")
    panel = one.state()["panels"][1]
    assert (panel["role"], panel["label"]) == ("context", "a shoe")
    assert one.colour(panel["picture"]) == rgb("orange")
    one.paint()
    put = studio.canvas.wishes[-1][0].panels[1].picture
    assert put is not None
    assert read_png_infotext(put) == "", "a project holds no other project's parameters"


def test_the_place_for_the_result_follows_the_layout(onepic: Callable[..., Page]) -> None:
    one = onepic()
    one.paint()
    one.choose("into", "Panel 4, result")
    one.open(blank(Layout(1, 2), 64, 64))
    one.holds("into", "Panel 1")


# --- projects -----------------------------------------------------------------------------------------------------------------------------------------


def test_a_project_that_is_opened_brings_its_prompts(onepic: Callable[..., Page], studio: CanvasStudio) -> None:
    one = onepic()
    one.type("prompt", "mine")
    one.open(Project(task="edit", layout=Layout(2, 2), width=64, height=64, panels=(Panel(role="target"),) * 4, prompt="its own", negative="rain", reuse=4))
    one.holds("prompt", "its own")
    one.holds("task", "Change a picture by words")
    one.says("about", "The picture stands three times")
    one.type("prompt", "changed")
    one.page.focus(".refonly-onepic-panel[data-at='0']")
    one.page.keyboard.press("t")  # the canvas changes, its prompt is still the opened one
    one.wait("s.panels[0].role === 'context'")
    one.says("tips", "Panel 1 is empty")
    one.paint()
    project = studio.canvas.wishes[-1][0]
    assert (project.prompt, project.negative, project.reuse) == ("changed", "rain", 4)
    one.holds("prompt", "changed")


def test_a_project_without_a_prompt_leaves_the_field_alone(onepic: Callable[..., Page]) -> None:
    one = onepic()
    one.type("prompt", "mine")
    one.open(blank(Layout(1, 2), 64, 64))
    one.says("tips", "Panel 1 is empty")
    one.holds("task", "Free canvas")
    assert one.page.input_value("#refonly-onepic-prompt textarea") == "mine"


def test_a_project_that_is_saved_has_the_prompts_of_the_page(onepic: Callable[..., Page], tmp_path: Path) -> None:
    one, page = onepic(), None
    page = one.page

    def saved() -> Project:
        with page.expect_download() as waiting:
            page.click(".refonly-onepic-button[title='Save project']")
        assert waiting.value.suggested_filename == "onepic.json"
        return Project.read(Path(waiting.value.path()).read_bytes())

    untouched = saved()
    assert (untouched.prompt, untouched.task, untouched.layout) == ("", "colorize", Layout(2, 2))
    one.type("prompt", "a cat")
    page.click("#refonly-onepic-settings > button")
    one.type("negative", "rain")
    set_number(page, "onepic-context-reuse", 5)
    page.wait_for_function("window.refonlyOnePicAsked?.reuse === 5")
    page.click("#refonly-onepic-settings > button")
    project = saved()
    assert (project.prompt, project.negative, project.reuse, project.task) == ("a cat", "rain", 5, "colorize")
    assert page.inner_text(".refonly-onepic-status") == "onepic.json saved."
    page.wait_for_selector(".refonly-onepic-button[title^='Undo'][aria-disabled=true]")  # nothing of the canvas has changed
    one.type("prompt", "a dog")
    page.focus(".refonly-onepic-panel[data-at='0']")
    page.keyboard.press("t")
    one.says("tips", "Panels 2 and 3 are empty")
    assert page.input_value("#refonly-onepic-prompt textarea") == "a dog"
    one.open(project)
    one.holds("prompt", "a cat")


# --- looks --------------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark_and_nothing_sticks_out(onepic: Callable[..., Page], dark: bool) -> None:
    one = onepic(dark=dark)
    one.page.wait_for_function(f"() => document.body.classList.contains('dark') === {str(dark).lower()}")
    assert (luminance(one.page, "#refonly-onepic-tips p", "color") > 150) is dark
    assert (luminance(one.page, ".refonly-onepic-stage", "backgroundColor") < 60) is dark
    one.paint()
    for width in (390, 1024, 1440):
        one.page.set_viewport_size({"width": width, "height": 844})
        one.page.wait_for_function("(width) => document.documentElement.clientWidth <= width", arg=width)
        assert one.page.evaluate("document.documentElement.scrollWidth") <= width
        picture = one.page.locator("#refonly-onepic-picture img").bounding_box()
        assert picture["width"] > 250, "small pictures are shown large"


# --- other versions of gradio -------------------------------------------------------------------------------------------------------------------------

_HOSTED = """
import sys, threading
sys.path.insert(0, sys.argv[2])
from tests.ui import host_page
import gradio as gr
from types import SimpleNamespace
from PIL import Image
from lib_refonly.studio.desk import Desk
from lib_refonly.ui import shim
from lib_refonly.ui.onepic_events import OnePicEvents
from lib_refonly.ui.onepic_panel import Choices, build_onepic_panel
if "--wrapped-events" in sys.argv:
    host_page._wrap_events()
class Painter:
    def paint(self, project, settings, on_step=None):
        for step in range(settings.steps):
            on_step(step + 1, settings.steps)
        told = (project.prompt, settings.lora, len([one for one in project.panels if one.picture]))
        print("painted", *map(str, told), sep="|", flush=True)
        target = Image.new("RGB", (project.width, project.height), "teal")
        return SimpleNamespace(painted=SimpleNamespace(targets={3: target}, canvas=Image.new("RGB", project.size)), lora="", text="")
with gr.Blocks(analytics_enabled=False) as page:
    shim.listener()
    panel = build_onepic_panel(hosted=True)
    parcel = lambda project, settings: {"canvas": project.written(), "prompt": f"{project.prompt}, {settings.lora}"}
    OnePicEvents(panel, Painter(), Desk(), Choices(lambda: (), lambda: [("My LoRA", "mine")]), parcel).wire(page.load)
host_page._add_to_head(host_page.looks_and_scripts("refonly.js", "refonly_stream.js", "refonly_onepic.js", "refonly_onepic_model.js"))
page.queue()
page.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), prevent_thread_lock=True, quiet=True, share=False)
print("ready", flush=True)
sys.stdin.read()
page.close(verbose=False)
"""


@pytest.fixture(params=["A1111: 3.41.2", "4.40.0", "Forge: 4.40.0", "here"])
def hosted(request: pytest.FixtureRequest, browser: Any, tmp_path: Path) -> Iterator[tuple[Page, Any]]:
    """The panel on a page of this gradio, and the lines that its painter prints."""
    pytest.importorskip("gradio", reason="page tests need gradio")
    version = request.param.rpartition(" ")[2]
    try:
        python = Path(sys.executable) if version == "here" else python_with_gradio(version)
    except NotHere as why:
        pytest.skip(str(why))
    words = ["--wrapped-events"] if "Forge" in request.param else []
    with page_of(python, _HOSTED, tmp_path / "log.txt", *words) as (address, lines):
        page = browser.new_page()
        page.set_viewport_size({"width": 1100, "height": 1000})
        hurt: list[str] = []
        page.on("pageerror", lambda error: None if str(error).startswith("AbortError") else hurt.append(str(error)))  # gradio 4 ends its stream so
        page.goto(address)
        page.wait_for_selector(".refonly-onepic-panel")
        yield Page(page), lines
        page.close()
    assert hurt == []


def test_the_panel_works_in_the_versions_of_gradio_that_webuis_have(hosted: tuple[Page, Any], pictures: dict[str, Path]) -> None:
    one, lines = hosted
    page = one.page
    one.says("tips", "are empty")
    one.wait("s.task === 'colorize' && s.panel.width === 512")
    assert not page.is_visible("#refonly-onepic-model"), "the host's checkpoint paints"
    one.choose("task", "Change a picture by words")
    one.wait("s.task === 'edit'")
    one.drop(0, pictures["reference"])
    one.says("repeat", "Put the same picture into panels 2 and 3")
    page.click("#refonly-onepic-repeat")
    one.wait("s.panels[2].picture === s.panels[0].picture")
    one.type("prompt", "a cat")
    one.choose("lora", "My LoRA")
    page.click("#refonly-onepic-go")
    page.wait_for_selector("#refonly-onepic-picture img")
    one.idle()
    assert next(line for line in lines if line.startswith("painted")).split("|")[1:] == ["a cat", "mine", "3\n"]
    one.says("message", "without a LoRA.")
    one.choose("into", "Panel 4, result")
    page.click("#refonly-onepic-put")
    one.wait("s.panels[3].picture")
    with page.expect_download() as waiting:
        page.click(".refonly-onepic-button[title='Save project']")
    assert json.loads(Path(waiting.value.path()).read_text("utf-8"))["prompt"] == "a cat"
    page.evaluate("() => { window.parcels = []; window.refonlyParcel = (text) => window.parcels.push(JSON.parse(text)) }")  # else it is called
    for number in (1, 2):  # the same once more
        page.click("#refonly-onepic-to-img2img")
        page.wait_for_function("(number) => window.parcels.length === number", arg=number)
        one.says("message", "Press Generate there.")
    parcel = page.evaluate("window.parcels[1]")
    assert (parcel["tab"], parcel["prompt"]) == ("img2img", "a cat, mine")
    canvas = json.loads(parcel["canvas"])
    assert len([one for one in canvas["panels"] if one["picture"]]) == 4
    assert canvas["control_alone"] is True
    one.open(Project(layout=Layout(1, 2), width=64, height=64, panels=(Panel(role="target"), Panel()), control_alone=False))
    page.wait_for_function("window.refonlyOnePicAsked?.control_alone === false")
    page.click("#refonly-onepic-to-img2img")
    page.wait_for_function("window.parcels.length === 3")
    canvas = json.loads(page.evaluate("window.parcels[2]")["canvas"])
    assert (canvas["layout"]["columns"], canvas["layout"]["rows"], canvas["control_alone"]) == (2, 1, False)
