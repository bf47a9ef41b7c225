"""What the Train page asks of the program that it stands in: the studio, or a WebUI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_refonly.training.finished import Finished

Titled = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Place:
    """Where finished files of one kind are looked for. into: how the page names it. there: where they are tried, as "in txt2img"; "" where they can't be.
    then: what is to be done after it was put there, in a sentence.
    """

    folder: Path
    into: str
    there: str = ""
    then: str = ""


class TrainingHost:
    """As it is here, the program has nothing to offer: finished files can be downloaded."""

    has_checkpoints = False
    """Whether there is a list of checkpoints to choose from."""
    busy = ""
    """What a training that runs means for painting here, in a sentence; "" where nobody need care."""
    room = ""
    """What came of making room for the last training, in a sentence."""

    def checkpoints(self) -> Titled:
        """Titles and paths."""
        return ()

    def notes(self) -> Sequence[str]:
        """What keeps trainings from running here, in sentences that say what to do."""
        return ()

    def make_room(self) -> str:
        """Give the graphics card's memory free for a training. What came of it, in a sentence; "" where there is none to give."""
        return ""

    def place(self, found: Finished) -> Place | None:
        """None: this program has no use for it."""
        return None

    def list_anew(self, found: Finished, placed: Path) -> None:
        """A file was put there: the program's own lists are to show it."""

    def trial(self, found: Finished, placed: Path) -> dict[str, Any]:
        """For javascript/refonly_train.js, where the file is tried. page: the title of a tab of the studio. Or tab: a WebUI's, with prompt and checkpoint."""
        return {}
