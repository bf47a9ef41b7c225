"""A canvas as one JSON text: what the composer keeps, what the API takes, and what a picture's parameters refer to.

Pictures are inside it, as data: URLs of the very bytes that were given. Nothing is ever opened by its path or its address.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_type_hints

from PIL import Image

from lib_refonly.errors import BadPicture, BadSettings
from lib_refonly.imaging.decode import decode_base64, open_header
from lib_refonly.onepic.layout import Layout
from lib_refonly.settings import check, setting, specs

FORMAT, VERSION = "refonly-onepic", 1
LONGEST = 64 * 2**20
"""Bytes of a project's JSON, its pictures with it."""
CELL = 8
"""Pixels of a side of a latent cell."""
MOST_PIXELS = 16 * 2**20
"""Of a canvas: 4096 x 4096."""
_LONGEST_PROMPT, _LONGEST_NAME = 20_000, 100
_LARGEST_NUMBER = 1e9
_UNSEEN = ("Cc", "Cs")
"""Of Unicode's categories: control characters, and halves of pairs, which no file can hold."""
_KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
    str: ((str,), "a text"),
}


@dataclass(frozen=True)
class Panel:
    """One part of the canvas. `picture` and `mask`: the bytes of an image file, as given, or None.

    The mask is brushed over the panel as it is shown, at any resolution: what is white and opaque is brushed, black or transparent is not.

    Raises:
        BadSettings: a value of the wrong kind or outside its range.
    """

    role: str = setting("context", "Role", "Context is looked at, the target is painted.", choices=("context", "target"))
    label: str = setting("", "Label", "What belongs here, in a few words.")
    picture: bytes | None = None
    fit: str = setting(
        "crop", "Fit", "Crop fills the panel and cuts off the rest, pad shows all of the picture, stretch distorts it.", choices=("crop", "pad", "stretch")
    )
    zoom: float = setting(1.0, "Zoom", "1 is as fitted, 2 twice as large.", minimum=0.1, maximum=10, step=0.01)
    x: float = setting(0.0, "Left or right", "Where the picture is moved to: -1 is the left end of what can be moved, 1 the right.", minimum=-1, maximum=1)
    y: float = setting(0.0, "Up or down", "Where the picture is moved to: -1 is the upper end of what can be moved, 1 the lower.", minimum=-1, maximum=1)
    mask: bytes | None = None
    mask_use: str = setting("hide", "Brush", "What is brushed is hidden from the model behind grey, or painted like a target.", choices=("hide", "paint"))

    def __post_init__(self) -> None:
        _check(self)
        if not all(data is None or isinstance(data, bytes) for data in (self.picture, self.mask)):
            raise BadSettings("A picture and a mask are the bytes of a file, or nothing.")

    def placed(self, size: tuple[int, int], width: int, height: int) -> tuple[int, int, int, int]:
        """Where a picture of `size` (width, height) lies in a panel of `width` x `height`: (left, top, right, bottom) px, also outside the panel.

        Halves are rounded up, as a page's Math.round does, so that both come to the same pixel.
        """
        across, down = width / size[0], height / size[1]
        if self.fit != "stretch":
            across = down = max(across, down) if self.fit == "crop" else min(across, down)
        shown = tuple(max(1, math.floor(side * scale * self.zoom + 0.5)) for side, scale in zip(size, (across, down), strict=True))
        free = (width - shown[0], height - shown[1])
        left, top = (math.floor((space + abs(space) * share) / 2 + 0.5) for space, share in zip(free, (self.x, self.y), strict=True))
        return left, top, left + shown[0], top + shown[1]


@dataclass(frozen=True)
class Project:
    """`layout.panels` panels of `width` x `height` px, and what is asked for. `task`: a name of `tasks.TASKS`, another one, or nothing.

    Raises:
        BadSettings: a value of the wrong kind or outside its range, another number of panels than the layout has, or too large a canvas.
    """

    task: str = setting("", "Task", "What the panels are meant for.")
    layout: Layout = Layout(2, 2)
    width: int = setting(512, "Panel width", "Pixels, a multiple of 8.", minimum=64, maximum=2048, step=CELL)
    height: int = setting(512, "Panel height", "Pixels, a multiple of 8.", minimum=64, maximum=2048, step=CELL)
    panels: tuple[Panel, ...] = ()
    prompt: str = setting("", "Prompt", "What the target shows.")
    negative: str = setting("", "Negative prompt", "What the target should not show.")
    reuse: int = setting(
        1,
        "Reuse",
        "Of so many steps, one looks at the context anew; the others keep what they saw. 1 is exact, more is quicker.",
        minimum=1,
        maximum=20,
        step=1,
    )
    alone: bool = setting(True, "References act on the target only", "References and styles leave the context panels as they are.")
    control_alone: bool = setting(
        True,
        "ControlNet acts on the target only",
        "ControlNet's picture is one for the target panel. Off: it lies over the whole canvas.",
    )

    def __post_init__(self) -> None:
        _check(self)
        if not isinstance(self.layout, Layout) or not isinstance(self.panels, tuple) or not all(isinstance(panel, Panel) for panel in self.panels):
            raise BadSettings("A project has a layout, and its panels.")
        if self.width % CELL or self.height % CELL:
            raise BadSettings(f"A panel of {self.width} x {self.height} px can't be painted. Both sides have to be multiples of {CELL}.")
        _check_count(len(self.panels), self.layout)
        width, height = self.size
        if width * height > MOST_PIXELS:
            raise BadSettings(f"The canvas is {width} x {height} px, more than {MOST_PIXELS // 2**20} megapixels. Take smaller panels, or fewer.")

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px of the whole canvas."""
        return self.layout.size(self.width, self.height)

    def check_ready(self) -> None:
        """Raises: BadSettings: there is nothing to paint (no target panel, and no mask of which the brushed part is painted)."""
        if not any(panel.role == "target" or (panel.mask is not None and panel.mask_use == "paint") for panel in self.panels):
            raise BadSettings("No panel is the target, so there is nothing to paint. Make one the target, or brush the part of a panel that is to be painted.")

    @classmethod
    def read(cls, source: str | bytes | Mapping[str, Any]) -> Project:
        """A project from its JSON, as text or as what a JSON parser made of it. What is not said has its default. Pictures are looked at.

        Raises:
            BadSettings: no project, another version's, an entry that is unknown, missing or of the wrong kind, or more than 64 MB.
            BadPicture: a picture or a mask that is none, is damaged or too large, or is an address or a path. Both name the panel.
        """
        whole = _unpacked(source)
        _members(whole, "The project", _ENTRIES, ("layout", "panel", "panels"))
        layout = Layout(**_members(whole["layout"], "The layout", ("rows", "columns"), ("rows", "columns")))
        size = _members(whole["panel"], "The size of a panel", ("width", "height"), ("width", "height"))
        rest = {name: whole[name] for name in _PLAIN if name in whole}
        return cls(layout=layout, panels=_panels(whole["panels"], layout), **size, **rest)

    def written(self) -> str:
        """JSON that `read` makes the same project of. Raises: BadSettings: over 64 MB. BadPicture: a panel's picture is none."""
        rows = {"rows": self.layout.rows, "columns": self.layout.columns}
        size = {"width": self.width, "height": self.height}
        panels = [_written(number, panel) for number, panel in enumerate(self.panels)]
        rest = {name: getattr(self, name) for name in _PLAIN}
        whole = {"format": FORMAT, "version": VERSION, "layout": rows, "panel": size, "panels": panels} | rest
        text = json.dumps({name: whole[name] for name in _ENTRIES}, ensure_ascii=False, indent=1)
        if len(text.encode()) > LONGEST:
            raise BadSettings(f"This project makes a file of more than {LONGEST // 2**20} MB. Take smaller pictures.")
        return text


_ENTRIES = ("format", "version", "task", "layout", "panel", "panels", "prompt", "negative", "reuse", "alone", "control_alone")
_PLAIN = ("task", "prompt", "negative", "reuse", "alone", "control_alone")
_OF_PANEL = tuple(field.name for field in dataclasses.fields(Panel))


def blank(layout: Layout, width: int = 512, height: int = 512) -> Project:
    """Empty panels of `width` x `height` px, of which the last one is the target. Raises: BadSettings: sizes that no project may have."""
    context = (Panel(),) * (layout.panels - 1)
    return Project(layout=layout, width=width, height=height, panels=(*context, Panel(role="target")))


def relaid(project: Project, layout: Layout) -> tuple[Project, tuple[Panel, ...]]:
    """The project in another layout, and the panels that hold something and have no place in it.

    Panels keep their numbers, unless that would lose more than it has to: then targets stay before pictures, these before empty panels, and they close up.
    New panels are empty context.

    Raises:
        BadSettings: the canvas would be too large.
    """
    panels, count = project.panels, layout.panels
    # The page's setLayout does the same.
    worth = [2 * (panel.role == "target") + (panel.picture is not None) for panel in panels]
    stay = sorted(range(len(panels)), key=lambda number: -worth[number])[:count] if any(worth[count:]) else range(min(count, len(panels)))
    kept = tuple(panels[number] for number in sorted(stay)) + (Panel(),) * (count - len(panels))
    left = tuple(panel for number, panel in enumerate(panels) if number not in stay and (panel.picture is not None or panel.mask is not None))
    return dataclasses.replace(project, layout=layout, panels=kept), left


def swapped(project: Project, a: int, b: int) -> Project:
    """Two panels (from 0) in each other's place, with all that is theirs. Raises: BadSettings: no such panel."""
    for number in (a, b):
        project.layout.place(number)
    panels = list(project.panels)
    panels[a], panels[b] = panels[b], panels[a]
    return dataclasses.replace(project, panels=tuple(panels))


@contextmanager
def naming(number: int) -> Iterator[None]:
    """What is wrong inside is said of this panel (from 0): "Panel 2: ..." is what number 1 gives."""
    try:
        yield
    except (BadSettings, BadPicture) as error:
        raise type(error)(f"Panel {number + 1}: {error}") from error


def _check(settings: Panel | Project) -> None:
    """`settings.check`, after the values have been found to be of the exact kind, finite, and short enough to be repeated in a sentence."""
    hints = get_type_hints(type(settings))
    for name, spec in specs(settings).items():
        value, (kinds, words) = getattr(settings, name), _KINDS[hints[name]]
        if type(value) not in kinds or (isinstance(value, int | float) and not abs(value) < _LARGEST_NUMBER):
            raise BadSettings(f"{spec.label}: {words} is expected here.")
        if isinstance(value, str):
            _check_text(value, spec.label, prompt=name in ("prompt", "negative"))
    check(settings)


def _check_text(text: str, label: str, prompt: bool) -> None:
    longest = _LONGEST_PROMPT if prompt else _LONGEST_NAME
    if len(text) > longest:
        raise BadSettings(f"{label}: {len(text)} characters are too many; {longest} is the most.")
    if any(unicodedata.category(sign) in (("Cs",) if prompt else _UNSEEN) for sign in text):
        raise BadSettings(f"{label}: there are control characters in it, or halves of letters. Write it anew.")


def _unpacked(source: str | bytes | Mapping[str, Any]) -> Mapping[str, Any]:
    whole: Any = source
    if isinstance(source, str | bytes):
        if len(source) > LONGEST:
            raise BadSettings(f"The project is larger than {LONGEST // 2**20} MB.")
        try:
            whole = json.loads(source.decode("utf-8-sig") if isinstance(source, bytes) else source, parse_constant=_no_number)
        except (ValueError, RecursionError):
            raise BadSettings("This is no ONE-PIC project: it can't be read as JSON.") from None
    if not isinstance(whole, Mapping) or whole.get("format") != FORMAT:
        raise BadSettings("This is no ONE-PIC project.")
    version = whole.get("version")
    if type(version) is not int or version != VERSION:
        raise BadSettings(f"This project is not of version {VERSION}, which is the one that this program reads. Update the program.")
    return whole


def _no_number(name: str) -> float:
    raise ValueError(f"JSON has no {name}")


def _members(value: Any, what: str, known: tuple[str, ...], needed: tuple[str, ...]) -> Mapping[str, Any]:
    """`value`, which is a JSON object that has no entries but the known ones, and all of the needed ones."""
    if not isinstance(value, Mapping):
        raise BadSettings(f"{what} has to say {', '.join(known)}, and is something else.")
    unknown = sorted(repr(name)[:40] for name in value if name not in known)
    missing = [name for name in needed if name not in value]
    if unknown:
        raise BadSettings(f"{what} says {', '.join(unknown[:5])}, which is not known here. Known: {', '.join(known)}.")
    if missing:
        raise BadSettings(f"{what} does not say its {' and '.join(missing)}.")
    return value


def _check_count(panels: int, layout: Layout) -> None:
    if panels != layout.panels:
        raise BadSettings(f"The layout {layout.name} has {layout.panels} panels; these are {panels}.")


def _panels(value: Any, layout: Layout) -> tuple[Panel, ...]:
    if not isinstance(value, list | tuple):
        raise BadSettings("The panels are no list.")
    _check_count(len(value), layout)
    if sum(len(text) for one in value if isinstance(one, Mapping) for text in one.values() if isinstance(text, str)) > LONGEST:
        raise BadSettings(f"The project's pictures are larger than {LONGEST // 2**20} MB.")
    panels: list[Panel] = []
    for number, one in enumerate(value):
        with naming(number):
            members = _members(one, "It", _OF_PANEL, ("role",))
            pictures = {name: _bytes_of(members[name]) for name in ("picture", "mask") if members.get(name) is not None}
            panels.append(Panel(**{**members, **pictures}))
    return tuple(panels)


def _bytes_of(text: Any) -> bytes:
    decode_base64(text)  # all that can be wrong with it is found and told there
    return base64.b64decode(text.rpartition(",")[2].replace("-", "+").replace("_", "/"))


def _written(number: int, panel: Panel) -> dict[str, Any]:
    with naming(number):
        pictures = {name: None if data is None else _data_url(data) for name, data in (("picture", panel.picture), ("mask", panel.mask))}
        return {name: getattr(panel, name) for name in _OF_PANEL} | pictures


def _data_url(data: bytes) -> str:
    kind = Image.MIME.get(open_header(data).format or "", "application/octet-stream")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
