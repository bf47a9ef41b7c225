"""Paints drawings of a set in random styles: the pairs that stylecodes are trained and measured on.

The folder has the layout of a drawing set with one record a style and its pictures as views, so `studio.py data latents` encodes it as well.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.training.drawings.dataset import DESCRIPTION, DONE, META, DrawingSet, finished
from lib_refonly.training.styles.paint import paint
from lib_refonly.training.styles.style import Style, random_style

_CHECKPOINT = 20
_FAMILIES = ("", "", "", "noto", "twemoji", "fluent-emoji-flat")
"""Emoji exist in several sets under the same names: whose they are belongs to the style."""


def build(drawings: Path, out: Path, seed: int, styles: int, views: int, split: str, on_style: Any = None) -> None:
    """Paint `views` drawings in each of `styles` styles, or go on where an earlier call ended. Style i depends on seed, split and i alone.

    Raises:
        BadSettings: `out` holds another set, or `drawings` is none.
    """
    source = DrawingSet(drawings)
    description = {"seed": seed, "count": styles, "views": views, "split": split, "size": source.size, "drawings": source.description.get("seed")}
    pictures = _prepare(out, description)
    families = {name: [i for i, meta in enumerate(source.meta) if name in ("", meta["style"])] for name in set(_FAMILIES)}
    known = tuple(name for name in _FAMILIES if families[name])
    with (out / META).open("a", encoding="utf-8") as meta:
        for number in range(finished(out), styles):
            rng = np.random.default_rng([seed, split == "heldout", number])
            style = random_style(rng, split == "heldout", known)
            chosen = [(int(i), int(rng.integers(2))) for i in rng.choice(families[style.family], views, replace=len(families[style.family]) < views)]
            for view, (i, side) in enumerate(chosen):
                pictures[number, view] = paint(style, source.pictures[i, side], source.alpha[i, side], source.blueprints[i, side], seed=view)
            captions = [source.meta[i]["caption" if side == 0 else "captionB"] for i, side in chosen]
            meta.write(json.dumps({"style": dataclasses.asdict(style), "drawings": chosen, "captions": captions}) + "\n")
            if (number + 1) % _CHECKPOINT == 0 or number + 1 == styles:
                meta.flush()
                pictures.flush()
                write_atomically(out / DONE, json.dumps({"done": number + 1}).encode())
            if on_style:
                on_style(number + 1, styles)


def _prepare(out: Path, description: dict[str, Any]) -> np.memmap:
    out.mkdir(parents=True, exist_ok=True)
    path, size = out / DESCRIPTION, description["size"]
    if path.exists():
        if json.loads(path.read_text("utf-8")) != description:
            raise BadSettings(f"{out} holds another data set ({DESCRIPTION} differs). Choose an empty folder.")
        done = (out / META).read_bytes().splitlines(keepends=True)[: finished(out)] if (out / META).exists() else []
        write_atomically(out / META, b"".join(done))
        return np.lib.format.open_memmap(out / "pictures.npy", "r+")
    pictures = np.lib.format.open_memmap(out / "pictures.npy", "w+", np.uint8, (description["count"], description["views"], size, size, 3))
    write_atomically(path, json.dumps(description, indent=1).encode())
    return pictures


class StyledSet(DrawingSet):
    """`pictures` [N, views, S, S, 3]; `meta`: style, drawings and captions of each record."""

    def style(self, number: int) -> Style:
        told = self.meta[number]["style"]
        colours = {name: tuple(map(tuple, told[name])) for name in ("ground_colours", "colours")}
        return Style(**told | colours | {"line": tuple(told["line"])})
