"""ONE-PIC from the painter's own pictures: what is in a folder or a manifest, whether it can be trained from, and the two forms that trainers read.

A folder has one subfolder for each panel's name (`reference/`, `lines/`, `target/`). Files of the same name, without the ending, are one record; its caption
is `target/NAME.txt`. A manifest is a .jsonl or a .csv with a column for each name, and `caption`; its paths are relative to the manifest, and lead nowhere
outside its folder.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lib_refonly.errors import BadPicture, BadSettings
from lib_refonly.imaging.decode import FORMATS, decode, read_source
from lib_refonly.imaging.infotext import save_png, write_atomically
from lib_refonly.onepic.compose import composed
from lib_refonly.onepic.project import Panel, Project
from lib_refonly.onepic.tasks import project_of, task_named
from lib_refonly.training.drawings.dataset import DESCRIPTION, DONE, META
from lib_refonly.training.kohya.canvases import CAPTION, FILE, TARGET, Canvases
from lib_refonly.training.panels import GREY, KINDS

MOST_TOLD = 20
ENLARGED = 2
"""A picture that has to be enlarged more than this is too small: what is learnt from it is blur."""
STEP = 64
"""Pixels. UNets halve 8 px cells three times."""


@dataclass(frozen=True)
class Record:
    """name: for messages. pictures: by the panels' names, each a file that was found; where one is missing, `read` has said so."""

    name: str
    pictures: Mapping[str, Path]
    caption: str = ""


def build(source: Path, canvases: Canvases, out: Path, own: bool = False) -> tuple[int, list[str]]:
    """Check everything, then write what sd-scripts reads, or with `own` what this project's trainer reads. Returns how many records, and notes.

    Raises:
        BadSettings: as `read`; `out` is not empty; panels of this size or with these names can't be trained on. CannotWrite.
    """
    unknown = sorted(set(canvases.names) - set(KINDS))
    if own and (unknown or canvases.width != canvases.height):
        raise BadSettings(f"This project's trainer knows square panels, which are called {', '.join(KINDS)}. These are other ones.")
    if not own and any(side % STEP for side in canvases.size):
        raise BadSettings(f"A canvas is {canvases.size[0]} x {canvases.size[1]} px; both have to be multiples of {STEP}. Take another --size.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadSettings(f"{out} is not empty. Choose an empty folder.")
    records, notes = read(source, canvases)
    out.mkdir(parents=True, exist_ok=True)
    (write_set if own else write_canvases)(records, canvases, out)
    return len(records), notes


def read(source: Path, canvases: Canvases) -> tuple[list[Record], list[str]]:
    """The records of a folder or a manifest, every picture of which was opened; and what is worth knowing, but no fault.

    Raises:
        BadSettings: something can't be trained from. All that was found is told, up to MOST_TOLD lines.
    """
    names = list(dict.fromkeys(canvases.names))
    project = blank(canvases)
    problems: list[str] = []
    if source.is_dir():
        root, records = source, list(_of_folder(source, names, problems))
    else:
        root, records = source.parent, list(_of_manifest(source, names, problems))
    for record in records:
        for name in names:
            problem = _problem(record.pictures.get(name), root, project.panels[canvases.names.index(name)], canvases)
            problems += [f"{record.name}, {name}: {problem}"] * bool(problem)
    if not records and not problems:
        problems.append(f"{source} has no record. A folder needs pictures in {', '.join(f'{name}/' for name in names)}; a manifest needs lines.")
    if problems:
        more = [f"... and {len(problems) - MOST_TOLD} more"] * (len(problems) > MOST_TOLD)
        raise BadSettings("\n- ".join(["This can't be trained from:", *problems[:MOST_TOLD], *more]))
    silent = [record.name for record in records if not record.caption]
    shown = ", ".join(silent[:5]) + ", ..." * (len(silent) > 5)
    return records, [f"{len(silent)} of {len(records)} records have no caption: {shown}"] * bool(silent)


def blank(canvases: Canvases) -> Project:
    """Empty panels that pictures are fitted into as the task has it; without a task, or in another layout, by cropping.

    Raises:
        BadSettings: no such task, or sizes that no project may have.
    """
    roles = ["target" if name == TARGET else "context" for name in canvases.names]
    if canvases.task:
        project = project_of(task_named(canvases.task), canvases.width, canvases.height)
        if project.layout == canvases.layout and [panel.role for panel in project.panels] == roles:
            return project
    return Project(canvases.task, canvases.layout, canvases.width, canvases.height, tuple(Panel(role) for role in roles))


# --- what there is ------------------------------------------------------------------------------------------------------------------------------------


def _of_folder(folder: Path, names: Sequence[str], problems: list[str]) -> Iterator[Record]:
    unknown = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".") and path.name not in names)
    problems += [f"the folder {name} is no panel's; panels are {', '.join(names)}" for name in unknown]
    found = {name: _pictures(folder / name, problems) for name in names}
    for stem in sorted({stem for files in found.values() for stem in files}):
        yield Record(stem, {name: files[stem] for name, files in found.items() if stem in files}, _caption(folder / TARGET / f"{stem}.txt", problems))


def _pictures(folder: Path, problems: list[str]) -> dict[str, Path]:
    """By name without ending. Other files, and hidden ones, are passed over."""
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in FORMATS}
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() not in endings or path.name.startswith("."):
            continue
        if path.stem in found:
            problems.append(f"{folder.name}/{path.name} and {folder.name}/{found[path.stem].name} claim the same record")
        found[path.stem] = path
    return found


def _caption(path: Path, problems: list[str]) -> str:
    try:
        return _line(path.read_text(encoding="utf-8-sig")) if path.exists() else ""
    except (OSError, ValueError) as error:
        problems.append(f"{path.parent.name}/{path.name} can't be read as UTF-8 text ({type(error).__name__})")
        return ""


def _line(caption: str) -> str:
    """Trainers read one line."""
    return " ".join(caption.split())


def _of_manifest(path: Path, names: Sequence[str], problems: list[str]) -> Iterator[Record]:
    told: set[str] = set()
    for where, row in _rows(path, problems):
        for name in row:
            if name not in (*names, CAPTION) and name not in told:
                problems.append(f"{where}: {str(name)[:40]} is no panel's; panels are {', '.join(names)}")
                told.add(name)
            elif not isinstance(row[name], str | None) and name not in told:
                problems.append(f"{where}: {name} has to be a text")
        row = {name: value for name, value in row.items() if isinstance(value, str)}
        yield Record(where, {name: path.parent / row[name] for name in names if row.get(name)}, _line(row.get(CAPTION, "")))


def _rows(path: Path, problems: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Each line's place and its columns. Raises: BadSettings: no such file, or neither of the two kinds."""
    try:
        text = read_source(path).decode("utf-8-sig")
    except BadPicture as error:
        raise BadSettings(f"{path}: {error}") from error
    except ValueError:
        raise BadSettings(f"{path} is no UTF-8 text. Save it as UTF-8.") from None
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(io.StringIO(text, newline=""), restkey="a column without a name")
        try:
            yield from ((f"line {reader.line_num}", row) for row in reader)
        except csv.Error as error:
            problems.append(f"line {reader.line_num + 1} is no line of a .csv ({error})")
    elif path.suffix.lower() == ".jsonl":
        yield from _json_rows(text, problems)
    else:
        raise BadSettings(f"{path}: give a folder, a .jsonl or a .csv.")


def _json_rows(text: str, problems: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            yield f"line {number}", row
        else:
            problems.append(f"line {number} is no JSON object")


def _problem(path: Path | None, root: Path, panel: Panel, canvases: Canvases) -> str:
    """What is wrong with a picture; nothing is ""."""
    if path is None:
        return "there is no picture"
    try:
        if not path.resolve().is_relative_to(root.resolve()):
            return f"{path.name} lies outside {root.name or root}"
        picture = decode(read_source(path))
    except BadPicture as error:
        return str(error).rstrip(".")
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, names that no disk has
        return f"this can't be a file ({type(error).__name__})"
    left, _, right, _ = panel.placed(picture.size, canvases.width, canvases.height)
    if right - left > ENLARGED * picture.width:
        return f"{path.name} is only {picture.width} x {picture.height} px, for a panel of {canvases.width} x {canvases.height}"
    return ""


# --- what trainers read -------------------------------------------------------------------------------------------------------------------------------


def write_canvases(records: Sequence[Record], canvases: Canvases, out: Path) -> None:
    """For sd-scripts: canvases/00001.png with its caption 00001.txt, dataset.toml, and onepic.json, which `onepic_trainer` reads. Raises: CannotWrite."""
    folder = out / "canvases"
    folder.mkdir()
    for number, record in enumerate(records, 1):
        save_png(folder / f"{number:05}.png", composed(_filled(record, canvases)).canvas)
        if record.caption:  # sd-scripts takes an empty file for a fault
            write_atomically(folder / f"{number:05}.txt", record.caption.encode())
    place = json.dumps(str(folder.resolve()), ensure_ascii=False)
    data = f"[[datasets]]\nresolution = {list(canvases.size)}\nbatch_size = 1\nenable_bucket = false\n"
    write_atomically(out / "dataset.toml", f'{data}\n[[datasets.subsets]]\nimage_dir = {place}\ncaption_extension = ".txt"\nnum_repeats = 1\n'.encode())
    write_atomically(out / FILE, canvases.written().encode())


def write_set(records: Sequence[Record], canvases: Canvases, out: Path) -> None:
    """For our own trainer (kind = "onepic"): the layout of a drawing set, as `panels.build` makes it. Kinds that no panel has are grey. Raises: CannotWrite."""
    size = canvases.width
    pictures = np.lib.format.open_memmap(out / "pictures.npy", "w+", np.uint8, (len(records), len(KINDS), size, size, 3))
    pictures[:] = GREY
    for number, record in enumerate(records):
        for name, pixels in zip(canvases.names, composed(_filled(record, canvases)).panels, strict=True):
            pictures[number, KINDS.index(name)] = pixels
    pictures.flush()
    lines = [json.dumps({"id": record.name, "group": "own", "captions": [record.caption] * len(KINDS)}, ensure_ascii=False) + "\n" for record in records]
    write_atomically(out / META, "".join(lines).encode())
    write_atomically(out / DESCRIPTION, json.dumps({"size": size, "count": len(records), "kinds": KINDS}).encode())
    write_atomically(out / DONE, json.dumps({"done": len(records)}).encode())


def _filled(record: Record, canvases: Canvases) -> Project:
    project = blank(canvases)
    panels = [dataclasses.replace(panel, picture=read_source(record.pictures[name])) for name, panel in zip(canvases.names, project.panels, strict=True)]
    return dataclasses.replace(project, panels=tuple(panels))
