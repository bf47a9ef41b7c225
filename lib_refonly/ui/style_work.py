"""What every part of the Styles page needs: reading codes with the library's names, and running a job into a part of the page."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from lib_refonly.errors import BadPicture, PainterError
from lib_refonly.imaging.decode import decode, decode_base64, read_source
from lib_refonly.imaging.infotext import write_infotext
from lib_refonly.settings import specs
from lib_refonly.studio.desk import Desk
from lib_refonly.studio.jobs import Waiting
from lib_refonly.studio.style_engine import StylePaintSettings
from lib_refonly.studio.style_jobs import Event, Painted, Step, StylePainter, Wish, code_job, paint_job
from lib_refonly.stylecode.asked import Style, read_style
from lib_refonly.stylecode.card_reader import FIELD
from lib_refonly.stylecode.codes import Code, CodeModel
from lib_refonly.stylecode.library import Library
from lib_refonly.ui import markup, shim
from lib_refonly.ui.settings_form import SettingsForm
from lib_refonly.ui.style_panel import Work
from lib_refonly.ui.style_session import Job, StyleSession
from lib_refonly.ui.troubles import explain

Updates = dict[Any, Any]


@dataclass(frozen=True)
class Asked:
    """Prompt and settings, as the page has them now. `drafts`: steps of each picture in a grid."""

    prompt: str
    drafts: int
    settings: StylePaintSettings

    @classmethod
    def of(cls, values: Sequence[Any], form: SettingsForm) -> Asked:
        """`values`: those of `CurrentPart.painted`. Raises: BadSettings."""
        prompt, drafts, *rest = values
        return cls(prompt or "", int(drafts), form.read(rest))

    def wish(self, styles: Sequence[Style], draft: bool = False) -> Wish:
        settings = replace(self.settings, steps=min(self.settings.steps, self.drafts)) if draft else self.settings
        return Wish(tuple(style.latent for style in styles), styles[0].model, self.prompt, settings)


class StyleShop:
    """The painter, the library and the desk, as the page's handlers use them.

    `library` may raise a PainterError: its file can't be used. `known`: whose codes can be read here.
    """

    def __init__(self, painter: StylePainter, library: Callable[[], Library], desk: Desk, known: Callable[[], Sequence[CodeModel]]) -> None:
        self.painter, self.library, self.desk, self.known = painter, library, desk, known

    def read(self, text: str) -> Style:
        """Raises: BadSettings."""
        return read_style(text, self.known(), self.named)

    def named(self, name: str) -> str | None:
        """The code of a style in the library; None where there is none, or no library that can be read."""
        with contextlib.suppress(PainterError):
            return self.library().named(name)
        return None

    def paint(self, wish: Wish, job: Job) -> Iterator[Event]:
        with closing(paint_job(self.painter, wish, self.desk, job.stop)) as events:
            yield from events

    def make(self, pictures: Sequence[Image.Image], job: Job) -> Iterator[Event]:
        with closing(code_job(self.painter, pictures, self.desk, job.stop)) as events:
            yield from events


def working(
    work: Work, job: Job, events: Callable[[], Iterator[Event]], done: Callable[[Painted | Code], Updates], also: Sequence[Any] = ()
) -> Iterator[Updates]:
    """Run a job into a part of the page: buttons, progress, and what went wrong. `done` shows what has come. `also`: further buttons that begin one."""
    off = {button: shim.update(interactive=False) for button in (work.go, *also)}
    yield off | {work.stop: shim.update(interactive=True, value="Stop"), work.message: "", work.progress: markup.progress_line("Getting ready", 0)}
    end: Updates = {}
    shown: Updates = {}  # told again at the end: a page that is slow passes over what comes in quick succession
    try:
        with closing(events()) as coming:  # type: ignore[type-var]
            for event in coming:
                if isinstance(event, Waiting | Step):
                    yield {work.progress: _progress(event)}
                else:
                    shown |= done(event)
                    yield _copied(shown)
    except Exception as error:
        end = {work.message: explain(error, loud=not job.quiet)}
    if not job.quiet:
        on = {button: shim.update(interactive=True) for button in (work.go, *also)}
        yield on | _copied(shown) | {work.stop: shim.update(interactive=False, value="Stop"), work.progress: ""} | end


def _copied(updates: Updates) -> Updates:
    """gradio takes the value out of an update that it was handed."""
    return {component: dict(one) if isinstance(one, dict) else one for component, one in updates.items()}


def _progress(event: Waiting | Step) -> str:
    if isinstance(event, Waiting):
        return markup.progress_line("1 other job comes first" if event.ahead == 1 else f"{event.ahead} other jobs come first", 0)
    of_all = f"Picture {event.number + 1} of {event.count}" if event.count > 1 else "At work"
    return markup.progress_line(of_all, event.done)


def stop(session: StyleSession, part: str) -> Any:
    """For a stop button."""
    session.stop(part)
    return shim.update(value="Stopping", interactive=False)


def infotext(wish: Wish, style: Style) -> str:
    """The parameters text of a picture that was painted here: dropped on the page again, it gives its code."""
    s = wish.settings
    own = {spec.infotext: getattr(s, name) for name, spec in specs(s).items() if spec.infotext}
    fields = {"Steps": s.steps, "CFG scale": s.cfg, "Seed": s.seed, "Size": f"{s.width // 8 * 8}x{s.height // 8 * 8}", FIELD: style.code, **own}
    return write_infotext(wish.prompt, s.negative, fields)


def bytes_of(given: Path | str) -> bytes:
    """The file of a zone, undecoded. Raises: BadPicture: it is none, or too large."""
    if isinstance(given, Path):
        return read_source(given)
    decode_base64(given)  # gradio 3 sends a data: text; this refuses everything else
    return base64.b64decode(given.partition(",")[2])


def picture_of(given: Path | str) -> Image.Image:
    """A zone's picture. Raises: BadPicture."""
    return decode(bytes_of(given))


def card_code(given: Path | str) -> str | None:
    """The code inside a picture that was dropped; None where it has none. Raises: BadPicture: it is no picture."""
    from lib_refonly.stylecode.card import read_card

    data = bytes_of(given)
    found = read_card(data)
    if found is None:
        decode(data)
    return found


def must_have_code(given: Path | str) -> str:
    """Raises: BadPicture: no picture, or one without a code."""
    found = card_code(given)
    if found is None:
        raise BadPicture("There is no code inside this picture. To make one of its style, put it under Pictures.")
    return found
