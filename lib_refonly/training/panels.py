"""Panels for ONE-PIC, made from a drawing set: what stands in a canvas beside a target, or in its place.

The folder has the layout of a drawing set with one record a character and its panels as views, so `studio.py data latents` encodes it as well.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.training.drawings.dataset import DESCRIPTION, DONE, META, DrawingSet
from lib_refonly.training.latents import LatentSet, shrink

KINDS = ("target", "reference", "lines", "mirrored", "close", "masked", "garment", "recoloured", "hidden", "area")
"""target: the character as drawing B; reference: as A; lines: of B, black on a white ground and white on a black one, for nothing else says which ground is
wanted; mirrored, close: A again; masked: B with the clothes hidden; garment: A's clothes; recoloured: B with hair of another colour; hidden: that, with the
hair hidden; area: where B's hair is, white on black."""
GREY = 127
_THINGS = ("emoji", "openmoji")
"""Groups of drawings that are no characters: no clothes, no hair."""
_CLOTHES = 0.64
"""Where, from the top of a character, the clothes begin: of the busts that the set draws."""
_ALIKE = 64
"""How far, in RGB, a pixel may lie from the colour of the hair to be hair: shades of it, and the softened edge."""
Picture = NDArray[np.uint8]
Hairs = tuple[Picture, Picture]


def panel_latents(data: Path, size: int) -> LatentSet:
    """Raises: BadSettings: no set of these panels, or its latents are not made."""
    made = LatentSet(data, size)
    if made.latents.shape[1] != len(KINDS):
        raise BadSettings(f"{data} was made with {made.latents.shape[1]} panels a record instead of {len(KINDS)}. Make it again, in a new folder.")
    return made


def build(drawings: Path, out: Path, size: int, count: int, seed: int) -> int:
    """Panels of `count` characters, half of them on white and half on black. Returns how many there are (emoji are left out).

    Raises:
        BadSettings: `drawings` is no drawing set, or `out` is not empty.
    """
    source, rng = DrawingSet(drawings), np.random.default_rng(seed)
    if out.exists() and any(out.iterdir()):
        raise BadSettings(f"{out} is not empty. Choose an empty folder.")
    out.mkdir(parents=True, exist_ok=True)
    people = [i for i, meta in enumerate(source.meta) if meta["group"] not in _THINGS]
    chosen = [int(i) for i in rng.permutation(people)[:count]]
    pictures = np.lib.format.open_memmap(out / "pictures.npy", "w+", np.uint8, (len(chosen), len(KINDS), size, size, 3))
    lines = []
    for number, i in enumerate(chosen):
        ground = 255 * int(rng.integers(2))
        a, b = ((shrink(source.pictures[i, view], size), shrink(source.alpha[i, view], size)) for view in (0, 1))
        meta = source.meta[i]
        hair = meta["attributes"].get("colours", {}).get("hair")
        hairs = _hairs(hair, np.random.default_rng([seed, i])) if hair else None
        pictures[number] = panels(*a, *b, shrink(source.blueprints[i, 1], size), ground, hairs)
        lines.append(json.dumps({"drawing": i, "group": meta["group"], "ground": ground, "captions": [meta["captionB"]] * len(KINDS)}) + "\n")
    pictures.flush()
    write_atomically(out / META, "".join(lines).encode())
    write_atomically(out / DESCRIPTION, json.dumps({"size": size, "count": len(chosen), "seed": seed, "kinds": KINDS}).encode())
    write_atomically(out / DONE, json.dumps({"done": len(chosen)}).encode())
    return len(chosen)


def panels(a: Picture, alpha_a: Picture, b: Picture, alpha_b: Picture, lines_b: Picture, ground: int, hairs: Hairs | None) -> Picture:
    """uint8 [len(KINDS), S, S, 3] of drawings A and B [S, S, 3] on black with their alphas [S, S], and B's white lines [S, S].

    hairs: the colour of the hair, and the one that it gets where it is recoloured; none where there is no hair.
    """
    target, reference = _on(b, alpha_b, ground), _on(a, alpha_a, ground)
    made: dict[str, Any] = {"target": target, "reference": reference, "mirrored": reference[:, ::-1]}
    made["lines"] = np.repeat((lines_b if ground == 0 else 255 - lines_b)[..., None], 3, -1)
    made["close"] = _close(reference, alpha_a)
    made["masked"], made["garment"] = _masked(target, alpha_b), _garment(reference, alpha_a, ground)
    where = _where(b, alpha_b, hairs[0]) if hairs else np.zeros(alpha_b.shape, bool)
    change = hairs[1].astype(np.int16) - hairs[0] if hairs else 0
    made["recoloured"] = np.where(where[..., None], np.clip(target + change, 0, 255), target).astype(np.uint8)
    made["hidden"] = _hidden(made["recoloured"], where)
    made["area"] = np.repeat(np.where(where, 255, 0)[..., None], 3, -1)
    return np.stack([made[kind] for kind in KINDS])


def _on(picture: Picture, alpha: Picture, ground: int) -> Picture:
    return np.clip(picture + ground * (1 - alpha[..., None] / 255.0), 0, 255).round().astype(np.uint8)


def _extent(alpha: Picture) -> tuple[int, int, int, int]:
    """left, top, right, bottom of what is not transparent."""
    rows, columns = np.flatnonzero((alpha > 127).any(1)), np.flatnonzero((alpha > 127).any(0))
    if not len(rows):
        return 0, 0, alpha.shape[1], alpha.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _clothes_from(alpha: Picture) -> int:
    _, top, _, bottom = _extent(alpha)
    return top + round(_CLOTHES * (bottom - top))


def _close(picture: Picture, alpha: Picture) -> Picture:
    """The head, filling the panel."""
    size = len(picture)
    left, top, right, bottom = _extent(alpha)
    side = max(8, round(0.7 * max(right - left, bottom - top)))
    x, y = (left + right - side) // 2, top
    x, y = min(max(x, 0), size - min(side, size)), min(max(y, 0), size - min(side, size))
    return cv2.resize(picture[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def _masked(picture: Picture, alpha: Picture) -> Picture:
    out = picture.copy()
    out[_clothes_from(alpha) :] = GREY
    return out


def _where(picture: Picture, alpha: Picture, colour: Picture) -> NDArray[np.bool_]:
    """Where the colour is, specks left out."""
    alike = (np.linalg.norm(picture.astype(np.float32) - colour, axis=-1) < _ALIKE) & (alpha > 127)
    return cv2.morphologyEx(alike.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0


def _hidden(picture: Picture, where: NDArray[np.bool_]) -> Picture:
    """As somebody brushes over it: with a margin, in grey."""
    around = cv2.dilate(where.astype(np.uint8), np.ones((9, 9), np.uint8))
    return np.where(around[..., None] > 0, np.uint8(GREY), picture)


def _hairs(colour: str, rng: np.random.Generator) -> Hairs:
    """A colour RRGGBB, and one so far away that it has another name."""
    own = np.array([int(colour[at : at + 2], 16) for at in (0, 2, 4)], np.uint8)
    while True:
        other = rng.integers(0, 256, 3).astype(np.uint8)
        if np.linalg.norm(other.astype(np.float32) - own) > 2 * _ALIKE:
            return own, other


def _garment(picture: Picture, alpha: Picture, ground: int) -> Picture:
    """The clothes alone, in the middle of the panel."""
    size = len(picture)
    left, _, right, bottom = _extent(alpha)
    part = picture[_clothes_from(alpha) : bottom, left:right]
    out = np.full_like(picture, ground)
    if part.size:
        scale = min(size / part.shape[1], size / part.shape[0])
        width, height = (max(1, min(size, round(side * scale))) for side in (part.shape[1], part.shape[0]))
        y, x = (size - height) // 2, (size - width) // 2
        out[y : y + height, x : x + width] = cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
    return out
