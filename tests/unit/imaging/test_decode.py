"""Every kind of picture file comes out as upright 8-bit RGB or RGBA; everything else is refused with a sentence."""

import base64
import io
import os

import numpy as np
import pytest
from PIL import Image, ImageCms

from lib_refonly.errors import BadPicture
from lib_refonly.imaging.decode import FORMATS, Limits, decode_base64, open_picture

RGB = np.dstack([np.tile(np.arange(0, 250, 10, dtype=np.uint8), (20, 1))] * 3)
RGB[:10, :, 1] = 40
PICTURE = Image.fromarray(RGB)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_opens(kind):
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind in ("JPEG", "AVIF") else {}
    opened = open_picture(encoded(PICTURE, kind, **options))
    assert opened.mode == "RGB"
    assert opened.size == PICTURE.size
    assert np.abs(np.asarray(opened, int) - RGB).mean() < 6


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "RGB"])
def test_png_modes_keep_their_look(mode):
    source = PICTURE.convert(mode)
    assert np.array_equal(np.asarray(open_picture(encoded(source))), np.asarray(source.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind):
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    opened = np.asarray(open_picture(encoded(Image.fromarray(deep), kind)))
    assert np.array_equal(opened[..., 0], np.rint(deep / 257).astype(np.uint8))


@pytest.mark.parametrize(("scale", "kind"), [(1.0, np.float32), (255.0, np.float32), (65535.0, np.float32), (65535, np.int32), (2**31 - 1, np.int32)])
def test_float_and_32_bit_tiff(scale, kind):
    ramp = np.linspace(0, 1, 256).reshape(16, 16)
    opened = np.asarray(open_picture(encoded(Image.fromarray((ramp * scale).astype(kind)), "TIFF")))[..., 0]
    assert np.abs(opened - ramp * 255).max() <= 1


def test_float_tiff_with_nan_opens():
    values = np.full((4, 4), 0.5, np.float32)
    values[0, 0], values[1, 1] = np.nan, np.inf
    opened = np.asarray(open_picture(encoded(Image.fromarray(values), "TIFF")))[..., 0]
    assert opened[0, 0] == 0
    assert opened[2, 2] == 128


def test_cmyk_jpeg_has_its_colours():
    opened = open_picture(encoded(Image.new("RGB", (32, 32), (200, 40, 60)).convert("CMYK"), "JPEG", quality=95))
    assert opened.mode == "RGB"
    assert np.abs(np.asarray(opened, int) - (200, 40, 60)).max() < 8


def test_lab_tiff_becomes_rgb():
    lab = Image.merge("LAB", [Image.new("L", (8, 8), value) for value in (136, 128, 128)])  # L 53, a 0, b 0: middle grey
    opened = np.asarray(open_picture(encoded(lab, "TIFF")), int)
    assert np.abs(opened - 127).max() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_it_upright(orientation):
    marked = Image.new("RGB", (40, 20), "white")
    marked.paste("red", (0, 0, 10, 10))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose that a camera's orientation has to be stored with
    stored = marked if orientation == 1 else marked.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = open_picture(encoded(stored, "PNG", exif=exif.tobytes()))
    assert np.array_equal(np.asarray(opened), np.asarray(marked))
    assert not opened.getexif()


def test_broken_exif_is_no_reason_to_refuse():
    assert open_picture(encoded(PICTURE, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01")).size == PICTURE.size


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(kind):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    opened = open_picture(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert opened.getpixel((8, 8)) == (255, 0, 0)


def test_transparency_is_kept_only_if_it_says_something():
    solid, shaped = PICTURE.convert("RGBA"), PICTURE.convert("RGBA")
    shaped.putpixel((0, 0), (1, 2, 3, 0))
    assert open_picture(encoded(solid)).mode == "RGB"
    assert open_picture(encoded(shaped)).mode == "RGBA"
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([255, 255, 255, 0, 0, 0])
    palette.putpixel((1, 1), 1)
    assert open_picture(encoded(palette, transparency=0)).getchannel("A").getextrema() == (0, 255)


def test_a_colour_profile_is_converted_to_srgb():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Another profile: sRGB under a different name, whose red and green primaries have changed places.
    swapped = srgb.replace("sRGB".encode("utf-16-be"), "grRB".encode("utf-16-be"))
    swapped = swapped.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    for mode in ("RGB", "RGBA"):
        picture = PICTURE.convert(mode)
        if mode == "RGBA":
            picture.putpixel((0, 0), (0, 0, 0, 0))
        opened = np.asarray(open_picture(encoded(picture, icc_profile=swapped)), int)
        assert np.abs(opened[1:, :, :3] - RGB[1:, :, [1, 0, 2]]).max() <= 2
        assert opened.shape[2] == len(mode)
    for harmless in (srgb, b"nonsense", swapped[:200]):
        assert np.array_equal(np.asarray(open_picture(encoded(PICTURE, icc_profile=harmless))), RGB)


def test_nothing_of_the_file_stays_attached():
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("parameters", "secret")
    assert open_picture(encoded(PICTURE, pnginfo=info)).info == {}


@pytest.mark.parametrize("name", ["with space.png", "ünïcode 漢字.png", "-leading.png", "data.txt"])
def test_paths_of_any_name(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(encoded(PICTURE))
    assert open_picture(path).size == open_picture(str(path)).size == PICTURE.size
    with path.open("rb") as file:
        assert open_picture(file).size == PICTURE.size


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9])
def test_truncated(kind, share):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    data = encoded(noise, kind)
    with pytest.raises(BadPicture):
        open_picture(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"hello, this is text", "no picture"),
        (b"<?xml version='1.0'?>\n<!-- made by x -->\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"%PDF-1.7\n", "PDF"),
        (b"8BPS\0\1", "Photoshop"),
        (b"PK\x03\x04krita", "zip"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no picture"),
    ],
)
def test_what_is_no_picture_is_named(data, says):
    with pytest.raises(BadPicture, match=says):
        open_picture(data)


def test_missing_file_folder_and_odd_arguments(tmp_path):
    for source, says in ((tmp_path / "none.png", "no file"), (tmp_path, "folder"), (io.StringIO("text"), "text"), (None, "NoneType"), ("a\0b", "cannot")):
        with pytest.raises(BadPicture, match=says):
            open_picture(source)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path):
    path = tmp_path / "locked.png"
    path.write_bytes(encoded(PICTURE))
    path.chmod(0)
    with pytest.raises(BadPicture, match="permissions"):
        open_picture(path)


def test_limits_are_the_callers():
    data = encoded(PICTURE)
    for limits, says in ((Limits(bytes=10), "larger"), (Limits(side=24), "24"), (Limits(pixels=499), "million")):
        with pytest.raises(BadPicture, match=says):
            open_picture(data, limits=limits)
    assert open_picture(data, limits=Limits(bytes=len(data), side=25, pixels=500)).size == (25, 20)


def test_base64_and_data_urls():
    text = base64.b64encode(encoded(PICTURE)).decode()
    for form in (text, f"data:image/png;base64,{text}", f"  {text[:40]}\n{text[40:]}  ", text.replace("+", "-").replace("/", "_")):
        assert decode_base64(form).size == PICTURE.size
