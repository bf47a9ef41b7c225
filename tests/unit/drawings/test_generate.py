"""What the generator draws: repeatable, held-out parts apart, one character in two drawings."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lib_refonly.training.drawings.packages import GENERATOR

HELD_OUT = {
    "adventurer": ("hair", {"long21", "long22", "long23", "long24", "short17"}),
    "micah": ("hair", {"turban", "pixie"}),
    "open-peeps": ("head", {"twists", "twists2", "turban", "short5"}),
}
HELD_OUT_STYLES = {"big-ears", "openmoji"}
EMOJI = {"noto", "twemoji", "fluent-emoji-flat", "openmoji"}
FORBIDDEN = {"avataaars", "bottts"}


def generate(npm: Path, split: str, count: int, start: int = 0, seed: int = 7) -> list[dict[str, Any]]:
    options = {"npm": npm, "seed": seed, "split": split, "start": start, "count": count}
    command = ["node", str(GENERATOR), *(str(part) for key, value in options.items() for part in (f"--{key}", value))]
    output = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    return [json.loads(line) for line in output.splitlines()]


@pytest.fixture(scope="module")
def train(npm: Path) -> list[dict[str, Any]]:
    return generate(npm, "train", 1500)


@pytest.fixture(scope="module")
def heldout(npm: Path) -> list[dict[str, Any]]:
    return generate(npm, "heldout", 352)


def characters(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in records if record["style"] not in EMOJI]


def test_a_record_depends_on_seed_and_number_alone(npm: Path, train: list[dict[str, Any]]) -> None:
    assert generate(npm, "train", 5, start=40) == train[40:45]
    assert generate(npm, "train", 5, start=40, seed=8) != train[40:45]


def test_train_never_shows_what_is_held_out(train: list[dict[str, Any]]) -> None:
    assert {record["style"] for record in train}.isdisjoint(HELD_OUT_STYLES | FORBIDDEN)
    seen: dict[str, set[str]] = {style: set() for style in HELD_OUT}
    for record in train:
        if record["style"] in HELD_OUT:
            part, values = HELD_OUT[record["style"]]
            drawn = {record["attributes"][side][part] for side in ("partsA", "partsB")}
            assert drawn.isdisjoint(values)
            seen[record["style"]] |= drawn
    assert all(len(values) >= 5 for values in seen.values())


def test_heldout_shows_only_what_is_held_out(heldout: list[dict[str, Any]]) -> None:
    groups = Counter(record["group"] for record in heldout)
    assert groups == {"adventurer": 64, "micah": 64, "open-peeps": 64, "big-ears": 64, "openmoji": 96}
    seen: dict[str, set[str]] = {style: set() for style in HELD_OUT}
    for record in heldout:
        if record["style"] in HELD_OUT:
            part, values = HELD_OUT[record["style"]]
            for side in ("partsA", "partsB"):
                assert record["attributes"][side][part] in values
                seen[record["style"]].add(record["attributes"][side][part])
    assert seen == {style: values for style, (_, values) in HELD_OUT.items()}


def test_shares_of_the_styles(train: list[dict[str, Any]]) -> None:
    share = {style: count / len(train) for style, count in Counter(record["group"] for record in train).items()}
    assert share["adventurer"] == pytest.approx(0.35, abs=0.05)
    assert share["emoji"] == pytest.approx(0.12, abs=0.03)
    assert len(share) == 12


def test_the_two_drawings_are_one_character(train: list[dict[str, Any]]) -> None:
    same_drawing = 0
    for record in characters(train):
        one, other = record["attributes"]["partsA"], record["attributes"]["partsB"]
        assert all(one.get(part) == other.get(part) for part in ("hair", "head", "rearHair", "top", "clothes", "shirt", "body", "beard"))
        same_drawing += record["svgA"] == record["svgB"]
    assert same_drawing < len(characters(train)) / 100


def test_the_two_drawings_share_their_colours(train: list[dict[str, Any]]) -> None:
    painted = Counter()
    for record in characters(train):
        for role, colour in record["attributes"]["colours"].items():
            in_a, in_b = (f"#{colour}" in record[side] for side in ("svgA", "svgB"))
            shown = role in ("skin", "clothes") or (role == "hair" and "bald" not in record["caption"])
            assert in_a == in_b or not shown, (record["id"], role)
            painted[role, in_a] += 1
    assert painted["hair", True] > 0.75 * (painted["hair", True] + painted["hair", False])  # the rest is bald
    assert painted["skin", True] > 0.95 * (painted["skin", True] + painted["skin", False])


def test_colours_are_free_but_never_near_black(train: list[dict[str, Any]]) -> None:
    people = characters(train)
    hair = {record["attributes"]["colours"]["hair"] for record in people}
    assert len(hair) > 0.6 * len(people)
    assert all(max(bytes.fromhex(colour)) >= 0x30 for record in people for colour in record["attributes"]["colours"].values())
    assert 0.6 < sum(record["attributes"]["free"] for record in people) / len(people) < 0.8
    assert 0.4 < sum(record["attributes"]["recoloured"] for record in people) / len(people) < 0.6


def test_no_background_and_no_metadata(train: list[dict[str, Any]]) -> None:
    for record in characters(train):
        assert "<metadata" not in record["svgA"]
        assert not re.search(r'<rect fill="[^"]*" width="\d+" height="\d+" x="0" y="0"', record["svgA"])


def test_captions_say_what_is_seen(train: list[dict[str, Any]], heldout: list[dict[str, Any]]) -> None:
    for record in train + heldout:
        for caption in (record["caption"], record["captionB"]):
            assert caption
            assert not re.search(r"variant|undefined|null|  |, ,", caption), caption
    for record in characters(train + heldout):
        assert " skin" in record["caption"]
        assert re.search(r" hair|bald|shaved", record["caption"])
    winks = [r for r in train if r["style"] == "adventurer" and r["attributes"]["partsA"]["eyes"] in ("variant21", "variant22")]
    assert winks
    assert all("winking" in record["caption"] for record in winks)
    glasses = [r for r in train if r["attributes"].get("partsA", {}).get("glasses")]
    assert glasses
    assert all("glasses" in record["caption"] for record in glasses)


def test_recoloured_emoji_are_not_called_by_a_colour(train: list[dict[str, Any]]) -> None:
    emoji = [record for record in train if record["style"] in EMOJI]
    recoloured = [record["caption"] for record in emoji if record["attributes"]["recoloured"]]
    assert recoloured
    assert not [caption for caption in recoloured if re.search(r"\b(red|green|blue|yellow|purple|orange|brown)\b", caption)]
    assert all(caption.startswith("recoloured ") for caption in recoloured)


def test_an_unknown_split_is_refused(npm: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        generate(npm, "test", 1)
    assert "train or heldout" in refused.value.stderr
