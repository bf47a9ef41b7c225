"""SVG to arrays, and line art from shapes. These need no node."""

from __future__ import annotations

import numpy as np
import pytest

from lib_refonly.training.drawings.lines import is_ink, line_drawing
from lib_refonly.training.drawings.render import rasterise, render, threshold_lines

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100" fill="none">'
OUTLINED = HEAD + '<circle cx="50" cy="50" r="30" fill="#000"/><circle cx="50" cy="50" r="26" fill="#cc3300"/></svg>'
FLAT = HEAD + (
    '<rect x="20" y="20" width="60" height="60" fill="#3355cc"/><rect x="40" y="40" width="20" height="20" fill="#3355cd"/>'
    '<rect x="20" y="20" width="60" height="10" fill="#000" fill-opacity="0.2"/></svg>'
)


def test_outlined_drawing() -> None:
    drawing = render(OUTLINED, "adventurer", 100)
    assert drawing.picture.shape == (100, 100, 3)
    assert drawing.alpha.shape == drawing.blueprint.shape == (100, 100)
    assert tuple(drawing.picture[50, 50]) == (0xCC, 0x33, 0)
    assert drawing.blueprint[50, 50] == 0  # paint
    assert drawing.blueprint[50, 22] == 255  # the outline
    assert drawing.blueprint[5, 5] == 0
    assert drawing.alpha[5, 5] == 0
    assert not drawing.picture[5, 5].any()
    assert drawing.alpha[50, 50] == 255


def test_flat_drawing_has_the_edges_of_its_shapes_whatever_their_colour() -> None:
    lines = render(FLAT, "dylan", 256).blueprint
    assert lines[128, 50:53].max() > 200  # the outer edge
    assert lines[128, 101:104].max() > 200  # the edge between two nearly equal blues
    assert lines[76:78, 128].max() == 0  # the edge of the translucent shading is not drawn
    assert lines[128, 128] == 0
    assert lines[5, 5] == 0


def test_an_outlined_style_gets_no_extra_edges() -> None:
    assert not render(FLAT, "micah", 64).blueprint.any()


def test_strokes_become_lines() -> None:
    stroked = HEAD + '<path d="M10 50H90" stroke="#f24e1e" stroke-width="4"/></svg>'
    assert render(stroked, "croodles", 100).blueprint[50, 50] == 255


def test_masks_are_left_alone() -> None:
    mask = '<mask id="m"><rect width="50" height="100" fill="#fff"/></mask>'
    masked = HEAD + mask + '<g mask="url(#m)"><rect width="100" height="100" fill="#000"/></g></svg>'
    lines = render(masked, "micah", 100).blueprint
    assert lines[50, 25] == 255
    assert lines[50, 75] == 0


def test_the_artists_own_lines_are_preferred() -> None:
    own = HEAD + '<path d="M10 50H90" stroke="#000" stroke-width="4"/></svg>'
    drawing = render(OUTLINED, "openmoji", 100, own)
    assert drawing.blueprint[50, 50] == 255
    assert drawing.blueprint[22, 50] == 0


def test_threshold_lines_follow_edges() -> None:
    for size in (512, 256, 128):
        lines = threshold_lines(FLAT, size)
        edge = size // 5
        assert lines[size // 2, edge - 2 : edge + 3].max() > 240  # as bright at every size
        assert lines[size // 2, size * 3 // 10] == 0
        assert lines[5, 5] == 0


def test_soft_edges_are_mixed_with_black() -> None:
    half = HEAD + '<rect width="100" height="100" fill="#fff" fill-opacity="0.5"/></svg>'
    drawing = render(half, "noto", 16)
    assert np.all(np.abs(drawing.picture.astype(int) - 128) <= 1)
    assert np.all(np.abs(drawing.alpha.astype(int) - 128) <= 1)


def test_a_wide_drawing_is_centred() -> None:
    wide = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 100"><rect width="200" height="100" fill="red"/></svg>'
    pixels = rasterise(wide, 64)
    assert pixels.shape == (64, 64, 4)
    assert pixels[32, 32, 3] == 255
    assert pixels[4, 32, 3] == 0


@pytest.mark.parametrize(
    ("colour", "ink"), [("#000", True), ("black", True), ("#231F20", True), ("#303030", False), ("#fff", False), ("red", False), ("url(#a)", False)]
)
def test_is_ink(colour: str, ink: bool) -> None:
    assert is_ink(colour) is ink


def test_line_drawing_keeps_the_size() -> None:
    assert 'viewBox="0 0 100 100"' in line_drawing(FLAT, outline=True)


def test_broken_svg_is_an_error() -> None:
    with pytest.raises(ValueError, match="root node"):
        render("<svg", "noto", 16)
