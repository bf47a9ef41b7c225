"""The Models page: what is installed and what it needs, downloading with consent, pointing to a folder. Switching needs no restart."""

from __future__ import annotations

import os
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from lib_refonly.errors import BadSettings, Interrupted, Offline
from lib_refonly.models.offers import SEGMENTER, TAGGER, Offer
from lib_refonly.models.registry import ModelEntry, ModelStore
from lib_refonly.studio.jobs import stream
from lib_refonly.ui import markup, shim
from lib_refonly.ui.troubles import explain, guarded

_MIRROR = "Another server with the same files, https://…; empty: the usual one."
_CUTS = "Paints nothing itself: it cuts the character out of a reference that shows a scene. Plain and transparent grounds need no model."
_TAGS = "Paints nothing itself: it writes captions for the pictures of a training."
Report = Callable[[int, int], None]
Download = Callable[[str, Report, str | None], None]
"""`download(name, report, mirror)`: fetch what is offered. It calls `report(bytes done, bytes in all)`, which may raise `Interrupted`."""


@dataclass(frozen=True)
class Card:
    """One thing of the list: `state` is Installed, Not installed or Damaged."""

    title: str
    state: str
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Beside:
    """What there is beside the models that paint by themselves: shown as cards, and offered for download."""

    cards: Callable[[], Iterable[Card]]
    offers: Callable[[], Iterable[Offer]]


def cut_out(store: ModelStore) -> Beside:
    """The segmentation model, and the tagger."""

    def cards() -> list[Card]:
        cuts = Card(SEGMENTER.title, "Not installed" if store.segmenter() is None else "Installed", (_CUTS,))
        return [cuts, Card(TAGGER.title, "Installed" if TAGGER.installed else "Not installed", (_TAGS,))]

    return Beside(cards, lambda: [*([SEGMENTER] if store.segmenter() is None else []), *([] if TAGGER.installed else [TAGGER])])


@dataclass
class ModelsPanel:
    """The page's components. `model` is the chooser on the Colour page, `use` the one here; without a model to choose there is neither.
    `mirror`, `folder` and `point` are None where the painter may not name a server or a folder."""

    model: Any
    use: Any
    cards: Any
    message: Any
    more: Any
    wanted: Any
    mirror: Any
    consent: Any
    fetch: Any
    stop: Any
    fetching: Any
    folder: Any
    point: Any


def choices(store: ModelStore) -> list[tuple[str, str]]:
    """(title, name) of the models that can be used now."""
    return [(entry.title, entry.name) for entry in store.entries() if entry.installed]


def offered(store: ModelStore, beside: Beside) -> list[tuple[str, str]]:
    """(title, name) of what can be downloaded and is not there."""
    models = [(entry.title, entry.name) for entry in store.entries() if entry.download]
    return models + [(offer.title, offer.name) for offer in beside.offers()]


def memory_text(entry: ModelEntry) -> str:
    """What a model needs, in words, before anybody presses a button."""
    full, half = (f"{entry.memory / share / 1e9:.1f} GB" for share in (1, 2))
    return f"Needs about {full} of memory on a CPU, {half} on a graphics card. Paints at {entry.native_size} px." if entry.memory else ""


def build_models_panel(store: ModelStore, beside: Beside, model: Any, may_point: bool) -> ModelsPanel:
    """Lay the page out.

    Args:
        model: the chooser that this page follows; None where models are chosen elsewhere, as in a WebUI.
        may_point: the painter sits at this machine and may name a folder on it, and a server that it asks.
    """
    wanted = offered(store, beside)
    with gr.Row(elem_classes=["refonly-page"]):
        with gr.Column(scale=6, min_width=320, elem_classes=["refonly-section"]):
            here = "Choose which one paints. It is loaded with the next picture; nothing has to be restarted."
            elsewhere = "The Reference Only panel in txt2img and img2img lists those that fit the loaded checkpoint."
            gr.HTML(markup.heading("Models", elsewhere if model is None else here))
            message = gr.HTML("", elem_id="refonly-models-message")
            use = None if model is None else gr.Radio(choices=choices(store), value=model.value, label="Paint with", elem_id="refonly-models-use")
            cards = gr.HTML(model_cards(store, beside), elem_id="refonly-models-cards")
        with gr.Column(scale=5, min_width=320, elem_classes=["refonly-section"]):
            with gr.Column(visible=bool(wanted), elem_classes=["refonly-section"]) as more:
                fetched = _download_part(wanted, may_point)
            folder, point = _point_part() if may_point else (None, None)
    return ModelsPanel(model, use, cards, message, more, *fetched, folder, point)


def _point_part() -> tuple[Any, Any]:
    with gr.Column(elem_classes=["refonly-section"]):
        gr.HTML(markup.heading("Use a model you have"))
        hint = "The folder that holds unet, vae and image_encoder, or a converted .safetensors file."
        folder = gr.Textbox(label="Folder or file on this machine", info=hint, max_lines=1, elem_id="refonly-models-folder")
        return folder, gr.Button("Add to the list", elem_id="refonly-models-point")


def _download_part(wanted: list[tuple[str, str]], may_point: bool) -> tuple[Any, Any, Any, Any, Any, Any]:
    hint = "The only thing that ever uses the network, and only after you say so. An interrupted download goes on where it stopped."
    gr.HTML(markup.heading("Download more", hint))
    name = gr.Radio(choices=wanted, value=wanted[0][1] if wanted else None, label="Which one", elem_id="refonly-models-wanted")
    mirror = gr.Textbox(label="Mirror", info=_MIRROR, max_lines=1, elem_id="refonly-models-mirror") if may_point else None
    consent = gr.Checkbox(label=_agreement(""), value=False, elem_id="refonly-models-consent")
    with gr.Row():
        fetch = gr.Button("Download", variant="primary", interactive=False, elem_id="refonly-models-fetch", scale=3)
        stop = gr.Button("Stop", interactive=False, elem_id="refonly-models-stop", scale=1, min_width=90)
    fetching = gr.HTML("", elem_id="refonly-models-progress")
    return name, mirror, consent, fetch, stop, fetching


def _agreement(mirror: str) -> str:
    """Names the server that will be asked: the mirror typed here, else the one that HF_ENDPOINT names, else the hub."""
    server = urllib.parse.urlsplit(mirror.strip() or os.environ.get("HF_ENDPOINT", "")).hostname or "huggingface.co"
    return f"Yes, connect to {server} and download it"


def model_cards(store: ModelStore, beside: Beside) -> str:
    """The list as cards: title, state, memory, and what is wrong with a damaged one."""
    return f'<div class="refonly-cards">{"".join(map(_card, [*map(_of_model, store.entries()), *beside.cards()]))}</div>'


def _of_model(entry: ModelEntry) -> Card:
    state = "Installed" if entry.installed else "Damaged" if entry.problem else "Not installed"
    return Card(entry.title, state, (memory_text(entry), entry.problem))


def _card(card: Card) -> str:
    lines = "".join(f"<p>{escape(text)}</p>" for text in card.texts if text)
    return f'<article class="refonly-card"><h3>{escape(card.title)}</h3><span data-state="{card.state}">{card.state}</span>{lines}</article>'


class ModelsEvents:
    """What happens on the Models page. One download at a time for the whole studio."""

    def __init__(self, panel: ModelsPanel, store: ModelStore, beside: Beside, download: Download) -> None:
        self.panel, self.store, self.beside, self.download = panel, store, beside, download
        self._busy = threading.Lock()
        self._stop = threading.Event()

    def wire(self, opened: Any) -> None:
        """Connect the page's events; `opened` is that of a tab being opened."""
        p = self.panel
        lists = [*self._choosers, p.cards]
        if p.use is not None:
            shim.on(p.use.input, lambda name: name, [p.use], [p.model])
            shim.on(p.model.input, lambda name: name, [p.model], [p.use])
        shim.on(p.consent.change, lambda yes: shim.update(interactive=bool(yes)), [p.consent], [p.fetch])
        if p.point is not None:
            shim.on(p.point.click, guarded(p.message)(self.point_to), [p.folder], [p.message, p.folder, *lists])
        asked = [p.wanted, p.consent]
        if p.mirror is not None:  # another server needs another yes
            shim.on(p.mirror.change, lambda mirror: shim.update(label=_agreement(mirror), value=False), [p.mirror], [p.consent], live=True)
            asked.append(p.mirror)
        shim.on(p.fetch.click, self.fetch, asked, [p.more, p.wanted, p.fetch, p.stop, p.consent, p.fetching, p.message, *lists])
        shim.on(p.stop.click, self.stop, None, [p.stop], now=True)
        shim.on(opened, self.refresh, None, [p.more, p.wanted, *lists])

    @property
    def _choosers(self) -> list[Any]:
        return [] if self.panel.use is None else [self.panel.use, self.panel.model]

    @property
    def _then(self) -> str:
        return ". Press Refresh in the panel to find it there." if self.panel.use is None else ", and chosen."

    def refresh(self) -> dict[Any, Any]:
        """The lists as they are now: a page that is opened again shows what was installed meanwhile."""
        return self._offer() | self._lists(None)

    def point_to(self, folder: str) -> dict[Any, Any]:
        """Add a folder of the painter's."""
        p = self.panel
        if not folder.strip():
            raise BadSettings("Give the folder's whole path first.")
        entry = self.store.point_to(Path(folder.strip()))
        return {p.message: markup.message(f"{entry.title} is in the list{self._then}", "done"), p.folder: ""} | self._lists(entry.name)

    def fetch(self, name: str, consent: bool, mirror: str = "") -> Iterator[dict[Any, Any]]:
        """Download, with progress; without consent nothing touches the network."""
        p = self.panel
        yield {p.fetch: shim.update(interactive=False), p.stop: shim.update(interactive=True, value="Stop"), p.message: ""}
        end: dict[Any, Any] = {}
        try:
            if not name:
                raise BadSettings("Everything that is offered is installed.")
            if not consent:
                raise Offline("Tick the box above the button first: nothing is downloaded without your consent.")
            for done, total in self._downloading(name, mirror.strip() or None):
                share = done / total if total else None
                yield {p.fetching: markup.progress_line(f"{done / 1e9:.2f} of {total / 1e9:.2f} GB", share)}
            end = self._installed(name)
        except Exception as error:
            end = {p.message: explain(error)}
        yield end | {p.fetching: "", p.consent: False, p.fetch: shim.update(interactive=False), p.stop: shim.update(interactive=False, value="Stop")}

    def _installed(self, name: str) -> dict[Any, Any]:
        paints = any(name == one for _, one in choices(self.store))
        helps = {SEGMENTER.name: "It is installed, and used from the next picture on.", TAGGER.name: "It is installed: choose it under Write captions."}
        said = helps.get(name, f"The model is installed{self._then}")
        return {self.panel.message: markup.message(said, "done")} | self._offer(anew=True) | self._lists(name if paints else None)

    def _downloading(self, name: str, mirror: str | None) -> Iterator[tuple[int, int]]:
        if not self._busy.acquire(blocking=False):
            raise BadSettings("A download is running already.")
        self._stop.clear()
        left = threading.Event()

        def work(put: Callable[[tuple[int, int]], None]) -> None:
            def report(done: int, total: int) -> None:
                if self._stop.is_set() or left.is_set():
                    raise Interrupted("Stopped. It goes on from here next time.")
                put((done, total))

            try:
                self.download(name, report, mirror)
            finally:
                self._busy.release()

        with closing(stream(work, left, skippable=lambda _: True)) as events:
            yield from events

    def stop(self) -> Any:
        """End the download; what has come is kept for the next time."""
        self._stop.set()
        return shim.update(value="Stopping", interactive=False)

    def _offer(self, anew: bool = False) -> dict[Any, Any]:
        """What is left to download; the whole part goes when that is nothing. `anew`: choose the first."""
        left = offered(self.store, self.beside)
        first = {"value": left[0][1] if left else None} if anew else {}
        return {self.panel.wanted: shim.update(choices=left, **first), self.panel.more: shim.update(visible=bool(left))}

    def _lists(self, chosen: str | None) -> dict[Any, Any]:
        """The lists anew; None leaves the choice as it is."""
        new = {"choices": choices(self.store)} | ({"value": chosen} if chosen else {})
        return {chooser: shim.update(**new) for chooser in self._choosers} | {self.panel.cards: model_cards(self.store, self.beside)}
