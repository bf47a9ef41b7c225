"""The project file: there and back exactly, everything wrong refused by name, and nothing lost when panels move."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lib_refonly.errors import BadPicture, BadSettings, PainterError
from lib_refonly.onepic import project as module
from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.project import Panel, Project, blank, relaid, swapped

from .pictures import BLUE, GREEN, RED, file_of, lying, mask, noise, plain

PICTURES = (plain(9, 5), file_of(noise(16, 8), "WEBP"), file_of(noise(12, 12), "JPEG"), file_of(noise(4, 4), "BMP"), plain(3, 3, (1, 2, 3, 128)))
TWO = Layout(1, 2)
SHARES = st.floats(-1, 1)
PANELS = st.builds(
    Panel,
    role=st.sampled_from(["context", "target"]),
    label=st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=100),
    picture=st.sampled_from([None, *PICTURES]),
    fit=st.sampled_from(["crop", "pad", "stretch"]),
    zoom=st.floats(0.1, 10) | st.integers(1, 10),
    x=SHARES,
    y=SHARES,
    mask=st.sampled_from([None, mask(8, 8, (0, 0, 4, 4))]),
    mask_use=st.sampled_from(["hide", "paint"]),
)
PROMPTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@st.composite
def projects(draw: st.DrawFn) -> Project:
    layout = draw(st.sampled_from([Layout(1, 1), TWO, Layout(2, 2), Layout(3, 1), Layout(3, 3)]))
    width, height = (8 * draw(st.integers(8, 128)) for _ in range(2))
    panels = tuple(draw(st.lists(PANELS, min_size=layout.panels, max_size=layout.panels)))
    task = draw(st.sampled_from(["", "edit", "a task of mine"]))
    return Project(task, layout, width, height, panels, draw(PROMPTS), draw(PROMPTS), draw(st.integers(1, 20)), draw(st.booleans()))


@given(projects())
@settings(max_examples=60)
def test_there_and_back_is_the_same_in_every_form(project: Project) -> None:
    text = project.written()
    for source in (text, text.encode(), b"\xef\xbb\xbf" + text.encode(), json.loads(text)):
        again = Project.read(source)
        assert again == project
        assert again.written() == text


def test_the_file_is_the_one_that_is_documented() -> None:
    picture = plain(9, 5)
    panels = (Panel(label="reference", picture=picture), Panel(role="target"))
    whole = json.loads(Project("edit", TWO, 512, 384, panels, "水彩", "", 3, False).written())
    url = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
    first = {"role": "context", "label": "reference", "picture": url, "fit": "crop", "zoom": 1.0, "x": 0.0, "y": 0.0, "mask": None, "mask_use": "hide"}
    assert whole == {
        "format": "refonly-onepic",
        "version": 1,
        "task": "edit",
        "layout": {"rows": 1, "columns": 2},
        "panel": {"width": 512, "height": 384},
        "panels": [first, first | {"role": "target", "label": "", "picture": None}],
        "prompt": "水彩",
        "negative": "",
        "reuse": 3,
        "alone": False,
        "control_alone": True,
    }


@pytest.mark.parametrize(("picture", "kind"), list(zip(PICTURES, ("png", "webp", "jpeg", "bmp", "png"), strict=True)))
def test_the_data_url_says_what_the_picture_is(picture: bytes, kind: str) -> None:
    text = dataclasses.replace(blank(TWO), panels=(Panel(picture=picture), Panel())).written()
    assert f'"data:image/{kind};base64,' in text


def raw(**changes: Any) -> dict[str, Any]:
    """A small project as a JSON parser gives it."""
    whole: dict[str, Any] = {"format": "refonly-onepic", "version": 1, "layout": {"rows": 1, "columns": 2}, "panel": {"width": 64, "height": 72}}
    return whole | {"panels": [{"role": "context"}, {"role": "target"}]} | changes


def with_panel(**changes: Any) -> dict[str, Any]:
    return raw(panels=[{"role": "context"}, {"role": "target"} | changes])


def test_what_is_not_said_has_its_default() -> None:
    assert Project.read(raw()) == blank(TWO, 64, 72)
    assert Project.read(raw()).alone is True


@pytest.mark.parametrize("wrap", [lambda text: text, lambda text: f" data:image/png;base64,{text[:20]}\n{text[20:]} ", lambda text: f"data:;base64,{text}"])
def test_pictures_come_as_base64_or_data_urls(wrap: Callable[[str], str]) -> None:
    picture = file_of(noise(20, 20))
    assert Project.read(with_panel(picture=wrap(base64.b64encode(picture).decode()))).panels[1].picture == picture


def test_base64_of_addresses_signs_too() -> None:
    picture = next(data for seed in range(100) if "/" in (text := base64.b64encode(data := file_of(noise(20, 20, seed))).decode()) and "+" in text)
    assert Project.read(with_panel(picture=base64.urlsafe_b64encode(picture).decode())).panels[1].picture == picture


@pytest.mark.parametrize("name", ["picture", "mask"])
@pytest.mark.parametrize(
    "text",
    ["https://x.org/a.png", "file:///etc/passwd", "/etc/passwd", "C:\\a.png", "../a.png", "data:text/html;base64,AAAA", "", "AAAA", "%", 7, True, [], {}, b"a"],
)
def test_everything_else_is_no_picture(name: str, text: Any) -> None:
    with pytest.raises(BadPicture, match="^Panel 2: "):
        Project.read(with_panel(**{name: text}))


def test_damaged_and_oversized_pictures() -> None:
    data = file_of(noise(64, 64))
    for bad, match in ((data[: len(data) // 2], "damaged or cut off"), (plain(16385, 1), "no side may be longer")):
        with pytest.raises(BadPicture, match=f"^Panel 2: .*{match}"):
            Project.read(with_panel(picture=base64.b64encode(bad).decode()))


WRONG_PANELS = [
    ({"role": "source"}, "Role: 'source' is none of context, target"),
    ({"role": None}, "Role: a text is expected"),
    ({"label": 3}, "Label: a text is expected"),
    ({"label": "x" * 101}, "Label: 101 characters are too many"),
    ({"label": "a\nb"}, "Label: there are control characters"),
    ({"label": "\ud800"}, "Label: .*halves of letters"),
    ({"fit": "cover"}, "Fit: 'cover' is none of crop, pad, stretch"),
    ({"fit": "x" * 10**6}, "Fit: 1000000 characters"),
    ({"zoom": 0.09}, "Zoom: 0.09 is outside 0.1 to 10"),
    ({"zoom": 10.5}, "Zoom: 10.5 is outside"),
    ({"zoom": "1"}, "Zoom: a number is expected"),
    ({"zoom": True}, "Zoom: a number is expected"),
    ({"zoom": None}, "Zoom: a number is expected"),
    ({"zoom": math.nan}, "Zoom: a number is expected"),
    ({"zoom": math.inf}, "Zoom: a number is expected"),
    ({"zoom": 10**5000}, "Zoom: a number is expected"),
    ({"x": 1.01}, "Left or right: 1.01 is outside -1 to 1"),
    ({"x": math.nan}, "Left or right: a number"),
    ({"y": -1.01}, "Up or down: -1.01 is outside"),
    ({"y": []}, "Up or down: a number"),
    ({"mask_use": "cut"}, "Brush: 'cut' is none of hide, paint"),
    ({"rotate": 1}, "It says 'rotate', which is not known here"),
]


@pytest.mark.parametrize(("changes", "match"), WRONG_PANELS)
def test_what_is_wrong_with_a_panel_is_said_of_it(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(BadSettings, match=f"^Panel 2: {match}") as caught:
        Project.read(with_panel(**changes))
    assert len(str(caught.value)) < 300


WRONG_PROJECTS = [
    ({"format": "other"}, "This is no ONE-PIC project"),
    ({"format": None}, "This is no ONE-PIC project"),
    ({"version": 2}, "not of version 1"),
    ({"version": 0}, "not of version 1"),
    ({"version": "1"}, "not of version 1"),
    ({"version": True}, "not of version 1"),
    ({"version": 1.0}, "not of version 1"),
    ({"extra": 1, "other": 2}, "says 'extra', 'other', which is not known here"),
    ({"layout": "1x2"}, "The layout has to say rows, columns"),
    ({"layout": {"rows": 1}}, "The layout does not say its columns"),
    ({"layout": {"rows": 1, "columns": 2, "gap": 1}}, "The layout says 'gap'"),
    ({"layout": {"rows": 1.0, "columns": 2}}, "A layout has 1 to 4 rows"),
    ({"layout": {"rows": 3, "columns": 4}}, "9 panels at most"),
    ({"layout": {"rows": 2, "columns": 2}}, "2x2 has 4 panels; these are 2"),
    ({"layout": {"rows": 1, "columns": 1}}, "1x1 has 1 panels; these are 2"),
    ({"panel": [512, 512]}, "The size of a panel has to say width, height"),
    ({"panel": {"width": 512}}, "does not say its height"),
    ({"panel": {"width": 512.0, "height": 512}}, "Panel width: a whole number"),
    ({"panel": {"width": 512, "height": math.nan}}, "Panel height: a whole number"),
    ({"panel": {"width": 56, "height": 512}}, "Panel width: 56 is outside 64 to 2048"),
    ({"panel": {"width": 64, "height": 2056}}, "Panel height: 2056 is outside"),
    ({"panel": {"width": 100, "height": 512}}, "100 x 512 px can't be painted.*multiples of 8"),
    ({"panel": {"width": 512, "height": 100}}, "512 x 100 px can't be painted.*multiples of 8"),
    ({"panels": {}}, "no list"),
    ({"panels": [{"role": "context", "picture": "not looked at yet"}] * 3}, "1x2 has 2 panels; these are 3"),
    ({"panels": []}, "these are 0"),
    ({"panels": [{"role": "target"}] * 10**5}, "these are 100000"),
    ({"panels": [{"role": "target"}, 3]}, "Panel 2: It has to say role"),
    ({"panels": [{"role": "target"}, {}]}, "Panel 2: It does not say its role"),
    ({"task": None}, "Task: a text"),
    ({"task": "x" * 101}, "Task: 101 characters"),
    ({"prompt": 1}, "Prompt: a text"),
    ({"prompt": "x" * 20001}, "Prompt: 20001 characters"),
    ({"negative": "\udfff"}, "Negative prompt: .*halves"),
    ({"reuse": 0}, "Reuse: 0 is outside 1 to 20"),
    ({"reuse": 21}, "Reuse: 21 is outside"),
    ({"reuse": 1.0}, "Reuse: a whole number"),
    ({"reuse": True}, "Reuse: a whole number"),
    ({"alone": 1}, "References act on the target only: true or false"),
    ({"alone": "true"}, "References act on the target only: true or false"),
]


@pytest.mark.parametrize(("changes", "match"), WRONG_PROJECTS)
def test_what_is_wrong_with_a_project_is_said(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(BadSettings, match=match):
        Project.read(raw(**changes))


@pytest.mark.parametrize("name", ["layout", "panel", "panels"])
def test_what_is_missing_is_said(name: str) -> None:
    whole = raw()
    del whole[name]
    with pytest.raises(BadSettings, match=f"does not say its {name}$|does not say its {name}\\."):
        Project.read(whole)


@pytest.mark.parametrize(
    "source",
    ["", "{", "[]", "null", "NaN", '{"format": NaN}', b"\xff\xfe", PICTURES[0], "[" * 100_000, "1" * 5000, 7, None, [], json.dumps(raw()).replace("72", "NaN")],
    ids=[f"text {number}" for number in range(14)],
)
def test_texts_that_are_no_project(source: Any) -> None:
    with pytest.raises(BadSettings, match="no ONE-PIC project"):
        Project.read(source)


def test_sizes_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = base64.b64encode(file_of(noise(30, 30))).decode()
    full = with_panel(picture=picture)
    monkeypatch.setattr(module, "LONGEST", len(picture) + 50)
    for source in (json.dumps(full), json.dumps(full).encode()):
        with pytest.raises(BadSettings, match="larger than"):
            Project.read(source)
    project = Project.read(full)
    with pytest.raises(BadSettings, match=r"makes a file of more than"):
        project.written()
    full["panels"][0]["picture"] = picture
    with pytest.raises(BadSettings, match=r"pictures are larger than"):
        Project.read(full)


@given(st.data())
@settings(max_examples=80)
def test_nothing_but_painters_errors_come_of_wrong_values(data: st.DataObject) -> None:
    """Any JSON value in any place is read or refused; it never fails in another way."""
    leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    value = data.draw(st.recursive(leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=6))
    whole = json.loads(blank(TWO).written())
    place = data.draw(st.sampled_from([(), ("layout",), ("panel",), ("panels", 0), ("panels", 1)]))
    inside: Any = whole
    for key in place:
        inside = inside[key]
    inside[data.draw(st.sampled_from(list(inside)))] = value
    with suppress(PainterError):
        Project.read(copy.deepcopy(whole))


def test_from_code_the_same_rules_hold() -> None:
    for wrong in ({"picture": "text"}, {"mask": bytearray(b"a")}, {"zoom": math.nan}, {"role": ""}):
        with pytest.raises(BadSettings):
            Panel(**wrong)  # type: ignore[arg-type]
    for wrong in ({"panels": [Panel(), Panel()]}, {"panels": (Panel(), 1)}, {"layout": "1x2"}, {"width": math.nan}, {"height": 64.0}):
        with pytest.raises(BadSettings):
            dataclasses.replace(blank(TWO), **wrong)
    with pytest.raises(BadPicture, match="^Panel 2: "):
        dataclasses.replace(blank(TWO), panels=(Panel(), Panel(picture=b"no picture"))).written()
    with pytest.raises(BadPicture, match="^Panel 1: "):
        dataclasses.replace(blank(TWO), panels=(Panel(mask=b""), Panel())).written()


def test_the_canvas_is_capped() -> None:
    assert blank(Layout(2, 2), 2048, 2048).size == (4096, 4096)
    assert blank(Layout(3, 3), 1360, 1368).size == (4080, 4104)
    with pytest.raises(BadSettings, match="4104 x 4104 px, more than 16 megapixels"):
        blank(Layout(3, 3), 1368, 1368)
    with pytest.raises(BadSettings, match="6144 x 4096 px"):
        relaid(blank(Layout(2, 2), 2048, 2048), Layout(2, 3))


def test_something_has_to_be_painted() -> None:
    blank(TWO).check_ready()
    nothing = dataclasses.replace(blank(TWO), panels=(Panel(), Panel(mask=mask(8, 8, (0, 0, 8, 8)))))
    with pytest.raises(BadSettings, match="No panel is the target"):
        nothing.check_ready()
    dataclasses.replace(nothing, panels=(Panel(), dataclasses.replace(nothing.panels[1], mask_use="paint"))).check_ready()


def named(*names: str, layout: Layout) -> Project:
    """Panels by letters: a small one has a picture, "." is empty, a capital is a target with a picture, "T" a target without."""
    files = {"a": plain(2, 2, RED), "b": plain(2, 2, GREEN), "c": plain(2, 2, BLUE), "d": plain(3, 2)}
    panels = tuple(Panel(role="target" if name.isupper() else "context", label=name, picture=files.get(name.lower())) for name in names)
    return Project(layout=layout, panels=panels)


def labels(panels: tuple[Panel, ...]) -> str:
    return "".join(panel.label or "-" for panel in panels)


@pytest.mark.parametrize(
    ("before", "old", "new", "after", "left"),
    [
        ("abcT", Layout(2, 2), Layout(2, 2), "abcT", ""),
        ("aT", TWO, Layout(2, 2), "aT--", ""),
        ("aTb", Layout(1, 3), Layout(3, 1), "aTb", ""),
        ("aTb.", Layout(2, 2), Layout(1, 3), "aTb", ""),
        ("abcT", Layout(2, 2), TWO, "aT", "bc"),
        ("abcT", Layout(2, 2), Layout(1, 3), "abT", "c"),
        (".a.T", Layout(2, 2), TWO, "aT", ""),
        ("A.bT", Layout(2, 2), TWO, "AT", "b"),
        ("abTD", Layout(2, 2), Layout(1, 1), "D", "ab"),
        ("....", Layout(2, 2), TWO, "..", ""),
    ],
)
def test_another_layout_loses_nothing_silently(before: str, old: Layout, new: Layout, after: str, left: str) -> None:
    project = named(*before, layout=old)
    now, over = relaid(project, new)
    assert (labels(now.panels), labels(over)) == (after, left)
    assert (now.layout, now.width, now.prompt) == (new, project.width, project.prompt)


@given(projects(), st.sampled_from([Layout(1, 1), TWO, Layout(2, 2), Layout(2, 3)]))
@settings(max_examples=60)
def test_every_picture_is_kept_or_given_back(project: Project, layout: Layout) -> None:
    now, left = relaid(dataclasses.replace(project, width=512, height=512), layout)
    before = sorted(panel.picture for panel in project.panels if panel.picture is not None)
    after = sorted(panel.picture for panel in (*now.panels, *left) if panel.picture is not None)
    assert after == before
    if any(panel.role == "target" for panel in project.panels):
        now.check_ready()


def test_a_mask_alone_is_given_back_too() -> None:
    project = Project(layout=Layout(1, 3), panels=(Panel(role="target"), Panel(role="target"), Panel(mask=mask(8, 8))))
    assert relaid(project, TWO)[1] == (project.panels[2],)


def test_swapped_panels_take_everything_with_them() -> None:
    project = named(*"aT", layout=TWO)
    there = swapped(project, 0, 1)
    assert there.panels == (project.panels[1], project.panels[0])
    assert swapped(there, 1, 0) == project
    assert swapped(project, 1, 1) == project
    for pair in ((0, 2), (-1, 0)):
        with pytest.raises(BadSettings, match="has no panel"):
            swapped(project, *pair)


@pytest.mark.parametrize(
    ("panel", "size", "box"),
    [
        (Panel(), (100, 100), (0, 0, 64, 64)),
        (Panel(), (200, 100), (-32, 0, 96, 64)),
        (Panel(x=1), (200, 100), (0, 0, 128, 64)),
        (Panel(x=-1), (200, 100), (-64, 0, 64, 64)),
        (Panel(x=0.5, y=1), (200, 100), (-16, 0, 112, 64)),
        (Panel(fit="pad"), (200, 100), (0, 16, 64, 48)),
        (Panel(fit="pad", y=1), (200, 100), (0, 32, 64, 64)),
        (Panel(fit="pad", y=-1), (200, 100), (0, 0, 64, 32)),
        (Panel(fit="stretch"), (200, 10), (0, 0, 64, 64)),
        (Panel(zoom=2), (100, 100), (-32, -32, 96, 96)),
        (Panel(zoom=2, x=1, y=-1), (100, 100), (0, -64, 128, 64)),
        (Panel(zoom=0.5, x=1, y=-1), (100, 100), (32, 0, 64, 32)),
        (Panel(fit="pad", zoom=0.1), (16000, 1), (29, 32, 35, 33)),
    ],
)
def test_where_a_picture_lies(panel: Panel, size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    assert panel.placed(size, 64, 64) == box


@given(st.tuples(st.integers(1, 16384), st.integers(1, 16384)), st.integers(8, 256), st.integers(8, 256), st.floats(1, 10), SHARES, SHARES)
def test_a_cropped_picture_always_covers_its_panel(size: tuple[int, int], across: int, down: int, zoom: float, x: float, y: float) -> None:
    width, height = 8 * across, 8 * down
    left, top, right, bottom = Panel(zoom=zoom, x=x, y=y).placed(size, width, height)
    assert left <= 0 <= width <= right
    assert top <= 0 <= height <= bottom
    left, top, right, bottom = Panel(fit="pad", x=x, y=y).placed(size, width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert (right - left, bottom - top)[size[0] * height <= size[1] * width] == (width, height)[size[0] * height <= size[1] * width]


def test_pictures_are_kept_as_they_were_given() -> None:
    """A photograph's file goes into the project as it is: not turned, and not saved anew."""
    photograph = lying(Image.fromarray(noise(20, 40)))
    project = Project.read(with_panel(picture=base64.b64encode(photograph).decode()))
    assert project.panels[1].picture == photograph
