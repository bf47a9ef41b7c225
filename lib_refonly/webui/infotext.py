"""The panel in the parameters text of a picture, and back: what is not written was at its default."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gradio as gr

from lib_refonly.errors import PainterError
from lib_refonly.imaging.decode import decode_base64
from lib_refonly.imaging.infotext import png_bytes
from lib_refonly.onepic.project import Project
from lib_refonly.refonly.panel import UNITS, PanelSettings, UnitSettings
from lib_refonly.settings import from_mapping, specs
from lib_refonly.stylecode import shelf
from lib_refonly.stylecode.asked import Named, read_style
from lib_refonly.stylecode.settings import StyleSettings
from lib_refonly.ui.host_panel import HostPanel
from lib_refonly.ui.request import PanelRequest
from lib_refonly.webui.pictures import PictureStore

_PREFIX = "RefOnly "
MODEL = "RefOnly model"
CODE = specs(StyleSettings)["code"].infotext
DRAWING = "RefOnly line drawing"
UNIT = "RefOnly unit {}"
CANVAS = "RefOnly canvas"


def forget(parameters: dict[str, Any]) -> None:
    """Take our entries out of `extra_generation_params`: img2img's batch and the plots paint several pictures with one and the same."""
    for name in [name for name in parameters if name.startswith(_PREFIX)]:
        del parameters[name]


def written(request: PanelRequest, model: str, store: PictureStore) -> dict[str, str]:
    """What goes into `extra_generation_params`. `model` is the one that was used; pictures stand there by their names in `store`."""
    out = _differing(request.settings, PanelSettings()) | {MODEL: model}
    if request.drawing is not None:
        out[DRAWING] = store.keep(request.drawing)
    for number, unit in enumerate(request.units, 1):
        fields = {"picture": store.keep(unit.picture)} | ({"mask": store.keep(unit.mask)} if unit.mask is not None else {})
        fields |= _differing(unit.settings, UnitSettings())
        # A1111 quotes values with commas and colons; the blocks have both, so they are told with other marks.
        out[UNIT.format(number)] = ", ".join(f"{name}: {value.replace(', ', ';').replace(',', ';').replace(':', '=')}" for name, value in fields.items())
    return out


def canvas_written(project: Project, store: PictureStore) -> str:
    """A project's JSON with its pictures by their names in `store`, and without the prompts, which the host writes itself."""
    whole = json.loads(project.written()) | {"prompt": "", "negative": ""}
    for panel in whole["panels"]:
        panel |= {part: store.keep(decode_base64(panel[part])) for part in ("picture", "mask") if panel[part]}
    return json.dumps(whole, ensure_ascii=True, separators=(",", ":"))


def canvas_read(text: str, store: PictureStore) -> str:
    """Back to a project's JSON, with what the store still has; "" for nothing, or nonsense."""
    try:
        whole = json.loads(text)
        for panel in whole["panels"]:
            for part in ("picture", "mask"):
                kept = store.get(str(panel.get(part) or ""))
                panel[part] = None if kept is None else "data:image/png;base64," + base64.b64encode(png_bytes(kept)).decode()
        return Project.read(whole).written()
    except (ValueError, TypeError, KeyError, AttributeError, PainterError):
        return ""


def style_written(style: StyleSettings, named: Named) -> dict[str, str]:
    """The panel's style; nothing where it is off. A name from the library goes out as its code: others have another library."""
    if not style.enabled:
        return {}
    try:
        code = read_style(style.code, shelf.known(), named).code
    except PainterError:
        code = style.code  # what is wrong with it is said when it is to be used
    return {CODE: code, **_differing(replace(style, code=""), StyleSettings())}


def _differing(settings: Any, defaults: Any) -> dict[str, str]:
    known = specs(settings)
    return {known[name].infotext: str(getattr(settings, name)) for name in known if known[name].infotext and getattr(settings, name) != getattr(defaults, name)}


def read_unit(text: str) -> dict[str, str]:
    """One unit's line -> its fields."""
    pairs = (part.partition(":") for part in text.split(","))
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def fields(panel: HostPanel, store: PictureStore) -> list[tuple[Any, Callable[[Mapping[str, Any]], Any]]]:
    """A1111's `infotext_fields`: each component with what reads its value. A text without our fields switches the panel off and leaves the rest."""
    out: list[tuple[Any, Callable[[Mapping[str, Any]], Any]]] = [(panel.enabled, lambda texts: MODEL in texts)]
    for name, spec in specs(PanelSettings).items():
        if spec.infotext:
            out.append((panel.form[name], _setting(PanelSettings, name, spec.infotext)))
    out.append((panel.style["enabled"], lambda texts: CODE in texts))
    out += [(panel.style[name], _style_setting(name, spec.infotext)) for name, spec in specs(StyleSettings).items() if spec.infotext]
    out.append((panel.canvas, lambda texts: canvas_read(str(texts.get(CANVAS, "")), store)))
    out.append((panel.drawing, lambda texts: _picture(store, texts.get(DRAWING, "")) if MODEL in texts else None))
    for number, (picture, mask, form) in enumerate(panel.units[:UNITS], 1):
        line = UNIT.format(number)
        out += [(picture, _of_unit(store, line, "picture")), (mask, _of_unit(store, line, "mask"))]
        out += [(form[name], _unit_setting(line, name, spec.infotext)) for name, spec in specs(UnitSettings).items()]
    return out


def _setting(cls: type, name: str, key: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda texts: _checked(cls, name, texts.get(key)) if MODEL in texts else None


def _style_setting(name: str, key: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda texts: _checked(StyleSettings, name, texts.get(key)) if CODE in texts else None


def _unit_setting(line: str, name: str, key: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda texts: _checked(UnitSettings, name, read_unit(str(texts.get(line, ""))).get(key)) if MODEL in texts else None


def _checked(cls: type, name: str, text: Any) -> Any:
    """The value of one setting; its default where nothing is told, or nonsense."""
    default = getattr(cls(), name)
    try:
        return default if text is None else getattr(from_mapping(cls, {name: text}), name)
    except PainterError:
        return default


def _of_unit(store: PictureStore, line: str, part: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda texts: _picture(store, read_unit(str(texts.get(line, ""))).get(part, "")) if MODEL in texts else None


def _picture(store: PictureStore, name: str) -> Any:
    return gr.update(value=store.get(name))
