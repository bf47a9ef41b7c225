"""A training set from a folder of pictures: all stages of the paper's section 3.2, one after the other, each of which goes on where it was ended."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lib_refonly.errors import BadSettings, CannotWrite
from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.training.dataset.clean import PICTURE, Clean
from lib_refonly.training.dataset.cut import Cut
from lib_refonly.training.dataset.decode import Decode, find_pictures
from lib_refonly.training.dataset.duplicates import duplicates
from lib_refonly.training.dataset.embed import SHIPPED, Encoder
from lib_refonly.training.dataset.pairs import PairReport, PairSettings, find_pairs
from lib_refonly.training.dataset.report import Summary, write_report
from lib_refonly.training.dataset.samples import FOLDER, Pictures, chunks_of, examples, write_shards
from lib_refonly.training.dataset.shards import Found, TarFiles
from lib_refonly.training.dataset.spread import Workers, workers
from lib_refonly.training.dataset.stages import Item, Made, Stage, fingerprint, make_chunk, mark, read_mark, remove_others
from lib_refonly.training.dataset.tables import check_name, put_in_place, read_pairs
from lib_refonly.training.dataset.vectors import Tell
from lib_refonly.training.dataset.window import Pairs

BUILD, ROWS, EMBEDDINGS, PAIRS = "build.json", "pictures.jsonl", "embeddings.npy", "pairs.parquet"
_FORMAT = "refonly dataset 1"
_BATCH = 16
_EXAMPLES = 8
_FEW = 100
_FEW_NOTE = f""" This vision model's embeddings are compared relative to their mean, and fewer than {_FEW} pictures hardly have one: take more pictures, or a \
CLIP model (--encoder)."""


@dataclass(frozen=True)
class BuildSettings:
    """What a data set is made like.

    side, smallest: px, the longest side that pictures are brought down to, and the shortest side that they may have. segmenter: an .onnx file.
    encoder, device: of the embeddings. clean: which pictures are empty or dirty. pairs: which are similar. chunk: pictures that are redone when a run is
    ended in the middle. shard: samples in a shard.

    Raises:
        BadSettings: a size below its least.
    """

    side: int = 1024
    smallest: int = 128
    segmenter: Path | None = None
    encoder: Path = SHIPPED
    device: str = "cpu"
    clean: Clean = field(default_factory=Clean)
    pairs: PairSettings = field(default_factory=PairSettings)
    chunk: int = 256
    shard: int = 1000

    def __post_init__(self) -> None:
        if not 8 <= self.smallest <= self.side <= 16384:
            raise BadSettings(f"Sides are 8 to 16384 px, the shortest one first; these are {self.smallest} and {self.side}.")
        if self.chunk < 1 or self.shard < 1:
            raise BadSettings("A chunk has at least 1 picture, and a shard at least 1 sample.")


def build(source: Path, out: Path, settings: BuildSettings | None = None, tell: Tell | None = None, ray: str = "") -> Summary:
    """Make the data set of the pictures in `source`, or go on making it. `out` then holds:

    shards/ and manifest.json (see `write_shards`), pictures.jsonl (the kept pictures, one a line), embeddings.npy with a row for each line, pairs.parquet
    (see `find_pairs`), report.md with report.png, and work/, which a later build with other settings goes on from and which may be removed. The same
    pictures, settings and packages give the same shards, ended in between or not.

    ray: whose workers decode, cut out, clean, embed and write shards (`spread.workers`); "" is this process. What needs all pictures at once
    (near-duplicates, pairs, the report) is done here in any case.

    Raises:
        BadSettings: `source` has no pictures; `out` lies in it, or holds something else; Ray can't be used. BadModel: a model does not work. CannotWrite.
    """
    settings, tell = settings or BuildSettings(), tell or (lambda *_: None)
    source, out = source.resolve(), out.resolve()
    found, others = find_pictures(source)
    _prepare(source, out)
    encoder = Encoder.read(settings.encoder.resolve(), "cpu" if ray else settings.device)  # before hours of work on pictures, as the next line
    check_name(out / PAIRS)
    model = settings.segmenter.resolve() if settings.segmenter else None
    stages = (Decode(source, settings.side, settings.smallest), Cut(model), settings.clean)
    with workers(ray, out, (source, encoder.folder, *([model] if model else []))) as work, Pictures() as pictures:
        chunks = _chunks(out / "work" / "pictures", found, stages, settings.chunk, work, tell)
        items = _without_duplicates([item for chunk in chunks for item in chunk.items])
        rows = [item for item in items if not item.reason]
        pictures.add(chunks)
        _embed(out, rows, pictures, replace(encoder, device=settings.device), settings.chunk, work, tell)
        pairs, told = _pairs(out, len(rows), settings, tell)
        shards = write_shards(out, rows, pairs, pictures, settings.shard, settings.pairs.seed, work, tell)
        _remove_halves(out)
        summary = Summary(items, others, told, shards, _FEW_NOTE if encoder.centred and len(rows) < _FEW else "")
        first = np.unique(pairs.a, return_index=True)[1][:_EXAMPLES]
        shown = [(rows[int(pairs.b[place])].key, rows[int(pairs.a[place])].key) for place in first]
        keys = [item.key for item in rows[:_EXAMPLES]] + [key for pair in shown for key in pair]
        write_report(out, source, summary, examples(pictures, keys), shown)
    return summary


def _prepare(source: Path, out: Path) -> None:
    if out == source or out.is_relative_to(source):
        raise BadSettings(f"{out} lies in the folder of the pictures, and would be taken for some of them. Choose a folder outside it.")
    try:
        if out.exists() and not _is_ours(out):
            raise BadSettings(f"{out} holds something else. Choose an empty folder.")
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"{out} could not be made ({error.strerror or error}).") from error
    _remove_halves(out)
    write_atomically(out / BUILD, json.dumps({"format": _FORMAT}).encode())


def _remove_halves(out: Path) -> None:
    """What was being written when a run, or a worker of this one, was killed."""
    for folder in (out, out / FOLDER, out / "work" / "pictures", out / "work" / "embeddings"):
        for left in folder.glob(".*.part") if folder.is_dir() else ():
            left.unlink(missing_ok=True)


def _is_ours(out: Path) -> bool:
    try:
        return json.loads((out / BUILD).read_text("utf-8"))["format"] == _FORMAT
    except FileNotFoundError:
        return not any(out.iterdir())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _chunks(folder: Path, items: Sequence[Item], stages: Sequence[Stage], size: int, work: Workers, tell: Tell) -> list[Made]:
    """Every chunk of pictures: decoded, cut out, cleaned."""
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[int, Made] = {}
    units = ((folder / f"{number:06}.tar", portion, stages) for number, portion in enumerate(chunks_of(items, size)))
    for number, chunk in work(make_chunk, units):
        made[number] = chunk
        tell(min(1.0, len(made) * size / len(items)), "opening, cutting out and cleaning")
    remove_others(folder, [chunk.path for chunk in made.values()])
    return [made[number] for number in range(len(made))]


def _without_duplicates(items: Sequence[Item]) -> list[Item]:
    kept = [item for item in items if not item.reason]
    instead = duplicates([bytes.fromhex(item.about["look"]) for item in kept], [item.about["size"][0] * item.about["size"][1] for item in kept])
    twin = {item.key: kept[place] for item, place in zip(kept, instead, strict=True) if place >= 0}
    return [item.knowing(like=twin[item.key].about["file"]).out("near-duplicate") if item.key in twin else item for item in items]


def _embed(out: Path, rows: Sequence[Item], pictures: Pictures, encoder: Encoder, size: int, work: Workers, tell: Tell) -> None:
    """Write embeddings.npy, float32 [len(rows), D], and pictures.jsonl."""
    folder = out / "work" / "embeddings"
    folder.mkdir(parents=True, exist_ok=True)
    parts = [folder / f"{number:06}.npy" for number in range(-(-len(rows) // size))]

    def units() -> Iterator[tuple[Path, str, list[Found], Encoder]]:
        for path, portion in zip(parts, chunks_of(rows, size), strict=True):
            made_of = fingerprint(encoder.digest, [(item.key, pictures.digest(item.key)) for item in portion])
            yield path, made_of, [pictures.found(item.key, PICTURE) for item in portion], encoder

    for done, _ in enumerate(work(_embed_part, units(), gpu=encoder.device == "cuda"), 1):
        tell(done / len(parts), "embedding")
    remove_others(folder, parts)
    put_in_place(out / EMBEDDINGS, lambda passing: _join(passing, parts, len(rows), encoder))
    lines = (json.dumps({"row": row, "key": item.key, **item.about}) for row, item in enumerate(rows))
    write_atomically(out / ROWS, "".join(line + "\n" for line in lines).encode())


def _embed_part(path: Path, made_of: str, found: Sequence[Found], encoder: Encoder) -> None:
    """float32 [len(found), D] in a file of its own."""
    if read_mark(path, made_of) is not None:
        return
    with TarFiles() as tars:
        batches = (found[start : start + _BATCH] for start in range(0, len(found), _BATCH))
        vectors = [encoder([Image.open(io.BytesIO(tars.read(*one))) for one in batch]) for batch in batches]
    put_in_place(path, lambda passing: _save(passing, np.concatenate(vectors)))
    mark(path, made_of)


def _save(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:  # numpy.save would add an ending to the name
        np.save(file, array)


def _join(path: Path, parts: Sequence[Path], count: int, encoder: Encoder) -> None:
    """All parts in one file; less their mean, where the encoder asks for that. Not through a memory map: a full disk would crash the process."""
    mean: Any = 0
    if encoder.centred and count:
        mean = sum(np.load(part).sum(axis=0, dtype=np.float64) for part in parts) / count
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (count, encoder.width)})
        for part in parts:
            file.write((np.load(part) - mean).astype("<f4").tobytes())


def _pairs(out: Path, count: int, settings: BuildSettings, tell: Tell) -> tuple[Pairs, PairReport | None]:
    if count < 2:
        (out / PAIRS).unlink(missing_ok=True)
        return Pairs.joined([]), None
    told = find_pairs(out / EMBEDDINGS, out / PAIRS, settings.pairs, tell)
    return read_pairs(out / PAIRS), told
