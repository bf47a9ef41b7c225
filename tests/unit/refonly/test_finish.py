"""From a painting to what the painter takes away. The painting is made up: red inside, black outside, as the models paint."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lib_refonly.refonly.finish import finish
from lib_refonly.refonly.prepare import PreparedLines, prepare_lines
from lib_refonly.refonly.settings import RefOnlySettings

RED = (200, 40, 30)
SIZE = (120, 160)
INSIDE, OUTSIDE, LINE = (60, 80), (2, 2), (60, 17)


def drawn(light: bool = False, size: tuple[int, int] = SIZE) -> PreparedLines:
    picture = Image.new("RGB", size, "black" if light else "white")
    width, height = size
    ImageDraw.Draw(picture).ellipse((width / 12, height / 10, width * 11 / 12, height * 9 / 10), outline="white" if light else "black", width=3)
    return prepare_lines(picture, RefOnlySettings(), 128)


def painted(lines: PreparedLines) -> Image.Image:
    """On the canvas, and without the lines."""
    picture = Image.new("RGB", lines.full.size)
    width, height = lines.full.size
    ImageDraw.Draw(picture).ellipse((width / 12, height / 10, width * 11 / 12, height * 9 / 10), fill=RED)
    return lines.box.apply(picture)


def near(pixel: object, colour: tuple[int, ...], by: int = 12) -> bool:
    return bool(np.abs(np.subtract(np.asarray(pixel), colour)).max() <= by)


@pytest.mark.parametrize("lines_back", [0.0, 1.0])
@pytest.mark.parametrize(("paper", "ground"), [("white", (255,) * 3), ("black", (0,) * 3), ("as painted", (0,) * 3)])
def test_papers(paper: str, ground: tuple[int, ...], lines_back: float) -> None:
    lines = drawn()
    picture, _, _ = finish(painted(lines), lines, RefOnlySettings(paper=paper, lines_back=lines_back))
    assert (picture.mode, picture.size) == ("RGB", SIZE)
    assert near(picture.getpixel(OUTSIDE), ground, 3)
    assert near(picture.getpixel(INSIDE), RED)
    assert near(picture.getpixel(LINE), (0, 0, 0), 30) == (lines_back == 1)


@pytest.mark.parametrize("lines_back", [0.0, 0.5, 1.0])
def test_transparent_paper(lines_back: float) -> None:
    lines = drawn()
    picture, _, _ = finish(painted(lines), lines, RefOnlySettings(paper="transparent", lines_back=lines_back))
    assert (picture.mode, picture.size) == ("RGBA", SIZE)
    alpha = np.asarray(picture.getchannel("A"))
    assert alpha[OUTSIDE[1], OUTSIDE[0]] == 0
    assert alpha[INSIDE[1], INSIDE[0]] == alpha[LINE[1], LINE[0]] == 255
    assert near(picture.getpixel(INSIDE)[:3], RED)  # type: ignore[index]


def test_as_painted_without_lines_is_the_painting() -> None:
    lines = drawn()
    picture, own, _ = finish(painted(lines), lines, RefOnlySettings(paper="as painted", lines_back=0.0))
    assert np.array_equal(np.asarray(picture), np.asarray(own))
    assert np.array_equal(np.asarray(own), np.asarray(lines.box.undo(painted(lines))))


def test_light_lines_lighten() -> None:
    lines = drawn(light=True)
    picture, _, _ = finish(painted(lines), lines, RefOnlySettings(paper="black"))
    assert near(picture.getpixel(LINE), (255,) * 3, 30)
    assert near(picture.getpixel(INSIDE), RED)


@pytest.mark.parametrize("paper", ["white", "black", "transparent", "as painted"])
def test_the_colour_layer_has_colours_and_no_lines(paper: str) -> None:
    lines = drawn()
    with_lines = painted(lines)
    with_lines.paste((0, 0, 0), mask=lines.canvas)
    _, _, layer = finish(with_lines, lines, RefOnlySettings(paper=paper))
    assert (layer.mode, layer.size) == ("RGBA", SIZE)
    pixels = np.asarray(layer)
    assert pixels[OUTSIDE[1], OUTSIDE[0], 3] == 0
    shown = pixels[pixels[..., 3] > 250][:, :3]
    assert near(np.percentile(shown, 1, axis=0), RED, 30), "no dark line left in it"


def test_flats_even_out() -> None:
    lines = drawn()
    noisy = np.asarray(painted(lines)).astype(np.int32) + np.random.default_rng(0).integers(-30, 30, (*lines.canvas.size[::-1], 3))
    rough, even = (
        finish(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), lines, RefOnlySettings(paper="as painted", lines_back=0.0, flats=flats))[0]
        for flats in (0.0, 1.0)
    )
    box = (INSIDE[0] - 20, INSIDE[1] - 20, INSIDE[0] + 20, INSIDE[1] + 20)
    assert np.asarray(even.crop(box)).std(axis=(0, 1)).max() < 0.3 * np.asarray(rough.crop(box)).std(axis=(0, 1)).min()


@pytest.mark.parametrize("paper", ["white", "transparent"])
@pytest.mark.parametrize("size", [(333, 517), (40, 900), (900, 40), (7, 300), (1, 1)])
def test_results_have_the_drawings_own_size(size: tuple[int, int], paper: str) -> None:
    lines = drawn(size=size)
    assert [one.size for one in finish(painted(lines), lines, RefOnlySettings(paper=paper, flats=1.0))] == [size] * 3
