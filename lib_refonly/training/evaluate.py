"""Held-out scores of a RefOnly model, and the gates it has to pass: `studio.py evaluate DATA -o docs/scores.md`.

Every held-out drawing is coloured from ANOTHER drawing of the same character, which is first mirrored, turned, scaled and shifted, so that
copying positions does not help. Compared with the truth at the model's own size, against fills and copies that need no model.

Coloured pixels are those inside the character, off the lines (1 px at least), whose true colour has a CIE chroma of 10 or more. dE is the
CIE 1976 distance, averaged over a drawing's coloured pixels and then over drawings; "within 15" is the share of coloured pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lib_refonly.refonly.model import RefOnlyModel
from lib_refonly.refonly.pipeline import ImageInput, Job, paint
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.training.drawings.dataset import DrawingSet
from lib_refonly.training.latents import shrink
from lib_refonly.training.refonly import turned
from lib_refonly.training.sheets import sheet

Picture = NDArray[np.uint8]
CHROMA = 10.0
NEAR = 15.0
BATCH = 16
WAYS = ("model", "wrong reference", "no reference", "blank", "mean fill", "position copy")


@dataclass(frozen=True)
class Case:
    """One held-out drawing at the model's size: truth and reference uint8 [S,S,3] on black, blueprint and alpha uint8 [S,S]."""

    group: str
    truth: Picture
    reference: Picture
    wrong: Picture
    blueprint: Picture
    alpha: Picture

    @property
    def coloured(self) -> NDArray[np.bool_]:
        lines = cv2.dilate(self.blueprint, np.ones((3, 3), np.uint8)) > 40
        return (self.alpha > 250) & ~lines & (np.linalg.norm(lab(self.truth)[..., 1:], axis=-1) >= CHROMA)


@dataclass(frozen=True)
class Score:
    """Of one way to colour, over one group of drawings."""

    group: str
    way: str
    drawings: int
    dE: float  # noqa: N815 - the unit's own name
    within: float
    psnr: float


@dataclass(frozen=True)
class Gate:
    text: str
    value: float
    holds: bool


class Painter(Protocol):
    """What is scored. It paints at `size` and looks at references of `prompt_size`."""

    @property
    def size(self) -> int: ...
    @property
    def prompt_size(self) -> int: ...
    def paint(self, references: Sequence[Picture], blueprints: Sequence[Picture], seeds: Sequence[int], strength: float) -> list[Picture]: ...


class FullPainter:
    def __init__(self, model: RefOnlyModel) -> None:
        self.model, self.size, self.prompt_size = model, model.card.native_size, model.prompt_spec.size

    def paint(self, references: Sequence[Picture], blueprints: Sequence[Picture], seeds: Sequence[int], strength: float) -> list[Picture]:
        jobs = [Job((ImageInput(Image.fromarray(r)),), Image.fromarray(b), seed) for r, b, seed in zip(references, blueprints, seeds, strict=True)]
        return [np.asarray(picture) for picture in paint(self.model, jobs, RefOnlySettings(reference_strength=strength))]


def evaluate(
    painter: Painter, data: Path, seed: int = 0, limit: int = 0, on_progress: Callable[[int, int], None] | None = None
) -> tuple[list[Score], Image.Image]:
    """Scores by group and way, and a sheet: reference, lines, painted, truth. `limit`: at most so many drawings a group."""
    cases = load_cases(data, painter.size, painter.prompt_size, seed, limit)
    painted: dict[str, list[Picture]] = {}
    for place, way in enumerate(WAYS):
        painted[way] = paint_way(painter, cases, way, seed)
        if on_progress:
            on_progress(place + 1, len(WAYS))
    groups = sorted({case.group for case in cases})
    scores = [score(group, way, [(c, p) for c, p in zip(cases, painted[way], strict=True) if c.group == group]) for group in groups for way in WAYS]
    return scores, _sheet(cases, painted["model"])


def load_cases(data: Path, size: int, prompt_size: int, seed: int, limit: int = 0) -> list[Case]:
    drawings = DrawingSet(data)
    counts: dict[str, int] = {}
    by_group: dict[str, list[int]] = {}
    for i, meta in enumerate(drawings.meta):
        counts[meta["group"]] = counts.get(meta["group"], 0) + 1
        if not limit or counts[meta["group"]] <= limit:
            by_group.setdefault(meta["group"], []).append(i)
    cases = []
    for group, members in by_group.items():
        for place, i in enumerate(members):
            other = members[(place + 1) % len(members)]
            right, wrong = (mirrored_and_turned(drawings.pictures[k, 1], prompt_size, np.random.default_rng([seed, k])) for k in (i, other))
            cases.append(
                Case(
                    group,
                    shrink(drawings.pictures[i, 0], size),
                    right,
                    wrong,
                    shrink(drawings.blueprints[i, 0], size),
                    shrink(drawings.alpha[i, 0], size),
                )
            )
    return cases


def mirrored_and_turned(picture: Picture, size: int, rng: np.random.Generator) -> Picture:
    return turned(picture[:, ::-1], size, rng, mirror=False)


def paint_way(painter: Painter, cases: Sequence[Case], way: str, seed: int) -> list[Picture]:
    """Every case coloured in one of WAYS, uint8 [S,S,3]."""
    size = cases[0].truth.shape[0]
    if way == "blank":
        return [np.where(c.alpha[..., None] > 127, 255, 0).astype(np.uint8) * np.ones(3, np.uint8) for c in cases]
    if way == "mean fill":
        return [np.where(c.alpha[..., None] > 127, _mean_colour(c.reference), 0).astype(np.uint8) for c in cases]
    if way == "position copy":
        return [np.asarray(Image.fromarray(c.reference).resize((size, size), Image.Resampling.BOX)) for c in cases]
    strength, result = 0.0 if way == "no reference" else 1.0, list[Picture]()
    for first in range(0, len(cases), BATCH):
        part = cases[first : first + BATCH]
        references = [c.wrong if way == "wrong reference" else c.reference for c in part]
        result += painter.paint(references, [c.blueprint for c in part], range(seed + first, seed + first + len(part)), strength)
    return result


def score(group: str, way: str, pairs: Sequence[tuple[Case, Picture]]) -> Score:
    distances, near, psnr = [], [], []
    for case, painted in pairs:
        off = np.linalg.norm(lab(case.truth) - lab(painted), axis=-1)[case.coloured]
        if off.size:  # a drawing in black and white alone has nothing to compare
            distances.append(off.mean())
            near.append((off <= NEAR).mean())
        error = np.square(case.truth.astype(np.float64) - painted).mean()
        psnr.append(10 * np.log10(255**2 / max(error, 1e-9)))
    return Score(group, way, len(distances), _mean(distances), _mean(near), _mean(psnr))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def lab(rgb: Picture) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), dtype=np.float32)


def _mean_colour(reference: Picture) -> NDArray[np.float64]:
    inside = reference.max(-1) > 24
    return reference[inside].mean(0) if inside.any() else np.zeros(3)


def gates(scores: Sequence[Score]) -> list[Gate]:
    """The limits that a shipped model has to keep."""
    at = {(s.group, s.way): s for s in scores}
    result = []
    if ("adventurer", "model") in at:
        one = at["adventurer", "model"]
        result += [Gate("adventurer: dE at most 10", one.dE, one.dE <= 10), Gate("adventurer: 80 % within 15", 100 * one.within, one.within >= 0.8)]
    result += [Gate(f"{g}: dE at most 16", at[g, "model"].dE, at[g, "model"].dE <= 16) for g in ("micah", "open-peeps") if (g, "model") in at]
    if ("openmoji", "model") in at:
        ratio = at["openmoji", "model"].dE / at["openmoji", "mean fill"].dE
        result.append(Gate("openmoji (never trained): dE below mean fill's", ratio, ratio < 1))
    if ("adventurer", "model") in at:
        worse = at["adventurer", "wrong reference"].dE / at["adventurer", "model"].dE
        result.append(Gate("adventurer: a wrong reference at least 3 times worse", worse, worse >= 3))
    return result


def report(name: str, size: int, scores: Sequence[Score], command: str) -> str:
    """The scores as Markdown."""
    lines = [f"# Held-out scores of {name}", "", f"At {size} px, 20 UniPC steps, made by `{command}`.", *(__doc__ or "").split("\n")[2:], ""]
    lines += ["| drawings | coloured by | n | dE | within 15 | PSNR |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [f"| {s.group} | {s.way} | {s.drawings} | {s.dE:.1f} | {100 * s.within:.0f} % | {s.psnr:.1f} |" for s in scores]
    lines += ["", "## Gates", "", "| gate | value | |", "| --- | --- | --- |"]
    lines += [f"| {g.text} | {g.value:.2f} | {'holds' if g.holds else 'MISSED'} |" for g in gates(scores)]
    return "\n".join(lines) + "\n"


def as_json(scores: Sequence[Score]) -> str:
    return json.dumps([asdict(s) for s in scores], indent=1)


def _sheet(cases: Sequence[Case], painted: Sequence[Picture], each: int = 4) -> Image.Image:
    rows, shown = [], {}
    for case, picture in zip(cases, painted, strict=True):
        shown[case.group] = shown.get(case.group, 0) + 1
        if shown[case.group] <= each:
            rows.append([case.reference, case.blueprint, picture, case.truth])
    return sheet([[cell for row in rows[k : k + each] for cell in row] for k in range(0, len(rows), each)], cell=128)
