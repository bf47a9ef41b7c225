"""Panels of a canvas: numbered row by row, without a gap and without an overlap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_refonly.errors import BadSettings
from lib_refonly.onepic.layout import STANDARD, Layout

LAYOUTS = [Layout(rows, columns) for rows in range(1, 5) for columns in range(1, 5) if rows * columns <= 9]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@settings(max_examples=20)
@given(width=st.integers(1, 40), height=st.integers(1, 40))
def test_the_boxes_tile_the_canvas_in_order(layout: Layout, width: int, height: int) -> None:
    whole_width, whole_height = layout.size(width, height)
    owner = np.full((whole_height, whole_width), -1)
    for number in range(layout.panels):
        left, top, right, bottom = layout.box(number, width, height)
        assert (right - left, bottom - top) == (width, height)
        assert (owner[top:bottom, left:right] == -1).all()
        owner[top:bottom, left:right] = number
    assert (owner >= 0).all()
    assert list(dict.fromkeys(owner.ravel())) == list(range(layout.panels))


def test_a_name_is_rows_by_columns() -> None:
    assert Layout.named("1x3") == Layout(rows=1, columns=3)
    assert Layout(1, 3).size(384, 512) == (1152, 512)
    assert Layout(1, 3).box(2, 384, 512) == (768, 0, 1152, 512)
    assert Layout(2, 2).place(1) == (0, 1)
    assert Layout(3, 2).box(3, 10, 20) == (10, 20, 20, 40)
    assert [Layout.named(layout.name) for layout in LAYOUTS] == LAYOUTS
    assert STANDARD == ("1x2", "2x1", "2x2", "1x3", "3x1")
    assert {Layout.named(name) for name in STANDARD} < set(LAYOUTS)


def test_the_middle_and_the_neighbours() -> None:
    assert {layout.name: layout.middle for layout in LAYOUTS if layout.middle is not None} == {"1x3": 1, "3x1": 1, "3x3": 4}
    assert Layout(3, 3).beside(4) == (1, 3, 5, 7)
    assert Layout(2, 2).beside(3) == (1, 2)
    assert Layout(2, 3).beside(2) == (1, 5)
    assert Layout(1, 1).beside(0) == ()


@pytest.mark.parametrize("name", ["", "2", "2x", "0x2", "5x1", "1x5", "3x4", "4x4", "2X2", " 2x2", "2x2\n", "2x2x2", "-1x2", "02x1", "٢x٢"])
def test_names_that_are_no_layout(name: str) -> None:
    with pytest.raises(BadSettings, match=r"no layout\. Write rows x columns|9 panels at most"):
        Layout.named(name)


@pytest.mark.parametrize("sides", [(0, 1), (1, 5), (3, 4), (-1, -1), (2.0, 2), (True, 2), ("2", 2), (None, 1)])
def test_sides_that_are_no_layout(sides: tuple[int, int]) -> None:
    with pytest.raises(BadSettings, match="9 panels at most"):
        Layout(*sides)


@pytest.mark.parametrize("number", [-1, 4, 100])
def test_a_panel_that_is_not_there(number: int) -> None:
    with pytest.raises(BadSettings, match=f"2x2 has no panel {number + 1}"):
        Layout(2, 2).place(number)
    with pytest.raises(BadSettings, match="no panel"):
        Layout(2, 2).box(number, 64, 64)
