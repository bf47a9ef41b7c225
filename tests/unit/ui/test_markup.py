"""HTML pieces: nothing from outside is ever mark-up."""

from __future__ import annotations

import pytest
from PIL import Image

from lib_refonly.studio.requests import Prepared, Progress
from lib_refonly.ui import markup

EVIL = '<img src=x onerror="alert(1)">'


@pytest.mark.parametrize(
    "html",
    [
        markup.message(EVIL),
        markup.listed_errors(EVIL, [(EVIL, EVIL)]),
        markup.progress_line(EVIL, 0.5),
        markup.heading(EVIL, EVIL),
        markup.model_view(Prepared((), Image.new("RGB", (8, 8)), (EVIL,))),
    ],
)
def test_text_is_escaped(html: str) -> None:
    assert "<img src=x" not in html
    assert "&lt;img src=x" in html


def test_an_empty_message_is_nothing() -> None:
    assert markup.message("") == ""
    assert markup.listed_errors("x", []) == ""


def test_progress_counts_steps_of_all_pictures() -> None:
    html = markup.running(Progress(step=4, steps=10, index=1, count=2), None)
    assert 'aria-valuenow="75"' in html
    assert "Picture 2 of 2, step 5 of 10" in html


def test_pictures_travel_small_and_on_white() -> None:
    import base64
    import io

    uri = markup.data_uri(Image.new("RGBA", (500, 100), (0, 0, 0, 0)), 250)
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as picture:
        assert picture.size == (250, 50)
        assert picture.convert("RGB").getpixel((5, 5)) == (255, 255, 255)


def test_nothing_to_see_is_said() -> None:
    assert "Add a reference" in markup.model_view(None)
