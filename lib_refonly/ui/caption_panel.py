"""Step 1 of the Train page: captions for a whole folder, a tag replaced in all of them, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lib_refonly.errors import BadSettings, Offline
from lib_refonly.training.captions import Captioner, How, by_taggers, write_captions
from lib_refonly.training.pictures import PictureFolder
from lib_refonly.ui import markup, shim
from lib_refonly.ui.training_session import TrainingSession
from lib_refonly.ui.troubles import explain

Updates = dict[Any, Any]
Captioners = Callable[[], Sequence[Captioner]]
PREFIX = "refonly-train-captions"
BLIP = "blip"
_MOST_LISTED = 20
_NONE = "There is no tagger yet. The Models page (in a WebUI the RefOnly tab) has one to download; or name the folder of a BLIP model here."


@dataclass
class CaptionPart:
    """The part's components. `consent` and `folder` are there for those that need them."""

    who: Any
    folder: Any
    consent: Any
    left_out: Any
    again: Any
    write: Any
    stop: Any
    tag: Any
    other: Any
    replace: Any
    back: Any
    message: Any
    problems: Any


def build_caption_part() -> CaptionPart:
    """Lay it out; it takes the trigger word and the folder from the fields above it."""
    with gr.Accordion("Write captions", open=False, elem_id=PREFIX):
        choices = _choices(by_taggers())
        hint = "Tags suit anime checkpoints, sentences suit those of photos. Look at some before you train: none of them is always right."
        who = shim.titled_dropdown(choices, choices[0][1], "Who writes them", f"{PREFIX}-who", info=hint)
        about = "The whole path, with config.json, model.safetensors and the tokenizer's files. Nothing is downloaded."
        folder = gr.Textbox(label="Folder of a BLIP model", info=about, max_lines=1, visible=choices[0][1] == BLIP, elem_id=f"{PREFIX}-blip")
        consent = gr.Checkbox(False, label="Yes, download it", visible=False, elem_id=f"{PREFIX}-consent")
        info = "By commas. What the trigger word shall stand for: a character's hair and eyes, say. What stays in captions can be changed in prompts later."
        left_out = gr.Textbox(label="Tags to leave out", info=info, placeholder="red hair, green eyes, ponytail", max_lines=2, elem_id=f"{PREFIX}-left-out")
        info = "The old ones are kept beside them as .txt.bak."
        again = gr.Checkbox(False, label="Also for pictures that have a caption", info=info, elem_id=f"{PREFIX}-again")
        with gr.Row(elem_classes=["refonly-train-line"]):
            write = gr.Button("Write captions", variant="secondary", elem_id=f"{PREFIX}-write", scale=3, min_width=180)
            stop = gr.Button("Stop", interactive=False, elem_id=f"{PREFIX}-stop", scale=1, min_width=90)
        with gr.Row(elem_classes=["refonly-train-line"]):
            tag = gr.Textbox(label="Tag in the captions", max_lines=1, elem_id=f"{PREFIX}-tag", scale=3)
            other = gr.Textbox(label="Replace it by", placeholder="Nothing: it is removed", max_lines=1, elem_id=f"{PREFIX}-other", scale=3)
            replace = gr.Button("Replace in all captions", elem_id=f"{PREFIX}-replace", scale=1, min_width=190)
    message, problems = (gr.HTML("", elem_id=f"{PREFIX}-{name}", elem_classes=["refonly-train-box"]) for name in ("message", "problems"))
    back = gr.Button("Take the last change back", size="sm", visible=False, elem_id=f"{PREFIX}-back")
    return CaptionPart(who, folder, consent, left_out, again, write, stop, tag, other, replace, back, message, problems)


def _choices(found: Sequence[Captioner]) -> list[tuple[str, str]]:
    return [*((one.title, one.name) for one in found), ("Sentences: a BLIP model in a folder of yours", BLIP)]


class CaptionEvents:
    """What happens there.

    Args:
        host: those that can write captions besides the installed taggers and BLIP, such as a WebUI's interrogators.
        look: shows a folder's pictures anew: (session, folder, resolution) to updates of the page.
        write_edits: writes what was edited in the page.
    """

    def __init__(self, part: CaptionPart, host: Captioners, look: Callable[..., Iterator[Updates]], write_edits: Callable[[TrainingSession, str], Any]) -> None:
        self.part, self._host, self._look, self._write_edits = part, host, look, write_edits

    def wire(self, opened: Any, pictures: Any, session: Any, size: Any) -> None:
        """Connect it. pictures: the `PicturesPart` that it belongs to."""
        p, shown = self.part, [pictures.message, pictures.facts, pictures.grid]
        own = [p.message, p.problems, p.write, p.stop, p.consent, p.back]
        shim.on(opened, self.refresh, [p.who], [p.who, p.folder, p.consent])
        shim.on(p.who.change, self.choose, [p.who], [p.folder, p.consent])
        asked = [session, pictures.edits, pictures.folder, pictures.word, p.who, p.folder, p.consent, p.left_out, p.again, size]
        shim.on(p.write.click, self.write, asked, [*own, *shown])
        shim.on(p.stop.click, self.stop, [session], [p.stop], now=True)
        shim.on(p.replace.click, self.replace, [session, pictures.edits, p.tag, p.other, size], [*own, *shown])
        shim.on(p.back.click, self.take_back, [session, size], [*own, *shown])

    def _found(self) -> list[Captioner]:
        return [*by_taggers(), *self._host()]

    def refresh(self, who: str) -> Updates:
        """What there is now: a tagger may have been installed meanwhile."""
        choices = _choices(self._found())
        now = who if who in [name for _, name in choices] and who != BLIP else choices[0][1]
        chooser: Any = shim.titled_choices(self.part.who, choices)
        return {self.part.who: chooser | {"value": now}} | self.choose(now)

    def choose(self, who: str) -> Updates:
        """Only what the chosen one needs is shown."""
        one = next((one for one in self._found() if one.name == who), None)
        label = f"Yes, let the WebUI download what it needs for that ({one.downloads})" if one is not None and one.downloads else ""
        consent = shim.update(visible=bool(label), value=False, **({"label": label} if label else {}))
        return {self.part.folder: shim.update(visible=who == BLIP), self.part.consent: consent}

    def _captioner(self, who: str, blip: str, consent: bool) -> Captioner:
        """Raises: BadSettings: none is chosen. Offline: it would download, and nobody has agreed."""
        if who == BLIP:
            if not blip.strip() and not self._found():
                raise BadSettings(_NONE)
            return Captioner(BLIP, "BLIP", lambda: _blip(blip))
        one = next((one for one in self._found() if one.name == who), None)
        if one is None:
            raise BadSettings(_NONE if not self._found() else "Choose above who writes the captions.")
        if one.downloads and not consent:
            raise Offline(f"{one.title} is not complete on this machine: {one.downloads} would be downloaded. Tick the box above first.")
        return one

    def write(self, session: TrainingSession, edits: str, folder: str, word: str, *chosen: Any) -> Iterator[Updates]:
        """Caption the folder's pictures, telling how far it is; then they are shown. chosen: who, BLIP's folder, consent, tags left out, again, size."""
        p, run, said = self.part, _Run(session), ""
        who, blip, consent, left_out, again, size = chosen
        session.stop.clear()
        yield {p.write: shim.update(interactive=False), p.stop: shim.update(interactive=True, value="Stop"), p.message: "", p.problems: ""}
        try:
            self._write_edits(session, edits)
            where = PictureFolder(folder)
            for told in run.through(where, self._captioner(who, blip or "", bool(consent)), How.of(bool(again), word or "", left_out or "")):
                yield {p.message: told}
        except Exception as error:
            said = explain(error)
        if run.written:
            yield from self._shown(session, size)
        yield {p.message: run.summary + said, p.problems: run.listed, p.back: shim.update(visible=bool(session.before))}
        yield {p.write: shim.update(interactive=True), p.stop: shim.update(interactive=False, value="Stop")}

    def _shown(self, session: TrainingSession, size: str) -> Iterator[Updates]:
        """The folder whose captions were changed, looked at anew."""
        assert session.before is not None
        try:
            yield from self._look(session, session.before[0], size)
        except Exception as error:
            yield {self.part.message: explain(error)}

    def stop(self, session: TrainingSession) -> Any:
        """End after the picture at hand."""
        session.stop.set()
        return shim.update(value="Stopping", interactive=False)

    def replace(self, session: TrainingSession, edits: str, tag: str, other: str, size: str) -> Iterator[Updates]:
        """A tag in all captions."""
        p = self.part
        try:
            if session.folder is None:
                raise BadSettings("Look at a folder first.")
            self._write_edits(session, edits)
            changed = session.folder.replace_tag(tag or "", other or "")
            if changed:
                session.before = (session.folder, changed)
                yield from self._shown(session, size)
            told = f"{_captions(len(changed))} changed." if changed else f"No caption has the tag {tag.strip()}."
            yield {p.message: markup.message(told, "done" if changed else "note"), p.back: shim.update(visible=bool(session.before)), p.problems: ""}
        except Exception as error:
            yield {p.message: explain(error)}

    def take_back(self, session: TrainingSession, size: str) -> Iterator[Updates]:
        """The captions as they were before the last run, or the last tag that was replaced."""
        p = self.part
        try:
            if session.before is None:
                raise BadSettings("There is nothing to take back.")
            folder, old = session.before
            for name, caption in old.items():
                folder.write(name, caption)
            yield from self._shown(session, size)
            session.before = None
            yield {p.message: markup.message(f"{_captions(len(old))} as before.", "done"), p.back: shim.update(visible=False), p.problems: ""}
        except Exception as error:
            yield {p.message: explain(error)}


class _Run:
    """One run's course and what came of it."""

    def __init__(self, session: TrainingSession) -> None:
        self._session, self._old = session, dict[str, str]()
        self._problems: list[tuple[str, str]] = []
        self._stopped = False

    def through(self, folder: PictureFolder, captioner: Captioner, how: How) -> Iterator[str]:
        """Lines of progress."""
        yield markup.progress_line("Getting ready", 0)
        with closing(write_captions(folder, captioner, how)) as course:
            for one in course:
                if one.problem:
                    self._problems.append((one.name, one.problem))
                else:
                    self._old[one.name] = one.old
                    self._session.before = (folder, self._old)
                yield markup.progress_line(f"Picture {one.number} of {one.count}: {one.name}", one.number / one.count)
                self._stopped = self._session.stop.is_set() and one.number < one.count
                if self._stopped:
                    return

    @property
    def written(self) -> int:
        return len(self._old)

    @property
    def summary(self) -> str:
        told = f"{_captions(len(self._old))} written." + (" Stopped; press again to go on with the rest." if self._stopped else "")
        return markup.message(told, "done" if self._old else "note") if self._old or self._problems else ""

    @property
    def listed(self) -> str:
        more = len(self._problems) - _MOST_LISTED
        return markup.listed_errors("Without a new caption:", [*self._problems[:_MOST_LISTED], *([("", f"and {more} more")] if more > 0 else [])])


def _captions(count: int) -> str:
    return "1 caption is" if count == 1 else f"{count} captions are"


def _blip(folder: str) -> Callable[[Any], str]:
    from lib_refonly.training.blip import Blip  # imports torch and transformers when it is used

    return Blip(folder).caption
