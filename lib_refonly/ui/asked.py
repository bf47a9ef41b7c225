"""From what the page holds to a request. Pictures are decoded here and nowhere else on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.decode import open_picture
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.studio.requests import ColorRequest, Reference
from lib_refonly.studio.session_history import InputFiles, Session
from lib_refonly.ui.settings_form import SettingsForm


@dataclass(frozen=True)
class Asked:
    """What the painter has put into the page. `lines` is None as long as there is no drawing."""

    session: Session
    lines: Path | None
    references: tuple[Path | None, ...]
    weights: tuple[float, ...]
    masks: tuple[Path | None, ...]
    model: str | None
    settings: RefOnlySettings

    @classmethod
    def of(cls, values: Sequence[Any], form: SettingsForm, slots: int) -> Asked:
        """Take `ColourPanel.inputs` apart.

        Raises:
            BadSettings: a setting out of range.
        """
        session, lines, *rest = values
        pictures, weights, masks = rest[:slots], rest[slots : 2 * slots], rest[2 * slots : 3 * slots]
        model, *settings = rest[3 * slots :]
        return cls(session, lines, tuple(pictures), tuple(weights), tuple(masks), model, form.read(settings))

    def files(self) -> InputFiles:
        """The files of a colouring.

        Raises:
            BadSettings: the drawing, every reference, or a model is missing; the text says what to add.
        """
        if self.lines is None:
            raise BadSettings("Add the line art first: the drawing that is to be coloured.")
        if not any(self.references):
            raise BadSettings("Add a reference first: a picture of the character in colour.")
        if not self.model:
            raise BadSettings("No model is installed. The Models page says where to get one.")
        return InputFiles(self.references, self.masks, self.weights, self.lines)

    def request(self) -> ColorRequest | None:
        """Open the pictures; None as long as there is no drawing or no model.

        Raises:
            BadPicture: one of them can't be used; the text says which.
        """
        if self.lines is None or not self.model:
            return None
        slots = zip(self.references, self.weights, self.masks, strict=True)
        references = tuple(Reference(open_picture(p), w, None if m is None else open_picture(m).convert("L")) for p, w, m in slots if p is not None)
        return ColorRequest(references, open_picture(self.lines), self.settings, self.model)
