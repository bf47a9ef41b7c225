"""What comes before a training on the painter's own pictures: the set, what the trainer reads of it, its latents. One after the other, in one job.

Each stage goes on where it was ended, and what is finished is not made again. Asks and signals are heard in between; what they end is told as any training's.
"""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_refonly.errors import BadSettings, CannotWrite
from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.training.jobs import events
from lib_refonly.training.jobs.asks import ENDING, Asks

if TYPE_CHECKING:
    from lib_refonly.training.dataset.report import Summary
    from lib_refonly.training.own.pairs import Bridged

FILE = "prepared.json"
SET, DATA, LATENTS = "set", "data", "latents"
KINDS = ("refonly", "adapter", "stylecode")
_EVERY = 1.0
"""Seconds between two events of the same work."""
_CHUNK = 16
"""Pictures between two looks at what is asked."""


@dataclass(frozen=True)
class Prepare:
    """The table [prepare]. pictures: a folder of pictures, or a finished set; for stylecodes a folder with a subfolder for each style.

    only: make the set, then end. cut: tell the character from its ground by the segmentation model where one is installed. smallest, side: px, as for
    `dataset build`. low, high, per_picture: which pictures are pairs. captions: read NAME.txt beside the pictures.
    """

    pictures: str
    only: bool = False
    cut: bool = True
    side: int = 1024
    smallest: int = 128
    low: float = 0.90
    high: float = 0.98
    per_picture: int = 4
    captions: bool = True


class _Ended(Exception):
    """It was asked to end; the argument says why."""


def prepare(table: Prepare, kind: str, size: int, vae: Path, folder: Path, data: Path) -> bool:
    """Make `data`, with latents, of the pictures. False: it ended before, as it was asked to, or because only the set is wanted; that is told then.

    Args:
        kind: what is to be trained. size: px. vae: that the latents are made by. folder: of the run; the set lies in it.

    Raises:
        BadSettings: the pictures can't be trained on; the text says why. PainterError: whatever the stages raise.
    """
    if kind not in KINDS:
        raise BadSettings(f"[prepare] goes with the kinds {', '.join(KINDS)}; a {kind} is made in steps (see docs/training.md).")
    source = Path(table.pictures).expanduser()
    if not source.is_dir():
        raise BadSettings(f"There is no folder {source}. Put it back, or choose another one.")
    run = _Run(folder, hashlib.sha256(repr((table, kind, size, str(data))).encode()).hexdigest())
    try:
        with run.listening():
            _all(run, table, kind, size, vae, data, source)
    except _Ended as end:
        run.log("stopped", why=str(end), what=run.what)
        return False
    if table.only:
        run.log("done")
    return not table.only


def _all(run: _Run, table: Prepare, kind: str, size: int, vae: Path, data: Path, source: Path) -> None:
    from lib_refonly.training.own.pairs import is_set

    ready = is_set(source)
    if kind == "stylecode" and (ready or table.only):
        raise BadSettings("A stylecode model needs no set of pairs: give a folder with one subfolder for each style.")
    if ready and table.only:
        raise BadSettings(f"{source} is a data set already. Give a folder of pictures.")
    if not table.only:
        from lib_refonly.training.own.records import check_size

        check_size(size)  # before hours of work on pictures
    built = run.folder / SET
    if not ready and kind != "stylecode":
        run.stage(SET, lambda: _build(run, table, source, built))
    if table.only:
        run.log("result", file=SET)
        return
    run.stage(DATA, lambda: _bridge(run, table, kind, source, source if ready else built, data, size))
    run.stage(LATENTS, lambda: _encode(run, vae, data, size))


def _build(run: _Run, table: Prepare, source: Path, out: Path) -> None:
    import torch

    from lib_refonly.models.registry import ModelStore
    from lib_refonly.training.dataset.build import BuildSettings, build
    from lib_refonly.training.dataset.pairs import PairSettings
    from lib_refonly.training.dataset.report import REPORT, SHEET
    from lib_refonly.training.dataset.window import Window

    segmenter = ModelStore().segmenter() if table.cut else None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pairs = PairSettings(Window(table.low, table.high, table.per_picture))
    settings = BuildSettings(table.side, table.smallest, segmenter, device=device, pairs=pairs, chunk=_CHUNK)
    summary = build(source, out, settings, run.tell)
    run.log("report", lines=report_lines(summary), file=f"{SET}/{REPORT}")
    if (out / SHEET).is_file():
        run.log("sample", file=f"{SET}/{SHEET}")


def _bridge(run: _Run, table: Prepare, kind: str, source: Path, made: Path, data: Path, size: int) -> None:
    from lib_refonly.training.own.pairs import from_set
    from lib_refonly.training.own.styles import from_folders

    anew = data.resolve().is_relative_to(run.folder.resolve())  # what lies elsewhere may be somebody's
    told: Bridged
    if kind == "stylecode":
        told = from_folders(source, data, size, anew, run.tell)
    else:
        captions = source if table.captions and made != source else None
        told = from_set(made, data, size, captions, anew, run.tell)
    run.log("report", lines=[told.sentence("styles" if kind == "stylecode" else "pairs"), *told.notes])


def _encode(run: _Run, vae: Path, data: Path, size: int) -> None:
    from lib_refonly.training.latents import encode_all

    encode_all(vae, data, size, tell=run.tell)


def report_lines(summary: Summary) -> list[str]:
    """What a build came to, in sentences: the counts, the reasons, how the figures were cut out, the pairs."""
    out = Counter(item.reason.partition(":")[0] for item in summary.items if item.reason)
    cut = Counter(str(item.about.get("cut")) for item in summary.kept)
    lines = [f"{len(summary.kept)} of {len(summary.items)} pictures are kept."]
    lines += [f"{count} went: {reason}." for reason, count in out.most_common()]
    lines += [f"{cut['model']} were cut out by the segmentation model, {cut['alpha']} by their own transparency; {cut['no']} keep their ground."]
    if summary.pairs is not None:
        alone = summary.pairs.rows - summary.pairs.pictures
        lines += [f"{summary.pairs.pairs} pairs of similar pictures; {alone} pictures have no partner.{summary.note}"]
    return lines


class _Run:
    """The run's folder: which stages are finished, what is told, what is asked. of: a fingerprint of all that the stages are made with."""

    def __init__(self, folder: Path, of: str) -> None:
        self.folder, self.what, self._stage, self._of, self._last = folder, "", "", of, 0.0
        folder.mkdir(parents=True, exist_ok=True)
        self._asks, self._signalled = Asks(folder), False
        try:
            known = json.loads((folder / FILE).read_text("utf-8"))
            self._done: list[str] = known["done"] if known["of"] == of else []
        except (OSError, ValueError, KeyError, TypeError):
            self._done = []

    def stage(self, name: str, work: Callable[[], None]) -> None:
        """Do it, unless it is done."""
        if name in self._done:
            return
        self._stage = name
        self._heard()
        work()
        self._done = [*self._done, name]
        write_atomically(self.folder / FILE, json.dumps({"of": self._of, "done": self._done}).encode())
        self._heard()

    def tell(self, share: float, what: str) -> None:
        """How far the stage's work `what` is, 0 to 1. Raises: _Ended: that was asked."""
        now = time.monotonic()
        if what != self.what or now - self._last >= _EVERY:
            self.what, self._last = what, now
            self.log("stage", stage=self._stage, what=what, done=round(min(1.0, share), 4))
        self._heard()

    def _heard(self) -> None:
        """`save` and `sample` are left for the training, which is what they are meant for; what is finished here is on the disk anyway."""
        for why in ENDING:
            if self._asks.take(why):
                raise _Ended(why)
        if self._signalled:
            raise _Ended("signal")

    def log(self, event: str, **values: Any) -> None:
        """Raises: CannotWrite: a full disk has to end this before the rest is made."""
        try:
            events.append(self.folder / events.FILE, {"event": event, "step": 0, "time": round(time.time(), 1), **values})
        except OSError as error:
            raise CannotWrite(f"{events.FILE} could not be written ({error.strerror or error}). Make room, then resume.") from error

    @contextmanager
    def listening(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the work where it may be ended."""
        names = (signal.SIGINT, signal.SIGTERM)
        before = {name: signal.signal(name, self._signal) for name in names}
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    def _signal(self, *_: object) -> None:
        self._signalled = True
