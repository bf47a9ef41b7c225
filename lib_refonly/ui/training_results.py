"""What a job has made, on the Train page: the list, and the part with which a file is put where it is used. What happens is in `training_result_events`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from lib_refonly.errors import BadPicture
from lib_refonly.imaging.decode import open_picture
from lib_refonly.training.finished import TITLES, Finished
from lib_refonly.ui import markup, shim
from lib_refonly.ui.training_fields import PREFIX

_THUMBNAIL = 192


@dataclass
class ResultsPart:
    """`box` holds it all. parcel: hidden; what javascript/refonly_train.js is told, as JSON."""

    box: Any
    listed: Any
    which: Any
    name: Any
    put: Any
    trial: Any
    fetch: Any
    file: Any
    said: Any
    parcel: Any


def build_results_part() -> ResultsPart:
    """Lay it out."""
    with gr.Column(visible=False, elem_id=f"{PREFIX}-results-box", elem_classes=["refonly-train-group"]) as box:
        listed = gr.HTML("", elem_id=f"{PREFIX}-results", elem_classes=["refonly-train-box"])
        with gr.Row():
            which = shim.titled_dropdown([], "", "Finished file", f"{PREFIX}-which", min_width=300)
            name = gr.Textbox(label="Name that it gets", max_lines=1, elem_id=f"{PREFIX}-name", min_width=300)
        with gr.Row(elem_classes=["refonly-train-asks"]):
            put = gr.Button("Put it into its place", size="sm", elem_id=f"{PREFIX}-put")
            trial = gr.Button("Try it", variant="primary", size="sm", elem_id=f"{PREFIX}-try")
            fetch = gr.Button("Make a download", size="sm", elem_id=f"{PREFIX}-fetch")
        file = shim.download_button("Download the file", f"{PREFIX}-result-file", visible=False)
        said = gr.HTML("", elem_id=f"{PREFIX}-result-message", elem_classes=["refonly-train-box"])
        with gr.Column(elem_classes=["refonly-onepic-wire"]):
            parcel = gr.Textbox("", label="Parcel", elem_id=f"{PREFIX}-parcel")
    return ResultsPart(box, listed, which, name, put, trial, fetch, file, said, parcel)


def title(found: Finished) -> str:
    """One line for the list of choices."""
    return f"{found.path.name}, {_about(found)}"


def _about(found: Finished) -> str:
    when = ("the last one, " if found.last else "in between, ") + f"step {found.step}" if found.step else "the last one"
    return f"{TITLES[found.kind]}, {when}, {_size(found.size)}"


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{max(1, round(size / 1e3))} kB"


def results_list(found: Sequence[Finished]) -> str:
    """All of them with their pictures."""
    rows = "".join(f"<li>{_picture(one)}<b>{escape(one.path.name)}</b><span>{escape(_about(one))}</span></li>" for one in found)
    return f'<p class="refonly-subheading">Results</p><ul class="refonly-train-finished">{rows}</ul>' if rows else ""


def _picture(one: Finished) -> str:
    thumbnail = shown(one.sample, _THUMBNAIL)
    return f'<img src="{thumbnail}" alt="">' if thumbnail else '<i aria-hidden="true"></i>'


def shown(path: Path | None, longest: int) -> str:
    """A picture as data; "" for none, and for one that can't be opened."""
    try:
        return "" if path is None else markup.data_uri(open_picture(path), longest)
    except (BadPicture, OSError):
        return ""
