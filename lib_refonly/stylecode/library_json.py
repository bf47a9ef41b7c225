"""Styles as one JSON text, to pass on or to keep, and back: every entry is checked before any is taken."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from lib_refonly.errors import BadPicture, BadSettings
from lib_refonly.imaging.decode import Limits, decode_base64
from lib_refonly.stylecode.codes import CodeModel, read
from lib_refonly.stylecode.saved import SavedStyle, check_name, check_tags, thumbnail_of

FORMAT, VERSION = "refonly-styles", 1
MOST = 5000
"""Styles in a library, and in a file."""
LONGEST = 256_000_000
"""Characters of a file: 5000 thumbnails of 50 kB."""
_PICTURES = Limits(bytes=4 * 2**20, pixels=16_000_000, side=8192)
_LATEST = 1e11
"""Seconds since 1970 that can be a date."""
_LONGEST_MODEL = 100
_TOLD = 5


def write(styles: Iterable[SavedStyle]) -> str:
    """One JSON text. Raises: BadSettings: more than can be read back."""
    text = json.dumps({"format": FORMAT, "version": VERSION, "styles": [_written(style) for style in styles]}, ensure_ascii=False, indent=1)
    if len(text) > LONGEST:
        raise BadSettings(f"These styles make a file of more than {LONGEST // 1_000_000} MB. Export fewer at a time.")
    return text


def _written(style: SavedStyle) -> dict[str, Any]:
    return {
        "name": style.name,
        "code": style.code,
        "model": style.model,
        "tags": list(style.tags),
        "favourite": style.favourite,
        "created": style.created,
        "used": style.used,
        "thumbnail": base64.b64encode(style.thumbnail).decode(),
    }


def entries(text: str, known: Sequence[CodeModel]) -> list[SavedStyle]:
    """The styles of a JSON text. Their small pictures are decoded and written anew.

    Raises:
        BadSettings: it is no such text, is too large, or a newer version's; or entries are wrong: the text names them.
    """
    found = _unpacked(text)
    out: list[SavedStyle] = []
    bad: list[str] = []
    for number, entry in enumerate(found, 1):
        try:
            out.append(_entry(entry, known))
        except (BadSettings, BadPicture) as error:
            name = entry.get("name") if isinstance(entry, dict) else None
            shown = repr(name[:64]) if isinstance(name, str) and name else f"number {number}"
            bad.append(f"{shown}: {error}")
    if bad:
        more = f" And {len(bad) - _TOLD} more." if len(bad) > _TOLD else ""
        raise BadSettings(f"Nothing was imported: {len(bad)} of {len(found)} styles are not right. {' '.join(bad[:_TOLD])}{more}")
    return out


def _unpacked(text: str) -> list[Any]:
    if len(text) > LONGEST:
        raise BadSettings(f"The file is larger than {LONGEST // 1_000_000} MB.")
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if not isinstance(whole, dict) or whole.get("format") != FORMAT or not isinstance(whole.get("styles"), list):
        raise BadSettings("This is no file of styles that was exported here.")
    if whole.get("version") != VERSION:
        raise BadSettings("This file of styles is of another version of this program. Update it.")
    if len(whole["styles"]) > MOST:
        raise BadSettings(f"The file has {len(whole['styles'])} styles; {MOST} can be imported.")
    return whole["styles"]


def _entry(entry: Any, known: Sequence[CodeModel]) -> SavedStyle:
    if not isinstance(entry, dict):
        raise BadSettings("It is no style.")
    name, code, model = (_text(entry, key) for key in ("name", "code", "model"))
    tags, favourite = entry.get("tags", []), entry.get("favourite", False)
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise BadSettings("Its tags are no list of words.")
    if not isinstance(favourite, bool):
        raise BadSettings("Whether it is a favourite is true or false.")
    created = _seconds(entry, "created")
    return SavedStyle(
        name=check_name(name, known),
        code=_code(code, model),
        model=model,
        tags=check_tags(tags),
        favourite=favourite,
        created=created,
        used=_seconds(entry, "used"),
        thumbnail=_thumbnail(entry.get("thumbnail")),
    )


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise BadSettings(f"It has no {key}.")
    return value


def _code(code: str, model: str) -> str:
    if len(model) > _LONGEST_MODEL or not model.isprintable():
        raise BadSettings("Its model's name is none.")
    try:
        found = read(code, (CodeModel(model, normalised=False),))
    except BadSettings:
        found = None
    if found is None or found.form != "long":
        raise BadSettings("Its code is damaged, or not its model's.")
    return found.long


def _seconds(entry: dict[str, Any], key: str) -> float:
    value = entry.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and 0 <= value <= _LATEST):
        raise BadSettings(f"The time of {key!r} is none.")
    return float(value)


def _thumbnail(value: Any) -> bytes:
    if value is None or value == "":
        return b""
    return thumbnail_of(decode_base64(value, _PICTURES))
