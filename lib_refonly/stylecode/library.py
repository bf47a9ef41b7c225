"""The painter's styles: names, tags, favourites, small pictures; what was used last, and what is near. In one SQLite file that several WebUIs share."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from PIL import Image

from lib_refonly.errors import BadSettings
from lib_refonly.models.registry import user_folder
from lib_refonly.stylecode import library_json
from lib_refonly.stylecode.codes import Code, CodeModel
from lib_refonly.stylecode.codes.blend import distance
from lib_refonly.stylecode.library_file import COLUMNS, StyleFile
from lib_refonly.stylecode.saved import LONGEST_NAME, SavedStyle, check_name, check_tags, folded, latent_of, thumbnail_of
from lib_refonly.stylecode.shelf import known as models_here

Order = Literal["name", "recent", "created"]
_ORDERS = {"name": "key", "recent": "used DESC, rowid DESC", "created": "created DESC, rowid DESC"}
_SELECT = "SELECT name, code, model, tags, favourite, created, used, thumbnail FROM styles"


@dataclass(frozen=True)
class Imported:
    """`added` counts the renamed, too. `same`: they were here. `renamed`: the name in the file, and the one it has here.
    `unknown`: names of styles whose model is not here."""

    added: int
    same: int
    renamed: tuple[tuple[str, str], ...] = ()
    unknown: tuple[str, ...] = ()


def library_file() -> Path:
    """$REFONLY_STYLES, else `styles.sqlite` beside the painter's models folder."""
    chosen = os.environ.get("REFONLY_STYLES")
    return Path(chosen) if chosen else user_folder().parent / "styles.sqlite"


class Library:
    """The file is made when the first style is saved. Any thread and any process may call.

    `known`: whose codes can be read here. `problem`: what happened to the file, in a sentence; "" as long as nothing did.

    Raises (when made, and by each method):
        BadSettings: the file is a newer version's, or another program's; it is not touched. PainterError: it cannot be read.
    """

    def __init__(self, path: Path, known: Callable[[], Iterable[CodeModel]] = models_here, clock: Callable[[], float] = time.time) -> None:
        self._file, self._known, self._clock = StyleFile(path), known, clock

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def problem(self) -> str:
        return self._file.problem

    def save(
        self,
        name: str,
        code: Code,
        picture: Image.Image | None = None,
        *,
        tags: Sequence[str] | None = None,
        favourite: bool | None = None,
        replace: bool = False,
    ) -> SavedStyle:
        """Keep a style. Where it replaces one, tags, favourite and date stay unless told, and the picture if the code is the same.

        Raises:
            BadSettings: no good name or tags, the name is taken and `replace` is not said, or the library is full. CannotWrite.
        """
        name, told = check_name(name, tuple(self._known())), None if tags is None else check_tags(tags)
        thumbnail, now = b"" if picture is None else thumbnail_of(picture), self._clock()

        def work(db: sqlite3.Connection) -> SavedStyle:
            old = _find(db, name)
            if old is not None and not replace:
                raise BadSettings(f"There is a style {old.name!r} in the library already. Choose another name, or replace it.")
            kept = old or SavedStyle(name, code.long, code.model.name, (), False, now, now, b"")
            style = dataclasses.replace(
                kept,
                name=name,
                code=code.long,
                model=code.model.name,
                tags=kept.tags if told is None else told,
                favourite=kept.favourite if favourite is None else favourite,
                used=now,
                thumbnail=thumbnail or (kept.thumbnail if kept.code == code.long else b""),
            )
            _put(db, style)
            _refuse_too_many(db)
            return style

        return self._flagged([self._file.write(work)])[0]

    def get(self, name: str) -> SavedStyle:
        """Capitals don't matter. Raises: BadSettings: there is none of that name; the text names those that are near."""
        found = self._file.read(lambda db: _there(db, name), None)
        return self._flagged([found or _missing(name, ())])[0]

    def named(self, name: str) -> str | None:
        """The code of a style; None: there is none of that name."""
        found = self._file.read(lambda db: _find(db, name), None)
        return None if found is None else found.code

    def rename(self, name: str, new: str) -> SavedStyle:
        """Raises: BadSettings: there is no `name`, `new` is taken, or no good name. CannotWrite."""
        new = check_name(new, tuple(self._known()))

        def work(db: sqlite3.Connection) -> SavedStyle:
            style = _there(db, name)
            if folded(new) != folded(style.name) and _find(db, new) is not None:
                raise BadSettings(f"There is a style {new!r} in the library already. Choose another name.")
            return _change(db, style, name=new)

        return self._flagged([self._file.write(work)])[0]

    def delete(self, name: str) -> None:
        """Raises: BadSettings: there is none of that name. CannotWrite."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM styles WHERE key = ?", (folded(_there(db, name).name),))

        self._file.write(work)

    def set_tags(self, name: str, tags: Sequence[str]) -> SavedStyle:
        """Raises: BadSettings: there is none of that name, or they are no good tags. CannotWrite."""
        return self._changed(name, tags=check_tags(tags))

    def set_favourite(self, name: str, favourite: bool) -> SavedStyle:
        """Raises: BadSettings: there is none of that name. CannotWrite."""
        return self._changed(name, favourite=favourite)

    def touch(self, name: str) -> SavedStyle:
        """It was used just now. Raises: BadSettings: there is none of that name. CannotWrite."""
        return self._changed(name, used=self._clock())

    def search(self, text: str = "", *, favourites_only: bool = False, order: Order = "recent", most: int = -1) -> list[SavedStyle]:
        """Styles whose name, tags or model have every word of `text` in them; capitals don't matter. `most`: no more than so many; -1: all."""
        words = folded(text).split()
        where = " AND ".join(["instr(words, ?)"] * len(words) + ["favourite"] * favourites_only) or "1"
        # The keys first: SQLite would carry all the pictures through its sorting.
        query = f"SELECT key FROM styles WHERE {where} ORDER BY {_ORDERS[order]} LIMIT ?"

        def work(db: sqlite3.Connection) -> list[SavedStyle]:
            keys = [row[0] for row in db.execute(query, [*words, most])]
            return [style for key in keys if (style := _by_key(db, key))]  # one may be gone by now

        return self._flagged(self._file.read(work, []))

    def nearest(self, latent: Sequence[float], model: CodeModel, count: int = 6) -> list[tuple[SavedStyle, float]]:
        """The model's styles that are like 20 numbers, nearest first, with their distance: 0 the same, 1 nothing to do with it."""

        def work(db: sqlite3.Connection) -> list[tuple[SavedStyle, float]]:
            far: list[tuple[float, str]] = []
            for key, code in db.execute("SELECT key, code FROM styles WHERE model = ?", (model.name,)):
                try:
                    far.append((distance(latent, latent_of(code, model.name)), key))
                except BadSettings:  # damaged: it is shown in the gallery, and near nothing
                    continue
            return [(style, away) for away, key in sorted(far)[:count] if (style := _by_key(db, key))]

        found = self._file.read(work, [])
        return list(zip(self._flagged([style for style, _ in found]), (away for _, away in found), strict=True))

    def export_json(self, names: Iterable[str] | None = None) -> str:
        """All styles, or those named, as one text. Raises: BadSettings: there is none of a name, or they make too large a file."""
        return library_json.write(self.search(order="name") if names is None else [self.get(name) for name in names])

    def import_json(self, text: str) -> Imported:
        """Take in what `export_json` wrote: all of it or nothing. A style whose name is another's here gets a number behind its name.

        Raises:
            BadSettings: it is no such text, styles in it are wrong (the text names them), or they would be too many. CannotWrite.
        """
        here = tuple(self._known())
        styles, names = library_json.entries(text, here), {model.name for model in here}

        def work(db: sqlite3.Connection) -> Imported:
            same: list[SavedStyle] = []
            added: list[tuple[str, SavedStyle]] = []
            for style in styles:
                name = _free_name(db, style)
                if name is None:
                    same.append(style)
                    continue
                new = dataclasses.replace(style, name=name)
                _put(db, new)
                added.append((style.name, new))
            _refuse_too_many(db)
            renamed = tuple((before, new.name) for before, new in added if before != new.name)
            return Imported(len(added), len(same), renamed, tuple(new.name for _, new in added if new.model not in names))

        return self._file.write(work)

    def _changed(self, name: str, **values: Any) -> SavedStyle:
        return self._flagged([self._file.write(lambda db: _change(db, _there(db, name), **values))])[0]

    def _flagged(self, styles: Sequence[SavedStyle]) -> list[SavedStyle]:
        """Asked once for all: whoever knows which models are here reads their files."""
        known = {model.name for model in self._known()} if styles else set()
        return [dataclasses.replace(style, known=style.model in known) for style in styles]


def near_names(name: str, names: Sequence[str]) -> list[str]:
    """Up to three that may be meant."""
    keys = {folded(other): other for other in names}
    holding = [key for key in keys if folded(name) in key] if name.strip() else []
    return [keys[key] for key in dict.fromkeys([*difflib.get_close_matches(folded(name), keys, 3), *sorted(holding, key=len)])][:3]


def _there(db: sqlite3.Connection, name: str) -> SavedStyle:
    return _find(db, name) or _missing(name, [row[0] for row in db.execute("SELECT name FROM styles")])


def _missing(name: str, names: Sequence[str]) -> NoReturn:
    near = near_names(name, names)
    told = f" Near it: {', '.join(near)}." if near else ""
    raise BadSettings(f"There is no style {name[:LONGEST_NAME]!r} in the library.{told}")


def _find(db: sqlite3.Connection, name: str) -> SavedStyle | None:
    return _by_key(db, folded(" ".join(name.split())))


def _by_key(db: sqlite3.Connection, key: str) -> SavedStyle | None:
    row = db.execute(f"{_SELECT} WHERE key = ?", (key,)).fetchone()
    return None if row is None else _style(row)


def _free_name(db: sqlite3.Connection, style: SavedStyle) -> str | None:
    """Its own, or with a number behind it. None: the style is here, under one of these."""
    name, number = style.name, 1
    while (other := _find(db, name)) is not None:
        if other.code == style.code:
            return None
        number += 1
        tail = f" ({number})"
        name = style.name[: LONGEST_NAME - len(tail)].rstrip() + tail
    return name


def _style(row: Sequence[Any]) -> SavedStyle:
    name, code, model, tags, favourite, created, used, thumbnail = row
    return SavedStyle(name, code, model, _tags(tags), bool(favourite), created, used, bytes(thumbnail))


def _tags(text: str) -> tuple[str, ...]:
    try:
        return tuple(map(str, json.loads(text)))
    except (ValueError, TypeError):  # damaged
        return ()


def _put(db: sqlite3.Connection, style: SavedStyle) -> None:
    words = folded("\n".join((style.name, *style.tags, style.model)))
    told = (style.name, style.code, style.model, json.dumps(style.tags), style.favourite, style.created, style.used)
    new = ", ".join(f"{column} = excluded.{column}" for column in COLUMNS[1:])
    places = ", ".join("?" * len(COLUMNS))
    db.execute(
        f"INSERT INTO styles ({', '.join(COLUMNS)}) VALUES ({places}) ON CONFLICT (key) DO UPDATE SET {new}",
        (folded(style.name), *told, words, style.thumbnail),
    )


def _change(db: sqlite3.Connection, style: SavedStyle, **values: Any) -> SavedStyle:
    new = dataclasses.replace(style, **values)
    db.execute("UPDATE styles SET key = ? WHERE key = ?", (folded(new.name), folded(style.name)))
    _put(db, new)
    return new


def _refuse_too_many(db: sqlite3.Connection) -> None:
    """Last in a transaction, which is then taken back."""
    if db.execute("SELECT count(*) FROM styles").fetchone()[0] > library_json.MOST:
        raise BadSettings(f"A library holds {library_json.MOST} styles. Delete some first, or begin another file.")
