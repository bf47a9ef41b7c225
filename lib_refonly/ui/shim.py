"""The differences between gradio 3.41, 4.40 and 6 in one place. No other module asks for the version."""

from __future__ import annotations

import functools
import inspect
from abc import ABCMeta
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from lib_refonly.errors import BadPicture


def supported(callable_: Callable[..., Any], **wanted: Any) -> dict[str, Any]:
    """Those of `wanted` that this gradio's `callable_` takes. (Forge wraps events, some of them twice; the innermost one says what it takes.)"""
    inner: Any = callable_
    while hasattr(inner, "replaced_event"):
        inner = inner.replaced_event
    known = inspect.signature(inner).parameters
    return {name: value for name, value in wanted.items() if name in known}


@functools.lru_cache(maxsize=1)
def _zone_class() -> type[gr.Image]:
    """gr.Image whose value is what was uploaded, undecoded: the file's `Path`, the data: text of gradio 3, or None. Only our own decoder reads what a
    stranger sends; and a request from outside can hold texts, but never a `Path`.

    It is a class and not a changed instance, because gradio makes a session's component anew from its class at every update. It keeps the name and the
    module of gr.Image, by which gradio finds the page's part; and gradio's own metaclass is passed over, which would write a stub file beside this module.
    """

    keep: Any = getattr(gr.Image, "async_move_resource_to_block_cache", None)

    def preprocess(self: Any, payload: Any) -> Path | str | None:
        return payload if isinstance(payload, str) or payload is None else Path(payload.path)

    async def move(self: Any, source: str | Path | None) -> str | None:
        if source is not None and "://" in str(source):
            raise BadPicture("The studio fetches nothing from the network. Save the picture, then drop the file.")
        return await keep(self, source)

    ours: dict[str, Any] = {"preprocess": preprocess, "__module__": gr.Image.__module__, "__doc__": gr.Image.__doc__}
    if keep is not None:
        ours["async_move_resource_to_block_cache"] = move
    return ABCMeta.__new__(type(gr.Image), gr.Image.__name__, (gr.Image,), ours)


def picture_zone(label: str, elem_id: str, height: int, placeholder: str, webcam: bool = True, **more: Any) -> gr.Image:
    """A drop zone for one picture: drop, paste, file, and the camera where `webcam`. Its value is a `Path`, a data: text (gradio 3), or None."""
    sources = ["upload", "webcam", "clipboard"] if webcam else ["upload", "clipboard"]
    options = supported(gr.Image.__init__, sources=sources, source="upload", placeholder=placeholder, image_mode=None, buttons=["fullscreen"], format="png")
    fixed = {"elem_classes": ["refonly-zone"], "type": "filepath", "interactive": True}
    return _zone_class()(label=label, elem_id=elem_id, height=height, **fixed, **options, **more)


Titled = Sequence[tuple[str, str]]
"""(title, value) of each choice."""


def titled_dropdown(choices: Titled, value: str, label: str, elem_id: str, **more: Any) -> gr.Dropdown:
    """A dropdown that shows titles and holds values. A value beside the choices may be set from outside (it came from an earlier picture)."""
    given = list(choices) or [("", "")]  # so that even an empty one tells which gradio this is
    box = gr.Dropdown(given, value=value, label=label, elem_id=elem_id, allow_custom_value=True, **supported(gr.Dropdown.__init__, **more))
    if isinstance(box.choices[0], str):
        _give_titles(box)
        vars(box)["choices"] = _remember(box, choices)
    elif not choices:
        vars(box)["choices"] = []
    return box


def _give_titles(box: Any) -> None:
    """gradio 3 knows plain choices only. What travels to the page are titles; everything on this side are values, the component's own `value` too."""
    config = box.get_config

    def title_of(value: Any) -> Any:
        return next((title for title, known in box.refonly_titles.items() if known == value), value)

    vars(box).update(
        refonly_titles={},
        preprocess=lambda title: box.refonly_titles.get(title, title),
        postprocess=title_of,
        get_config=lambda: config() | {"value": title_of(box.value)},
    )


def _remember(box: Any, choices: Titled) -> list[str]:
    """Their titles, each meaning one value. What was once a choice stays known: another tab may still show it."""
    known: dict[str, str] = box.refonly_titles
    titles = [title if known.setdefault(title, value) == value else f"{title} ({value})" for title, value in choices]
    known.update(zip(titles, (value for _, value in choices), strict=True))
    return titles


def titled_choices(box: Any, choices: Titled) -> Any:
    """New choices for a `titled_dropdown`."""
    return update(choices=_remember(box, choices) if hasattr(box, "refonly_titles") else list(choices))


def picture_view(label: str, elem_id: str, **more: Any) -> gr.Image:
    """A picture to look at. Files are shown as they are, so saving one from the browser keeps its text."""
    options = supported(gr.Image.__init__, buttons=["fullscreen"], format="png", show_share_button=False, show_download_button=False)
    return gr.Image(label=label, elem_id=elem_id, elem_classes=["refonly-view"], type="filepath", interactive=False, show_label=False, **options, **more)


def thumbnails(label: str, elem_id: str, columns: int, **more: Any) -> gr.Gallery:
    """A grid of thumbnails to click (or to walk with Tab and Enter); it never enlarges by itself."""
    wanted = {"allow_preview": False, "fit_columns": False, "buttons": [], "show_share_button": False, "show_download_button": False, "format": "png"}
    fixed = {"elem_classes": ["refonly-thumbs"], "show_label": False, "interactive": False}
    return gr.Gallery(label=label, elem_id=elem_id, columns=columns, **fixed, **supported(gr.Gallery.__init__, **wanted), **more)


def copy_box(label: str, elem_id: str, **more: Any) -> gr.Textbox:
    """A line of text with a button that copies it."""
    options = supported(gr.Textbox.__init__, buttons=["copy"], show_copy_button=True)
    return gr.Textbox(label=label, elem_id=elem_id, max_lines=1, **options, **more)


def download_button(label: str, elem_id: str, **more: Any) -> Any:
    """A button that saves one file; a file box where gradio has no such button."""
    make = getattr(gr, "DownloadButton", None) or gr.File
    return make(label=label, elem_id=elem_id, **supported(make.__init__, size="md", **more))


def on(event: Callable[..., Any], fn: Callable[..., Any], inputs: Any = None, outputs: Any = None, *, live: bool = False, now: bool = False) -> Any:
    """Wire `fn` to `event` without gradio's spinner.

    `live`: the event fires fast (a slider being dragged); calls in between may be skipped, the last one never is.
    `now`: do not stand in gradio's queue (a stop button must not wait). Everything else runs beside other calls too: the
    desk in front of the device, not gradio, decides whose job is next.
    """
    options = supported(
        event,
        show_progress="hidden",
        concurrency_limit=None,
        trigger_mode="always_last" if live else "once",
        queue=not now,
        api_visibility="private",
        show_api=False,
    )
    return event(fn, inputs=inputs, outputs=outputs, **options)


def after_script(event: Callable[..., Any], script: str, fn: Any, inputs: list[Any], outputs: list[Any]) -> None:
    """`on`, after a script in the page: it may change `values`, what is sent. (They are the inputs, and then the outputs, which are not.) Without `fn`
    what the script returns goes to the outputs, of which there are none."""
    whole = f"(...values) => {{ {script} return values.slice(0, {len(inputs) if fn else 0}); }}"
    made: Any = functools.partial(event, **supported(event, js=whole, _js=whole))
    made.replaced_event = getattr(event, "replaced_event", event)  # Forge's events are wrapped; the wrapped one says what it takes
    on(made, fn, inputs, outputs or None)


def listener() -> None:
    """The hidden button that javascript/refonly_stream.js presses. One on a page, however many panels it has."""
    event = gr.Button(elem_id="refonly-listen", elem_classes=["refonly-hidden"]).click
    options = supported(event, show_progress="hidden", trigger_mode="multiple", api_visibility="private", show_api=False)
    event(lambda: None, None, None, **options)  # multiple: what is asked here may itself be left unanswered


def update(**values: Any) -> Any:
    """Change a component's properties."""
    return gr.update(**values)


def warn(text: str) -> None:
    """A short-lived notice in the corner. The text is the painter's own words or ours, so mark-up in it is made harmless."""
    gr.Warning(escape(text), **supported(gr.Warning, title="Please look", duration=6))
