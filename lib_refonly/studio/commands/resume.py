"""What `--resume` may skip: a result that is whole and was made from the same pictures, settings and model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from lib_refonly.errors import BadPicture
from lib_refonly.imaging.decode import DECODER_ERRORS, open_header, read_source
from lib_refonly.imaging.infotext import read_infotext, read_png_infotext
from lib_refonly.refonly.settings import RefOnlySettings

FIELD = "RefOnly job"
"""The infotext's field that holds the fingerprint."""

_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def fingerprint(settings: RefOnlySettings, model: str, lines: Path, references: Sequence[tuple[Path, float]]) -> str:
    """16 hex digits that change with anything that decides the result, apart from chance (seed -1) and the number of variations.

    Raises:
        BadPicture: a picture cannot be read.
    """
    decides = {name: value for name, value in dataclasses.asdict(settings).items() if name != "count"}
    pictures = [[_digest(path), weight] for path, weight in ((lines, 1.0), *references)]
    return hashlib.sha256(json.dumps([decides, model, pictures], sort_keys=True).encode()).hexdigest()[:16]


def tag(infotext: str, job: str) -> str:
    """The infotext with the fingerprint as its last field."""
    return f"{infotext.rstrip()}, {FIELD}: {job}"


def why_redo_all(paths: Sequence[Path], job: str) -> str | None:
    """None when all files of one drawing are finished, "" when none is there, else the first reason to make them again."""
    reasons = [why_redo(path, job) for path in paths]
    if all(reason is None for reason in reasons):
        return None
    if all(reason == "" for reason in reasons):
        return ""
    return next((reason for reason in reasons if reason), "some of its files are missing")


def why_redo(path: Path, job: str) -> str | None:
    """None when the file at `path` is finished; else why it has to be made (again). "" means that it is not there."""
    if not path.exists():
        return ""
    try:
        data = read_source(path)
        image = open_header(data)
        image.load()
        text = read_png_infotext(image)
    except (BadPicture, *DECODER_ERRORS):
        return "the file there is no whole picture"
    if not data.endswith(_PNG_END):
        return "the file there is no whole PNG"
    found = read_infotext(text)[2].get(FIELD)
    if found is None:
        return "the file there was not made by this command"
    return None if found == job else "the pictures, settings or model have changed since"


def _digest(path: Path) -> str:
    return hashlib.sha256(read_source(path)).hexdigest()
