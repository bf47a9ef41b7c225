"""The library of styles: what can be kept and found again, several processes at once, and files that are broken, newer or another's."""

from __future__ import annotations

import io
import json
import multiprocessing
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib_refonly.errors import BadSettings, CannotWrite, PainterError
from lib_refonly.stylecode import library_file, library_json
from lib_refonly.stylecode.codes import RELEASED, TINY, Code, CodeModel, blend, read, write_long, write_short
from lib_refonly.stylecode.library import Library, near_names
from lib_refonly.stylecode.saved import check_name, latent_of

OTHER = CodeModel("a-training-of-mine")


def style(number: int, model: CodeModel = TINY) -> Code:
    return read(write_long(blend.random_style(number), model), (model,))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8))


def library_at(path: Path, known: tuple[CodeModel, ...] = (RELEASED, TINY)) -> Library:
    ticks: Iterator[int] = count(1000)
    return Library(path, lambda: known, lambda: float(next(ticks)))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "styles.sqlite"


@pytest.fixture
def library(place: Path) -> Library:
    return library_at(place)


def names(library: Library, *words: Any, **options: Any) -> list[str]:
    return [one.name for one in library.search(*words, **options)]


def test_a_saved_style_is_there_for_the_next_one_who_looks(library: Library, place: Path) -> None:
    picture = Image.new("RGBA", (600, 300), (200, 30, 40, 255))
    picture.info |= {"parameters": "what was asked for", "icc_profile": b"whose screen it was"}
    saved = library.save("Quiet  Harbour", style(1), picture, tags=["sea", "Dusk", "sea ", ""])
    found = library_at(place).get("quiet harbour")
    assert found == saved
    assert (found.name, found.code, found.model, found.tags, found.favourite) == ("Quiet Harbour", style(1).long, TINY.name, ("sea", "Dusk"), False)
    assert found.latent == style(1).latent
    thumbnail = Image.open(io.BytesIO(found.thumbnail))
    assert (thumbnail.size, thumbnail.format, thumbnail.info) == ((256, 128), "PNG", {})
    assert thumbnail.convert("RGB").getpixel((9, 9)) == (200, 30, 40)


def test_looking_makes_no_file(library: Library, place: Path) -> None:
    assert library.search() == []
    assert library.nearest(style(1).latent, TINY) == []
    assert library.named("harbour") is None
    with pytest.raises(BadSettings, match="no style 'harbour'"):
        library.get("harbour")
    assert not place.parent.exists()


def test_a_file_that_nothing_was_written_to_yet(place: Path) -> None:
    place.parent.mkdir()
    place.touch()
    library = library_at(place)
    assert (library.search(), library.named("harbour"), library.problem) == ([], None, "")
    library.save("harbour", style(1))
    assert names(library_at(place)) == ["harbour"]


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a:b", "<a", "a>", "a\nb", "tab\tin it", "\u202eturned", "zero\u200bwidth", "\ud800", "\u200d"])
def test_names_that_no_prompt_could_hold(library: Library, name: str) -> None:
    with pytest.raises(BadSettings, match="name"):
        library.save(name, style(1))
    assert library.search() == []


@pytest.mark.parametrize("name", ["x" * 64, "水彩の夕暮れ", "it's (a) name, with 2 signs!", "می\u200cخواهم"])
def test_names_that_are_good(library: Library, name: str) -> None:
    assert library.save(name, style(1)).name == name
    assert library.get(name.upper()).name == name


def test_a_name_is_never_a_code() -> None:
    for code in (style(3).long, style(3).short):
        with pytest.raises(BadSettings, match="a stylecode itself"):
            check_name(code, (TINY,))
    assert check_name("a\u3000b") == "a b"


@pytest.mark.parametrize("tags", [["a,b"], ["x" * 41], ["a\nb"], [str(i) for i in range(21)]])
def test_bad_tags(library: Library, tags: list[str]) -> None:
    library.save("harbour", style(1))
    with pytest.raises(BadSettings, match="tag"):
        library.set_tags("harbour", tags)
    assert library.get("harbour").tags == ()


def test_a_name_is_replaced_only_when_asked(library: Library) -> None:
    picture = Image.new("RGB", (8, 8))
    first = library.save("harbour", style(1), picture, tags=["sea"], favourite=True)
    with pytest.raises(BadSettings, match="'harbour' in the library already"):
        library.save("Harbour", style(2))
    assert library.get("harbour") == first
    same = library.save("Harbour", style(1), replace=True)
    assert (same.name, same.tags, same.favourite, same.created, same.thumbnail) == ("Harbour", ("sea",), True, first.created, first.thumbnail)
    other = library.save("harbour", style(2), tags=[], replace=True)
    assert (other.code, other.tags, other.thumbnail) == (style(2).long, (), b"")
    assert other.used > first.used
    assert names(library) == ["harbour"]


def test_what_is_missing_is_said_with_what_may_be_meant(library: Library) -> None:
    for number, name in enumerate(("Quiet harbour", "Loud harbour", "Meadow")):
        library.save(name, style(number))
    with pytest.raises(BadSettings, match=r"no style 'Quite harbour' in the library\. Near it: Quiet harbour, Loud harbour\."):
        library.get("Quite harbour")
    for change in (lambda: library.delete("sun"), lambda: library.touch("sun"), lambda: library.rename("sun", "moon"), lambda: library.set_tags("sun", [])):
        with pytest.raises(BadSettings, match=r"no style 'sun' in the library\.$"):
            change()
    assert [library.named(name) for name in ("meadow", "sun")] == [style(2).long, None]
    assert near_names("MEAD", ["Meadow", "Sun"]) == ["Meadow"]


def test_rename_and_delete(library: Library) -> None:
    library.save("harbour", style(1), tags=["sea"])
    library.save("meadow", style(2))
    assert library.rename("harbour", "Harbour").name == "Harbour"
    with pytest.raises(BadSettings, match="'Meadow' in the library already"):
        library.rename("harbour", "Meadow")
    with pytest.raises(BadSettings, match="can't have any of"):
        library.rename("harbour", "a:b")
    assert library.rename("HARBOUR", "port").tags == ("sea",)
    library.delete("Port")
    assert names(library) == ["meadow"]


def test_search(library: Library) -> None:
    library.save("Bright harbour", style(1), tags=["Sea", "100 %"])
    library.save("Älv", style(2), tags=["sea_side"], favourite=True)
    library.save("meadow", style(3, RELEASED))
    library.touch("Bright harbour")
    assert names(library) == ["Bright harbour", "meadow", "Älv"]
    assert names(library, most=2) == ["Bright harbour", "meadow"]
    assert names(library, order="created") == ["meadow", "Älv", "Bright harbour"]
    assert names(library, order="name") == ["Bright harbour", "meadow", "Älv"]
    assert names(library, "SEA") == ["Bright harbour", "Älv"]
    assert names(library, "sea bright") == ["Bright harbour"]
    assert names(library, "ÄLV") == ["Älv"]
    assert names(library, "%") == ["Bright harbour"]
    assert names(library, "_") == ["Älv"]
    assert names(library, "stylecodes-80000") == ["meadow"]
    assert names(library, "forest") == []
    assert names(library, favourites_only=True) == ["Älv"]
    library.set_favourite("meadow", True)
    assert names(library, "sea", favourites_only=True) == ["Älv"]


def test_the_nearest_are_the_models_own_and_damage_is_near_nothing(library: Library, place: Path) -> None:
    wanted = blend.random_style(1)
    for name, latent in (("itself", wanted), ("like it", blend.mutate(wanted, 0.2, 1)), ("unlike", blend.random_style(2))):
        library.save(name, read(write_long(latent, TINY)))
    library.save("another model's", style(1, RELEASED))
    library.save("damaged", style(5))
    with sqlite3.connect(place) as db:
        db.execute("UPDATE styles SET code = 'nonsense' WHERE name = 'damaged'")
    found = library.nearest(wanted, TINY, 9)
    assert [one.name for one, _ in found] == ["itself", "like it", "unlike"]
    assert found[0][1] < 0.01 < found[1][1] < 0.3 < found[2][1]
    assert [one.name for one, _ in library.nearest(wanted, TINY, 1)] == ["itself"]
    assert "damaged" in names(library)


def test_a_style_of_a_model_that_is_not_here_is_kept_and_flagged(place: Path) -> None:
    library_at(place, (OTHER,)).save("mine", style(1, OTHER))
    found = library_at(place).get("mine")
    assert (found.known, found.latent) == (False, style(1, OTHER).latent)
    assert library_at(place, (TINY, OTHER)).get("mine").known


def test_export_and_import(library: Library, tmp_path: Path) -> None:
    library.save("harbour", style(1), noise(300, 200), tags=["sea"], favourite=True)
    library.save("meadow", style(2))
    library.save("mine", style(3, OTHER))
    text = library.export_json()
    other = library_at(tmp_path / "other.sqlite")
    other.save("Meadow", style(9))
    told = other.import_json(text)
    assert (told.added, told.same, told.renamed, told.unknown) == (3, 0, (("meadow", "meadow (2)"),), ("mine",))
    ours, theirs = library.get("harbour"), other.get("harbour")
    assert (theirs.code, theirs.tags, theirs.favourite, theirs.created, theirs.used) == (ours.code, ours.tags, ours.favourite, ours.created, ours.used)
    assert Image.open(io.BytesIO(theirs.thumbnail)).tobytes() == Image.open(io.BytesIO(ours.thumbnail)).tobytes()
    assert (other.get("meadow").code, other.get("meadow (2)").code) == (style(9).long, style(2).long)
    again = other.import_json(text)
    assert (again.added, again.same) == (0, 3)
    assert len(other.search()) == 4
    assert [one["name"] for one in json.loads(library.export_json(["MEADOW"]))["styles"]] == ["meadow"]


def test_a_long_name_still_fits_with_its_number(library: Library, tmp_path: Path) -> None:
    library.save("x" * 64, style(1))
    other = library_at(tmp_path / "other.sqlite")
    other.save("x" * 64, style(2))
    ((_, name),) = other.import_json(library.export_json()).renamed
    assert name == "x" * 60 + " (2)"


def entry(**values: Any) -> dict[str, Any]:
    return {"name": "fine", "code": style(1).long, "model": TINY.name} | values


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (entry(name="a:b"), "'a:b': A style's name can't have"),
        (entry(name=7), "number 2: It has no name"),
        (["list"], "number 2: It is no style"),
        (entry(code="nonsense"), "Its code is damaged, or not its model's"),
        (entry(code=write_short(blend.random_style(1), TINY)), "Its code is damaged"),
        (entry(model=RELEASED.name), "Its code is damaged, or not its model's"),
        (entry(model="x" * 101), "Its model's name is none"),
        (entry(tags="sea"), "tags are no list"),
        (entry(tags=[1]), "tags are no list"),
        (entry(favourite=1), "favourite is true or false"),
        (entry(created="now"), "The time of 'created'"),
        (entry(created=True), "The time of 'created'"),
        (entry(used=float("inf")), "The time of 'used'"),
        (entry(thumbnail="/etc/passwd"), "base64"),
        (entry(thumbnail="aGVsbG8="), "no picture"),
        (entry(thumbnail=5), "base64"),
    ],
)
def test_one_bad_entry_and_nothing_is_imported(library: Library, bad: Any, why: str) -> None:
    text = json.dumps({"format": library_json.FORMAT, "version": 1, "styles": [entry(name="good"), bad]})
    with pytest.raises(BadSettings, match="Nothing was imported: 1 of 2 styles") as error:
        library.import_json(text)
    assert why in str(error.value)
    assert library.search() == []


def test_many_bad_entries_are_not_all_told(library: Library) -> None:
    text = json.dumps({"format": library_json.FORMAT, "version": 1, "styles": [entry(name=f"a:{i}") for i in range(9)]})
    with pytest.raises(BadSettings, match=r"9 of 9 .*'a:4'.* And 4 more\.$") as error:
        library.import_json(text)
    assert "'a:5'" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"format": "refonly-styles", "version": 1, "styles": {}}', "1" * 5000])
def test_a_text_that_is_no_export(library: Library, text: str) -> None:
    with pytest.raises(BadSettings, match="no file of styles"):
        library.import_json(text)


def test_a_file_of_styles_of_another_version(library: Library) -> None:
    with pytest.raises(BadSettings, match="another version"):
        library.import_json(json.dumps({"format": library_json.FORMAT, "version": 2, "styles": []}))


def test_limits(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_json, "MOST", 2)
    text = json.dumps({"format": library_json.FORMAT, "version": 1, "styles": [entry(name=name) for name in "ab"]})
    library.save("c", style(3))
    with pytest.raises(BadSettings, match="holds 2 styles"):
        library.import_json(text)
    library.save("d", style(4))
    with pytest.raises(BadSettings, match="holds 2 styles"):
        library.save("e", style(5))
    assert sorted(names(library)) == ["c", "d"]
    monkeypatch.setattr(library_json, "MOST", 1)
    with pytest.raises(BadSettings, match="has 2 styles; 1 can"):
        library.import_json(text)
    monkeypatch.setattr(library_json, "LONGEST", 100)
    for call in (lambda: library.import_json(text), library.export_json):
        with pytest.raises(BadSettings, match="MB"):
            call()


def spoiled(place: Path, how: str) -> bytes:
    """A library with one style, then damaged. Returns the bytes."""
    library_at(place).save("harbour", style(1), noise(256, 256))
    whole = place.read_bytes()
    if how == "table":
        with sqlite3.connect(place) as db:
            db.execute("ALTER TABLE styles RENAME COLUMN words TO other")
        return place.read_bytes()
    data = {"text": b"this is no database at all, but a long enough text to be one" * 40, "cut off": whole[: len(whole) // 2], "holes": bytearray(whole)}[how]
    if isinstance(data, bytearray):
        data[4096:8192] = b"\xff" * 4096
    place.write_bytes(data)
    return bytes(data)


@pytest.mark.parametrize("how", ["text", "cut off", "holes", "table"])
def test_a_broken_file_is_kept_aside_and_reported(place: Path, how: str) -> None:
    data = spoiled(place, how)
    library = library_at(place)
    (aside,) = place.parent.glob("styles.broken-*.sqlite")
    assert aside.read_bytes() == data
    assert aside.name in library.problem
    assert library.search() == []
    library.save("meadow", style(2))
    again = library_at(place)
    assert (names(again), again.problem) == (["meadow"], "")


def test_a_file_that_breaks_while_it_is_in_use(place: Path) -> None:
    library = library_at(place)
    data = spoiled(place, "text")
    assert library.save("meadow", style(2)).name == "meadow"
    assert names(library) == ["meadow"]
    second = spoiled_again(place)
    assert library.search() == []
    kept = sorted(path.read_bytes() for path in place.parent.glob("styles.broken-*.sqlite"))
    assert kept == sorted([data, second])


def spoiled_again(place: Path) -> bytes:
    data = b"once more no database" * 99
    place.write_bytes(data)
    return data


def test_a_newer_file_is_refused_untouched(place: Path) -> None:
    library = library_at(place)
    library.save("harbour", style(1))
    with sqlite3.connect(place) as db:
        db.execute(f"PRAGMA user_version = {library_file.SCHEMA + 1}")
    data = place.read_bytes()
    for call in (lambda: library_at(place), library.search, lambda: library.save("meadow", style(2))):
        with pytest.raises(BadSettings, match="newer version"):
            call()
    assert place.read_bytes() == data
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_another_programs_database_is_refused_untouched(place: Path) -> None:
    place.parent.mkdir()
    with sqlite3.connect(place) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
    data = place.read_bytes()
    with pytest.raises(BadSettings, match="another program"):
        library_at(place)
    assert place.read_bytes() == data


def with_pragma(monkeypatch: pytest.MonkeyPatch, pragma: str) -> None:
    connect: Callable[[Path], sqlite3.Connection] = library_file._connect

    def limited(path: Path) -> sqlite3.Connection:
        db = connect(path)
        db.execute(pragma).fetchall()
        return db

    monkeypatch.setattr(library_file, "_connect", limited)


@pytest.mark.parametrize(("pragma", "why"), [("PRAGMA max_page_count = 8", "the disk is full"), ("PRAGMA query_only = 1", "it may not be written to")])
def test_a_full_disk_and_a_read_only_file_change_nothing(library: Library, place: Path, monkeypatch: pytest.MonkeyPatch, pragma: str, why: str) -> None:
    library.save("harbour", style(1))
    with_pragma(monkeypatch, pragma)
    with pytest.raises(CannotWrite, match=f"styles.sqlite can't be written: {why}. Nothing was changed."):
        library.save("meadow", style(2), noise(256, 256))
    assert names(library) == ["harbour"]
    assert library.problem == ""


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    library = library_at(tmp_path / "file" / "styles.sqlite")
    with pytest.raises(CannotWrite, match="can't be written"):
        library.save("harbour", style(1))


def test_a_folder_in_the_place_of_the_file(place: Path) -> None:
    place.mkdir(parents=True)
    with pytest.raises(PainterError, match="can't be read: the file or its folder"):
        library_at(place)


def test_a_file_that_is_held_for_too_long(library: Library, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library.save("harbour", style(1))
    monkeypatch.setattr(library_file, "_PATIENCE", 0.05)
    holder = sqlite3.connect(place, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(CannotWrite, match="another program is writing"):
        library.touch("harbour")
    holder.close()
    assert library.touch("harbour").used > 1000


def _save_many(path: str, first: int) -> None:
    library = Library(Path(path), lambda: (TINY,))
    for number in range(first, first + 6):
        library.save(f"style {number}", style(number))
        library.touch(f"style {number}")


@pytest.mark.parametrize("broken", [False, True])
def test_several_processes_at_once_lose_nothing(place: Path, broken: bool) -> None:
    place.parent.mkdir()
    if broken:
        place.write_bytes(b"this is no database at all" * 99)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_save_many, args=(str(place), 100 * number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert sorted(names(library_at(place))) == sorted(f"style {100 * number + i}" for number in range(3) for i in range(6))
    assert len(list(place.parent.glob("styles.broken-*"))) == broken


def test_what_is_read_together_is_of_one_moment(place: Path) -> None:
    """Else a table that another process makes meanwhile looks broken, or like another program's."""
    place.parent.mkdir()
    place.touch()
    seen: list[int] = []

    def look(db: sqlite3.Connection) -> None:
        count = "SELECT count(*) FROM sqlite_master"
        seen.append(db.execute(count).fetchone()[0])
        with closing(sqlite3.connect(place, timeout=0.05, isolation_level=None)) as other, pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("CREATE TABLE styles (key TEXT)")
        seen.append(db.execute(count).fetchone()[0])

    library_file.StyleFile(place)._on(look)
    assert seen == [0, 0]


def test_the_latent_of_a_code_is_its_own_models() -> None:
    assert latent_of(style(4, OTHER).long, OTHER.name) == style(4, OTHER).latent
    with pytest.raises(BadSettings):
        latent_of(style(4, OTHER).long, TINY.name)
    with pytest.raises(BadSettings, match="long form"):
        latent_of(style(4, OTHER).short, OTHER.name)
