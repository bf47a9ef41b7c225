"""The drawing's own lines over what was painted: where they lie, how large it gets, and when nothing happens."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from lib_refonly.imaging.decode import decode
from lib_refonly.imaging.infotext import png_bytes
from lib_refonly.onepic.compose import composed
from lib_refonly.onepic.examples import example
from lib_refonly.onepic.finish import LARGEST, lines_of, with_lines
from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.project import Panel, Project, blank
from lib_refonly.onepic.settings import OnePicPaintSettings
from lib_refonly.onepic.tasks import TASKS, project_of, task_named

LINES, NOTHING = OnePicPaintSettings(), OnePicPaintSettings(lines_back=0.0)
PAPER = Image.new("RGB", (128, 128), "white")


def coloured(panel: Panel, **more: float) -> Image.Image:
    return with_lines(PAPER, panel, Project(width=128, height=128, panels=blank(Layout(2, 2)).panels), replace(LINES, **more))


def circle(side: int = 512, ground: int = 255) -> bytes:
    drawn = np.full((side, side, 3), ground, np.uint8)
    cv2.circle(drawn, (side // 2, side // 2), side // 3, (255 - ground,) * 3, max(2, side // 100))
    return png_bytes(Image.fromarray(drawn))


def test_tasks_with_lines_are_those_that_colour_them() -> None:
    found = {task.name: lines_of(example(task), LINES) for task in TASKS}
    assert {name: list(panels) for name, panels in found.items() if panels} == {"colorize": [3], "frames": [1]}
    for task in TASKS:
        assert task.lines is None or "line" in task.panels[task.lines].label


def test_nothing_happens_without_lines_or_in_another_layout() -> None:
    task = task_named("colorize")
    assert not lines_of(project_of(task), LINES), "an empty panel"
    assert not lines_of(example(task), NOTHING)
    assert lines_of(example(task), replace(NOTHING, flats=0.5))
    free = replace(blank(Layout(2, 2)), panels=example(task).panels)
    assert not lines_of(free, LINES), "no task"
    assert not lines_of(replace(free, task="of another version"), LINES)
    assert not lines_of(replace(blank(Layout(1, 2)), task="colorize"), LINES)


def test_the_result_is_as_large_as_the_drawing_and_its_lines_lie_where_the_model_saw_them() -> None:
    for name in ("colorize", "frames"):
        project = example(task_named(name), 128, 128)
        ((_, panel),) = lines_of(project, LINES).items()
        assert panel.picture
        drawing = decode(panel.picture)
        done = with_lines(PAPER, panel, project, LINES)
        assert max(done.size) == max(drawing.size) > 128
        seen = composed(project).panels[project.panels.index(panel)]
        small = np.asarray(done.resize((128, 128), Image.Resampling.BOX)).astype(int)
        assert np.abs(small - seen).mean() < 3 < np.abs(255 - seen.astype(int)).mean()


@pytest.mark.parametrize("panel", [Panel(picture=circle(), fit="pad", zoom=0.5, x=-1.0), Panel(picture=circle(), zoom=2.0, y=1.0)])
def test_a_drawing_moved_and_zoomed(panel: Panel) -> None:
    project = Project(width=128, height=128, panels=(panel, *blank(Layout(2, 2)).panels[1:]))
    small = np.asarray(with_lines(PAPER, panel, project, LINES).resize((128, 128), Image.Resampling.BOX)).astype(int)
    assert np.abs(small - composed(project).panels[0]).mean() < 3


def test_light_lines_on_a_dark_ground_stay_light() -> None:
    dark = with_lines(Image.new("RGB", (128, 128)), Panel(picture=circle(ground=0)), Project(width=128, height=128, panels=blank(Layout(2, 2)).panels), LINES)
    assert np.asarray(dark).max() > 200 > 20 > np.median(np.asarray(dark))


def test_strengths() -> None:
    panel = Panel(picture=circle())
    assert np.asarray(coloured(panel)).min() < 10 < 100 < np.asarray(coloured(panel, lines_back=0.5)).min()
    speckled = Image.fromarray(np.random.default_rng(0).integers(100, 156, (128, 128, 3)).astype(np.uint8))
    project = Project(width=128, height=128, panels=blank(Layout(2, 2)).panels)
    rough, even = (np.asarray(with_lines(speckled, panel, project, replace(NOTHING, flats=flats))) for flats in (1e-9, 1.0))
    assert even.std() < 0.5 * rough.std()


def test_a_small_drawing_makes_nothing_smaller_and_a_huge_one_not_huge() -> None:
    assert coloured(Panel(picture=circle(64))).size == (128, 128)
    assert coloured(Panel(picture=circle(64), zoom=10.0)).size == (128, 128)
    assert coloured(Panel(picture=circle(), zoom=0.1)).size[0] <= LARGEST
