"""Each tip where it applies, and only there."""

from __future__ import annotations

import dataclasses

import pytest
from PIL import Image

from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.project import Panel, Project
from lib_refonly.onepic.tips import of_lora, tips

from .pictures import BLUE, GREEN, RED, lying, mask, plain

TARGET = Panel(role="target")
SOURCE = Panel(label="source", picture=plain(64, 64))


def project(*panels: Panel, layout: str = "", task: str = "", size: tuple[int, int] = (64, 64), reuse: int = 2) -> Project:
    """By default one row, and reused: no tip of what it costs."""
    return Project(task, Layout.named(layout or f"1x{len(panels)}"), *size, panels, reuse=reuse)


def test_a_good_canvas_needs_no_tip() -> None:
    assert tips(project(SOURCE, TARGET)) == []


@pytest.mark.parametrize(("side", "told"), [(0, False), (64, False), (100, False), (24, True), (512, True)])
def test_panels_far_from_a_loras_own_size(side: int, told: bool) -> None:
    said = of_lora(project(SOURCE, TARGET), "mine", side)
    assert bool(said) == told
    assert not told or (f"panels of {side} px" in said[0] and "64 x 64" in said[0])


@pytest.mark.parametrize("layout", ["1x2", "2x1"])
@pytest.mark.parametrize(("task", "told"), [("spatial-control", True), ("colorize", True), ("new-pose", True), ("frames", True), ("segmentation", False)])
def test_two_panels_are_too_few_where_position_matters(layout: str, task: str, told: bool) -> None:
    found = tips(project(SOURCE, TARGET, layout=layout, task=task))
    assert [tip for tip in found if "2x2" in tip] == found
    assert bool(found) is told


def test_with_several_conditions_the_target_is_in_the_middle() -> None:
    other = Panel(label="other", picture=plain(64, 64, GREEN))
    (tip,) = tips(project(TARGET, SOURCE, other))
    assert "best in the middle, in panel 2" in tip
    assert tips(project(SOURCE, TARGET, other)) == []
    assert tips(project(TARGET, SOURCE, dataclasses.replace(SOURCE, label="other"))) == []  # the same picture
    assert tips(project(TARGET, SOURCE, dataclasses.replace(other, label="source"))) == []  # the same kind of picture
    assert tips(project(SOURCE, other, SOURCE, TARGET, layout="2x2")) == []  # has no middle
    nine = [SOURCE, other, *[SOURCE] * 6]
    assert tips(project(*nine[:4], TARGET, *nine[4:], layout="3x3")) == []
    assert any("panel 5" in tip for tip in tips(project(*nine, TARGET, layout="3x3")))


def test_editing_can_be_had_for_less() -> None:
    (tip,) = tips(project(SOURCE, SOURCE, SOURCE, TARGET, layout="2x2", task="edit"))
    assert "1x2" in tip
    assert tips(project(SOURCE, TARGET, task="edit")) == []
    assert tips(project(SOURCE, SOURCE, SOURCE, TARGET, layout="2x2", task="subject")) == []


def test_what_a_canvas_costs() -> None:
    (tip,) = tips(project(SOURCE, SOURCE, SOURCE, TARGET, layout="2x2", reuse=1))
    assert "4 times the area" in tip
    assert "Reuse 2 or more" in tip
    assert not any("times the area" in tip for tip in tips(project(TARGET, reuse=1)))


@pytest.mark.parametrize(("size", "fits"), [((64, 64), True), ((96, 64), True), ((104, 64), False), ((64, 96), False), ((384, 512), True)])
def test_reuse_needs_sides_of_64(size: tuple[int, int], fits: bool) -> None:
    panels = (dataclasses.replace(SOURCE, fit="pad"), TARGET)
    found = tips(project(*panels, size=size))
    assert (found == []) is fits
    if not fits:
        assert "multiples of 64: with panels of" in found[0]
        cost = tips(project(*panels, size=size, reuse=1))[0]
        assert "2 times the area" in cost
        assert "Reuse" not in cost


def test_the_sizes_that_are_named_do_fit() -> None:
    (tip,) = tips(project(dataclasses.replace(SOURCE, fit="pad"), TARGET, size=(500 // 8 * 8, 72)))
    assert "992 x 72 px" in tip
    assert "panels of 512 x 64 px" in tip


def test_empty_context_is_told() -> None:
    assert tips(project(Panel(), TARGET)) == ["Panel 1 is empty: the model sees grey there. Put a picture in."]
    assert "Panels 1 and 3 are empty: " in tips(project(Panel(), TARGET, Panel()))[0]


def test_a_target_without_context_beside_it() -> None:
    (tip,) = tips(project(SOURCE, TARGET, TARGET))
    assert tip.startswith("Panel 3 is a target with no context beside it")
    assert len(tips(project(TARGET, TARGET, TARGET, SOURCE, layout="2x2"))) == 1  # across the corner is not beside
    assert any("Panel 1 is a target with no context" in tip for tip in tips(project(TARGET)))
    partly = Panel(role="target", picture=plain(64, 64), mask=mask(8, 8, (0, 0, 4, 4)), mask_use="paint")
    assert tips(project(partly)) == []  # it has its own context


@pytest.mark.parametrize(
    ("width", "height", "said"),
    [(64, 64, ""), (70, 64, ""), (64, 128, "50% of the picture is cut off at top and bottom"), (256, 64, "75% of the picture is cut off at left and right")],
)
def test_how_much_is_cut_off(width: int, height: int, said: str) -> None:
    panel = Panel(picture=plain(width, height, BLUE))
    found = tips(project(panel, TARGET))
    assert len(found) == bool(said)
    assert not said or (found[0].startswith("Panel 1: ") and said in found[0])
    assert tips(project(dataclasses.replace(panel, fit="pad"), TARGET)) == []
    assert tips(project(dataclasses.replace(panel, zoom=3.0), TARGET)) == found  # what is zoomed away is meant


def test_how_much_is_distorted() -> None:
    panel = Panel(picture=plain(160, 64, RED), fit="stretch")
    assert tips(project(panel, TARGET)) == ["Panel 1: the picture gets 2.5 times too high by 'stretch'. Take 'crop' or 'pad'."]
    assert "2.0 times too wide" in tips(project(dataclasses.replace(panel, picture=plain(64, 128)), TARGET))[0]
    assert tips(project(panel, TARGET, size=(320, 128))) == []


def test_a_photograph_s_shape_is_the_one_it_is_seen_in() -> None:
    photograph = lying(Image.new("RGB", (64, 128), RED))
    assert tips(project(Panel(picture=photograph), TARGET, size=(64, 128))) == []
    assert "50%" in tips(project(Panel(picture=photograph), TARGET, size=(64, 64)))[0]


def test_a_picture_that_is_none_is_told_not_raised() -> None:
    (tip,) = tips(project(Panel(picture=b"%PDF"), TARGET))
    assert tip.startswith("Panel 1: This is a PDF")
