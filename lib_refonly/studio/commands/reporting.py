"""What the colour command says: sentences for people, or one JSON object a line for programs."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from lib_refonly.errors import PainterError
from lib_refonly.studio.commands.bar import Bar
from lib_refonly.studio.commands.pairing import Pair

PARTLY_FAILED = 8
"""Exit code: some drawings are finished and some are not, or several failed for different reasons."""


@dataclass(frozen=True)
class Row:
    """What became of one picture. `status` is done, skipped or failed; `notes` are the engine's and ours."""

    file: str
    reference: str
    status: str
    out: str | None = None
    layer: str | None = None
    seed: int | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None


class Reporter:
    """Writes rows as they come and counts them. Results go to `out`, everything else to `err`."""

    def __init__(self, as_json: bool, progress: bool, total: int, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._json, self._out, self._err = as_json, out or sys.stdout, err or sys.stderr
        self.bar = Bar(self._err, progress, total)
        self.counts = {"done": 0, "skipped": 0, "failed": 0}
        self._codes: set[int] = set()
        self._said: set[str] = set()

    def say(self, text: str) -> None:
        """A sentence that belongs to no picture."""
        self.bar.clear()
        print(text, file=self._err, flush=True)

    def row(self, row: Row) -> None:
        """One picture."""
        self.counts[row.status] += 1
        self.bar.clear()
        if self._json:
            print(json.dumps(dataclasses.asdict(row)), file=self._out, flush=True)
        elif row.status == "done":
            print(f"{row.out}  (seed {row.seed}, {row.seconds:.1f} s)", file=self._out, flush=True)
        for note in () if self._json else row.notes:
            if row.status != "done" or note not in self._said:  # what is so with every frame is said of the first
                print(f"  {row.file}: {note}", file=self._err, flush=True)
            self._said.add(note)

    def failed(self, pair: Pair, error: PainterError | None, text: str) -> None:
        """One drawing that came to nothing; `error` is None for a fault of ours."""
        self._codes.add(error.exit_code if error else 70)
        self.row(Row(str(pair.lines), str(pair.reference), "failed", error=text))
        if not self._json:
            print(f"{pair.lines}: {text}", file=self._err, flush=True)

    def exit_code(self) -> int:
        """0 when nothing failed; the one code when all failed alike; else 8."""
        if not self._codes:
            return 0
        if len(self._codes) == 1 and not (self.counts["done"] or self.counts["skipped"]):
            return next(iter(self._codes))
        return PARTLY_FAILED

    def summary(self, unpaired: Sequence[Path], seconds: float, code: int) -> None:
        """The last line."""
        self.bar.clear()
        if self._json:
            last = {
                "summary": True,
                **self.counts,
                "unpaired": [str(path) for path in unpaired],
                "seconds": round(seconds, 3),
                "exit_code": code,
            }
            print(json.dumps(last), file=self._out, flush=True)
        elif sum(self.counts.values()) > 1 or self.counts["skipped"]:
            what = ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)
            print(f"{what} in {seconds:.1f} s", file=self._err, flush=True)
