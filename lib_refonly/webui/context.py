"""What the extension's parts share inside one WebUI: folders, options, the models there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lib_refonly.errors import PainterError
from lib_refonly.models.offers import IP_ADAPTERS
from lib_refonly.models.registry import EMBEDDED, ModelStore, user_folder
from lib_refonly.refonly.host_plan import find_lines
from lib_refonly.refonly.panel import UNITS
from lib_refonly.refonly.prepare import prepare_reference
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.studio.cutter import Cutter
from lib_refonly.studio.requests import Prepared
from lib_refonly.stylecode import shelf
from lib_refonly.stylecode.asked import read_style
from lib_refonly.stylecode.card import read_card
from lib_refonly.stylecode.library import Library, library_file
from lib_refonly.stylecode.maker import CodeMaker
from lib_refonly.ui import markup
from lib_refonly.ui.host_panel import Answers
from lib_refonly.ui.request import read_arguments
from lib_refonly.ui.troubles import explain
from lib_refonly.webui import models
from lib_refonly.webui.host import host_of
from lib_refonly.webui.pictures import PictureStore, picture_of
from lib_refonly.webui.preprocessors import controlnet_preprocessors
from lib_refonly.webui.presets import Presets
from lib_refonly.webui.style_choice import usual

_MEGA = 1_000_000


@dataclass(frozen=True)
class Context:
    shelf: models.Shelf
    cutter: Cutter
    pictures: PictureStore
    presets: Presets
    library: Library
    maker: CodeMaker
    units: int


@lru_cache(maxsize=1)
def context() -> Context:
    from modules import shared

    own = user_folder()
    chosen = getattr(shared.cmd_opts, "refonly_models_dir", None)
    roots = [EMBEDDED, *([Path(chosen)] if chosen else []), own]
    base = Path(getattr(shared.cmd_opts, "data_path", ".")) / "models"
    adapters = (own / "adapters", own / IP_ADAPTERS, base / "ControlNet", base / "ipadapter", *_of_extension("models"))
    encoders = (
        own / "image_encoders",
        own / IP_ADAPTERS,
        base / "clip_vision",
        base / "ControlNetPreprocessor",
        *_of_extension("annotator/downloads/clip_vision"),
    )
    limit = int(option("refonly_kept_pictures", 200)) * _MEGA
    shelf = models.Shelf(ModelStore(roots), (EMBEDDED, *adapters), encoders)
    return Context(
        shelf,
        Cutter(shelf.store.segmenter),
        PictureStore(own.parent / "pictures", limit),
        Presets(own.parent / "presets.json"),
        Library(library_file()),
        CodeMaker(),
        int(option("refonly_units", UNITS)),
    )


def _of_extension(part: str) -> list[Path]:
    """A folder of the ControlNet extension, where it is installed."""
    from modules import extensions

    return [Path(one.path) / part for one in extensions.active() if "controlnet" in one.name.lower()]


def option(name: str, default: Any) -> Any:
    """One of the settings page's; its default before the page exists."""
    from modules import shared

    return getattr(shared.opts, name, default)


def answers() -> Answers:
    presets = context().presets
    return Answers(
        models=_fitting,
        preprocessors=lambda: list(controlnet_preprocessors()),
        look=look,
        presets=presets.names,
        load_preset=presets.get,
        save_preset=lambda name, values: _said(presets.save, name, values),
        delete_preset=lambda name: _said(presets.delete, name),
        read_code=read_code,
        make_code=make_code,
        read_canvas=read_canvas,
    )


def _said(act: Any, *values: Any) -> str:
    try:
        act(*values)
    except PainterError as error:
        return str(error)
    return ""


def read_code(text: str) -> str:
    """What a typed code is, or what is wrong with it, as HTML."""
    if not text.strip():
        return ""
    try:
        style = read_style(text, shelf.known(), context().library.named)
    except PainterError as error:
        return markup.message(str(error))
    return markup.message(" ".join((f"A style of {style.model}.", *style.notes)), "done")


def read_canvas(text: str) -> str:
    """What a ONE-PIC project is, or what is wrong with it, as HTML."""
    from lib_refonly.onepic.project import Project

    try:
        project = Project.read(text)
        project.check_ready()
    except PainterError as error:
        return markup.message(str(error))
    size = f"{project.width} × {project.height} px"
    return markup.message(
        f"Painting on a ONE-PIC canvas of {project.layout.name} panels, {size} each. Width, height and hires fix above have no part in it.", "done"
    )


def make_code(picture: Any) -> tuple[str, str]:
    """A picture's code: the one that it carries, as a share card does, else the one of its style. And what to say of it, as HTML."""
    try:
        opened = picture_of(picture)
        carried = None if opened is None else read_card(opened)
        if opened is None:
            return "", ""
        code = context().maker.code_of([opened], usual()).short if carried is None else carried
    except Exception as error:
        return "", explain(error, loud=False)
    return code, read_code(code)


def _fitting() -> Sequence[tuple[str, str]]:
    """(title, name) of the models that fit the loaded checkpoint; all of them as long as none is loaded."""
    from modules import sd_models

    shelf, sd_model = context().shelf, sd_models.model_data.sd_model
    if sd_model is None or not (hasattr(sd_model, "model") or hasattr(sd_model, "forge_objects")):
        return [(choice.title, choice.name) for choice in shelf.choices()]
    checkpoint = host_of(sd_model).checkpoint(sd_model)
    return [(choice.title, choice.name) for choice in models.fitting(shelf, checkpoint)]


def look(*arguments: Any) -> str:
    """What the model will see, as HTML; an error in its place."""
    try:
        request = read_arguments(arguments, picture_of)
        if request.drawing is None:
            return markup.model_view(None)
        lines = find_lines(request.drawing, request.settings, controlnet_preprocessors())
        prepared = RefOnlySettings(background=request.settings.background, fit=request.settings.fit)
        shown = [prepare_reference(unit.picture, prepared, context().cutter) for unit in request.units]
        notes = (*lines.notes, *(note for _, note in shown))
        return markup.model_view(Prepared(tuple(picture for picture, _ in shown), lines.blueprint, notes))
    except Exception as error:
        return explain(error, loud=False)
