"""Similar pairs of pictures: time, memory and recall from ten thousand embeddings up, beside the matrix of all pairs.

`python -m benchmarks.pairs WHAT FOLDER COUNT` is what `measure` starts for every contender, so that its memory is its own. It prints JSON.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.results import Gate, Result, Table
from benchmarks.worker import peak_memory
from lib_refonly.imaging.infotext import save_png
from lib_refonly.studio.bootstrap.handover import ROOT
from lib_refonly.training.dataset.pairs import PairSettings, find_pairs, report_path
from lib_refonly.training.dataset.window import Window

SIZES = (10_000, 30_000, 100_000)
WIDTH = 768
PLOT = ROOT / "docs" / "pictures" / "pairs.png"
EXACT, LISTS, MATRIX = "exact", "lists", "matrix"
NAMES = {MATRIX: "matrix of all pairs", EXACT: "exact, blockwise", LISTS: "inverted lists"}
GOAL = 1_000_000
GIGABYTES, MINUTES, MISSED = 8.0, 15.0, 0.01
"""For a million: memory, time, and the share of pairs that is not found (this one for every size)."""
_MATRIX_FITS, _EXACT_FITS = 30_000, 100_000
_BLOCK = 8192

ABOUT = f"""Embeddings of width {WIDTH}, float32, made by `benchmarks.pairs.make` (characters in styles, and a walk between them); cosine 0.90 to 0.98, \
4 pairs a picture. *Matrix of all pairs* is what the paper's released miner does: `E @ E.T`, then everything above 0.90; it was run up to \
{_MATRIX_FITS:,} pictures, beyond that its memory is computed (4 bytes a pair of pictures) and its time scaled by the square. *Exact, blockwise* is \
`studio.py dataset pairs --exact`, run up to {_EXACT_FITS:,}; *inverted lists* what it does without. Memory: the most that the process had resident, \
the mapped file included. Recall: of 1,000 pictures' exact pairs. Wall clock, one process each; computed values are in brackets.

![How it grows](pictures/pairs.png)"""


def make(path: Path, count: int, width: int = WIDTH, seed: int = 0) -> None:
    """Write `count` embeddings to `path` (.npy, float32 [count, width]) as CLIP's lie: none far from the common direction, in groups of all sizes.

    A picture is common + 0.9 style + character + s * own, each part a random unit vector, and is not normalised. There is a style for every 500
    pictures and a character for every 12 on average, of widely different popularity (its rank to the power of -0.5); s is drawn once for a character
    from 0.2 to 0.8, so that its pictures have cosines from 0.81 to 0.99 with each other; those of one style have about 0.6, others 0.35. One in
    thirty is a copy of a picture of its block but for 5 % noise. A fifth of the pictures belong to no character: they are a walk, common + 1.2 step,
    each step its predecessor + 0.5 own, so that neighbours have about 0.94 and nothing separates groups that lists could follow. Block by block, so that a
    million needs no more memory than ten thousand.
    """
    rng = np.random.default_rng(seed)
    common, styles = _units(rng, 1, width), _units(rng, max(2, count // 500), width)
    characters = _units(rng, max(2, count // 12), width)
    style_of, spread = rng.integers(len(styles), size=len(characters)), rng.uniform(0.2, 0.8, len(characters)).astype(np.float32)
    popular = 1 / np.sqrt(np.arange(1, len(characters) + 1))
    popular /= popular.sum()
    step = _units(rng, 1, width)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (count, width))
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        who = rng.choice(len(characters), size, p=popular)
        block = common + 0.9 * styles[style_of[who]] + characters[who] + spread[who, None] * _units(rng, size, width)
        walk = _walk(rng, step, size // 5)
        block[: len(walk)], step = common + 1.2 * walk, walk[-1:] if len(walk) else step
        copies = rng.choice(size, size // 30, replace=False)
        block[copies] = block[rng.integers(size, size=len(copies))] + 0.05 * _units(rng, len(copies), width)
        out[start : start + size] = block * rng.uniform(0.5, 20, (size, 1)).astype(np.float32)
    out.flush()


def _walk(rng: np.random.Generator, step: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """`count` unit vectors, the first of them one step from `step`, float32 [count, width]."""
    moves, out = 0.5 * _units(rng, count, step.shape[1]), np.empty((count, step.shape[1]), np.float32)
    for place, move in enumerate(moves):
        moved = step[0] + move
        out[place] = step = moved[None] / np.linalg.norm(moved)
    return out


def _units(rng: np.random.Generator, count: int, width: int) -> NDArray[np.float32]:
    rows = rng.standard_normal((count, width), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def measure(sizes: Sequence[int]) -> Result:
    """Every contender on every size that it fits, and the plot."""
    found: dict[int, dict[str, dict[str, float]]] = {}
    for count in sorted(set(sizes)):
        with tempfile.TemporaryDirectory(prefix="pairs-") as folder:
            make(Path(folder) / "embeddings.npy", count)
            most = {MATRIX: _MATRIX_FITS, EXACT: _EXACT_FITS}
            found[count] = {what: _run(what, folder, count) for what in NAMES if count <= most.get(what, count)}
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    save_png(PLOT, plot(found))
    return summarise(found)


def _run(what: str, folder: str, count: int) -> dict[str, float]:
    print(f"measuring: pairs of {count:,}, {NAMES[what]} ...", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "benchmarks.pairs", what, folder, str(count)], capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout)


def computed(found: Mapping[int, Mapping[str, Mapping[str, float]]], count: int, what: str) -> tuple[float, float]:
    """(seconds, bytes) of a contender at a size that it was not run at: its time grows with the square, and the matrix' memory is known."""
    largest = max((size for size in found if what in found[size]), default=0)
    seconds = found[largest][what]["seconds"] * (count / largest) ** 2 if largest else math.nan
    return seconds, 4.0 * count**2 if what == MATRIX else math.nan


def summarise(found: Mapping[int, Mapping[str, Mapping[str, float]]]) -> Result:
    """A table by size and contender, and the aims."""
    rows, samples, gates = [], {}, []
    for count, ways in found.items():
        for what, name in NAMES.items():
            if what not in ways:
                seconds, size = computed(found, count, what)
                memory = "-" if math.isnan(size) else f"({size / 1e9:,.1f})"
                rows.append((f"{count:,}", name, "-" if math.isnan(seconds) else f"({seconds:,.0f})", memory, "-", "-"))
                continue
            way = ways[what]
            recall = f"{way['recall']:.4f}" if what == LISTS else "1"
            rows.append((f"{count:,}", name, f"{way['seconds']:.1f}", f"{way['bytes'] / 1e9:.2f}", f"{way['pairs']:,.0f}", recall))
            samples |= {f"{name}, {count}, {key}": [value] for key, value in way.items()}
        way = ways[LISTS]
        gates.append(Gate(f"share of the pairs of {count:,} pictures that inverted lists miss,", 1 - way["recall"], MISSED))
        if count >= GOAL:
            gates.append(Gate(f"gigabytes for {count:,} pictures:", way["bytes"] / 1e9, GIGABYTES))
            gates.append(Gate(f"minutes for {count:,} pictures:", way["seconds"] / 60, MINUTES))
    table = Table(("pictures", "how", "seconds", "GB of memory", "pairs", "recall"), tuple(rows))
    return Result("pairs", "Similar pairs", ABOUT, (table,), samples, tuple(gates))


_COLOURS = {MATRIX: "#b03a2e", EXACT: "#2e6da4", LISTS: "#1e8449"}
_SIDE, _EDGE = 420, 60


def plot(found: Mapping[int, Mapping[str, Mapping[str, float]]]) -> Image.Image:
    """Seconds and gigabytes over the number of pictures, both axes logarithmic. Filled dots were measured, rings are computed."""
    picture = Image.new("RGB", (2 * (_SIDE + 2 * _EDGE), _SIDE + 2 * _EDGE), "white")
    pen = ImageDraw.Draw(picture)
    sizes = sorted({*found, GOAL})
    for panel, (title, key, unit) in enumerate((("seconds", "seconds", 1.0), ("GB of memory", "bytes", 1e9))):
        curves = {what: _curve(found, sizes, what, key, unit) for what in NAMES}
        every = [value for curve in curves.values() for _, value, _ in curve]
        low, high = 10 ** math.floor(math.log10(min(every))), 10 ** math.ceil(math.log10(max(every)))
        axes = _Axes(pen, panel * (_SIDE + 2 * _EDGE) + _EDGE, (sizes[0], sizes[-1]), (low, high))
        axes.draw(title)
        for row, (what, curve) in enumerate(curves.items()):
            axes.curve(curve, _COLOURS[what], NAMES[what], row)
    return picture


def _curve(found: Mapping[int, Mapping[str, Mapping[str, float]]], sizes: Sequence[int], what: str, key: str, unit: float) -> list[tuple[int, float, bool]]:
    """(pictures, value, measured)."""
    measured = [(size, found[size][what][key] / unit, True) for size in sizes if what in found.get(size, {})]
    beyond = [] if what == LISTS else [(size, computed(found, size, what)[key == "bytes"] / unit, False) for size in sizes if what not in found.get(size, {})]
    return measured + [point for point in beyond if not math.isnan(point[1])]


class _Axes:
    def __init__(self, pen: ImageDraw.ImageDraw, left: int, across: tuple[float, float], up: tuple[float, float]) -> None:
        self._pen, self._left, self._across, self._up = pen, left, across, up

    def _place(self, x: float, y: float) -> tuple[float, float]:
        right, above = (math.log(value / low) / math.log(high / low) for value, (low, high) in ((x, self._across), (y, self._up)))
        return self._left + right * _SIDE, _EDGE + (1 - above) * _SIDE

    def draw(self, title: str) -> None:
        """Frame, decades and what is shown."""
        self._pen.text((self._left, _EDGE - 30), title, "black", font_size=16)
        for low, high, across in ((*self._across, True), (*self._up, False)):
            for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1):
                x, y = self._place(10**power if across else self._across[0], self._up[0] if across else 10**power)
                ends = ((x, _EDGE), (x, _EDGE + _SIDE)) if across else ((self._left, y), (self._left + _SIDE, y))
                self._pen.line(ends, fill="#dddddd")
                self._pen.text((x, y + 8) if across else (x - 8, y), f"{10**power:,}", "black", anchor="ma" if across else "rm", font_size=12)
        self._pen.rectangle((self._left, _EDGE, self._left + _SIDE, _EDGE + _SIDE), outline="black")

    def curve(self, points: Sequence[tuple[int, float, bool]], colour: str, name: str, row: int) -> None:
        """A line through the points, and a line of the legend."""
        places = [self._place(x, y) for x, y, _ in points]
        self._pen.line(places, fill=colour, width=2)
        for (x, y), (*_, measured) in zip(places, points, strict=True):
            self._pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=colour if measured else "white", outline=colour, width=2)
        self._pen.text((self._left + 12, _EDGE + 10 + 20 * row), name, colour, font_size=14)


def _all_pairs(path: Path) -> int:
    """The released way: the whole matrix, and whatever in it is above the threshold."""
    rows = np.load(path)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    # The copy: of one and the same array numpy makes half of it by OpenBLAS's syrk, which crashes where the result is over 2 GB on some machines.
    return len(np.argwhere(rows @ rows.copy().T >= 0.90))


def main(argv: Sequence[str]) -> None:
    """One contender, in a process of its own."""
    what, folder, count = argv[0], Path(argv[1]), int(argv[2])
    source, out, begun = folder / "embeddings.npy", folder / f"{what}.parquet", time.perf_counter()
    found: dict[str, float] = {}
    if what == MATRIX:
        found["pairs"] = _all_pairs(source)
    else:
        forced = {} if count > 20_000 or what == EXACT else {"lists": round(2 * math.sqrt(count))}
        report = find_pairs(source, out, PairSettings(Window(), exact=what == EXACT, **forced))
        found |= {"pairs": report.pairs, "recall": report.recall if report.recall is not None else math.nan, "lists": report.lists, "probes": report.probes}
        found |= {f"{name}, seconds": seconds for name, seconds in report.seconds.items()}
    print(json.dumps(found | {"seconds": time.perf_counter() - begun, "bytes": peak_memory()}))
    out.unlink(missing_ok=True)
    report_path(out).unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1:])
