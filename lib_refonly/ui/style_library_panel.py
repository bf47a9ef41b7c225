"""The library's part of the Styles page: what is where. What happens is in `style_library_events`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from lib_refonly.ui import markup, shim

ORDERS = [("Used last", "recent"), ("Name", "name"), ("Newest", "created")]


@dataclass
class LibraryPart:
    """`shown` stands around what belongs to the chosen style."""

    message: Any
    search: Any
    favourites: Any
    order: Any
    gallery: Any
    listed: Any
    everything: Any
    shown: Any
    about: Any
    use: Any
    favourite: Any
    nearest: Any
    delete: Any
    new_name: Any
    rename: Any
    new_tags: Any
    retag: Any
    name: Any
    tags: Any
    is_favourite: Any
    save: Any
    export: Any
    file: Any
    take_in: Any

    @property
    def asked(self) -> list[Any]:
        """What the gallery's list depends on."""
        return [self.search, self.favourites, self.order]

    @property
    def card(self) -> list[Any]:
        """What shows the chosen style."""
        return [self.shown, self.about, self.favourite, self.delete, self.new_name, self.new_tags]


def build_library_part() -> LibraryPart:
    """Lay it out."""
    gr.HTML(markup.heading("Your styles", "They are kept on this machine, and can be called by their names: in the code box, and in prompts."))
    message = gr.HTML("", elem_id="refonly-styles-library-message", elem_classes=["refonly-said"])
    saving = _saving()
    with gr.Row(elem_classes=["refonly-styles-line"]):
        search = gr.Textbox("", label="Search", placeholder="Name or tag", max_lines=1, elem_id="refonly-styles-search", scale=3, min_width=110)
        order = gr.Dropdown([title for title, _ in ORDERS], value=ORDERS[0][0], label="Order", elem_id="refonly-styles-order", scale=2, min_width=120)
    favourites = gr.Checkbox(False, label="Favourites only", elem_id="refonly-styles-favourites")
    gallery = shim.thumbnails("Styles in the library", "refonly-styles-gallery", 4, object_fit="cover", height="auto")
    listed = gr.HTML("", elem_id="refonly-styles-listed", elem_classes=["refonly-said"])
    everything = gr.Button("Show all again", visible=False, size="sm", elem_id="refonly-styles-everything")
    chosen = _chosen()
    with gr.Row(elem_classes=["refonly-actions"]):
        export = gr.Button("Export all", size="sm", elem_id="refonly-styles-export", min_width=110)
        take_in = gr.UploadButton("Import a file", size="sm", file_types=[".json"], elem_id="refonly-styles-import", min_width=110)
    file = shim.download_button("Save styles.json", "refonly-styles-save-export", visible=False)
    return LibraryPart(message, search, favourites, order, gallery, listed, everything, *chosen, *saving, export=export, file=file, take_in=take_in)


def _chosen() -> tuple[Any, ...]:
    with gr.Column(visible=False, elem_id="refonly-styles-chosen", elem_classes=["refonly-section", "refonly-styles-chosen"]) as shown:
        about = gr.HTML("", elem_id="refonly-styles-about")
        with gr.Row(elem_classes=["refonly-actions"]):
            use = gr.Button("Use", variant="primary", size="sm", elem_id="refonly-styles-use", min_width=70)
            favourite = gr.Button("Favourite", size="sm", elem_id="refonly-styles-favourite", min_width=110)
            nearest = gr.Button("Nearest styles", size="sm", elem_id="refonly-styles-nearest", min_width=110)
            delete = gr.Button("Delete", size="sm", elem_id="refonly-styles-delete", min_width=80)
        with gr.Accordion("Name and tags", open=False, elem_id="refonly-styles-change"):
            with gr.Row(elem_classes=["refonly-styles-line"]):
                new_name = gr.Textbox("", label="Name", max_lines=1, elem_id="refonly-styles-new-name", scale=4, min_width=150)
                rename = gr.Button("Rename", size="sm", elem_id="refonly-styles-rename", elem_classes=["refonly-small"], scale=1, min_width=90)
            with gr.Row(elem_classes=["refonly-styles-line"]):
                new_tags = gr.Textbox("", label="Tags, with commas", max_lines=1, elem_id="refonly-styles-new-tags", scale=4, min_width=150)
                retag = gr.Button("Set tags", size="sm", elem_id="refonly-styles-retag", elem_classes=["refonly-small"], scale=1, min_width=90)
    return shown, about, use, favourite, nearest, delete, new_name, rename, new_tags, retag


def _saving() -> tuple[Any, ...]:
    with gr.Accordion("Save the current style", open=False, elem_id="refonly-styles-saving"):
        with gr.Row():
            name = gr.Textbox("", label="Name", max_lines=1, elem_id="refonly-styles-name", min_width=150)
            tags = gr.Textbox("", label="Tags, with commas", max_lines=1, elem_id="refonly-styles-tags", min_width=150)
        with gr.Row(elem_classes=["refonly-styles-line"]):
            favourite = gr.Checkbox(False, label="Favourite", elem_id="refonly-styles-is-favourite", scale=1, min_width=110)
            save = gr.Button("Save", variant="primary", size="sm", elem_id="refonly-styles-save", scale=2, min_width=110)
        gr.HTML('<p class="refonly-hint">Its preview becomes the small picture.</p>')
    return name, tags, favourite, save
