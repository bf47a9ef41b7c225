"""Hostile pictures: bombs, headers that lie, paths and addresses in place of pictures, pipes and devices, mutated files."""

import base64
import contextlib
import io
import os
import random
import socket
import struct
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lib_refonly.errors import BadPicture
from lib_refonly.imaging import decode
from lib_refonly.imaging.decode import FORMATS, decode_base64, open_picture
from lib_refonly.imaging.infotext import read_png_infotext


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, pixels: bytes, *between: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(between) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.fixture
def no_decoding(monkeypatch):
    """Fails the test when pixels are decoded: the header alone has to be enough to refuse."""

    def load(_self: object) -> None:
        pytest.fail("decoded before it was refused")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize("size", [(20_000, 10), (10, 20_000), (16_000, 16_000), (2**31 - 1, 2**31 - 1), (9_000, 8_000)])
def test_too_large_is_refused_by_the_header(size):
    began = time.monotonic()
    with pytest.raises(BadPicture, match="pixels"):
        open_picture(png(*size, zlib.compress(b"\0" * 1000)))
    assert time.monotonic() - began < 1


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "JPEG", "WEBP"])
def test_real_files_of_20000_px(kind):
    side = 16_383 if kind == "WEBP" else 20_000
    limits = decode.Limits(side=16_000)
    with pytest.raises(BadPicture, match="pixels"):
        open_picture(encoded(Image.new("L", (side, 4)), kind), limits=limits)


def test_a_webp_canvas_is_checked_before_pillow_reserves_it(monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *_a, **_k: pytest.fail("opened"))
    header = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + (60_000).to_bytes(3, "little") + (60_000).to_bytes(3, "little")
    with pytest.raises(BadPicture, match="60001"):
        open_picture(b"RIFF" + struct.pack("<I", len(header) + 4) + b"WEBP" + header)


def test_pixels_that_inflate_for_ever_stop_at_the_picture():
    endless = zlib.compress(b"\0" * 50_000_000, 1)
    began = time.monotonic()
    assert open_picture(png(10, 10, endless)).size == (10, 10)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iCCP"])
def test_text_bombs(name):
    body = zlib.compress(b"x" * 8_000_000, 1)
    framed = {b"zTXt": b"parameters\0\0" + body, b"iTXt": b"parameters\0\1\0\0\0" + body, b"iCCP": b"p\0\0" + body}[name]
    bomb = png(2, 2, zlib.compress(b"\0" * 14), *[chunk(name, framed)] * 20)
    began = time.monotonic()
    for read in (open_picture, read_png_infotext):
        with pytest.raises(BadPicture):
            read(bomb)
    assert time.monotonic() - began < 2


def test_tiles_far_larger_than_the_picture():
    tags = {256: 10, 257: 10, 258: 8, 259: 1, 262: 1, 277: 1, 322: 2**30, 323: 2**30, 324: 8, 325: 100}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    with pytest.raises(BadPicture):
        open_picture(b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + directory + b"\0\0\0\0" + b"\0" * 100)


@pytest.mark.parametrize(
    "text",
    [
        "/etc/passwd",
        "/etc/hosts",
        "../../secret.png",
        "~/.ssh/id_rsa",
        "C:\\Users\\me\\a.png",
        "C:/Users/me/a.png",
        "\\\\server\\share\\a.png",
        "//server/share/a.png",
        "file:///etc/passwd",
        "http://127.0.0.1:7860/a.png",
        "https://example.com/a.png",
        "ftp://example.com/a.png",
        "data:text/html;base64,PGh0bWw+",
        "data:image/svg+xml,<svg/>",
        "data:image/svg+xml;base64,PHN2Zy8+",
        "%2e%2e%2fsecret.png",
        "",
        "AAAA",
        "\0",
    ],
)
def test_strings_that_are_no_pictures_touch_neither_disk_nor_network(text, monkeypatch):
    def touched(*_args: object, **_options: object) -> None:
        pytest.fail("touched disk or network")

    for owner, name in ((os, "open"), (os, "stat"), (socket, "socket"), (socket, "create_connection")):
        monkeypatch.setattr(owner, name, touched)
    monkeypatch.setattr("builtins.open", touched)
    with pytest.raises(BadPicture):
        decode_base64(text)


@pytest.mark.parametrize("value", [None, 7, b"aGk=", {"url": "http://x"}, ["a"]])
def test_base64_wants_text(value):
    with pytest.raises(BadPicture):
        decode_base64(value)


def test_a_base64_text_beyond_the_limit_is_not_decoded(monkeypatch):
    monkeypatch.setattr(base64, "b64decode", lambda *_a, **_k: pytest.fail("decoded"))
    with pytest.raises(BadPicture, match="larger"):
        decode_base64("A" * 20_000, decode.Limits(bytes=1000))


@pytest.mark.parametrize("address", ["http://example.com/a.png", "file:///etc/passwd", "https://x/y", "data:image/png;base64,AAAA"])
def test_addresses_are_no_files(address):
    with pytest.raises(BadPicture, match="address"):
        open_picture(address)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_and_devices_are_never_opened(tmp_path, monkeypatch):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    link = tmp_path / "link.png"
    link.symlink_to(pipe)
    monkeypatch.setattr(os, "open", lambda *_a, **_k: pytest.fail("opened"))
    for path in (pipe, link, "/dev/zero"):
        with pytest.raises(BadPicture, match="ordinary"):
            open_picture(path)


def test_a_stream_is_read_no_further_than_the_limit():
    class Endless(io.RawIOBase):
        taken = 0

        def read(self, size: int = -1) -> bytes:
            assert size >= 0
            self.taken += size
            return b"\0" * size

    stream = Endless()
    with pytest.raises(BadPicture, match="larger"):
        open_picture(stream, limits=decode.Limits(bytes=10_000))  # type: ignore[arg-type]
    assert stream.taken <= 10_001


@pytest.mark.parametrize("kind", ["EPS", "PCX", "TGA", "ICO", "PPM", "ICNS", "PDF"])
def test_other_formats_are_never_tried(kind):
    with pytest.raises(BadPicture):
        open_picture(encoded(Image.new("RGB", (32, 32)), kind))


def samples() -> list[bytes]:
    rng = random.Random(0)
    picture = Image.frombytes("RGB", (24, 16), rng.randbytes(24 * 16 * 3))
    info = PngInfo()
    info.add_itxt("parameters", "Steps: 1", zip=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0S\0t"
    more = [
        encoded(picture, "PNG", pnginfo=info, exif=exif),
        encoded(picture, "JPEG", exif=exif),
        encoded(picture.convert("CMYK"), "TIFF", compression="tiff_lzw"),
    ]
    return [encoded(picture, kind) for kind in FORMATS] + more + [encoded(picture.quantize(8), "GIF", transparency=1)]


SAMPLES = samples()


@settings(max_examples=150)
@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=12), st.floats(0.1, 1))
def test_mutated_files_open_or_are_refused(data, changes, keep):
    """No other exception ever gets out, whatever the bytes."""
    broken = bytearray(data)
    for place, value in changes:
        # Squared, so that headers are hit more often than pixels.
        broken[int(place * place * len(broken))] = value
    broken = bytes(broken[: int(len(broken) * keep)])
    for read in (open_picture, read_png_infotext):
        with contextlib.suppress(BadPicture):
            read(broken)


@given(st.binary(max_size=300))
def test_any_bytes(data):
    with pytest.raises(BadPicture):
        open_picture(data)
