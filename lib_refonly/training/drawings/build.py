"""Builds a data set of drawings: node writes SVG, workers render it into memory-mapped arrays.

python -m lib_refonly.training.drawings.build --out DIR --count N --seed S --split train|heldout [--size 256]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from .dataset import ARRAYS, DESCRIPTION, DONE, META, finished
from .packages import GENERATOR, ensure, pinned
from .render import render

SPLITS = ("train", "heldout")
# Records between two updates of the counter that readers and a resumed build go by.
CHECKPOINT = 200

_arrays: dict[str, np.memmap] = {}


def build(out: Path, seed: int, count: int, size: int = 256, split: str = "train", workers: int = 1, npm: Path | None = None) -> None:
    """Write ``count`` records into ``out``, or continue where an earlier call with the same arguments ended.

    The result depends on seed, count, size, split and the pinned packages alone, not on workers or interruptions. Record i does not depend
    on count. Readers may use the finished part while this runs (`DrawingSet`).

    Args:
        out: folder of the split; made if missing.
        seed, count, size: what to draw, how many records, side in pixels.
        split: "train" or "heldout".
        workers: rendering processes.
        npm: where the node packages are or go; ``out``/../npm if not given.
    Raises:
        ValueError: an unknown split, or ``out`` holds another data set.
        DrawingToolsMissing: node, npm or the packages are missing.
        subprocess.CalledProcessError: the generator failed.
    """
    if split not in SPLITS:
        raise ValueError(f"split is one of {', '.join(SPLITS)}, not {split!r}")
    npm = ensure(npm or out.parent / "npm")
    out.mkdir(parents=True, exist_ok=True)
    description = {"seed": seed, "count": count, "size": size, "split": split, "packages": pinned()}
    start = _prepare(out, description)
    if start < count:
        arguments = {"npm": npm, "seed": seed, "split": split, "start": start, "count": count - start}
        with _drawings(arguments) as drawings:
            _fill(out, drawings, start, count, workers)
    _seal(out, description)


def _prepare(out: Path, description: dict[str, Any]) -> int:
    """Lay out the files, or check that they are this data set's; returns the first record still to be made."""
    path = out / DESCRIPTION
    if path.exists():
        before = json.loads(path.read_text("utf-8"))
        if {key: before.get(key) for key in description} != description:
            raise ValueError(f"{out} holds another data set ({DESCRIPTION} differs): choose an empty folder")
    else:
        for name, tail in ARRAYS.items():
            shape = (description["count"], 2, description["size"], description["size"], *tail)
            np.lib.format.open_memmap(out / f"{name}.npy", "w+", np.uint8, shape)
        _write_json(path, description)
    done = finished(out)
    meta = out / META
    lines = meta.read_bytes().splitlines(keepends=True)[:done] if meta.exists() else []
    _replace(meta, b"".join(lines))
    return done


@contextmanager
def _drawings(arguments: dict[str, Any]) -> Iterator[Iterable[str]]:
    """The generator's lines."""
    command = ["node", str(GENERATOR), *(part for key, value in arguments.items() for part in (f"--{key}", str(value)))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def _fill(out: Path, drawings: Iterable[str], start: int, count: int, workers: int) -> None:
    began = time.monotonic()
    context = get_context("spawn")
    with context.Pool(workers, _open_arrays, (out,)) as pool, (out / META).open("a", encoding="utf-8") as meta:
        jobs = ((i, line) for i, line in enumerate(drawings, start))
        for done, line in enumerate(pool.imap(_render_record, jobs, chunksize=8), start + 1):
            meta.write(line + "\n")
            if done % CHECKPOINT == 0 or done == count:
                meta.flush()
                _write_json(out / DONE, {"done": done})
                rate = (done - start) / (time.monotonic() - began)
                print(f"{out.name}: {done}/{count} records, {rate:.1f} a second, {(count - done) / rate / 60:.1f} min left", flush=True)


def _open_arrays(out: Path) -> None:
    for name in ARRAYS:
        _arrays[name] = np.lib.format.open_memmap(out / f"{name}.npy", "r+")


def _render_record(job: tuple[int, str]) -> str:
    """Render one record into its place; returns its line of metadata."""
    index, line = job
    record = json.loads(line)
    size = _arrays["alpha"].shape[-1]
    digest = hashlib.blake2b(digest_size=16)
    before: tuple[str, str | None] | None = None
    drawing = None
    for side, letter in enumerate("AB"):
        source = record.pop(f"svg{letter}"), record.pop(f"line{letter}", None)
        if drawing is None or source != before:  # the two drawings of an emoji are one
            drawing = render(source[0], record["style"], size, source[1])
        before = source
        for name, pixels in zip(ARRAYS, (drawing.picture, drawing.alpha, drawing.blueprint), strict=True):
            _arrays[name][index, side] = pixels
            digest.update(pixels.tobytes())
    return json.dumps({**record, "digest": digest.hexdigest()}, ensure_ascii=False)


def _seal(out: Path, description: dict[str, Any]) -> None:
    content = hashlib.sha256((out / META).read_bytes()).hexdigest()
    _write_json(out / DESCRIPTION, {**description, "content": content})


def _write_json(path: Path, value: dict[str, Any]) -> None:
    _replace(path, (json.dumps(value, indent=1) + "\n").encode())


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(content)
    os.replace(beside, path)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Draw a data set for the small models.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the split")
    parser.add_argument("--count", type=int, required=True, help="records (each has two drawings)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", choices=SPLITS, default="train")
    parser.add_argument("--size", type=int, default=256, help="side in pixels")
    parser.add_argument("--workers", type=int, default=1, help="rendering processes")
    parser.add_argument("--npm", type=Path, help="where the node packages are or go (default: npm beside the split)")
    options = parser.parse_args(argv)
    build(options.out, options.seed, options.count, options.size, options.split, options.workers, options.npm)


if __name__ == "__main__":
    main()
