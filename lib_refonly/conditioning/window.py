"""When something acts. Without torch: a WebUI's panel checks its starts and ends with it."""

from __future__ import annotations

from dataclasses import dataclass

from lib_refonly.errors import BadSettings


@dataclass(frozen=True)
class Window:
    """The part of the run in which something acts, as fractions from noise (0) to picture (1), both ends included."""

    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end <= 1:
            raise BadSettings(f"Start {self.start:g} and end {self.end:g}: both lie between 0 and 1, and the start is not after the end.")

    def holds(self, progress: float) -> bool:
        return self.start - 1e-6 <= progress <= self.end + 1e-6
