"""Lines back on top, flats without spill, and the colours as a layer without lines."""

import cv2
import numpy as np
import pytest
from PIL import Image

from lib_refonly.imaging.background import outside_of_lines
from lib_refonly.imaging.layers import colour_layer, even_regions, lines_on_top

from . import sketches

FACE = sketches.face(256, 256, pen=0.012)
BLUEPRINT = FACE.blueprint
INK = np.asarray(BLUEPRINT)
CLEAN = 20 + 0.85 * np.where(FACE.inside[..., None], np.asarray(FACE.flat, np.float32), 0)  # room for noise on both sides
FREE = cv2.dilate(INK, np.ones((3, 3))) < 20


def painted(noise: float = 6.0, shift: int = 2, seed: int = 0) -> Image.Image:
    """What a small model paints: colours a little beside their lines, blotches, soft dark lines."""
    rng = np.random.default_rng(seed)
    rgb = cv2.warpAffine(CLEAN.astype(np.float32), np.array([[1, 0, -shift], [0, 1, shift]], np.float32), (256, 256), borderMode=cv2.BORDER_REPLICATE)
    blotch = cv2.GaussianBlur(rng.standard_normal(rgb.shape).astype(np.float32), (0, 0), 3)
    rgb += noise * blotch / blotch.std()
    line = np.clip(1.4 * cv2.GaussianBlur(INK, (0, 0), 1.2).astype(np.float32) / 255, 0, 1)[..., None]
    return Image.fromarray((rgb * (1 - line)).clip(0, 255).astype(np.uint8))


def off(image: Image.Image, where: np.ndarray) -> float:
    return float(np.abs(np.asarray(image.convert("RGB"), float) - CLEAN).mean(axis=2)[where].mean())


def test_lines_multiply_and_screen():
    plain = Image.new("RGB", BLUEPRINT.size, (200, 100, 50))
    dark, light = np.asarray(lines_on_top(plain, BLUEPRINT)), np.asarray(lines_on_top(plain, BLUEPRINT, polarity="light on dark"))
    assert (dark[INK == 255] == 0).all()
    assert (light[INK == 255] == 255).all()
    assert (dark[INK == 0] == (200, 100, 50)).all()
    assert (light[INK == 0] == (200, 100, 50)).all()
    half = np.asarray(lines_on_top(plain, BLUEPRINT, 0.5))
    assert (half[INK == 255] == (100, 50, 25)).all()
    assert np.array_equal(np.asarray(lines_on_top(plain, BLUEPRINT, 0)), np.asarray(plain))


def test_even_regions_cleans_spill_and_blotches():
    before = painted()
    after = even_regions(before, BLUEPRINT)
    beside = FREE & (cv2.dilate(INK, np.ones((9, 9))) > 0)
    assert off(after, FREE) < 0.55 * off(before, FREE)
    assert off(after, beside) < 0.55 * off(before, beside)


def test_even_regions_goes_by_strength():
    before = painted()
    assert np.array_equal(np.asarray(even_regions(before, BLUEPRINT, 0)), np.asarray(before))
    full, half = (np.asarray(even_regions(before, BLUEPRINT, strength), float) for strength in (1.0, 0.5))
    assert np.abs(half - (full + np.asarray(before)) / 2).max() <= 1


def test_edges_are_crisp_under_the_lines():
    """Across the face's outline, colours change only where the line is."""
    after = np.asarray(even_regions(painted(), BLUEPRINT), float)
    row = after[100]
    free = INK[100] < 20
    steps = np.abs(np.diff(row, axis=0)).max(axis=1)
    assert steps[free[1:] & free[:-1]].max() < 12


def test_smooth_shading_stays():
    shade = np.linspace(0.7, 1.0, 256, dtype=np.float32)[None, :, None]
    before = Image.fromarray((CLEAN * shade).astype(np.uint8))
    after = np.asarray(even_regions(before, BLUEPRINT), float)
    assert np.abs(after - CLEAN * shade)[FREE].mean() < 2


def test_a_blush_without_a_line_stays():
    y, x = np.mgrid[:256, :256]
    blush = np.exp(-(((x - 90) / 12) ** 2 + ((y - 140) / 8) ** 2))[..., None]
    before = CLEAN + blush * (np.array((230, 80, 90)) - CLEAN)
    after = np.asarray(even_regions(Image.fromarray(before.astype(np.uint8)), BLUEPRINT), float)
    middle = (y - 140) ** 2 + (x - 90) ** 2 < 9
    assert np.abs(after - before)[middle].mean() < 20
    assert np.abs(after - CLEAN)[middle].mean() > 40


def test_painted_lines_stay_in_even_regions():
    after = np.asarray(even_regions(painted(), BLUEPRINT), float)
    assert after[INK == 255].mean() < 60


def test_the_colour_layer_has_no_lines():
    layer = colour_layer(painted(noise=0, shift=0), BLUEPRINT)
    rgb, alpha = np.asarray(layer.convert("RGB"), float), np.asarray(layer.getchannel("A"))
    core = cv2.erode(FACE.inside.astype(np.uint8), np.ones((7, 7))) > 0
    assert layer.mode == "RGBA"
    assert alpha[core].min() >= 250
    assert alpha[cv2.dilate(FACE.inside.astype(np.uint8), np.ones((9, 9))) == 0].max() == 0
    # Strokes within the skin (mouth, nose) vanish into it; nothing dark is left anywhere.
    mouth = (INK > 200) & core
    mouth[:130] = False
    mouth[170:] = False
    mouth[:, :110] = mouth[:, 146:] = False
    assert mouth.sum() > 20
    assert np.abs(rgb[mouth] - CLEAN[100, 128]).max() < 25
    visible = alpha > 128
    assert (rgb[visible].max(axis=1) < 60).mean() < 0.002


def test_black_around_the_character_does_not_seep_in():
    layer = np.asarray(colour_layer(painted(noise=0, shift=0), BLUEPRINT), float)
    rim = (layer[..., 3] > 0) & (np.asarray(outside_of_lines(BLUEPRINT)) > 0)
    assert rim.any()
    assert layer[..., :3][rim].max(axis=1).min() > 60


def test_a_given_outside_is_used():
    outside = Image.new("L", BLUEPRINT.size, 255)
    assert np.asarray(colour_layer(painted(), BLUEPRINT, outside).getchannel("A")).max() == 0


@pytest.mark.parametrize("ink", [0, 255])
def test_blank_and_full_blueprints(ink):
    before = painted()
    sheet = Image.new("L", before.size, ink)
    assert even_regions(before, sheet).size == before.size
    assert colour_layer(before, sheet).mode == "RGBA"


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="differ in size"):
        lines_on_top(Image.new("RGB", (8, 8)), Image.new("L", (9, 8)))


def test_solid_blacks_stay_in_the_colour_layer():
    drawing = BLUEPRINT.copy()
    drawing.paste(255, (100, 30, 156, 55))  # a black lock in the hair
    painting = painted(noise=0, shift=0)
    painting.paste((5, 5, 8), (100, 30, 156, 55))
    layer = np.asarray(colour_layer(painting, drawing), int)
    assert layer[35:50, 106:150, :3].max() < 30
    assert layer[35:50, 106:150, 3].min() == 255
