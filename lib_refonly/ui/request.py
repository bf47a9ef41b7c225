"""What a WebUI's panel asks for, of all methods together: from its components or from JSON. It knows neither gradio nor the WebUI."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from lib_refonly.errors import BadSettings
from lib_refonly.onepic.project import Project
from lib_refonly.refonly.panel import UNITS, PanelSettings, Unit, UnitSettings
from lib_refonly.settings import from_mapping, schema, specs
from lib_refonly.stylecode.settings import StyleSettings


@dataclass(frozen=True)
class PanelRequest:
    """`drawing` is None where there is none: then only the references act (in img2img the picture itself may be the drawing). `style`: a stylecode's part.
    `canvas`: a ONE-PIC canvas to paint on."""

    settings: PanelSettings
    units: tuple[Unit, ...]
    drawing: Image.Image | None = None
    style: StyleSettings = dataclasses.field(default_factory=StyleSettings)
    canvas: Project | None = None


Open = Callable[[Any], "Image.Image | None"]
"""Opens what stands for a picture in a request. None and "" are no picture."""
UNIT_PARTS = ("picture", "mask")


def read_request(values: Mapping[str, Any], pictures: Open) -> PanelRequest:
    """A request from JSON: the fields of `PanelSettings`, "drawing", "units", each with "picture", "mask" and the fields of `UnitSettings`, "style",
    and "canvas": a ONE-PIC project, as its text or its object.

    Raises:
        BadSettings: an unknown name or a value that does not fit. BadPicture: raised by `pictures`.
    """
    rest = {name: value for name, value in values.items() if value is not None}
    drawing, units, style, canvas = rest.pop("drawing", None), rest.pop("units", []), rest.pop("style", {}), rest.pop("canvas", None)
    if not isinstance(style, Mapping):
        raise BadSettings("style is an object.")
    if not isinstance(units, list) or len(units) > UNITS or not all(isinstance(unit, Mapping) for unit in units):
        raise BadSettings(f"units is a list of up to {UNITS} objects.")
    read = []
    for unit in units:
        named = {name: value for name, value in unit.items() if value is not None and name not in UNIT_PARTS}
        settings, (picture, mask) = from_mapping(UnitSettings, named), (pictures(unit.get(part)) for part in UNIT_PARTS)
        if picture is not None:
            read.append(Unit(picture, settings, None if mask is None else mask.convert("L")))
    told = from_mapping(StyleSettings, {name: value for name, value in style.items() if value is not None})
    return PanelRequest(from_mapping(PanelSettings, rest), tuple(read), pictures(drawing), told, Project.read(canvas) if canvas else None)


def names() -> list[str]:
    """What a positional request holds, in this order, for ever: settings, the drawing, unit after unit, the style, the canvas. New settings come last."""
    of_units = [f"unit {number} {name}" for number in range(1, UNITS + 1) for name in (*UNIT_PARTS, *specs(UnitSettings))]
    return [*specs(PanelSettings), "drawing", *of_units, *(f"style {name}" for name in specs(StyleSettings)), "canvas"]


def is_enabled(arguments: Sequence[Any]) -> bool:
    """Whether a request wants anything at all; nothing else of it is looked at."""
    first = arguments[0] if arguments else False
    if isinstance(first, Mapping):
        style = first.get("style")
        return bool(first.get("enabled", False) or first.get("canvas") or (isinstance(style, Mapping) and style.get("enabled", False)))
    switches = (names().index(name) for name in ("enabled", "style enabled", "canvas"))
    return any(place < len(arguments) and bool(arguments[place]) for place in switches)


def read_arguments(arguments: Sequence[Any], pictures: Open) -> PanelRequest:
    """A request from a WebUI's script arguments: in the order of `names`, or one JSON object for `read_request`. What is left out is at its default.

    Raises:
        BadSettings, BadPicture: as `read_request`.
    """
    if arguments and isinstance(arguments[0], Mapping):
        return read_request(arguments[0], pictures)
    own, inner = len(specs(PanelSettings)), len(UNIT_PARTS) + len(specs(UnitSettings))
    given = [*arguments, *[None] * (len(names()) - len(arguments))]
    values = dict(zip(specs(PanelSettings), given, strict=False)) | {"drawing": given[own]}
    rest = given[own + 1 :]
    units = [dict(zip((*UNIT_PARTS, *specs(UnitSettings)), rest[i : i + inner], strict=True)) for i in range(0, UNITS * inner, inner)]
    *style, canvas = rest[UNITS * inner : len(names()) - own - 1]
    return read_request(values | {"units": units, "style": dict(zip(specs(StyleSettings), style, strict=True)), "canvas": canvas}, pictures)


def request_schema() -> dict[str, Any]:
    """The JSON schema of `read_request`."""
    picture = {"type": "string", "contentEncoding": "base64"}
    unit = schema(UnitSettings)
    unit["properties"] |= dict.fromkeys(UNIT_PARTS, picture)
    whole = schema(PanelSettings)
    whole["properties"] |= {"drawing": picture, "units": {"type": "array", "maxItems": UNITS, "items": unit}, "style": schema(StyleSettings)}
    whole["properties"]["canvas"] = {"type": ["object", "string"], "description": "A ONE-PIC project (docs/formats.md)."}
    return whole
