"""What becomes of finished trainings in the studio: what its pages can use goes into the painter's models folder, everything else is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib_refonly.models.registry import user_folder
from lib_refonly.onepic import shelf as loras
from lib_refonly.stylecode import shelf as styles
from lib_refonly.training.finished import ADAPTER, BASE, ONEPIC, REFONLY, STYLECODE, Finished
from lib_refonly.ui.training_host import Place, TrainingHost

_PAGES = {ONEPIC: "ONE-PIC", STYLECODE: "Styles", BASE: "ONE-PIC"}


class StudioTraining(TrainingHost):
    """Its pages look into one folder each time, so nothing has to be listed anew."""

    def place(self, found: Finished) -> Place | None:
        own = user_folder()
        there = f"on the {page} page" if (page := _PAGES.get(found.kind)) else ""
        return {
            ONEPIC: Place(own / loras.FOLDER, "the studio's ONE-PIC LoRAs", there),
            STYLECODE: Place(own / styles.FOLDER, "the studio's stylecode models", there),
            BASE: Place(own, "the studio's models", there),
            REFONLY: Place(own, "the studio's models", then="Reload this page, and the Colour page lists it."),
            ADAPTER: Place(own / "adapters", "your adapters", then="WebUIs on this machine list it in their Reference Only panel."),
        }.get(found.kind)

    def trial(self, found: Finished, placed: Path) -> dict[str, Any]:
        return {"page": _PAGES[found.kind]}
