"""Canvases at the desk: the order of events, stopping, and what a picture says of itself."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib_refonly.errors import BadModel, Interrupted
from lib_refonly.imaging.infotext import png_bytes, read_infotext
from lib_refonly.onepic.examples import example
from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.project import Panel, Project, blank
from lib_refonly.onepic.settings import OnePicPaintSettings
from lib_refonly.onepic.tasks import task_named
from lib_refonly.studio.desk import Desk
from lib_refonly.studio.jobs import Waiting
from lib_refonly.studio.onepic_jobs import FIELD, Finished, Later, Step, canvas_job, finished, infotext, told

LONG = 60.0
TWO_STEPS = OnePicPaintSettings(steps=2)


@dataclass
class Painter:
    """Grey targets. Before each step it waits for `may`, and says so by `at`."""

    may: threading.Event = field(default_factory=threading.Event)
    at: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None
    steps: int = 0

    def paint(self, project: Project, settings: OnePicPaintSettings, on_step: Callable[[int, int], None] | None = None) -> Any:
        if self.error:
            raise self.error
        for step in range(settings.steps):
            self.at.set()
            assert self.may.wait(LONG)
            if on_step is not None:
                on_step(step + 1, settings.steps)
            self.steps += 1
        pictures = {number: Image.new("RGB", (project.width, project.height), "grey") for number in (3, 1)}
        return SimpleNamespace(painted=SimpleNamespace(targets=pictures, canvas=Image.new("RGB", project.size)), lora="mine", text="")


def free() -> Painter:
    painter = Painter()
    painter.may.set()
    return painter


def test_steps_then_the_result() -> None:
    painter = Painter()
    job = canvas_job(painter, blank(Layout(2, 2), 64, 64), TWO_STEPS, Desk(), threading.Event())
    assert next(job) == Step(0, 2)
    assert not painter.steps
    painter.may.set()
    *steps, last = job
    assert steps[-1:] in ([], [Step(2, 2)]), "what the reader was too slow for is left out"
    assert isinstance(last, Finished)
    assert (list(last.targets), last.canvas.size, last.lora) == ([1, 3], (128, 128), "mine")
    assert last.seconds >= 0


def test_one_at_a_time_and_who_waits_is_told() -> None:
    desk, first, second = Desk(), Painter(), free()
    one = canvas_job(first, blank(Layout(1, 2)), TWO_STEPS, desk, threading.Event())
    assert next(one) == Step(0, 2)
    two = canvas_job(second, blank(Layout(1, 2)), TWO_STEPS, desk, threading.Event())
    assert next(two) == Waiting(1)
    assert not second.steps
    first.may.set()
    assert isinstance(list(one)[-1], Finished)
    assert isinstance(list(two)[-1], Finished)


def test_stop_ends_it_at_the_next_step() -> None:
    painter, stop = Painter(), threading.Event()
    job = canvas_job(painter, blank(Layout(1, 2)), TWO_STEPS, Desk(), stop)
    next(job)
    assert painter.at.wait(LONG)
    stop.set()
    painter.may.set()
    with pytest.raises(Interrupted):
        list(job)
    assert painter.steps == 0


def test_stop_while_waiting_leaves_the_queue() -> None:
    desk, first, stop = Desk(), Painter(), threading.Event()
    one = canvas_job(first, blank(Layout(1, 2)), TWO_STEPS, desk, threading.Event())
    next(one)
    two = canvas_job(free(), blank(Layout(1, 2)), TWO_STEPS, desk, stop)
    next(two)
    stop.set()
    with pytest.raises(Interrupted, match="before it began"):
        list(two)
    first.may.set()
    assert isinstance(list(one)[-1], Finished)


def test_a_reader_that_leaves_ends_it_and_frees_the_desk() -> None:
    desk, painter = Desk(), Painter()
    job = canvas_job(painter, blank(Layout(1, 2)), TWO_STEPS, desk, threading.Event())
    next(job)
    assert painter.at.wait(LONG)
    job.close()
    painter.may.set()
    assert isinstance(list(canvas_job(free(), blank(Layout(1, 2)), TWO_STEPS, desk, threading.Event()))[-1], Finished)
    assert painter.steps == 0


def test_what_the_painter_finds_wrong_is_raised_to_the_reader() -> None:
    with pytest.raises(BadModel, match="no such LoRA"):
        list(canvas_job(Painter(error=BadModel("no such LoRA")), blank(Layout(1, 2)), TWO_STEPS, Desk(), threading.Event()))


def test_later_makes_its_painter_once_and_only_when_it_is_needed() -> None:
    made: list[Painter] = []

    def make() -> Painter:
        made.append(free())
        return made[-1]

    painter = Later(make)
    assert made == []
    for _ in range(2):
        assert painter.paint(blank(Layout(1, 2)), TWO_STEPS).lora == "mine"
    assert len(made) == 1


def test_later_asks_again_after_it_could_not_be_made() -> None:
    answers = iter([None, free()])

    def make() -> Painter:
        painter = next(answers)
        if painter is None:
            raise BadModel("not yet")
        return painter

    painter = Later(make)
    with pytest.raises(BadModel):
        painter.paint(blank(Layout(1, 2)), TWO_STEPS)
    assert painter.paint(blank(Layout(1, 2)), TWO_STEPS).lora == "mine"


def picture(colour: str) -> bytes:
    return png_bytes(Image.new("RGB", (8, 8), colour))


PROJECT = Project(
    task="try-on",
    layout=Layout(1, 2),
    width=96,
    height=64,
    panels=(Panel(label='a "red" coat: long, warm', picture=picture("red"), mask=picture("white"), zoom=1.5), Panel(role="target")),
    prompt="a coat, <lora:x:1>\nred",
    negative="rain",
    reuse=3,
)


def test_the_parameters_hold_prompt_settings_and_the_project_without_its_pictures() -> None:
    settings = OnePicPaintSettings(steps=7, seed=5, cfg=2.5, lora_strength=0.75)
    text = infotext(PROJECT, settings, "coats", 1)
    prompt, negative, fields = read_infotext(text)
    assert (prompt, negative) == (PROJECT.prompt, "rain")
    wanted = {"Steps": "7", "Sampler": "UniPC", "CFG scale": "2.5", "Seed": "5", "Size": "96x64", "Model": "tiny-base"}
    wanted |= {"ONE-PIC LoRA": "coats", "ONE-PIC LoRA strength": "0.75", "ONE-PIC panel": "2"}
    assert {name: fields.get(name) for name in wanted} == wanted
    held = json.loads(fields[FIELD])
    assert held == told(PROJECT)
    assert held["panels"][0]["picture"] == f"sha256:{hashlib.sha256(picture('red')).hexdigest()}"
    assert held["panels"][0]["mask"] == f"sha256:{hashlib.sha256(picture('white')).hexdigest()}"
    assert held["panels"][1]["picture"] is None


def test_with_its_pictures_back_what_a_picture_holds_is_the_project() -> None:
    held = json.loads(read_infotext(infotext(PROJECT, OnePicPaintSettings(), ""))[2][FIELD])
    whole = json.loads(PROJECT.written())
    for panel, original in zip(held["panels"], whole["panels"], strict=True):
        panel |= {name: original[name] for name in ("picture", "mask")}
    assert Project.read(json.dumps(held | {"prompt": PROJECT.prompt, "negative": PROJECT.negative})) == PROJECT


def test_the_canvas_has_its_own_size_and_names_no_panel_and_no_lora() -> None:
    _, _, fields = read_infotext(infotext(replace(PROJECT, prompt=""), OnePicPaintSettings(), ""))
    assert fields["Size"] == "192x64"
    assert not {"ONE-PIC panel", "ONE-PIC LoRA", "ONE-PIC LoRA strength"} & set(fields)


def test_lines_are_laid_over_the_result_and_told() -> None:
    project, asked = example(task_named("colorize"), 64, 64), OnePicPaintSettings(steps=1, flats=0.25)
    done = finished(free(), project, asked)
    assert done.targets[3].size != (64, 64) == done.targets[1].size
    assert np.asarray(done.targets[3]).min() < 10, "grey, and black lines"
    fields = read_infotext(infotext(project, asked, "", 3))[2]
    assert (fields["ONE-PIC lines on top"], fields["ONE-PIC flats"], fields["Size"]) == ("1", "0.25", "64x64")
    assert "ONE-PIC flats" not in read_infotext(infotext(project, asked, "", 1))[2]
    without = OnePicPaintSettings(steps=1, lines_back=0.0)
    assert finished(free(), project, without).targets[3].size == (64, 64)
    assert "ONE-PIC lines on top" not in read_infotext(infotext(project, without, "", 3))[2]


def test_a_webui_s_own_text_gets_the_lines_too() -> None:
    project, text = example(task_named("colorize"), 64, 64), "a cat\nSteps: 1, Seed: 5"
    fields = read_infotext(infotext(project, TWO_STEPS, "", 3, text))[2]
    assert (fields["Steps"], fields["Seed"], fields["ONE-PIC lines on top"]) == ("1", "5", "1")
    assert infotext(project, TWO_STEPS, "", None, text) == text, "the whole canvas is as the WebUI painted it"
