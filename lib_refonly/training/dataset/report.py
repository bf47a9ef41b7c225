"""What a build came to, as Markdown, and a sheet of examples beside it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lib_refonly.errors import BadPicture
from lib_refonly.imaging.decode import open_picture
from lib_refonly.imaging.infotext import save_png, write_atomically
from lib_refonly.training.dataset.pairs import PairReport
from lib_refonly.training.dataset.stages import Item
from lib_refonly.training.sheets import sheet

REPORT, SHEET = "report.md", "report.png"
_ACROSS, _CELL = 8, 128
_FILES_NAMED = 5
_SHOWN_PAIRS = 8

_NAMED = re.compile(r"'.*'")
"""A file's name in a message: the same fault of many files is one reason."""
_HOW_CUT = {
    "alpha": "were cut out by their own transparency",
    "model": "were cut out by the segmentation model",
    "no": "were not cut out: they have no transparency, and no segmentation model was used. They keep their background",
}
Cell = NDArray[np.uint8]


@dataclass(frozen=True)
class Summary:
    """items: all that were looked at, those thrown out with their reasons. others: files that are no pictures by their ending. shards: (count, samples).
    note: what is worth knowing about the pairs."""

    items: Sequence[Item]
    others: int
    pairs: PairReport | None
    shards: tuple[int, int]
    note: str = ""

    @property
    def kept(self) -> list[Item]:
        return [item for item in self.items if not item.reason]

    def sentence(self) -> str:
        """For the terminal."""
        told = f"{len(self.kept)} of {len(self.items)} pictures kept"
        return f"{told}; {self.pairs.pairs if self.pairs else 0} pairs, {self.shards[1]} samples in {self.shards[0]} shard{'' if self.shards[0] == 1 else 's'}."


def write_report(out: Path, source: Path, summary: Summary, read: Mapping[str, tuple[bytes, bytes]], pairs: Sequence[tuple[str, str]]) -> None:
    """Write report.md and report.png into `out`.

    Args:
        source: where thrown-out pictures are shown from.
        read: (picture, blueprint) as PNG, of the examples, by key.
        pairs: (reference, target) keys of the examples.

    Raises:
        CannotWrite.
    """
    rows, about = _rows(source, summary, read, pairs)
    if rows:
        save_png(out / SHEET, sheet(rows, _CELL))
    lines = ["# The data set", summary.sentence(), _reasons(summary), _cuts(summary), _pairs(summary)]
    if rows:
        lines += [f"![Examples]({SHEET})", "\n".join(f"{number}. {what}" for number, what in enumerate(about, 1))]
    write_atomically(out / REPORT, ("\n\n".join(line for line in lines if line) + "\n").encode("utf-8", "backslashreplace"))


def _reasons(summary: Summary) -> str:
    """A table of why pictures were thrown out, with the first files of each reason."""
    by_reason: dict[str, list[str]] = {}
    for item in summary.items:
        if item.reason:
            by_reason.setdefault(_NAMED.sub("it", item.reason), []).append(item.about["file"])
    rows = []
    for reason, files in sorted(by_reason.items(), key=lambda entry: (-len(entry[1]), entry[0])):
        named = ", ".join(f"`{_plain(file)}`" for file in files[:_FILES_NAMED]) + (" ..." if len(files) > _FILES_NAMED else "")
        rows.append(f"| {_plain(reason)} | {len(files)} | {named} |")
    others = f"{summary.others} other files are no pictures by their ending." if summary.others else ""
    table = "\n".join(["| thrown out | pictures | such as |", "| --- | ---: | --- |", *rows]) if rows else "Nothing was thrown out."
    return "\n\n".join(filter(None, (table, others)))


def _plain(text: str) -> str:
    """A file name or a message can't end the table or the code it stands in."""
    return "".join("?" if character in "|`<>\n\r" or not character.isprintable() else character for character in text)


def _cuts(summary: Summary) -> str:
    counts = Counter(str(item.about.get("cut")) for item in summary.kept)
    return "\n".join(f"- {counts[how]} pictures {said}." for how, said in _HOW_CUT.items() if counts[how])


def _pairs(summary: Summary) -> str:
    if summary.pairs is None:
        return "There are no pairs: that takes two pictures at least."
    alone = summary.pairs.rows - summary.pairs.pictures
    return f"{summary.pairs.sentence()} {alone} pictures have no partner and are in no sample.{summary.note}"


def _rows(source: Path, summary: Summary, read: Mapping[str, tuple[bytes, bytes]], pairs: Sequence[tuple[str, str]]) -> tuple[list[list[Cell]], list[str]]:
    rows: list[list[Cell]] = []
    about: list[str] = []
    kept = [item.key for item in summary.kept if item.key in read][:_ACROSS]
    if kept:
        rows.append([_cell(read[key][0]) for key in kept])
        about.append("Kept, as they are in the samples.")
    for reason in sorted({item.reason for item in summary.items if item.reason and not item.reason.startswith("broken")}):
        cells = [_cell_of_file(source / item.about["file"]) for item in summary.items if item.reason == reason][:_ACROSS]
        if any(cell is not None for cell in cells):
            rows.append([cell for cell in cells if cell is not None])
            about.append(f"Thrown out, {_plain(reason)}.")
    shown = [pair for pair in pairs if pair[0] in read and pair[1] in read][:_SHOWN_PAIRS]
    for what, cells in (
        ("Pairs: the references,", [_cell(read[one][0]) for one, _ in shown]),
        ("their targets,", [_cell(read[other][0]) for _, other in shown]),
        ("and the targets' blueprints.", [_cell(read[other][1]) for _, other in shown]),
    ):
        rows += [cells] * bool(cells)
        about += [what] * bool(cells)
    return rows, about


def _cell(data: bytes) -> Cell:
    return _fitted(Image.open(BytesIO(data), formats=("PNG",)))


def _cell_of_file(path: Path) -> Cell | None:
    try:
        return _fitted(open_picture(path))
    except (BadPicture, OSError):  # it was there before, but nobody waits for a report
        return None


def _fitted(picture: Image.Image) -> Cell:
    """In a grey square, whole."""
    picture = picture.convert("RGB")
    picture.thumbnail((_CELL, _CELL))
    square = Image.new("RGB", (_CELL, _CELL), (128, 128, 128))
    square.paste(picture, ((_CELL - picture.width) // 2, (_CELL - picture.height) // 2))
    return np.asarray(square)
