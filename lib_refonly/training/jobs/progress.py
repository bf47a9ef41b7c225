"""How far a run is, how fast, and how its losses went, from its events."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lib_refonly.training.jobs.events import ENDS, Event

RECENT = 20
"""Lines of steps whose median is the time of a step: one slow step (a save, another program) doesn't move it."""
_NO_LOSSES = {"step", "steps", "time", "lr", "seconds", "memory", "memory_gpu", "epoch"}

Point = tuple[int, float]


@dataclass
class Progress:
    """Fed with events as they come.

    steps: where training ends; 0 is unknown. lr, memory, memory_gpu (bytes): last told; None is never. problem: the last thing that failed without ending it.
    samples: pictures, relative to its folder; sample_shows: what the newest one shows. curves: loss by step, by the loss' name. stage: what is done before
    the first step, "" when nothing is; stage_done: how far, 0 to 1. report: sentences on what came of that.
    """

    step: int = 0
    steps: int = 0
    lr: float | None = None
    memory: int | None = None
    memory_gpu: int | None = None
    saved: int | None = None
    ended: str = ""
    problem: str = ""
    samples: list[str] = field(default_factory=list)
    sample_shows: str = ""
    losses: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[Point]] = field(default_factory=dict)
    stage: str = ""
    stage_done: float = 0.0
    report: list[str] = field(default_factory=list)
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def add(self, events: Iterable[Event]) -> None:
        """Take further events in, in their order."""
        for event in events:
            self._add(event)

    def _add(self, event: Event) -> None:
        what, step = event["event"], _number(event.get("step"))
        self.step = self.step if step is None else int(step)
        self.steps = int(_number(event.get("steps")) or self.steps)
        self.stage = "" if what in ("start", "resume", *ENDS) else self.stage
        if what in ("start", "resume"):
            self._go_back(self.step)
        elif what == "step":
            self._take_step(event)
        elif what == "save":
            self.saved, self.problem = self.step, ""
        elif what in ("done", "stopped"):
            self.ended = what
        elif what.endswith("-failed"):
            self.problem = str(event.get("why", what))
        elif what == "stage":
            self.stage, self.stage_done, self.ended = str(event.get("what", "")), min(1.0, max(0.0, _number(event.get("done")) or 0.0)), ""
        elif what == "report":
            self._take_report(event.get("lines"))
        elif what == "sample":
            given = event.get("files", [event.get("file")])
            self.samples += [one for one in given if isinstance(one, str)] if isinstance(given, list) else []
            self.sample_shows = str(event.get("shows", ""))

    def _go_back(self, step: int) -> None:
        """A resumed run does the steps after its checkpoint once more: the curve has each step once."""
        self.ended, self.problem = "", ""
        self.curves = {name: [point for point in curve if point[0] <= step] for name, curve in self.curves.items()}
        self._seconds.clear()

    def _take_report(self, lines: object) -> None:
        """A stage that was done again says the same once more."""
        told = [line for line in lines if isinstance(line, str)] if isinstance(lines, list) else []
        self.report = [line for line in self.report if line not in told] + told

    def _take_step(self, event: Event) -> None:
        lr, memory, card = (_number(event.get(name)) for name in ("lr", "memory", "memory_gpu"))
        self.lr = self.lr if lr is None else lr
        self.memory = self.memory if memory is None else int(memory)
        self.memory_gpu = self.memory_gpu if card is None else int(card)
        seconds = _number(event.get("seconds"))
        if seconds is not None and seconds > 0:
            self._seconds.append(seconds)
        self.losses = {name: value for name, one in event.items() if name not in _NO_LOSSES and (value := _number(one)) is not None}
        for name, value in self.losses.items():
            self.curves.setdefault(name, []).append((self.step, value))

    @property
    def seconds(self) -> float | None:
        """Of a step, lately; None: not known yet."""
        return statistics.median(self._seconds) if self._seconds else None

    @property
    def left(self) -> float | None:
        """Seconds until the last step; None: not known."""
        return None if self.seconds is None or not self.steps else max(0, self.steps - self.step) * self.seconds

    def curve(self, name: str = "loss", most: int = 500) -> list[Point]:
        """A loss by step, in at most `most` points."""
        return thinned(self.curves.get(name, ()), most)


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most `most` (2 or more) of the points, in order: the lowest and the highest of each stretch, so that no peak is lost."""
    if len(points) <= most:
        return list(points)
    stretches, kept = max(1, most // 2), []
    for number in range(stretches):
        stretch = points[number * len(points) // stretches : (number + 1) * len(points) // stretches]
        ends = {min(range(len(stretch)), key=lambda i: stretch[i][1]), max(range(len(stretch)), key=lambda i: stretch[i][1])}
        kept += [stretch[i] for i in sorted(ends)]
    return kept


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None
