"""Every task has a canvas to try it with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lib_refonly.errors import BadSettings
from lib_refonly.onepic.compose import GREY, composed
from lib_refonly.onepic.examples import example
from lib_refonly.onepic.project import Project
from lib_refonly.onepic.tasks import TASKS, Task, project_of, task_named
from lib_refonly.onepic.tips import tips


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_an_example_fills_the_context_and_nothing_else(task: Task) -> None:
    made, empty = example(task, 128, 128), project_of(task, 128, 128)
    assert Project.read(made.written()) == made
    assert [panel.picture is not None for panel in made.panels] == [panel.role == "context" for panel in made.panels]
    assert replace(made, prompt="", panels=tuple(replace(panel, picture=None, mask=None) for panel in made.panels)) == empty
    assert not [tip for tip in tips(made) if "empty" in tip]


@pytest.mark.parametrize(("name", "panel"), [("edit-masked", 0), ("try-on", 2)])
def test_what_is_to_change_is_brushed(name: str, panel: int) -> None:
    made = example(task_named(name), 128, 128)
    assert [number for number, one in enumerate(made.panels) if one.mask is not None] == [panel]
    hidden = (np.asarray(composed(made).panels[panel]) == GREY).all(-1).mean()
    assert 0.1 < hidden < 0.5


def test_a_task_of_another_version_has_none() -> None:
    with pytest.raises(BadSettings, match="no example"):
        example(replace(TASKS[0], name="later"))
