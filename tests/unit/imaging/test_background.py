"""Backgrounds are recognised, characters cut out whole, and no fringe stays."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.background import cut_out, find_background, on_background, outside_of_lines

from . import sketches

FACE = sketches.face(300, 300, pen=0.01)
# What an outline encloses: its anti-aliased rim is neither in nor out.
CORE = cv2.erode(FACE.inside.astype(np.uint8), np.ones((5, 5))) > 0
FAR = cv2.dilate(FACE.inside.astype(np.uint8), np.ones((9, 9))) == 0


def on(colour: tuple[int, int, int], drawing: sketches.Drawing = FACE) -> Image.Image:
    dark = np.asarray(drawing.lines, np.float32)[..., None] / 255
    ground = np.where(drawing.inside[..., None], np.asarray(drawing.flat), colour)
    return Image.fromarray(np.rint(ground * dark).astype(np.uint8))


def cut(colour: Image.Image) -> Image.Image:
    picture = colour.convert("RGBA")
    picture.putalpha(Image.fromarray((FACE.inside * 255).astype(np.uint8)))
    return picture


def scene() -> Image.Image:
    y, x = np.mgrid[:300, :300]
    stripes = np.stack([x * 5 % 256, y * 3 % 256, (x + y) * 2 % 256], axis=2)
    return Image.fromarray(np.where(FACE.inside[..., None], np.asarray(FACE.colour), stripes).astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


@pytest.mark.parametrize(
    ("picture", "kind", "colour"),
    [
        (FACE.colour, "white", (255, 255, 255)),
        (on((0, 0, 0)), "black", (0, 0, 0)),
        (on((100, 220, 120)), "plain", (100, 220, 120)),
        (jpeg(on((100, 220, 120)), 70), "plain", (100, 220, 120)),
        (cut(FACE.colour), "transparent", (0, 0, 0)),
    ],
)
def test_backgrounds_are_recognised(picture, kind, colour):
    found = find_background(picture)
    assert found.kind == kind
    assert np.abs(np.subtract(found.colour, colour)).max() <= 3


def test_a_scene_is_left_alone():
    assert find_background(scene()).kind == "scene"
    assert np.asarray(cut_out(scene())).min() == 255
    assert np.array_equal(np.asarray(on_background(scene(), "auto")), np.asarray(scene()))


@pytest.mark.parametrize("picture", [FACE.colour, on((100, 220, 120)), jpeg(FACE.colour, 60), jpeg(on((100, 220, 120)), 70)])
def test_the_character_stays_whole_and_the_ground_goes(picture):
    alpha = np.asarray(cut_out(picture))
    assert alpha[CORE].min() == 255, "the white shirt on white paper stays"
    assert (alpha[FAR] > 0).mean() < 0.001, "but for a blot of JPEG that hangs on the outline"


@pytest.mark.parametrize("broken", [0.006, 0.01])
def test_gaps_in_the_outline_let_nothing_out(broken):
    white_hair = sketches.face(300, 300, pen=0.01, gap=broken).lines.convert("RGB")
    assert (np.asarray(cut_out(white_hair, gap=6))[CORE] == 255).mean() > 0.995


def test_own_transparency_is_the_alpha():
    assert np.array_equal(np.asarray(cut_out(cut(FACE.colour))), FACE.inside * 255)


@pytest.mark.parametrize("ground", [(255, 255, 255), (100, 220, 120), (250, 240, 200)])
def test_no_fringe(ground):
    """What lands on black is what would have been drawn on black: the old ground's colour is nowhere."""
    on_black = np.asarray(on_background(on(ground), "black"), int)
    assert (np.abs(on_black - np.asarray(on((0, 0, 0)), int)).max(axis=2) > 60).mean() < 0.002
    assert on_black[FAR].max() == 0


def test_white_and_back():
    white = np.asarray(on_background(on((100, 220, 120)), "white"), int)
    assert np.abs(white - np.asarray(FACE.colour, int))[CORE | FAR].max() == 0
    assert (np.abs(white - np.asarray(FACE.colour, int)).max(axis=2) > 40).mean() < 0.002


def test_a_segmentation_takes_the_scene_away_without_fringe():
    alpha = Image.fromarray(cv2.GaussianBlur((FACE.inside * 255).astype(np.uint8), (0, 0), 1.5))
    result = np.asarray(on_background(scene(), "auto", alpha), int)
    rim = (np.asarray(alpha) > 5) & (np.asarray(alpha) < 240)
    assert result[FAR].max() == 0
    inside_colours = np.unique(np.asarray(FACE.colour)[FACE.inside], axis=0).astype(int)
    grown = result[rim] / (np.asarray(alpha)[rim, None] / 255)
    distance = np.abs(grown[:, None] - inside_colours[None, ::7]).max(axis=2).min(axis=1)
    assert (distance < 60).mean() > 0.9


def test_keep_keeps():
    assert np.array_equal(np.asarray(on_background(FACE.colour, "keep")), np.asarray(FACE.colour))
    kept = np.asarray(on_background(cut(FACE.colour), "keep"))
    assert kept[~FACE.inside].max() == 0


def test_unknown_words_are_refused():
    with pytest.raises(BadSettings):
        on_background(FACE.colour, "pink")
    with pytest.raises(BadSettings):
        cut_out(FACE.colour, how="magic")


@pytest.mark.parametrize("broken", [0.0, 0.008])
@pytest.mark.parametrize("size", [(300, 300), (200, 600), (512, 512)])
def test_outside_of_lines(size, broken):
    drawing = sketches.face(*size, pen=0.01, gap=broken)
    outside = np.asarray(outside_of_lines(drawing.blueprint, gap=round(0.012 * size[1])))
    core = cv2.erode(drawing.inside.astype(np.uint8), np.ones((7, 7))) > 0
    far = cv2.dilate(drawing.inside.astype(np.uint8), np.ones((11, 11))) == 0
    assert (outside[core] == 0).mean() > 0.998
    assert (outside[far] == 255).mean() > 0.999


def test_outside_of_an_empty_sheet_is_everything():
    assert np.asarray(outside_of_lines(Image.new("L", (40, 30)))).min() == 255


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (17, 5)])
def test_tiny_pictures(size):
    picture = Image.new("RGB", size, "white")
    assert find_background(picture).kind == "white"
    assert on_background(picture, "black").size == cut_out(picture).size == size


def open_bust() -> tuple[Image.Image, np.ndarray]:
    """A white head and neck drawn with black strokes on white; the neck is open below, in the middle of the sheet."""
    sheet = np.full((300, 300), 255, np.uint8)
    cv2.ellipse(sheet, (150, 120), (70, 80), 0, 110, 430, 0, 3)
    cv2.line(sheet, (126, 195), (124, 240), 0, 3)
    cv2.line(sheet, (174, 195), (176, 240), 0, 3)
    head = cv2.ellipse(np.zeros_like(sheet), (150, 120), (60, 70), 0, 0, 360, 1, -1) > 0
    return Image.fromarray(sheet), head


def test_an_open_outline_keeps_the_head():
    sheet, head = open_bust()
    assert (np.asarray(cut_out(sheet.convert("RGB")))[head] == 255).mean() > 0.98
    assert (np.asarray(outside_of_lines(Image.fromarray(255 - np.asarray(sheet))))[head] == 0).mean() > 0.98
    corners = np.asarray(cut_out(sheet.convert("RGB")))[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.max() == 0


def test_a_wide_painting_is_inside_however_open_the_lines_are():
    strokes = Image.new("L", (300, 300))
    strokes.paste(255, (100, 40, 104, 200))
    painting = Image.new("RGB", (300, 300))
    painting.paste((200, 120, 90), (104, 40, 220, 200))
    painting.paste((200, 120, 90), (96, 40, 100, 200))  # spilled over the line
    outside = np.asarray(outside_of_lines(strokes, painting=painting))
    assert np.asarray(outside_of_lines(strokes))[100, 160] == 255
    assert outside[50:190, 110:215].max() == 0
    assert outside[50:190, 95:99].min() == 255
