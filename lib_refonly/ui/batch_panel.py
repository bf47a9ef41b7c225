"""The Batch page: one reference, many drawings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from lib_refonly.errors import BadSettings, CannotWrite
from lib_refonly.imaging.decode import open_picture
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.studio.batch import Batch, run_batch, zip_files
from lib_refonly.studio.desk import Desk
from lib_refonly.studio.groups import Failure
from lib_refonly.studio.jobs import Colourer, Event, Waiting
from lib_refonly.studio.requests import Progress, Reference
from lib_refonly.studio.session_history import Session
from lib_refonly.ui import markup, shim
from lib_refonly.ui.colour_panel import ColourPanel
from lib_refonly.ui.troubles import explain

_NEWEST = 12  # finished pictures shown


@dataclass
class BatchPanel:
    """The page's components."""

    session: Any
    reference: Any
    drawings: Any
    layers: Any
    folder: Any
    go: Any
    stop: Any
    state: Any
    errors: Any
    finished: Any
    archive: Any


def build_batch_panel(may_write: bool) -> BatchPanel:
    """Lay the page out. `may_write`: the painter sits at this machine and may name a folder on it."""
    with gr.Row(elem_classes=["refonly-page"]):
        with gr.Column(scale=5, min_width=320, elem_classes=["refonly-section"]):
            hint = "Each drawing is coloured once, all with the same seed and the settings of the Colour page."
            gr.HTML(markup.heading("One reference, many drawings", hint))
            reference = shim.picture_zone("Reference", "refonly-batch-reference", 220, "# The character in colour\nDrop, paste, or click to choose")
            drawings = gr.File(label="Line drawings", file_count="multiple", file_types=["image"], elem_id="refonly-batch-drawings", height=180)
            layers = gr.Checkbox(label="Save the colour layers too", value=False, elem_id="refonly-batch-layers")
            empty = "Empty: they come as one zip file. Nothing there is overwritten."
            folder = gr.Textbox(label="Folder for the results", info=empty, visible=may_write, elem_id="refonly-batch-folder")
            with gr.Row(elem_classes=["refonly-actions"]):
                go = gr.Button("Colour all", variant="primary", elem_id="refonly-batch-go", scale=4, min_width=120)
                stop = gr.Button("Stop", interactive=False, elem_id="refonly-batch-stop", scale=1, min_width=90)
        with gr.Column(scale=6, min_width=320, elem_classes=["refonly-section"]):
            gr.HTML(markup.heading("Finished"))
            state = gr.HTML('<p class="refonly-hint">Nothing yet.</p>', elem_id="refonly-batch-state")
            errors = gr.HTML("", elem_id="refonly-batch-errors")
            finished = shim.thumbnails("Finished drawings", "refonly-batch-finished", 4, object_fit="contain", height="auto")
            archive = shim.download_button("Save all as zip", "refonly-batch-zip", variant="primary", visible=False)
    return BatchPanel(gr.State(Session()), reference, drawings, layers, folder, go, stop, state, errors, finished, archive)


class BatchEvents:
    """What happens on the Batch page."""

    def __init__(self, panel: BatchPanel, colour: ColourPanel, engine: Colourer, desk: Desk, may_write: bool) -> None:
        self.panel, self.colour_panel, self.engine, self.desk, self.may_write = panel, colour, engine, desk, may_write

    def wire(self) -> None:
        """Connect the page's events."""
        p, colour = self.panel, self.colour_panel
        inputs = [p.session, p.reference, p.drawings, p.layers, p.folder, colour.model, *colour.form.inputs]
        shim.on(p.go.click, self.run, inputs, [p.go, p.stop, p.state, p.errors, p.finished, p.archive])
        shim.on(p.stop.click, self.stop, [p.session], [p.stop], now=True)

    def stop(self, session: Session) -> Any:
        """End at the next step."""
        session.stop.set()
        return shim.update(value="Stopping", interactive=False)

    def run(self, session: Session, *values: Any) -> Iterator[dict[Any, Any]]:
        """Colour all, streaming into the page."""
        p, said, batch = self.panel, "", None
        session.stop.clear()
        working = {p.go: shim.update(interactive=False), p.stop: shim.update(value="Stop", interactive=True), p.archive: shim.update(visible=False)}
        yield working | {p.state: markup.progress_line("Getting ready", 0), p.errors: "", p.finished: []}
        try:
            batch = self._batch(session, *values)
            with closing(run_batch(batch, self.engine, self.desk, session.stop)) as events:
                for event in events:
                    yield self._update(batch, event)
        except Exception as error:
            said = explain(error)
        yield self._end(session, batch, said)

    def _batch(self, session: Session, reference: str | None, drawings: Sequence[str] | None, layers: bool, folder: str, model: str, *form: Any) -> Batch:
        if not reference:
            raise BadSettings("Add a reference first: a picture of the character in colour.")
        if not drawings:
            raise BadSettings("Add the line drawings first: drop as many files as you like.")
        settings: RefOnlySettings = self.colour_panel.form.read(form)
        target = _folder(folder) if folder.strip() and self.may_write else session.batch_folder()
        return Batch(Reference(open_picture(reference)), [Path(one) for one in drawings], settings, model, target, layers)

    def _update(self, batch: Batch, event: Event | Failure) -> dict[Any, Any]:
        p = self.panel
        if isinstance(event, Waiting):
            return {p.state: markup.waiting(event.ahead)}
        if isinstance(event, Progress):
            done = (event.index + (event.step + 1) / event.steps) / event.count
            return {p.state: markup.progress_line(f"Drawing {event.index + 1} of {event.count}", done)}
        return {p.finished: [str(path) for path in batch.written[-_NEWEST:]], p.errors: _listed(batch)}

    def _end(self, session: Session, batch: Batch | None, said: str) -> dict[Any, Any]:
        p = self.panel
        buttons = {p.go: shim.update(interactive=True), p.stop: shim.update(value="Stop", interactive=False)}
        if batch is None:
            return buttons | {p.state: said}
        good = batch.done - len(batch.errors)
        text = f"{good} of {len(batch.drawings)} drawings coloured" + (f", in {batch.folder}." if not _is_ours(batch, session) else ".")
        line = markup.progress_line(text, 1 if not said else good / len(batch.drawings))
        return buttons | {p.state: line + said, p.errors: _listed(batch)} | self._archived(batch, session)

    def _archived(self, batch: Batch, session: Session) -> dict[Any, Any]:
        if not batch.written or not _is_ours(batch, session):
            return {}
        archive = zip_files(batch.written, batch.folder / "coloured.zip")
        return {self.panel.archive: shim.update(value=str(archive), visible=True)}


def _listed(batch: Batch) -> str:
    one = len(batch.errors) == 1
    return markup.listed_errors("This drawing was left out:" if one else "These drawings were left out:", batch.errors)


def _is_ours(batch: Batch, session: Session) -> bool:
    return batch.folder.parent == session.folder


def _folder(text: str) -> Path:
    folder = Path(text.strip()).expanduser()
    if not folder.is_absolute():
        raise BadSettings("Give the folder's whole path, as the file manager shows it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"The folder {str(folder)!r} can't be used ({error.strerror or error}).") from error
    return folder
