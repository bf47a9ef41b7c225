"""What is asked of a running trainer: empty files in the folder `asks` of its run, which it takes away when it has heard."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from lib_refonly.errors import BadSettings, CannotWrite
from lib_refonly.training.jobs.names import inside

FOLDER = "asks"
ASKS = ("stop", "pause", "save", "sample")
"""stop: save and end. pause: the same, to go on later. save, sample: now, then go on."""
ENDING = ("stop", "pause")


def ask(folder: Path, what: str) -> None:
    """Ask the trainer that works in `folder`. To ask twice before it has heard is to ask once.

    Raises:
        BadSettings: nothing that can be asked. CannotWrite: the folder cannot be written to.
    """
    if what not in ASKS:
        raise BadSettings(f"{what!r} can't be asked of a job. Ask one of {', '.join(ASKS)}.")
    try:
        inside(folder, FOLDER).mkdir(exist_ok=True)
        os.close(os.open(inside(folder, f"{FOLDER}/{what}"), os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise CannotWrite(f"The job can't be asked to {what}: {error.strerror or error}.") from error


class Asks:
    """The trainer's side. Looking costs one call to the system, so it may be done at every step."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def waiting(self) -> set[str]:
        """What is asked and not yet taken."""
        try:
            with os.scandir(self._folder) as entries:
                return {entry.name for entry in entries if entry.name in ASKS}
        except OSError:  # no folder: nothing was ever asked
            return set()

    def take(self, what: str) -> bool:
        """Whether `what` was asked; it no longer is afterwards."""
        try:
            os.unlink(self._folder / what)
        except OSError:
            return False
        return True

    def take_all(self) -> set[str]:
        """All that was asked; it no longer is afterwards."""
        return {what for what in self.waiting() if self.take(what)}

    def clear(self) -> None:
        """Forget what was asked of an earlier run."""
        for what in ASKS:
            with contextlib.suppress(OSError):
                os.unlink(self._folder / what)
