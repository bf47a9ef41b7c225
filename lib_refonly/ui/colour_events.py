"""The Colour page: what happens. The layout is in `colour_panel`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from lib_refonly.imaging.decode import open_picture
from lib_refonly.studio.desk import Desk
from lib_refonly.studio.jobs import Colourer, Waiting, colour_job
from lib_refonly.studio.requests import ColorRequest, ColorResult
from lib_refonly.studio.session_history import Run, Session
from lib_refonly.ui import markup, shim
from lib_refonly.ui.asked import Asked
from lib_refonly.ui.colour_panel import GO, GOING, REFERENCES, SEEN, ColourPanel
from lib_refonly.ui.restore import Found, found_in, must_find
from lib_refonly.ui.samples import Sample
from lib_refonly.ui.troubles import explain, guarded

Updates = dict[Any, Any]


class ColourEvents:
    """Handlers of one page. They return {component: update}; what belongs to one tab is in its `Session`, so tabs don't meet."""

    def __init__(self, panel: ColourPanel, engine: Colourer, desk: Desk, samples: Sequence[Sample], models: Callable[[], list[str]]) -> None:
        self.panel, self.engine, self.desk, self.samples, self.models = panel, engine, desk, samples, models

    # --- wiring ---------------------------------------------------------------------------------------------------------------------------

    def wire(self) -> None:
        """Connect every event of the page."""
        self._wire_painting()
        self._wire_pictures()
        self._wire_restoring()

    def _wire_painting(self) -> None:
        p = self.panel
        outputs = [p.go, p.stop, p.message, p.offer, p.stage, p.empty, p.results, p.variations, p.history, *p.shown]
        shim.on(p.go.click, self.colour, p.inputs, outputs)
        shim.on(p.stop.click, self.stop, [p.session], [p.stop], now=True)
        shim.on(p.variations.select, guarded(p.message)(self.pick), [p.session], [p.message, *p.shown])
        shim.on(p.new_seed.click, lambda: -1, None, [p.form["seed"]])
        shim.on(p.keep_seed.click, guarded(p.message)(self.keep_seed), [p.session], [p.form["seed"], p.message])

    def _wire_pictures(self) -> None:
        p = self.panel
        zones = [p.lines, *(s.picture for s in p.slots), *(s.mask for s in p.slots)]
        for zone in zones:
            shim.on(zone.upload, partial(self.given, zone), [zone], [zone, p.message, p.offer])
            shim.on(zone.change, self.look, p.inputs, [p.model_view], live=True)
        for name in SEEN:
            shim.on(p.form[name].change, self.look, p.inputs, [p.model_view], live=True)
        shim.on(p.model.change, self.look, p.inputs, [p.model_view], live=True)
        pictures = [p.lines, *(s.picture for s in p.slots)]
        shim.on(p.samples.select, guarded(p.message)(self.sample), None, [*pictures, p.message])

    def _wire_restoring(self) -> None:
        p = self.panel
        form = [p.model, *p.form.inputs]
        restored = [p.message, *form, *(slot.weight for slot in p.slots)]
        shim.on(p.read_zone.upload, self.read, [p.read_zone, *form], [p.read_zone, *restored])
        shim.on(p.offer.click, guarded(p.message)(self.accept), [p.lines, *form], [p.offer, *restored])
        shim.on(p.history.select, guarded(p.message)(self.bring_back), [p.session], [*p.inputs[1:], p.message, p.empty, p.results, p.variations, *p.shown])

    # --- painting -------------------------------------------------------------------------------------------------------------------------

    def colour(self, *values: Any) -> Iterator[Updates]:
        """The Colour button: stream the job into the page. Inputs stay as they are, whatever happens."""
        p, session = self.panel, values[0]
        yield {
            p.go: shim.update(value=GOING, interactive=False),
            p.stop: shim.update(value="Stop", interactive=True),
            p.stage: markup.starting(),
            p.empty: shim.update(visible=False),
            p.results: shim.update(visible=False),
            p.message: "",
        }
        said = ""
        try:
            asked = Asked.of(values, p.form, REFERENCES)
            files, request = asked.files(), asked.request()
            if request is not None:
                yield from self._paint(session, session.begin(files, request.settings, request.model), request)
        except Exception as error:
            said = explain(error)
        yield self._finished(session, said)

    def _paint(self, session: Session, run: Run, request: ColorRequest) -> Iterator[Updates]:
        p, preview = self.panel, None
        try:
            with closing(colour_job(self.engine, request, self.desk, session.stop)) as events:
                for event in events:
                    if isinstance(event, ColorResult):
                        session.save(run, event)
                        yield {p.variations: self._variations(run)}
                    elif isinstance(event, Waiting):
                        yield {p.stage: markup.waiting(event.ahead)}
                    else:
                        preview = event.preview or preview
                        yield {p.stage: markup.running(event, preview)}
        finally:
            session.discard_empty(run)

    def _finished(self, session: Session, said: str) -> Updates:
        p = self.panel
        buttons = {p.go: shim.update(value=GO, interactive=True), p.stop: shim.update(value="Stop", interactive=False)}
        return buttons | {p.message: said, p.stage: "", p.history: [str(run.thumbnail) for run in session.runs]} | self._show(session, 0)

    def stop(self, session: Session) -> Any:
        """The Stop button: the job ends at its next step."""
        session.stop.set()
        return shim.update(value="Stopping", interactive=False)

    # --- results --------------------------------------------------------------------------------------------------------------------------

    def _variations(self, run: Run) -> Any:
        return shim.update(value=[str(one.picture) for one in run.results], visible=len(run.results) > 1)

    def _show(self, session: Session, index: int) -> Updates:
        """One result of the run on show, or the empty easel."""
        p, run = self.panel, session.shown
        if run is None or not run.results:
            return {p.empty: shim.update(visible=True), p.results: shim.update(visible=False), p.variations: shim.update(value=[], visible=False)}
        there = {p.empty: shim.update(visible=False), p.results: shim.update(visible=True), p.variations: self._variations(run)}
        return there | dict(zip(p.shown, self._views(session, run, index), strict=True))

    def _views(self, session: Session, run: Run, index: int) -> list[Any]:
        session.index = index
        one = run.results[index]
        compared = markup.before_after(open_picture(run.inputs.lines), open_picture(one.picture))
        files = [str(path) for path in (one.picture, one.painting, one.colour_layer)]
        return [*files, compared, files[0], files[2]]

    def pick(self, session: Session, event: gr.SelectData) -> Updates:
        """A click in the variations grid."""
        run = session.shown
        if run is None or int(event.index) >= len(run.results):
            return {}
        return dict(zip(self.panel.shown, self._views(session, run, int(event.index)), strict=True))

    def keep_seed(self, session: Session) -> Updates:
        """Lock the seed of the picture on show."""
        p, run = self.panel, session.shown
        if run is None or not run.results:
            return {p.message: markup.message("Colour a drawing first; then its seed can be kept.", "note")}
        return {p.form["seed"]: run.results[session.index].seed}

    # --- pictures -------------------------------------------------------------------------------------------------------------------------

    def given(self, zone: Any, path: Path | None) -> Updates:
        """A file was put into a zone: refuse what is no picture at once, and offer the settings inside a drawing that was made here."""
        p = self.panel
        try:
            if path:
                open_picture(path)
            ours = zone is p.lines and path is not None and found_in(path) is not None
        except Exception as error:
            return {zone: None, p.message: explain(error), p.offer: shim.update(visible=False)}
        return {p.message: "", p.offer: shim.update(visible=ours)} if zone is p.lines else {p.message: ""}

    def look(self, *values: Any) -> str:
        """What the model will see, with the settings as they are now."""
        try:
            request = Asked.of(values, self.panel.form, REFERENCES).request()
            return markup.model_view(None if request is None else self.engine.prepare(request))
        except Exception as error:
            return explain(error, loud=False)  # beside the preview: no notice in the corner while a slider is dragged

    def sample(self, event: gr.SelectData) -> Updates:
        """A click on a sample."""
        p, chosen = self.panel, self.samples[int(event.index)]
        others = {slot.picture: None for slot in p.slots[1:]}
        return {p.lines: str(chosen.lines), p.slots[0].picture: str(chosen.reference), p.message: ""} | others

    # --- restoring ------------------------------------------------------------------------------------------------------------------------

    def read(self, path: Path | None, model: str, *current: Any) -> Updates:
        """The zone for earlier pictures: settings come back, the zone is free again."""
        p = self.panel
        if path is None:
            return {}
        try:
            return {p.read_zone: None} | self._restored(must_find(path), model, current)
        except Exception as error:
            return {p.read_zone: None, p.message: explain(error)}

    def accept(self, path: Path | None, model: str, *current: Any) -> Updates:
        """The offer under the drawing was taken."""
        found = must_find(path) if path else Found({}, "")
        return {self.panel.offer: shim.update(visible=False)} | self._restored(found, model, current)

    def _restored(self, found: Found, model: str, current: Sequence[Any]) -> Updates:
        p = self.panel
        values = p.form.write_known(found.settings, current)
        weights = [slot.weight for slot in p.slots]
        told = found.weights_of(len(weights), weights[0].maximum)
        known = found.model in self.models()
        text = "The settings of that picture are back."
        if found.model and not known:
            text += f" It was made with the model {found.model!r}, which is not installed."
        done = {p.message: markup.message(text, "done"), p.model: found.model if known else model}
        return done | dict(zip(p.form.inputs, values, strict=True)) | dict(zip(weights, told, strict=True))

    def bring_back(self, session: Session, event: gr.SelectData) -> Updates:
        """A click in the history: pictures, settings and results of that run."""
        p, run = self.panel, session.runs[int(event.index)]
        session.shown = run
        files = run.inputs
        back: Updates = {p.lines: str(files.lines), p.message: "", p.model: run.model if run.model in self.models() else shim.update()}
        for slot, picture, weight, mask in zip(p.slots, files.references, files.weights, files.masks, strict=True):
            back |= {slot.picture: picture and str(picture), slot.weight: weight, slot.mask: mask and str(mask)}
        settings = replace(run.settings, seed=run.results[0].seed)  # so that Colour gives the same picture again
        return back | dict(zip(p.form.inputs, p.form.write(settings), strict=True)) | self._show(session, 0)
