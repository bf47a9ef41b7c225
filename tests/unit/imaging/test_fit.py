"""Letterboxing goes there and back without moving anything; the released sizing is exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.fit import Letterbox, multiples_of_8

from .golden_pack import tensors

SIDES = st.integers(1, 5000)


@given(SIDES, SIDES, st.integers(1, 2048), st.sampled_from([1, 8, 64]))
def test_geometry(width, height, longer, multiple):
    box = Letterbox.of((width, height), longer, multiple)
    assert max(box.inner) == longer
    assert min(box.inner) >= 1
    for canvas, inner, offset in zip(box.canvas, box.inner, box.offset, strict=True):
        assert canvas % multiple == 0
        assert 0 <= canvas - inner < multiple
        assert offset >= 0
        assert offset + inner <= canvas


@pytest.mark.parametrize("size", [(100, 37), (511, 300), (1000, 250), (64, 64)])
@pytest.mark.parametrize("longer", [256, 250])
def test_a_gradient_comes_back_where_it_was(size, longer):
    x, y = np.meshgrid(np.linspace(20, 230, size[0]), np.linspace(20, 230, size[1]))
    gradient = np.dstack([x, y, x / 2 + y / 2]).round().astype(np.uint8)
    box = Letterbox.of(size, longer)
    back = np.asarray(box.undo(box.apply(Image.fromarray(gradient), (0, 0, 0))), int)
    middle = (slice(size[1] // 8, -(size[1] // 8)), slice(size[0] // 8, -(size[0] // 8)))
    difference = (back - gradient)[middle]
    # A shift of half a pixel of the smaller picture would be a constant difference of up to 210 / 64 / 2 levels.
    assert abs(difference.mean()) < 0.15
    assert np.abs(difference).max() <= 2


@pytest.mark.parametrize("longer", [300, 512, 1024])
def test_dots_come_back_where_they_were(longer):
    dots = np.zeros((180, 420), np.float32)
    y, x = np.mgrid[:180, :420]
    centres = [(30.0 + 40 * row, 35.0 + 50 * column) for row in range(4) for column in range(8)]
    for cy, cx in centres:
        dots += 250 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 18)
    box = Letterbox.of((420, 180), longer)
    back = np.asarray(box.undo(box.apply(Image.fromarray(dots.clip(0, 255).astype(np.uint8)))), float)
    for cy, cx in centres:
        spot = (slice(int(cy) - 12, int(cy) + 13), slice(int(cx) - 12, int(cx) + 13))
        weight = back[spot]
        assert abs((weight * y[spot]).sum() / weight.sum() - cy) < 0.03
        assert abs((weight * x[spot]).sum() / weight.sum() - cx) < 0.03


def test_padding_is_the_fill_and_nothing_when_it_fits():
    picture = Image.new("RGB", (100, 50), "red")
    canvas = np.asarray(Letterbox.of((100, 50), 100).apply(picture, (1, 2, 3)))
    assert canvas.shape == (56, 104, 3)
    assert (canvas[:3] == (1, 2, 3)).all()
    assert (canvas[3:53, 2:102] == (255, 0, 0)).all()
    assert (canvas[53:] == (1, 2, 3)).all()
    assert np.array_equal(np.asarray(Letterbox.of((64, 32), 64).apply(picture.resize((64, 32)))), np.asarray(picture.resize((64, 32))))


def test_undo_takes_a_canvas_at_another_scale():
    box = Letterbox.of((100, 60), 50)
    preview = box.apply(Image.new("RGB", (100, 60), "lime")).resize([side // 4 for side in box.canvas], Image.Resampling.BOX)
    assert box.undo(preview).size == (100, 60)


def test_impossible_sizes_are_refused():
    with pytest.raises(BadSettings):
        Letterbox.of((0, 10), 64)


def test_released_sizing_is_exact(golden):
    picture = multiples_of_8(Image.open(golden / "inputs" / "blueprint_odd.png").convert("RGB"))
    wanted = tensors(golden)["blueprint_odd.tensor"][0].transpose(1, 2, 0)
    assert np.array_equal(np.asarray(picture, np.float32) / 255, wanted)


def test_tiny_pictures_get_eight_pixels():
    assert multiples_of_8(Image.new("L", (3, 17))).size == (8, 16)
