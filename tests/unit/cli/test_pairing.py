from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from lib_refonly.errors import BadPicture, BadSettings
from lib_refonly.studio.commands.pairing import Pair, outputs, pair, refuse_collisions


@pytest.fixture
def touch(tmp_path: Path):
    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        return tmp_path

    return make


def test_a_folder_takes_pictures_only_in_the_order_of_their_names(touch) -> None:
    root = touch("r.png", "l/b.PNG", "l/a.jpeg", "l/notes.txt", "l/._a.jpeg", "l/deep/c.png")
    found = pair(root / "r.png", root / "l", root / "out")
    assert [one.lines.name for one in found.pairs] == ["a.jpeg", "b.PNG"]
    assert [one.out for one in found.pairs] == [root / "out" / "a.png", root / "out" / "b.png"]
    assert {one.reference for one in found.pairs} == {root / "r.png"}


def test_names_are_the_same_whatever_the_system_made_of_accents_and_capitals(touch) -> None:
    composed, decomposed = unicodedata.normalize("NFC", "Émile"), unicodedata.normalize("NFD", "émile")
    root = touch(f"r/{composed}.jpg", f"l/{decomposed}.png")
    (one,) = pair(root / "r", root / "l", root / "out").pairs
    assert one.out.stem == decomposed


def test_a_folder_of_references_and_one_drawing(touch) -> None:
    root = touch("r/a.png", "r/b.png", "b.jpg")
    found = pair(root / "r", root / "b.jpg", root / "out.png")
    assert found.pairs == (Pair(root / "r" / "b.png", root / "b.jpg", root / "out.png"),)
    assert found.unpaired == ()


def test_no_pair_at_all_is_an_error(touch) -> None:
    root = touch("r/a.png", "l/b.png")
    with pytest.raises(BadPicture, match="No picture in"):
        pair(root / "r", root / "l", root / "out")


def test_two_references_of_one_name_are_refused(touch) -> None:
    root = touch("r/a.png", "r/A.jpg", "l/a.png")
    with pytest.raises(BadSettings, match="have the same name"):
        pair(root / "r", root / "l", root / "out")


@pytest.mark.parametrize(("names", "count"), [(("a.png", "a.jpg"), 1), (("a.png", "A.jpg"), 1), (("a.png", "a.2.png"), 2)])
def test_two_drawings_that_would_share_a_result_are_refused(touch, names: tuple[str, ...], count: int) -> None:
    root = touch("r.png", *(f"l/{name}" for name in names))
    pairs = pair(root / "r.png", root / "l", root / "out").pairs
    with pytest.raises(BadSettings, match="would both be written"):
        refuse_collisions(pairs, [], count, layer=False)


def test_an_input_reached_by_another_way_is_not_overwritten(touch) -> None:
    root = touch("r.png", "l/a.png", "extra.png")
    (root / "link").symlink_to(root / "l", target_is_directory=True)
    pairs = pair(root / "r.png", root / "l", root / "link").pairs
    with pytest.raises(BadSettings, match="overwritten"):
        refuse_collisions(pairs, [], 1, layer=False)
    pairs = pair(root / "r.png", root / "l" / "a.png", root / "extra.png").pairs
    with pytest.raises(BadSettings, match="overwritten"):
        refuse_collisions(pairs, [root / "extra.png"], 1, layer=False)


def test_output_names() -> None:
    files = outputs(Path("x/my.girl.png"), 2, layer=True)
    assert files == [(Path("x/my.girl.png"), Path("x/my.girl.layer.png")), (Path("x/my.girl.2.png"), Path("x/my.girl.2.layer.png"))]
    assert outputs(Path("a.PNG"), 1, layer=False) == [(Path("a.png"), None)]


@pytest.mark.parametrize("address", ["https://example.org/face.png", "http://example.org/face.png"])
def test_an_address_is_no_file(tmp_path: Path, address: str) -> None:
    with pytest.raises(BadPicture, match="nothing is fetched"):
        pair(Path(address), tmp_path, tmp_path / "out.png")
