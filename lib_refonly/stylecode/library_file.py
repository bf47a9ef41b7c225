"""The library's SQLite file: opened anew for each piece of work, so that threads and several WebUIs may share it; a broken one is kept aside."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from lib_refonly.errors import BadSettings, CannotWrite, PainterError

SCHEMA = 1
"""Version of the tables. A higher one is a newer program's."""
COLUMNS = ("key", "name", "code", "model", "tags", "favourite", "created", "used", "words", "thumbnail")
"""`key`: the folded name. `words`: what a search looks through, folded. The largest is last: SQLite reads a row from its beginning."""
_MARK = 0x52654F53  # which program's file it is, in SQLite's header
_PATIENCE = 10.0
"""Seconds that one waits for another process."""
_TABLE = """
CREATE TABLE styles (
    key TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, code TEXT NOT NULL, model TEXT NOT NULL, tags TEXT NOT NULL,
    favourite INTEGER NOT NULL, created REAL NOT NULL, used REAL NOT NULL, words TEXT NOT NULL, thumbnail BLOB NOT NULL
)"""
_REASONS = {
    "locked": "another program is writing to it. Try again in a moment",
    "readonly": "it may not be written to",
    "full": "the disk is full",
    "unable to open": "the file or its folder may not be used",
}
"""What SQLite's own words have in them -> ours. (Its error numbers are only told from Python 3.11 on.)"""

T = TypeVar("T")


class StyleFile:
    """`problem`: what happened to the file, in a sentence; "" as long as nothing did.

    Raises (when made, and by each method):
        BadSettings: the file is a newer version's, or another program's; it is not touched.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.problem = path, ""
        self._kept_whole(lambda: self._on(_inspect) if path.exists() else None, "read")

    def read(self, work: Callable[[sqlite3.Connection], T], empty: T) -> T:
        """What `work` finds; `empty` where nothing was written yet. Raises: PainterError: the file cannot be read."""
        return self._kept_whole(lambda: self._on(lambda db: work(db) if _tables(db) else empty) if self.path.exists() else empty, "read")

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Everything that `work` does, or nothing if it raises. Raises: CannotWrite: disk full, no permission, or another program holds the file."""
        return self._kept_whole(lambda: self._in_transaction(work), "written")

    def _kept_whole(self, work: Callable[[], T], verb: str) -> T:
        """Do the work; where the file turns out to be broken, put it aside and do the work on a fresh one."""
        try:
            try:
                return work()
            except sqlite3.DatabaseError as error:
                if not _is_broken(error):
                    raise
                self._put_aside()
                return work()
        except (sqlite3.Error, OSError) as error:
            reason = next((words for sign, words in _REASONS.items() if sign in str(error)), getattr(error, "strerror", None) or str(error))
            kind = CannotWrite if verb == "written" else PainterError
            raise kind(f"The library {self.path.name} can't be {verb}: {reason}. Nothing was changed.") from error

    def _on(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with closing(_connect(self.path)) as db:
            db.execute("BEGIN")  # all that is read is of one moment: another process may be making the table
            _refuse_newer(db, self.path)
            return work(db)

    def _in_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(_connect(self.path)) as db:
            db.execute("BEGIN IMMEDIATE")  # waits for its turn here: a transaction that first reads and then writes could wait for ever
            try:
                _refuse_newer(db, self.path)
                _begin(db)
                out = work(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # a full disk has ended it already
                    db.execute("ROLLBACK")
                raise
            return out

    def _put_aside(self) -> None:
        with self._alone():
            if self._is_sound():  # another process was here first
                return
            aside = self._free_place()
            os.replace(self.path, aside)
        self.problem = f"The style library was damaged. It is kept as {aside.name} in {aside.parent}; a new, empty one was begun."

    def _is_sound(self) -> bool:
        try:
            if self.path.exists():
                self._on(_inspect)
        except sqlite3.DatabaseError as error:
            if _is_broken(error):
                return False
            raise
        return True

    def _free_place(self) -> Path:
        when = time.strftime("%Y%m%d-%H%M%S")
        names = (f"{self.path.stem}.broken-{when}{more}{self.path.suffix}" for more in ("", *(f"-{i}" for i in range(2, 1000))))
        return next(place for place in map(self.path.with_name, names) if not place.exists())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time. SQLite's own lock on an empty file: on every system it is let go when the process dies."""
        with closing(_connect(self.path.with_suffix(".lock"))) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            yield
            lock.execute("ROLLBACK")


class _Broken(sqlite3.DatabaseError):
    """Found by looking, not by stumbling."""


def _is_broken(error: sqlite3.DatabaseError) -> bool:
    """SQLite's NOTADB and CORRUPT come as DatabaseError itself; locks, full disks and the like as its subclasses."""
    return type(error) in (sqlite3.DatabaseError, _Broken)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
    db.text_factory = lambda raw: raw.decode("utf-8", "replace")  # one damaged name must not hide all the others
    return db


def _refuse_newer(db: sqlite3.Connection, path: Path) -> None:
    mark, version = _pragma(db, "application_id"), _pragma(db, "user_version")
    if mark == _MARK and version > SCHEMA:
        raise BadSettings(f"The library {path.name} was written by a newer version of this program. Update it; the file was left as it is.")
    if mark != _MARK and (mark or version or _tables(db)):
        raise BadSettings(f"{path.name} belongs to another program and was left as it is. Choose another file for the library.")


def _inspect(db: sqlite3.Connection) -> None:
    if (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise _Broken(found)
    columns = tuple(row[1] for row in db.execute("PRAGMA table_info(styles)"))
    if _tables(db) and columns != COLUMNS:
        raise _Broken("the table of styles is not as it was made")


def _begin(db: sqlite3.Connection) -> None:
    if not _tables(db):
        db.execute(_TABLE)
        db.execute(f"PRAGMA application_id = {_MARK}")
        db.execute(f"PRAGMA user_version = {SCHEMA}")


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _tables(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
