from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lib_refonly.errors import BadSettings
from lib_refonly.refonly.panel import UNITS, PanelSettings, UnitSettings, block_weights
from lib_refonly.settings import specs
from lib_refonly.stylecode.settings import StyleSettings
from lib_refonly.ui.request import is_enabled, names, read_arguments, read_request, request_schema

RED = Image.new("RGB", (4, 4), "red")


def pictures(value: Any) -> Image.Image | None:
    return RED if value == "red" else None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", {}),
        ("IN04:0.5", {"IN04": 0.5}),
        ("in04-in06 = .5", {"IN04": 0.5, "IN05": 0.5, "IN06": 0.5}),
        ("IN04-06:2; M:0", {"IN04": 2, "IN05": 2, "IN06": 2, "M00": 0}),
        ("OUT:0, OUT11:1", {f"OUT{n:02d}": 0.0 for n in range(13)} | {"OUT11": 1}),
    ],
)
def test_blocks_are_read(text: str, wanted: dict[str, float]) -> None:
    assert block_weights(text) == wanted


@pytest.mark.parametrize("text", ["x", "IN04", "IN:-1", "IN04:1e9e", "MID:1", "IN004:1", "IN04:0.5 OUT:1"])
def test_other_blocks_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadSettings, match="IN04-IN08"):
        block_weights(text)


@given(st.text(max_size=60))
def test_blocks_never_raise_anything_else(text: str) -> None:
    with contextlib.suppress(BadSettings):
        assert all(value >= 0 for value in block_weights(text).values())


def test_an_object_and_arguments_in_a_row_say_the_same() -> None:
    wanted = {
        "enabled": True,
        "strength": 0.5,
        "drawing": "red",
        "units": [{"picture": "red", "weight": 0.3}, {}, {"picture": "red", "mask": "red", "end": 0.5}],
    }
    row: dict[str, Any] = dict.fromkeys(names()) | {"enabled": True, "strength": 0.5, "drawing": "red"}
    row |= {"unit 1 picture": "red", "unit 1 weight": 0.3, "unit 3 picture": "red", "unit 3 mask": "red", "unit 3 end": 0.5}
    assert read_arguments([wanted], pictures).settings == read_arguments(list(row.values()), pictures).settings
    one, other = read_arguments([wanted], pictures).units, read_arguments(list(row.values()), pictures).units
    assert [unit.settings for unit in one] == [unit.settings for unit in other] == [UnitSettings(0.3), UnitSettings(end=0.5)]
    assert [unit.mask is not None for unit in one] == [unit.mask is not None for unit in other] == [False, True]


def test_arguments_are_never_moved() -> None:
    """Whoever wrote a script against an earlier version goes on: settings may be added at the end of a unit or of all, never in between."""
    assert names()[:3] == ["enabled", "model", "strength"]
    assert names()[len(specs(PanelSettings))] == "drawing"
    assert names()[len(specs(PanelSettings)) + 1 :][:6] == [f"unit 1 {name}" for name in ("picture", "mask", "weight", "start", "end", "blocks")]
    assert read_arguments([True], pictures).settings == PanelSettings(enabled=True)


WRONG = (
    {"bogus": 1},
    {"units": [{}] * (UNITS + 1)},
    {"units": 3},
    {"units": ["red"]},
    {"units": [{"bogus": 1}]},
    {"strength": "much"},
    {"line_start": 0.9, "line_end": 0.1},
)


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadSettings):
        read_request(wrong, pictures)


def test_only_the_first_argument_says_whether_anything_is_wanted() -> None:
    assert [is_enabled(arguments) for arguments in ([], [False], [True, "x"], [{}], [{"enabled": True}], [{"enabled": False}], [None])] == [
        *(False, False, True, False, True, False, False)
    ]


def test_the_schema_names_every_field() -> None:
    schema = request_schema()
    assert set(schema["properties"]) == {*specs(PanelSettings), "drawing", "units", "style", "canvas"}
    assert set(schema["properties"]["style"]["properties"]) == set(specs(StyleSettings))
    assert set(schema["properties"]["units"]["items"]["properties"]) == {*specs(UnitSettings), "picture", "mask"}


def test_passes() -> None:
    acts = {passes: [PanelSettings(passes=passes).acts_in(hires) for hires in (False, True)] for passes in ("both", "low", "high")}
    assert acts == {"both": [True, True], "low": [True, False], "high": [False, True]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 7.5, 10**400])
def test_no_number_is_too_strange_for_a_sentence(value: Any) -> None:
    with pytest.raises(BadSettings, match="number|outside"):
        PanelSettings(line_block=value)
