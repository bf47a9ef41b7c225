"""Pairs of similar pictures, by their embeddings: the paper's section 3.2 ("We use CLIP to find 1,000,000 pairs of images with a similarity greater than
90%"), without the matrix of all pairs, which for a million pictures has 4 TB.
"""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lib_refonly.errors import BadSettings, CannotWrite
from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.training.dataset import lists, tables
from lib_refonly.training.dataset.vectors import Embeddings, Rows, Tell
from lib_refonly.training.dataset.window import Pairs, Window

_PLAN = "plan.json"
_FORMAT = "refonly pairs 1"
_FEW = 20_000
"""Up to here all pairs are compared: sorting into lists would hardly be quicker."""


@dataclass(frozen=True)
class PairSettings:
    """How pairs are looked for.

    exact: compare everything with everything. lists: inverted lists; 0 chooses, and compares everything when there are few pictures.
    recall: share of the exact pairs that has to be found, measured on `sample` pictures before and after. seed: of that sample and of the lists.

    Raises:
        BadSettings: a share that is not above 0 and at most 1, or a number below its least.
    """

    window: Window = field(default_factory=Window)
    exact: bool = False
    lists: int = 0
    recall: float = 0.99
    sample: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise BadSettings(f"The recall is above 0 and at most 1; {self.recall:g} is not.")
        if self.lists < 0 or self.sample < 1 or self.seed < 0:
            raise BadSettings("The number of lists and the seed are 0 or more, the sample is 1 or more.")


@dataclass(frozen=True)
class PairReport:
    """What was found. `pictures`: those with at least one pair. `recall`: share of the sample's exact pairs (`sample_pairs`) that are in the table;
    None where the sample has none. `lists` and `probes` are 0 when everything was compared. `seconds`: by step, of this call alone."""

    rows: int
    width: int
    pairs: int
    pictures: int
    method: str
    lists: int
    probes: int
    recall: float | None
    sample_pairs: int
    seconds: dict[str, float]

    def sentence(self) -> str:
        """For the terminal."""
        how = "every picture was compared with every other" if self.method == "exact" else f"{self.probes} of {self.lists} lists were searched for each"
        known = "" if self.method == "exact" else " (no sampled picture has a pair)" if self.recall is None else f", recall {self.recall:.4f} on a sample"
        return f"{self.pairs} pairs of {self.pictures} of {self.rows} pictures: {how}{known}."


def report_path(out: Path) -> Path:
    """Where the report of a table lies: PAIRS.parquet.json."""
    return out.with_name(out.name + ".json")


def find_pairs(embeddings: Path, out: Path, settings: PairSettings | None = None, tell: Tell | None = None) -> PairReport:
    """Write the pairs of similar pictures to `out` (.parquet or .csv) and a report beside it, or go on where an earlier call was ended.

    A row (a, b, cosine) says that b is one of a's best partners within the window; rows are numbers of the embeddings, and pictures with the
    same cosine are taken in their order. (b, a) is a row as well, unless b has `per_picture` better ones. Memory does not depend on how many
    pairs there are. Finished blocks lie in a folder OUT.work, which goes in the end; the same call gives the same bytes, ended in between or not.

    Raises:
        BadSettings: as `Embeddings`; the name of `out`. CannotWrite. PainterError: a package is missing.
    """
    settings, tell = settings or PairSettings(), tell or (lambda *_: None)
    tables.check_name(out)
    search = _Search(Embeddings(embeddings, tell), out, settings, tell)
    if not (found := search.finished()):
        search.prepare()
        search.run()
        found = search.finish()
    return PairReport(**found, seconds=search.seconds)


class _Search:
    def __init__(self, embeddings: Embeddings, out: Path, settings: PairSettings, tell: Tell) -> None:
        self._embeddings, self._out, self._settings, self._tell = embeddings, out, settings, tell
        self._work = out.with_name(out.name + ".work")
        self._step = lists.block_rows(embeddings.width)
        self._plan = json.loads(json.dumps({"format": _FORMAT, "embeddings": embeddings.digest, "block": self._step, "settings": asdict(settings)}))
        self.seconds: dict[str, float] = {}

    @property
    def _lists(self) -> int:
        """How many inverted lists; 0: everything is compared."""
        few = self._embeddings.count <= _FEW
        wanted = self._settings.lists or (0 if few else lists.default_lists(self._embeddings.count))
        return 0 if self._settings.exact else min(wanted, self._embeddings.count)

    def finished(self) -> dict[str, Any] | None:
        """The report of an earlier call with the same numbers and settings, whose table is still there."""
        try:
            report = json.loads(report_path(self._out).read_text("utf-8"))
            return report["found"] if report["plan"] == self._plan and report["bytes"] == self._out.stat().st_size else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def prepare(self) -> None:
        """The folder of what is finished. One that other settings left is made anew."""
        try:
            if self._work.exists() and self._read_plan() != self._plan:
                shutil.rmtree(self._work)
            self._work.mkdir(exist_ok=True)
        except OSError as error:
            raise CannotWrite(f"{self._work} could not be made ({error.strerror or error}).") from error
        write_atomically(self._work / _PLAN, json.dumps(self._plan).encode())

    def _read_plan(self) -> object:
        try:
            plan = json.loads((self._work / _PLAN).read_text("utf-8"))
        except (OSError, ValueError):
            plan = None
        if not isinstance(plan, dict) or plan.get("format") != _FORMAT:
            if any(path.name != _PLAN for path in self._work.iterdir()):
                raise BadSettings(f"{self._work} is in the way: unfinished pairs go there, and it holds something else. Move it away.")
            return None
        return plan

    def run(self) -> None:
        """Every block that is not finished yet."""
        count, blocks = self._embeddings.count, range(0, self._embeddings.count, self._step)
        left = [start for start in blocks if not self._part(start).exists()]
        search = self._by_lists() if self._lists and left else self._by_all
        with _Timed(self.seconds, "pairs"):
            for start in left:
                pairs = search(np.arange(start, min(start + self._step, count)))
                _save(self._part(start), a=pairs.a, b=pairs.b, cosine=pairs.cosine)
                self._tell(min(1.0, (start + self._step) / count), "finding pairs")

    def _by_all(self, rows: Rows) -> Pairs:
        return lists.pairs_by_all(self._embeddings, rows, self._settings.window)

    def _by_lists(self) -> Callable[[Rows], Pairs]:
        probed = self._probed()
        members = lists.Sorted(probed[:, 0], self._lists)
        return lambda rows: lists.pairs_by_lists(self._embeddings, rows, self._settings.window, members, probed[rows])

    def _probed(self) -> lists.Lists:
        path = self._work / "lists.npz"
        if not path.exists():
            with _Timed(self.seconds, "sample"):
                truth = self._truth()
            with _Timed(self.seconds, "centres"):
                self._tell(0, "learning where the lists are")
                centres = lists.Centres.learnt(self._embeddings, self._lists, self._settings.seed)
            with _Timed(self.seconds, "lists"):
                # Each half of the sample has to reach the recall: one alone could by chance.
                halves = (truth.chosen(truth.a % 2 == half) for half in range(2))
                count = max(lists.needed_probes(self._embeddings, centres, half, self._settings.recall) for half in halves)
                _save(path, probed=lists.probes(self._embeddings, centres, count, self._tell))
        return _load(path)["probed"]

    def _truth(self) -> Pairs:
        """The exact pairs of the sample."""
        path = self._work / "sample.npz"
        if not path.exists():
            count, rng = self._embeddings.count, np.random.default_rng(self._settings.seed)
            rows: Rows = np.sort(rng.choice(count, min(self._settings.sample, count), replace=False)).astype(np.int64)
            pairs = lists.pairs_by_all(self._embeddings, rows, self._settings.window, self._tell)
            _save(path, a=pairs.a, b=pairs.b, cosine=pairs.cosine)
        return Pairs(**_load(path))

    def finish(self) -> dict[str, Any]:
        """Put the blocks together, measure, clean up."""
        with _Timed(self.seconds, "table"):
            tables.write_pairs(self._out, self._parts(), self._work)
        probes = _load(self._work / "lists.npz")["probed"].shape[1] if self._lists else 0
        found = {
            "rows": self._embeddings.count, "width": self._embeddings.width, **self._counts(), "method": "lists" if self._lists else "exact",
            "lists": self._lists, "probes": int(probes), **(self._measured() if self._lists else {"recall": 1.0, "sample_pairs": 0}),
        }  # fmt: skip
        report = {"plan": self._plan, "found": found, "bytes": self._out.stat().st_size}
        write_atomically(report_path(self._out), (json.dumps(report, indent=1) + "\n").encode())
        shutil.rmtree(self._work, ignore_errors=True)
        return found

    def _counts(self) -> dict[str, int]:
        sizes = [(len(part.a), len(np.unique(part.a))) for part in self._parts()]
        return {"pairs": sum(size[0] for size in sizes), "pictures": sum(size[1] for size in sizes)}

    def _measured(self) -> dict[str, Any]:
        """Which share of the sample's exact pairs is in the finished blocks."""
        truth, count = self._truth(), self._embeddings.count
        found = sum(int(np.isin(truth.a * count + truth.b, part.a * count + part.b).sum()) for part in self._parts())
        return {"recall": found / len(truth.a) if len(truth.a) else None, "sample_pairs": len(truth.a)}

    def _part(self, start: int) -> Path:
        return self._work / f"rows-{start:012}.npz"

    def _parts(self) -> Iterator[Pairs]:
        return (Pairs(**_load(self._part(start))) for start in range(0, self._embeddings.count, self._step))


def _save(path: Path, **arrays: np.ndarray) -> None:
    """Whole or not at all. Raises: CannotWrite."""
    data = io.BytesIO()
    np.savez(data, **arrays)  # type: ignore[arg-type]  # its stub takes the names for its own options
    write_atomically(path, data.getvalue())


def _load(path: Path) -> dict[str, Any]:
    with np.load(path) as arrays:
        return dict(arrays)


class _Timed:
    """Adds what its body took, in seconds."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds, self._name = seconds, name

    def __enter__(self) -> None:
        self._begun = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._name] = self._seconds.get(self._name, 0) + time.monotonic() - self._begun
