"""What one browser tab holds of the Train page. Jobs themselves belong to no tab: they are found again in their house."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Any

from lib_refonly.training.builtin_settings import TASKS, BuiltinSettings
from lib_refonly.training.jobs import events
from lib_refonly.training.jobs.house import JobHouse
from lib_refonly.training.jobs.progress import Progress
from lib_refonly.training.kohya.settings import KohyaSettings
from lib_refonly.training.pictures import PictureFolder, Seen
from lib_refonly.ui.builtin_form import FIRST_TASK
from lib_refonly.ui.style_session import StyleSession
from lib_refonly.ui.training_fields import FIRST


class Watch:
    """One job's progress, read on from where it was read last."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._offset, self._progress = 0, Progress()

    def look(self, house: JobHouse) -> Progress:
        """How far it is now. Raises: BadSettings: there is no such job."""
        path = house.folder_of(self.name) / events.FILE
        while True:
            batch = events.read(path, self._offset)
            self._progress = Progress() if batch.begun_anew else self._progress
            self._progress.add(batch.events)
            if batch.offset == self._offset:
                return self._progress
            self._offset = batch.offset


class TrainingSession:
    """One tab's memory. `copy.deepcopy` gives a NEW session, as for the Styles page.

    look: the number of the look whose captions are shown, which edits name; 0 is none. preset, small: what the forms were last filled with. sure: what a second
    click would remove. stop: ends a run of captions. before: the captions as they were before they were last changed all at once.
    which: the finished file that is looked at. sent: how often one was put somewhere.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.files = StyleSession()
        self.look = 0
        self.folder: PictureFolder | None = None
        self.seen: list[Seen] = []
        self.preset: KohyaSettings = FIRST
        self.small: BuiltinSettings = TASKS[FIRST_TASK][1]
        self.sure = ""
        self.stop = threading.Event()
        self.before: tuple[PictureFolder, dict[str, str]] | None = None
        self._shown: dict[str, Hashable] = {}
        self._watch = Watch("")
        self.which = ""
        self.sent = 0
        self._made: dict[str, tuple[Hashable, Any]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> TrainingSession:
        return TrainingSession()

    def looked(self, folder: PictureFolder, seen: list[Seen]) -> None:
        """Other pictures are shown now, or the same ones anew: what was edited before is over."""
        self.look, self.folder, self.seen = self.look + 1, folder, seen

    def progress(self, house: JobHouse, name: str) -> Progress:
        """Of the job that is looked at."""
        with self.lock:
            if self._watch.name != name:
                self._watch = Watch(name)
            return self._watch.look(house)

    def is_new(self, part: str, value: Hashable) -> bool:
        """Whether the page shows something else there. What is the same is not sent again, so that nothing jumps under the painter's hands."""
        new = part not in self._shown or self._shown[part] != value
        self._shown[part] = value
        return new

    def forget_shown(self) -> None:
        """Send everything again."""
        self._shown.clear()

    def made(self, what: str, key: Hashable, make: Any) -> Any:
        """What `make` gives, made once as long as the key (files and when they were written, say) is the same."""
        if what not in self._made or self._made[what][0] != key:
            self._made[what] = (key, make())
        return self._made[what][1]
