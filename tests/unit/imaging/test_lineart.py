"""The paper's lines exactly, and a clean blueprint from whatever painters have."""

import io

import numpy as np
import pytest
from PIL import Image

from lib_refonly.errors import BadSettings
from lib_refonly.imaging import lineart
from lib_refonly.imaging.lineart import adaptive_lines, find_blueprint, grey

from . import sketches
from .golden_pack import tensors


@pytest.mark.parametrize(("name", "picture"), [("lineart", "target.png"), ("lineart_odd", "odd.png")])
def test_golden_lines_are_exact(golden, name, picture):
    pack, image = tensors(golden), Image.open(golden / "inputs" / picture).convert("RGB")
    rgb = np.asarray(image)
    assert np.array_equal(grey(rgb), pack[f"{name}.gray"])
    assert np.array_equal(adaptive_lines(rgb), pack[f"{name}.line"])
    assert np.array_equal(np.asarray(find_blueprint(image, lines="colour picture").blueprint), pack[f"{name}.blueprint"])


@pytest.mark.parametrize(("block", "c"), [(3, 2), (5, 7), (11, 0), (51, 64)])
def test_adaptive_rule_without_opencv(block, c):
    rgb = np.random.default_rng(block).integers(0, 256, (60, 41, 3), np.uint8)
    level = grey(rgb).astype(np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(level, block // 2, mode="edge"), (block, block))
    mean = np.floor(windows.sum((2, 3)) / block**2 + 0.5)  # block is odd: never a tie
    assert np.array_equal(adaptive_lines(rgb, block, c), np.where(level - mean > -c, 255, 0))


@pytest.mark.parametrize("block", [1, 4, -3])
def test_an_even_window_is_refused(block):
    with pytest.raises(BadSettings):
        adaptive_lines(np.zeros((8, 8, 3), np.uint8), block)


FACE, THIN = sketches.face(), sketches.face(pen=0.003)
TRUE = np.asarray(FACE.blueprint)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def inverted(image: Image.Image) -> Image.Image:
    return Image.fromarray(255 - np.asarray(image))


@pytest.mark.parametrize("drawing", [FACE, THIN])
def test_clean_line_art_is_used_exactly_as_drawn(drawing):
    for picture, polarity in ((drawing.lines, lineart.DARK), (inverted(drawing.lines), lineart.LIGHT)):
        found = find_blueprint(picture)
        assert (found.kind, found.polarity) == (lineart.LINE_ART, polarity)
        assert np.array_equal(np.asarray(found.blueprint), np.asarray(drawing.blueprint))


def test_strokes_on_nothing():
    for ink, polarity in (((0, 0, 0), lineart.DARK), ((255, 255, 255), lineart.LIGHT)):
        found = find_blueprint(sketches.on_nothing(FACE.lines, ink))
        assert found.polarity == polarity
        assert any("Transparent" in note for note in found.notes)
        assert np.abs(np.asarray(found.blueprint, int) - TRUE).max() <= 1


SCANS = {
    "pencil": sketches.scan(FACE.lines),
    "blue pencil": sketches.scan(FACE.lines, ink=(130, 180, 240)),
    "strong shadow": sketches.scan(FACE.lines, shadow=0.5, noise=8),
    "kraft paper": sketches.scan(FACE.lines, ink=(30, 20, 10)).point(lambda value: value * 0.7),
    "jpeg": jpeg(FACE.lines, 30),
    "white chalk": inverted(sketches.scan(FACE.lines, shadow=0.2)),
}


@pytest.mark.parametrize("name", SCANS)
def test_scans_come_out_clean(name):
    found = find_blueprint(SCANS[name])
    ink = np.asarray(found.blueprint)
    assert found.kind == lineart.LINE_ART
    assert (ink[TRUE == 0] == 0).mean() > 0.985, "paper is exactly black"
    assert (ink[TRUE == 0] > 60).mean() < 0.002, "no specks"
    assert np.median(ink[TRUE == 255]) > 200, "strokes are white"
    assert (ink[TRUE == 255] > 60).mean() > 0.97, "strokes are whole"


def test_faint_thin_pencil_is_found():
    true = np.asarray(THIN.blueprint)
    ink = np.asarray(find_blueprint(sketches.scan(THIN.lines, ink=(120, 120, 122))).blueprint)
    assert (ink[true == 0] == 0).mean() > 0.99
    assert (ink[true > 200] > 60).mean() > 0.9


def test_light_blue_digital_lines_become_full_strokes():
    blue = Image.composite(Image.new("RGB", FACE.lines.size, "white"), Image.new("RGB", FACE.lines.size, (150, 190, 255)), FACE.lines)
    assert np.abs(np.asarray(find_blueprint(blue).blueprint, int) - TRUE).max() <= 3


def test_spotted_blacks_are_still_line_art():
    drawing = FACE.lines.copy()
    drawing.paste(0, (180, 20, 330, 75))
    found = find_blueprint(drawing)
    assert found.kind == lineart.LINE_ART
    assert np.array_equal(np.asarray(found.blueprint), 255 - np.asarray(drawing))


def colour_pictures():
    black = Image.fromarray(np.where(FACE.inside[..., None], np.asarray(FACE.colour), 0).astype(np.uint8))
    rgba = FACE.colour.convert("RGBA")
    rgba.putalpha(Image.fromarray((FACE.inside * 255).astype(np.uint8)))
    grey_fill = Image.fromarray(np.asarray(FACE.colour.convert("L")))
    small = FACE.colour.resize((96, 96), Image.Resampling.BOX)
    return {"white": FACE.colour, "black": black, "transparent": rgba, "grey": grey_fill, "jpeg": jpeg(FACE.colour, 80), "small": small}


@pytest.mark.parametrize("name", colour_pictures())
def test_colour_pictures_are_told_apart(name):
    picture = colour_pictures()[name]
    found = find_blueprint(picture)
    assert (found.kind, found.polarity) == (lineart.COLOUR_PICTURE, lineart.DARK)
    assert set(np.unique(np.asarray(found.blueprint))) == {0, 255}
    if picture.mode == "RGB":
        assert np.array_equal(np.asarray(found.blueprint), 255 - adaptive_lines(np.asarray(picture)))


def test_the_painter_may_decide():
    forced = find_blueprint(FACE.colour, lines="line art", polarity=lineart.DARK)
    assert forced.kind == lineart.LINE_ART
    assert not any("Taken" in note for note in forced.notes)
    light = find_blueprint(inverted(FACE.colour), lines="colour picture", polarity=lineart.LIGHT)
    assert np.array_equal(np.asarray(light.blueprint), 255 - adaptive_lines(np.asarray(FACE.colour)))


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (300, 2), (16, 16)])
@pytest.mark.parametrize("colour", ["white", "black", "red"])
def test_blank_pictures_give_a_note(size, colour):
    found = find_blueprint(Image.new("RGB", size, colour))
    assert found.blueprint.size == size
    assert not np.asarray(found.blueprint).any()
    assert any("Hardly any" in note for note in found.notes)
