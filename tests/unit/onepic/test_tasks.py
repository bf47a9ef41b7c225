"""The tasks: every one makes a project that works, with its panels where the paper has them."""

from __future__ import annotations

import dataclasses

import pytest

from lib_refonly.errors import BadSettings
from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.project import Panel, Project, relaid
from lib_refonly.onepic.tasks import TASKS, Task, filled, project_of, task_named
from lib_refonly.onepic.tips import tips

from .pictures import mask, plain

NAMES = ["spatial-control", "subject", "edit", "edit-masked", "try-on", "colorize", "fashion-extraction", "segmentation", "portrait", "new-pose", "frames"]
GROUPS = {"spatial-control": [(0, 1, 2)], "edit": [(0, 1, 2)], "edit-masked": [(0, 1, 2)], "colorize": [(1, 2)]}
"""Panels that show the same picture."""


def test_the_order_and_the_layouts() -> None:
    assert [task.name for task in TASKS] == NAMES
    layouts = {task.name: task.layout.name for task in TASKS}
    assert {name: layout for name, layout in layouts.items() if layout != "2x2"} == {
        "try-on": "1x3",
        "fashion-extraction": "1x2",
        "segmentation": "1x2",
        "frames": "1x3",
    }


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_task_makes_a_project_with_one_target_in_its_place(task: Task) -> None:
    project = project_of(task)
    assert Project.read(project.written()) == project
    project.check_ready()
    targets = [number for number, panel in enumerate(project.panels) if panel.role == "target"]
    assert targets == [1 if task.layout.panels == 3 else task.layout.panels - 1]
    assert (project.task, project.prompt, project.layout, len(task.panels)) == (task.name, "", task.layout, task.layout.panels)
    assert [(panel.role, panel.label, panel.fit) for panel in project.panels] == [(spec.role, spec.label, spec.fit) for spec in task.panels]
    assert not any(side % 64 for side in project.size)  # so that the context can be reused
    assert all(text.strip() for text in (task.title, task.prompt_hint, task.help, *(spec.hint for spec in task.panels)))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_panels_that_show_the_same_are_context_and_of_one_fit(task: Task) -> None:
    for spec in task.panels:
        if spec.same_as is not None:
            first = task.panels[spec.same_as]
            assert first.same_as is None
            assert (first.role, first.fit, spec.role) == ("context", spec.fit, "context")


def test_the_tryon_s_panels() -> None:
    project = project_of(task_named("try-on"))
    assert (project.width, project.height, project.size) == (384, 512, (1152, 512))
    assert [panel.label for panel in project.panels] == ["garment", "result", "person, clothes hidden"]
    assert project_of(task_named("try-on"), 768, 1024).size == (2304, 1024)
    with pytest.raises(BadSettings, match="Panel width: 0 is outside"):
        project_of(task_named("try-on"), 0)
    with pytest.raises(BadSettings, match="no task 'tryon'. Tasks: spatial-control, subject"):
        task_named("tryon")


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_picture_goes_into_every_panel_that_shows_it(task: Task) -> None:
    for number in range(task.layout.panels):
        group = next((group for group in GROUPS.get(task.name, []) if number in group), (number,))
        project = filled(project_of(task), task, number, plain(8, 8))
        assert tuple(at for at, panel in enumerate(project.panels) if panel.picture is not None) == group
        assert filled(project, task, number, None) == project_of(task)


def test_a_mask_goes_with_the_picture_it_was_drawn_over() -> None:
    task = task_named("edit-masked")
    drawn_first = dataclasses.replace(project_of(task), panels=(Panel(mask=mask(8, 8)), *project_of(task).panels[1:]))
    project = filled(drawn_first, task, 2, plain(8, 8))
    assert project.panels[0].mask is not None
    moved = dataclasses.replace(project, panels=(dataclasses.replace(project.panels[0], zoom=2.0, x=1.0), *project.panels[1:]))
    assert filled(moved, task, 1, plain(8, 8)) == moved
    other = filled(moved, task, 1, plain(9, 9)).panels[0]
    assert (other.mask, other.zoom, other.x, other.picture) == (None, 1.0, 0.0, plain(9, 9))


def test_in_another_layout_only_the_one_panel_is_filled() -> None:
    task = task_named("edit")
    project = filled(relaid(project_of(task), Layout(1, 4))[0], task, 0, plain(8, 8))
    assert [panel.picture is not None for panel in project.panels] == [True, False, False, False]
    with pytest.raises(BadSettings, match="no panel 5"):
        filled(project, task, 4, None)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_task_filled_in_has_no_tips_against_itself(task: Task) -> None:
    """The tasks' own layouts follow the paper's advice: only what it costs is said, and what would be quicker."""
    project = project_of(task)
    for number, spec in enumerate(task.panels):
        if spec.role == "context":
            project = filled(project, task, number, plain(task.width, task.height + number))
    rest = [tip for tip in tips(project) if "Every step computes" not in tip and "When time matters" not in tip]
    assert rest == []
