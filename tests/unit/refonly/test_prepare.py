"""From the painter's pictures to what the model sees."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.fit import Letterbox
from lib_refonly.refonly.prepare import keep_thin_lines, prepare_lines, prepare_mask, prepare_reference
from lib_refonly.refonly.settings import RefOnlySettings
from tests.unit.refonly.painting import colours, drawing

SIZES = [(333, 517), (40, 900), (900, 40), (128, 128), (64, 50), (3, 700)]


@pytest.mark.parametrize("wanted", [0, 192])
@pytest.mark.parametrize("size", SIZES)
def test_the_canvas(size: tuple[int, int], wanted: int) -> None:
    ready = prepare_lines(drawing(size), RefOnlySettings(size=wanted), 128)
    assert ready.full.size == size
    assert ready.canvas.mode == ready.full.mode == "L"
    assert max(ready.canvas.size) == (wanted or 128)
    assert not any(side % 8 for side in ready.canvas.size)
    width, height = ready.box.inner
    assert abs(width / height - size[0] / size[1]) * min(width, height) <= 1 + size[0] / size[1]


def test_lines_are_white_on_black_whatever_the_drawing() -> None:
    dark = drawing((256, 256))
    light = Image.fromarray(255 - np.asarray(dark))
    first, second = (prepare_lines(picture, RefOnlySettings(), 128) for picture in (dark, light))
    assert (first.polarity, second.polarity) == ("dark on light", "light on dark")
    assert np.array_equal(np.asarray(first.canvas), np.asarray(second.canvas))
    assert np.median(np.asarray(first.canvas)) == 0
    assert np.asarray(first.canvas).max() > 200
    assert any("light on a dark ground" in note for note in second.notes)


def test_thin_lines_of_a_large_scan_are_still_seen() -> None:
    thin = Image.new("RGB", (2048, 2048), "white")
    ImageDraw.Draw(thin).rectangle((300, 300, 1700, 1700), outline="black", width=2)
    assert np.asarray(prepare_lines(thin, RefOnlySettings(), 128).canvas).max() > 120


def test_lines_that_are_not_reduced_stay_as_they_are() -> None:
    blueprint = drawing((128, 128)).convert("L")
    assert keep_thin_lines(blueprint, Letterbox.of(blueprint.size, 128)) is blueprint


def test_a_size_that_is_no_size() -> None:
    with pytest.raises(BadSettings, match="too small to paint at"):
        RefOnlySettings(size=8)


def on(ground: tuple[int, ...] | str, mode: str = "RGB") -> Image.Image:
    picture = Image.new(mode, (80, 80), ground)
    ImageDraw.Draw(picture).ellipse((20, 15, 60, 70), fill=(200, 60, 40), outline="black", width=3)
    return picture


@pytest.mark.parametrize(
    ("picture", "said"),
    [(on("white"), "on a white ground"), (on("black"), "on a black ground"), (on((90, 160, 210)), "on a plain ground"), (on((0, 0, 0, 0), "RGBA"), "without")],
    ids=["white", "black", "plain", "transparent"],
)
@pytest.mark.parametrize(("setting", "corner"), [("auto", 0), ("black", 0), ("white", 255)])
def test_the_ground_is_exchanged(picture: Image.Image, said: str, setting: str, corner: int) -> None:
    ready, note = prepare_reference(picture, RefOnlySettings(background=setting))
    assert (ready.mode, ready.size) == ("RGB", (80, 80))
    assert ready.getpixel((0, 0)) == (corner,) * 3
    assert ready.getpixel((40, 40)) == (200, 60, 40)
    assert said in note
    assert note.endswith("white." if corner else "black.")


def test_keep_leaves_the_ground_alone() -> None:
    ready, note = prepare_reference(on("white"), RefOnlySettings(background="keep"))
    assert ready.getpixel((0, 0)) == (255, 255, 255)
    assert "left as it is" in note


def test_a_scene_is_left_alone_and_says_so() -> None:
    scene = colours(3, (80, 80))
    ready, note = prepare_reference(scene, RefOnlySettings())
    assert np.array_equal(np.asarray(ready), np.asarray(scene))
    assert "install the segmentation model" in note


@pytest.mark.parametrize("size", [(333, 517), (40, 900), (128, 128)])
def test_a_mask_goes_on_beside_the_drawing(size: tuple[int, int]) -> None:
    box = Letterbox.of(size, 128)
    white = prepare_mask(Image.new("L", size, 255), box)
    assert (white.size, white.mode) == (box.canvas, "L")
    assert np.asarray(white).min() == 255
    lower = Image.new("1", (10, 10))
    lower.paste(1, (0, 5, 10, 10))
    levels = np.asarray(prepare_mask(lower, box))
    assert levels[: levels.shape[0] // 2 - 16].max(initial=0) == 0
    assert levels[levels.shape[0] // 2 + 16 :].min() == 255
