"""What the model sees, to the pixel, and what is painted, to the cell."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from lib_refonly.errors import BadPicture, BadSettings
from lib_refonly.onepic.compose import Composed, composed, cropped
from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.project import Panel, Project, blank

from .pictures import BLUE, GREEN, GREY, RED, file_of, lying, mask, noise, plain

ONE = Layout(1, 1)
TARGET = Panel(role="target")


def seen(panel: Panel, width: int = 64, height: int = 64) -> NDArray[np.uint8]:
    return composed(Project(layout=ONE, width=width, height=height, panels=(panel,))).panels[0]


def target(*panels: Panel, width: int = 64, height: int = 64, layout: Layout | None = None) -> NDArray[np.bool_]:
    return composed(Project(layout=layout or Layout(1, len(panels)), width=width, height=height, panels=panels)).target


def same(pixels: NDArray[np.uint8], colour: tuple[int, int, int], within: int = 0) -> bool:
    return bool((abs(pixels.astype(int) - colour) <= within).all())


def test_a_picture_of_the_panel_s_size_is_left_alone() -> None:
    picture = noise(96, 64)
    for fit in ("crop", "pad", "stretch"):
        for share in (-1.0, 0.0, 1.0):
            assert (seen(Panel(picture=file_of(picture), fit=fit, x=share, y=share), 96, 64) == picture).all()


@pytest.mark.parametrize(("x", "left"), [(-1.0, 36), (0.0, 18), (1.0, 0), (0.5, 9)])
def test_crop_cuts_the_longer_side_where_it_is_told(x: float, left: int) -> None:
    picture = noise(100, 64)
    assert (seen(Panel(picture=file_of(picture), x=x)) == picture[:, left : left + 64]).all()
    standing = np.ascontiguousarray(picture.transpose(1, 0, 2))
    assert (seen(Panel(picture=file_of(standing), y=x)) == standing[left : left + 64]).all()


@pytest.mark.parametrize(("y", "top"), [(-1.0, 0), (0.0, 12), (1.0, 24)])
def test_pad_lays_the_picture_on_its_border_s_colour(y: float, top: int) -> None:
    picture = np.full((40, 64, 3), RED, np.uint8)
    picture[1:-1, 1:-1] = noise(62, 38)
    out = seen(Panel(picture=file_of(picture), fit="pad", y=y))
    assert (out[top : top + 40] == picture).all()
    assert same(np.delete(out, range(top, top + 40), axis=0), RED)


def test_the_border_s_colour_is_a_mean_of_every_outer_pixel_once() -> None:
    picture = np.zeros((2, 4, 3), np.uint8)
    picture[0, 0] = 80
    picture[1, 3] = 40
    assert same(seen(Panel(picture=file_of(picture), fit="pad"))[0], (15, 15, 15))
    single = seen(Panel(picture=plain(1, 1, BLUE), fit="pad", zoom=0.1))
    assert same(single, BLUE)


def test_stretch_fills_the_panel_without_a_margin() -> None:
    picture = np.zeros((16, 128, 3), np.uint8)
    picture[:, :64] = 255
    out = seen(Panel(picture=file_of(picture), fit="stretch"))
    assert same(out[:, :32], (255, 255, 255))
    assert same(out[:, 32:], (0, 0, 0))


def test_shrinking_takes_means_over_areas() -> None:
    picture = noise(256, 192)
    means = picture.reshape(64, 3, 64, 4, 3).mean(axis=(1, 3))
    assert abs(seen(Panel(picture=file_of(picture), fit="stretch")) - means).max() <= 0.51
    pattern = np.indices((640, 640)).sum(0) % 2 * np.uint8(255)
    assert same(seen(Panel(picture=file_of(pattern.astype(np.uint8)))), (127, 127, 127), within=1)


def test_enlarging_moves_nothing() -> None:
    """A ramp stays a ramp: its values say where each pixel was taken from."""
    ramp = np.repeat(np.linspace(0, 252, 64)[None, :, None], 64, 0).repeat(3, 2).round().astype(np.uint8)
    out = seen(Panel(picture=file_of(ramp)), 256, 256).astype(float)
    wanted = ((np.arange(256) + 0.5) / 4 - 0.5) * 4
    assert abs(out[:, 8:-8].mean(axis=(0, 2)) - wanted[8:-8]).max() < 0.6
    assert (out == out[:1]).all()


def test_enlarging_one_side_and_shrinking_the_other() -> None:
    picture = np.zeros((256, 32, 3), np.uint8)
    picture[:128] = RED
    picture[128:, 16:] = GREEN
    out = seen(Panel(picture=file_of(picture), fit="stretch"))
    assert same(out[:31], RED)
    assert same(out[33:, :28], (0, 0, 0))
    assert same(out[33:, 36:], GREEN)


def test_zoom_shows_the_middle_and_smaller_lies_on_the_border_s_colour() -> None:
    picture = np.full((64, 64, 3), BLUE, np.uint8)
    picture[16:48, 16:48] = RED
    twice = Panel(picture=file_of(picture), zoom=2)
    assert same(seen(twice)[4:-4, 4:-4], RED)
    corner = seen(dataclasses.replace(twice, x=1, y=1))
    assert same(corner[:28, :28], BLUE)
    assert same(corner[36:, 36:], RED)
    half = seen(dataclasses.replace(twice, zoom=0.5))
    assert same(half[24:40, 24:40], RED)
    half[24:40, 24:40] = BLUE
    assert same(half, BLUE)


@pytest.mark.parametrize(("width", "height"), [(16384, 1), (1, 16384), (1, 1), (7, 3000)])
def test_pictures_of_any_shape_fit_without_being_made_whole(width: int, height: int) -> None:
    """Covering 2048 px with one line of 16384 x 1 would be a picture of 33 million x 20480 px."""
    panel = Panel(picture=plain(width, height, RED), zoom=10, x=0.7, y=-0.3)
    for fit in ("crop", "stretch"):
        assert same(seen(dataclasses.replace(panel, fit=fit), 512, 2048), RED)
    assert same(seen(dataclasses.replace(panel, fit="pad", zoom=0.1), 512, 2048), RED)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_photograph_is_turned_upright(format: str) -> None:
    upright = Image.new("RGB", (64, 128), RED)
    upright.paste(GREEN, (0, 64, 64, 128))
    out = seen(Panel(picture=lying(upright, format)), 64, 128)
    assert same(out[:60], RED, within=6)
    assert same(out[68:], GREEN, within=6)


def test_what_is_transparent_is_white() -> None:
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[:32] = (*RED, 255)
    picture[32:] = (0, 255, 0, 0)  # the colour under full transparency must not show, not even at the edge
    out = seen(Panel(picture=file_of(picture)), 128, 128)
    assert same(out[:60], RED)
    assert same(out[68:], (255, 255, 255))
    assert (out[60:68, :, 0] >= RED[0] - 10).all()
    picture[32:, :, 3] = 51
    assert same(seen(Panel(picture=file_of(picture)))[32:], (204, 255, 204))
    picture[..., 3] = 255
    assert same(seen(Panel(picture=file_of(picture)))[32:], (0, 255, 0))


def test_a_grey_a_palette_and_a_deep_picture() -> None:
    for image in (Image.new("L", (64, 64), 90), Image.new("P", (64, 64), 0), Image.new("I;16", (64, 64), 90 * 257), Image.new("1", (64, 64), 1)):
        assert seen(Panel(picture=file_of(image))).shape == (64, 64, 3)
    assert same(seen(Panel(picture=file_of(Image.new("I;16", (64, 64), 90 * 257)))), (90, 90, 90), within=1)


def test_panels_without_a_picture_are_grey() -> None:
    for panel in (Panel(), TARGET):
        assert same(seen(panel), GREY)


def test_hidden_pixels_are_grey_to_the_pixel_and_paint_nothing() -> None:
    picture = noise(64, 64)
    out = composed(Project(layout=ONE, width=64, height=64, panels=(Panel(picture=file_of(picture), mask=mask(64, 64, (3, 5, 17, 40))),)))
    assert same(out.panels[0][5:40, 3:17], GREY)
    changed = (out.panels[0] != picture).any(axis=2)
    changed[5:40, 3:17] = False
    assert not changed.any()
    assert not out.target.any()


def test_a_mask_lies_over_the_panel_not_over_the_picture() -> None:
    panel = Panel(picture=plain(500, 20, RED), zoom=3, x=1, mask=mask(64, 64, (0, 0, 32, 64)))
    out = seen(panel)
    assert same(out[:, :32], GREY)
    assert same(out[:, 32:], RED)


@pytest.mark.parametrize(("width", "height"), [(32, 32), (256, 128), (16, 512)])
def test_a_mask_of_any_resolution(width: int, height: int) -> None:
    out = seen(Panel(picture=plain(8, 8), mask=mask(width, height, (0, 0, width // 2, height // 4))))
    hidden = (out == GREY).all(axis=2)
    wanted = np.zeros((64, 64), bool)
    wanted[:16, :32] = True
    inside = abs(np.arange(64) - 31.5) > 64 / min(width, height), abs(np.arange(64) - 15.5) > 64 / min(width, height)
    assert (hidden == wanted)[np.ix_(inside[1], inside[0])].all()
    if width >= 64 <= height:
        assert (hidden == wanted).all()


def rgba(colour: tuple[int, int, int], inside: int, outside: int, under: int = 0) -> bytes:
    picture = np.full((64, 64, 4), under, np.uint8)
    picture[..., 3] = outside
    picture[:8, :8] = (*colour, inside)
    return file_of(picture)


@pytest.mark.parametrize(
    ("data", "cells"),
    [
        (rgba((255, 255, 255), 255, 0), 1),  # white on nothing
        (rgba((255, 255, 255), 255, 0, under=255), 1),  # white on transparent white
        (rgba((255, 255, 255), 255, 255), 1),  # white on black
        (rgba((255, 255, 255), 140, 0), 1),  # more than half opaque
        (rgba((255, 255, 255), 110, 0), 0),
        (rgba((0, 0, 0), 255, 0), 0),  # black is not brushed, opaque or not
        (file_of(Image.new("RGBA", (64, 64), (255, 255, 255, 0))), 0),  # nothing drawn on transparent white
        (file_of(Image.new("RGBA", (64, 64), (0, 0, 0, 0))), 0),
        (file_of(Image.new("RGBA", (64, 64), (255, 255, 255, 255))), 64),
        (file_of(Image.new("1", (64, 64), 1)), 64),
        (file_of(Image.new("LA", (64, 64), (255, 0))), 0),
    ],
)
def test_white_and_opaque_is_brushed(data: bytes, cells: int) -> None:
    found = target(Panel(picture=plain(64, 64), mask=data, mask_use="paint"))
    assert found.sum() == cells
    assert not cells or found[0, 0]


@given(st.integers(0, 63), st.integers(0, 71))
@settings(max_examples=30)
def test_one_brushed_pixel_makes_its_cell_a_target_and_no_other(x: int, y: int) -> None:
    found = target(Panel(picture=plain(8, 8), mask=mask(64, 72, (x, y, x + 1, y + 1)), mask_use="paint"), height=72)
    assert found.shape == (9, 8)
    assert list(zip(*np.nonzero(found), strict=True)) == [(y // 8, x // 8)]


def test_a_stroke_over_a_cell_s_border_takes_both_cells() -> None:
    found = target(Panel(picture=plain(8, 8), mask=mask(64, 64, (7, 8, 9, 16)), mask_use="paint"))
    assert [(int(y), int(x)) for y, x in zip(*np.nonzero(found), strict=True)] == [(1, 0), (1, 1)]


@pytest.mark.parametrize(
    ("panel", "cells"),
    [
        (TARGET, 64),
        (Panel(role="target", picture=plain(8, 8)), 64),
        (Panel(role="target", picture=plain(8, 8), mask=mask(64, 64, (0, 0, 16, 8)), mask_use="paint"), 2),
        (Panel(role="target", picture=plain(8, 8), mask=mask(64, 64), mask_use="paint"), 64),  # without a stroke: no mask
        (Panel(role="target", mask=mask(64, 64, (0, 0, 16, 8)), mask_use="paint"), 64),  # nothing there that could stay
        (Panel(role="target", picture=plain(8, 8), mask=mask(64, 64, (0, 0, 16, 8)), mask_use="hide"), 64),
        (Panel(picture=plain(8, 8), mask=mask(64, 64, (0, 0, 16, 8)), mask_use="paint"), 2),
        (Panel(mask=mask(64, 64, (0, 0, 16, 8)), mask_use="paint"), 2),
        (Panel(picture=plain(8, 8), mask=mask(64, 64, (0, 0, 16, 8)), mask_use="hide"), 0),
        (Panel(picture=plain(8, 8), mask=mask(64, 64), mask_use="paint"), 0),
        (Panel(picture=plain(8, 8)), 0),
    ],
)
def test_what_is_painted(panel: Panel, cells: int) -> None:
    found = target(panel)
    assert found.sum() == cells
    assert found.dtype == bool
    if cells == 2:
        assert found[0, :2].all()


def test_a_painted_part_is_seen_as_it_is() -> None:
    picture = noise(64, 64)
    assert (seen(Panel(picture=file_of(picture), mask=mask(64, 64, (0, 0, 64, 64)), mask_use="paint")) == picture).all()


def six() -> tuple[Project, Composed]:
    panels = [Panel(picture=plain(8, 8, (40 * number, 0, 200))) for number in range(6)]
    panels[4] = TARGET
    panels[2] = dataclasses.replace(panels[2], mask=mask(64, 72, (56, 0, 64, 8)), mask_use="paint")
    project = Project(layout=Layout(2, 3), width=64, height=72, panels=tuple(panels))
    return project, composed(project)


def test_panels_and_target_lie_where_the_layout_says() -> None:
    project, out = six()
    canvas = np.asarray(out.canvas)
    assert (out.canvas.size, out.canvas.mode, canvas.shape) == ((192, 144), "RGB", (144, 192, 3))
    for number in range(6):
        left, top, right, bottom = project.layout.box(number, 64, 72)
        assert same(canvas[top:bottom, left:right], GREY if number == 4 else (40 * number, 0, 200))
    wanted = np.zeros((18, 24), bool)
    wanted[9:, 8:16] = True
    wanted[0, 23] = True
    assert (out.target == wanted).all()


def test_the_preview_is_what_the_model_sees_but_for_the_marks() -> None:
    _, out = six()
    preview, canvas = np.asarray(out.preview()), np.asarray(out.canvas)
    assert preview.shape == canvas.shape
    lines = np.zeros(canvas.shape[:2], bool)
    lines[[71, 72]] = True
    lines[:, [63, 64, 127, 128]] = True
    marked = out.target.repeat(8, 0).repeat(8, 1)
    assert (preview == canvas)[~lines & ~marked].all()
    assert (preview != canvas).any(axis=2)[marked & ~lines].all()
    assert same(preview[71, :63], (0, 0, 0))
    assert same(preview[72, :63], (255, 255, 255))
    stripes = np.unique(preview[80:136, 70:120].reshape(-1, 3), axis=0)
    assert len(stripes) == 2
    assert (np.asarray(out.canvas) == canvas).all()  # drawing a preview changes nothing


def test_it_comes_out_the_same_every_time() -> None:
    panel = Panel(picture=file_of(noise(333, 77)), zoom=1.7, x=0.3, y=-0.8, mask=mask(50, 41, (4, 4, 40, 20)))
    project = dataclasses.replace(blank(Layout(1, 2), 128, 64), panels=(panel, TARGET))
    first, again = composed(project), composed(Project.read(project.written()))
    assert all((a == b).all() for a, b in zip(first.panels, again.panels, strict=True))
    assert (first.target == again.target).all()


def test_a_panel_is_cut_out_of_the_canvas() -> None:
    project, out = six()
    pixels = np.asarray(out.canvas)
    for number in range(6):
        assert (np.asarray(cropped(out.canvas, project, number)) == out.panels[number]).all()
        assert (cropped(pixels, project, number) == out.panels[number]).all()
    twice = out.canvas.resize((384, 288), Image.Resampling.NEAREST)
    assert (np.asarray(cropped(twice, project, 5)) == out.panels[5].repeat(2, 0).repeat(2, 1)).all()
    assert cropped(out.target, project, 4).all()
    cut = cropped(pixels, project, 0)
    cut[:] = 0
    assert same(np.asarray(out.canvas)[:72, :64], (0, 0, 200))


def test_what_can_t_be_cut() -> None:
    project, out = six()
    with pytest.raises(BadSettings, match="2x3 has no panel 7"):
        cropped(out.canvas, project, 6)
    with pytest.raises(BadSettings, match="64 x 72 px and no canvas of 192 x 144 px"):
        cropped(out.panels[0], project, 0)


@pytest.mark.parametrize("name", ["picture", "mask"])
def test_a_picture_that_is_none_is_named(name: str) -> None:
    project = dataclasses.replace(blank(Layout(1, 2), 64, 64), panels=(TARGET, dataclasses.replace(Panel(picture=plain(8, 8)), **{name: b"%PDF-1.4"})))
    with pytest.raises(BadPicture, match=r"^Panel 2: This is a PDF"):
        composed(project)
