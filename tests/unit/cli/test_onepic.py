"""`studio.py onepic`: what each action writes and says, and how it fails. One test paints with the real engine."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib_refonly.errors import BadModel
from lib_refonly.imaging.infotext import png_bytes, read_infotext, read_png_infotext
from lib_refonly.models.registry import EMBEDDED
from lib_refonly.onepic.compose import composed
from lib_refonly.onepic.examples import example
from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.project import Panel, Project, blank
from lib_refonly.onepic.settings import TINY_SIDE, OnePicPaintSettings
from lib_refonly.onepic.tasks import TASKS, project_of, task_named
from lib_refonly.studio import cli, onepic_engine
from lib_refonly.studio.commands import onepic
from tests.unit.cli.conftest import Run
from tests.unit.cli.fakes import draw


class FakeEngine:
    """Paints every target in teal."""

    calls: list[tuple[Any, ...]] = []
    lora = "mine"

    def __init__(self, device: str, lora: Path | None) -> None:
        assert lora is None
        self.calls.append(("engine", device))

    def paint(self, project: Project, settings: OnePicPaintSettings, on_step: Callable[[int, int], None] | None = None) -> Any:
        self.calls.append(("paint", project, settings))
        assert on_step is not None
        on_step(settings.steps, settings.steps)
        size = (project.width, project.height)
        targets = {number: Image.new("RGB", size, "teal") for number, panel in enumerate(project.panels) if panel.role == "target"}
        return SimpleNamespace(painted=SimpleNamespace(targets=targets, canvas=Image.new("RGB", project.size, "navy")), lora=self.lora, text="")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeEngine]:
    FakeEngine.calls = []
    monkeypatch.setattr(onepic_engine, "OnePicEngine", FakeEngine)
    return FakeEngine


def written(project: Project, name: str = "p.json") -> str:
    Path(name).write_text(project.written(), "utf-8")
    return name


def read(name: str) -> Project:
    return Project.read(Path(name).read_bytes())


def picture(colour: str) -> bytes:
    return png_bytes(Image.new("RGB", (16, 16), colour))


# --- tasks --------------------------------------------------------------------------------------------------------------------------------------------


def test_tasks_are_listed(run: Run) -> None:
    ran = run("onepic", "tasks")
    assert (ran.code, ran.err) == (0, "")
    assert "try-on: Try on a garment\n    1x3, 384 x 512 px: 1 garment, 2 result (target), 3 person, clothes hidden\n" in ran.out
    (told,) = run("onepic", "tasks", "--json").rows
    assert [one["name"] for one in told["tasks"]] == [task.name for task in TASKS]
    edit = next(one for one in told["tasks"] if one["name"] == "edit")
    assert (edit["layout"], edit["width"], [panel["same_as"] for panel in edit["panels"]]) == ("2x2", 512, [None, 1, 1, None])


# --- new ----------------------------------------------------------------------------------------------------------------------------------------------


def test_a_project_of_a_task_with_its_repeated_pictures(run: Run) -> None:
    a, b = draw(Path("a.png"), 16), draw(Path("b.png"), 20)
    ran = run("onepic", "new", "colorize", "-o", "p.json", "--size", "128x64", "--panel", "1=a.png", "--panel", "2=b.png", "--prompt", "a girl: red", "--json")
    assert (ran.code, ran.err) == (0, "")
    project = read("p.json")
    assert [panel.picture for panel in project.panels] == [a.read_bytes(), b.read_bytes(), b.read_bytes(), None]
    assert (project.task, project.width, project.height, project.prompt) == ("colorize", 128, 64, "a girl: red")
    assert [panel.fit for panel in project.panels] == ["pad"] * 4
    (told,) = ran.rows
    assert told.pop("tips")
    assert told == {"files": ["p.json"], "task": "colorize", "layout": "2x2", "width": 128, "height": 64}


def test_an_example_to_try_a_task(run: Run) -> None:
    data = draw(Path("own.png")).read_bytes()
    ran = run("onepic", "new", "frames", "-o", "p.json", "--example", "--panel", "1=own.png")
    assert (ran.code, ran.out) == (0, "p.json\n")
    project = read("p.json")
    assert [panel.picture for panel in project.panels] == [data, None, example(task_named("frames")).panels[2].picture]
    assert (project.width, project.height) == (TINY_SIDE, TINY_SIDE), "the built-in drawings are for the built-in checkpoint"
    assert run("onepic", "new", "1x3", "-o", "q.json", "--example").code == 2


def test_a_project_of_a_layout(run: Run) -> None:
    data = draw(Path("a = b.png")).read_bytes()
    ran = run("onepic", "new", "1x3", "-o", "p.json", "--panel", "2=a = b.png", "--negative", "rain")
    assert (ran.code, ran.out) == (0, "p.json\n")
    assert "Panel 1 is empty" in ran.err
    project = read("p.json")
    assert project.layout == Layout(1, 3)
    assert [(panel.role, panel.picture) for panel in project.panels] == [("context", None), ("context", data), ("target", None)]
    assert (project.width, project.height, project.negative) == (512, 512, "rain")


def test_what_is_not_said_is_the_tasks(run: Run) -> None:
    assert run("onepic", "new", "try-on", "-o", "p.json").code == 0
    assert read("p.json") == project_of(task_named("try-on"))


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("paint-it", "-o", "p.json"), 2, "no task 'paint-it'"),
        (("5x5", "-o", "p.json"), 2, "1 to 4 rows"),
        (("edit", "-o", "p.txt"), 2, "ends in .json"),
        (("edit", "-o", "gone/p.json"), 2, "does not exist"),
        (("edit", "-o", "p.json", "--size", "64"), 2, "as 512x768"),
        (("edit", "-o", "p.json", "--size", "60x64"), 2, "Panel width: 60"),
        (("edit", "-o", "p.json", "--size", "100x100"), 2, "multiples of 8"),
        (("edit", "-o", "p.json", "--panel", "a.png"), 2, "as 1=girl.png"),
        (("edit", "-o", "p.json", "--panel", "x=a.png"), 2, "as 1=girl.png"),
        (("edit", "-o", "p.json", "--panel", "5=a.png"), 2, "no panel 5"),
        (("1x2", "-o", "p.json", "--panel", "0=a.png"), 2, "no panel 0"),
        (("edit", "-o", "p.json", "--panel", "1=gone.png"), 3, "gone.png"),
        (("edit", "-o", "p.json", "--panel", "1=text.png"), 3, "text.png: "),
        (("edit", "-o", "p.json", "--prompt", "x" * 30_000), 2, "too many"),
    ],
)
def test_bad_projects_are_not_written(run: Run, words: tuple[str, ...], code: int, why: str) -> None:
    draw(Path("a.png"))
    Path("text.png").write_text("no picture")
    ran = run("onepic", "new", *words, "--json")
    assert (ran.code, ran.out) == (code, "")
    assert why in ran.err
    assert len(ran.err.splitlines()) == 1
    assert sorted(path.name for path in Path().iterdir()) == ["a.png", "text.png"]


# --- compose ------------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("marked", [False, True])
def test_what_the_model_sees(run: Run, marked: bool) -> None:
    project = Project(layout=Layout(1, 2), width=64, height=64, panels=(Panel(picture=picture("red")), Panel(role="target")))
    ran = run("onepic", "compose", written(project), "-o", "seen.png", "--json", *(["--marked"] if marked else []))
    assert (ran.code, ran.err) == (0, "")
    assert (ran.rows[0]["files"], ran.rows[0]["width"], ran.rows[0]["height"]) == (["seen.png"], 128, 64)
    seen = composed(project)
    assert np.array_equal(np.asarray(Image.open("seen.png")), np.asarray(seen.preview() if marked else seen.canvas))


@pytest.mark.parametrize(
    ("text", "code", "why"),
    [
        (None, 2, "no such project"),
        ("{}", 2, "no ONE-PIC project"),
        ("not json", 2, "JSON"),
        (blank(Layout(1, 2)).written().replace("null", '"x"', 1), 3, "Panel 1"),
    ],
)
@pytest.mark.parametrize("action", ["compose", "paint"])
def test_what_is_no_project(run: Run, fake: type[FakeEngine], action: str, text: str | None, code: int, why: str) -> None:
    if text is not None:
        Path("p.json").write_text(text)
    ran = run("onepic", action, "p.json", "-o", "out.png")
    assert (ran.code, ran.out, fake.calls) == (code, "", [])
    assert why in ran.err
    assert not Path("out.png").exists()


def test_a_folder_is_no_project(run: Run) -> None:
    Path("p.json").mkdir()
    assert run("onepic", "compose", "p.json", "-o", "out.png").code == 2


# --- paint --------------------------------------------------------------------------------------------------------------------------------------------


def test_paint_with_everything_said(run: Run, fake: type[FakeEngine]) -> None:
    project = Project(task="edit", layout=Layout(1, 2), width=64, height=72, panels=(Panel(picture=picture("red")), Panel(role="target")), prompt="old")
    words = '--prompt "a cat, red" --negative rain --seed 7 --steps 9 --cfg 2.5 --sampler Euler --model tiny-base --lora mine --lora-strength 0.5 --reuse 3'
    ran = run("onepic", "paint", written(project), "-o", "out.png", "--canvas", "all.png", "--device", "cpu", *shlex.split(words), "--json")
    assert (ran.code, ran.err) == (0, "")
    engine, (_, painted, settings) = fake.calls
    assert engine == ("engine", "cpu")
    assert (painted.prompt, painted.negative, painted.reuse, painted.panels) == ("a cat, red", "rain", 3, project.panels)
    assert settings == OnePicPaintSettings("tiny-base", "mine", 0.5, 9, 2.5, 7, "Euler")
    (told,) = ran.rows
    assert told.pop("seconds") >= 0
    assert told.pop("tips")
    told_settings = {name: value for name, value in told.pop("settings").items() if name not in ("lines_back", "flats")}
    assert told_settings == {"model": "tiny-base", "lora": "mine", "lora_strength": 0.5, "steps": 9, "cfg": 2.5, "seed": 7, "sampler": "Euler"}
    assert told == {
        "files": ["out.png", "all.png"],
        "canvas": "all.png",
        "panels": [2],
        "prompt": "a cat, red",
        "negative": "rain",
        "reuse": 3,
        "lora": "mine",
    }
    prompt, negative, fields = read_infotext(read_png_infotext("out.png"))
    assert (prompt, negative, fields["Size"], fields["Seed"], fields["ONE-PIC LoRA"]) == ("a cat, red", "rain", "64x72", "7", "mine")
    assert json.loads(fields["ONE-PIC"])["panels"][0]["picture"] == f"sha256:{hashlib.sha256(picture('red')).hexdigest()}"
    assert read_infotext(read_png_infotext("all.png"))[2]["Size"] == "128x72"


def test_paint_with_what_is_usual(run: Run, fake: type[FakeEngine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "lora", "")
    project = Project(layout=Layout(1, 1), width=64, height=64, panels=(Panel(role="target"),), prompt="a lighthouse", reuse=2)
    ran = run("onepic", "paint", written(project), "-o", "out.png")
    assert ran.code == 0
    assert ran.out.startswith("out.png  (seed 0, no LoRA, ")
    assert fake.calls[-1] == ("paint", project, OnePicPaintSettings())
    assert ran.err.strip() == "Panel 1 is a target with no context beside it, so it follows the others less."


def test_panels_of_another_size_than_the_loras(run: Run, fake: type[FakeEngine], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "lora", "tiny-onepic-colorize")
    for side, said in ((2 * TINY_SIDE, True), (TINY_SIDE, False)):
        ran = run("onepic", "paint", written(blank(Layout(1, 2), side, side)), "-o", "out.png")
        assert (f"trained with panels of {TINY_SIDE} px" in ran.err) == said


def test_several_targets_are_numbered(run: Run, fake: type[FakeEngine]) -> None:
    project = Project(layout=Layout(1, 3), width=64, height=64, panels=(Panel(role="target"), Panel(), Panel(role="target")))
    ran = run("onepic", "paint", written(project), "-o", "out.png", "--json")
    (told,) = ran.rows
    assert (told["files"], told["panels"]) == (["out-1.png", "out-2.png"], [1, 3])
    assert read_infotext(read_png_infotext("out-2.png"))[2]["ONE-PIC panel"] == "3"
    assert not Path("out.png").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("-o", "out.jpg"), "ends in .png"),
        (("-o", "gone/out.png"), "does not exist"),
        (("-o", "out.png", "--canvas", "gone/all.png"), "does not exist"),
        (("-o", "out.png", "--canvas", "out.png"), "same file"),
        (("-o", "out.png", "--canvas", "out-2.png"), "same file"),
        (("-o", "out.png", "--steps", "many"), "Steps"),
        (("-o", "out.png", "--cfg", "0.5"), "CFG scale: 0.5"),
        (("-o", "out.png", "--reuse", "many"), "whole number"),
        (("-o", "out.png", "--reuse", "99"), "Reuse: 99"),
        (("-o", "out.png", "--lora", "gone.safetensors"), "no such file"),
        (("-o", "out.png", "--lora", "./gone"), "no such file"),
    ],
)
def test_bad_paintings_begin_nothing(run: Run, fake: type[FakeEngine], words: tuple[str, ...], why: str) -> None:
    name = written(blank(Layout(1, 2), 64, 64))
    ran = run("onepic", "paint", name, *words)
    assert (ran.code, fake.calls, ran.out) == (2, [], "")
    assert why in ran.err
    assert [path.name for path in Path().iterdir()] == ["p.json"]


def test_a_canvas_without_a_target(run: Run, fake: type[FakeEngine]) -> None:
    ran = run("onepic", "paint", written(Project(layout=Layout(1, 1), panels=(Panel(),))), "-o", "out.png")
    assert (ran.code, fake.calls) == (2, [])
    assert "No panel is the target" in ran.err


def test_a_lora_that_is_not_installed(run: Run, fake: type[FakeEngine], monkeypatch: pytest.MonkeyPatch) -> None:
    def paint(*_: object) -> Any:
        raise BadModel("The LoRA cat is not installed.")

    monkeypatch.setattr(fake, "paint", paint)
    ran = run("onepic", "paint", written(blank(Layout(1, 2))), "-o", "out.png", "--lora", "cat")
    assert (ran.code, ran.err) == (4, "studio.py: The LoRA cat is not installed.\n")


# --- with the real engine -----------------------------------------------------------------------------------------------------------------------------


def test_it_paints_with_the_embedded_model_and_a_lora_from_a_file(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    monkeypatch.setenv("REFONLY_MODELS_DIR", str(tmp_path / "models"))
    sample = EMBEDDED / "samples" / "1 Curls"
    panels = ("--panel", f"1={sample / 'reference.png'}", "--panel", f"2={sample / 'lines.png'}")
    assert run("onepic", "new", "colorize", "-o", "p.json", "--size", "64x64", *panels, "--prompt", "a girl").code == 0
    paint = ("onepic", "paint", "p.json", "--steps", "2", "--device", "cpu", "--lines-back", "0", "--json", "-o")
    ran = run(*paint, "a.png", "--canvas", "all.png", "--lora", "none")
    assert ran.code == 0, ran.err
    assert (ran.rows[0]["lora"], ran.rows[0]["panels"]) == ("", [4])
    plain, whole = (np.asarray(Image.open(name)) for name in ("a.png", "all.png"))
    assert (plain.shape, whole.shape) == ((64, 64, 3), (128, 128, 3))
    assert np.array_equal(whole[64:, 64:], plain)
    seen = np.asarray(composed(read("p.json")).canvas)
    assert np.array_equal(whole[:64], seen[:64]), "the context is shown as it was given"

    _make_lora(Path("mine.safetensors"), torch)
    ran = run(*paint, "b.png", "--lora", "mine.safetensors")
    assert (ran.code, ran.rows[0]["lora"]) == (0, "mine"), ran.err
    assert not np.array_equal(np.asarray(Image.open("b.png")), plain)
    assert read_infotext(read_png_infotext("b.png"))[2]["ONE-PIC LoRA"] == "mine"
    Path("bad.safetensors").write_bytes(b"nothing")
    assert run(*paint, "c.png", "--lora", "bad.safetensors").code == 4
    assert run(*paint, "c.png", "--lora", "mine.safetensors", "--model", "gone").code == 4


def _make_lora(path: Path, torch: Any) -> None:
    """One module of the embedded UNet's, changed a lot."""
    from diffusers import UNet2DConditionModel

    from lib_refonly.onepic.lora import Low, names, save

    kind: Any = UNet2DConditionModel
    with torch.device("meta"):
        unet = kind.from_config(kind.load_config(EMBEDDED / "tiny-base" / "unet"))
    name, module = next(iter(names(unet).items()))
    outs, ins = unet.get_submodule(module).weight.shape
    save(path, {name: Low(torch.ones(2, ins), torch.ones(outs, 2), 8)}, {})


def test_the_examples_in_the_help_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    examples = [line.strip() for line in onepic._EPILOG.splitlines() if line.strip().startswith("studio.py")]
    assert {shlex.split(line)[2] for line in examples} == {"tasks", "new", "compose", "paint"}
    for line in examples:
        cli.build_parser().parse_args(shlex.split(line.split("     ")[0])[1:])
    with pytest.raises(SystemExit) as left:
        cli.main(["onepic", "--help"])
    assert left.value.code == 0
    assert "--json prints one object" in capsys.readouterr().out
