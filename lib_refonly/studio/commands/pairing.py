"""Which drawing is coloured from which reference, and where the result goes. Looks at names only; opens no picture."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_refonly.errors import BadPicture, BadSettings

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"})


@dataclass(frozen=True)
class Pair:
    """One drawing to colour. `out` is the file of its first variation."""

    reference: Path
    lines: Path
    out: Path


@dataclass(frozen=True)
class Pairing:
    """`unpaired` are pictures of two folders that have no counterpart of the same name."""

    pairs: tuple[Pair, ...]
    unpaired: tuple[Path, ...] = ()


def pair(reference: Path, lines: Path, out: Path) -> Pairing:
    """Work out the pairs. A file and a file: one. One reference and a folder of drawings: all of them. Two folders: by name without ending.
    A folder of references and one drawing: the reference of that drawing's name.

    Raises:
        BadPicture: nothing there, or no pictures in a folder.
        BadSettings: `out` does not fit, two files claim one name, or a result would overwrite an input.
    """
    for path in (reference, lines):
        if path.parts[:1] in (("http:",), ("https:",)):
            raise BadPicture(f"{path.name}: nothing is fetched from the network. Save the picture, then give its file.")
        if not path.exists():
            raise BadPicture(f"{path}: there is no such file or folder.")
    drawings = _pictures(lines) if lines.is_dir() else [lines]
    if not reference.is_dir():
        found, unpaired = [(reference, drawing) for drawing in drawings], []
    else:
        found, unpaired = _by_name(_pictures(reference), drawings, report_references=lines.is_dir())
        if not found:
            raise BadPicture(f"No picture in {reference} has the name of {'one in ' if lines.is_dir() else ''}{lines}.")
    target = _one_target if not lines.is_dir() else _folder_target
    pairs = tuple(Pair(picture, drawing, target(out, drawing)) for picture, drawing in found)
    return Pairing(pairs, tuple(unpaired))


def outputs(out: Path, count: int, layer: bool) -> list[tuple[Path, Path | None]]:
    """The files of one drawing, (picture, colour layer or None) a variation: NAME.png, NAME.2.png; NAME.layer.png, NAME.2.layer.png."""
    stems = [out.stem if number == 1 else f"{out.stem}.{number}" for number in range(1, count + 1)]
    return [(out.with_name(f"{stem}.png"), out.with_name(f"{stem}.layer.png") if layer else None) for stem in stems]


def refuse_collisions(pairs: Sequence[Pair], extra_inputs: Iterable[Path], count: int, layer: bool) -> None:
    """Nothing is overwritten that is an input or another drawing's result.

    Raises:
        BadSettings: names the file.
    """
    inputs = {_identity(path) for one in pairs for path in (one.reference, one.lines)} | {_identity(path) for path in extra_inputs}
    claimed: dict[str, Path] = {}
    for one in pairs:
        for path in (path for both in outputs(one.out, count, layer) for path in both if path is not None):
            if _identity(path) in inputs:
                raise BadSettings(f"{path} is one of the pictures to read: it would be overwritten. Name another place for the results (-o).")
            other = claimed.setdefault(_identity(path), one.lines)
            if other is not one.lines:
                raise BadSettings(f"{other.name} and {one.lines.name} would both be written to {path.name}. Rename one of them.")


def name_key(path: Path) -> str:
    """What two files share that belong together: the name without its ending, whatever the system made of accents and capitals."""
    return unicodedata.normalize("NFC", path.stem).casefold()


def _identity(path: Path) -> str:
    """Two names of one file give one identity, also where capitals do not count; wrongly taking two for one only asks for another name."""
    return unicodedata.normalize("NFC", str(path.resolve())).casefold()


def _pictures(folder: Path) -> list[Path]:
    """The pictures directly inside, in the order of their names. Hidden files (macOS writes some beside every picture) are no pictures."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES and not path.name.startswith(".") and path.is_file()]
    if not found:
        raise BadPicture(f"{folder}: there are no pictures in this folder ({', '.join(sorted(s[1:] for s in PICTURES))}).")
    return sorted(found, key=lambda path: (name_key(path), path.name))


def _by_name(references: Sequence[Path], drawings: Sequence[Path], report_references: bool) -> tuple[list[tuple[Path, Path]], list[Path]]:
    by_key: dict[str, Path] = {}
    for path in references:
        other = by_key.setdefault(name_key(path), path)
        if other is not path:
            raise BadSettings(f"The references {other.name} and {path.name} have the same name: which is meant? Rename one of them.")
    found = [(by_key[name_key(drawing)], drawing) for drawing in drawings if name_key(drawing) in by_key]
    used = {reference for reference, _ in found}
    alone = [drawing for drawing in drawings if name_key(drawing) not in by_key]
    return found, alone + [path for path in references if report_references and path not in used]


def _one_target(out: Path, drawing: Path) -> Path:
    if out.is_dir():
        return out / f"{drawing.stem}.png"
    if out.suffix.lower() != ".png":
        raise BadSettings(f"-o {out}: name a file that ends in .png, or a folder that exists.")
    if not out.parent.is_dir():
        raise BadSettings(f"-o {out}: the folder {out.parent} does not exist.")
    return out


def _folder_target(out: Path, drawing: Path) -> Path:
    if out.exists() and not out.is_dir():
        raise BadSettings(f"-o {out}: this is a file, and a folder of drawings needs a folder for the results.")
    return out / f"{drawing.stem}.png"
