"""The WebUI's panel on a page of its own, for any Python that has gradio, numpy, Pillow and OpenCV: what A1111 and Forge would show, without them.

    python tests/ui/host_page.py PORT [--wrapped-events]

txt2img and img2img as tabs, each with the panel in a column of A1111's width and a Generate button that shows what the script would be handed. The first
line of the output is JSON about the components. It serves until its standard input is closed. --wrapped-events: as Forge does with gradio 4.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_HOME = tempfile.TemporaryDirectory(prefix="refonly-host-page-")
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": _HOME.name, "MPLCONFIGDIR": _HOME.name, "HF_HUB_OFFLINE": "1"}
sys.path.insert(0, str(ROOT))

import gradio as gr  # noqa: E402
from gradio import routes  # noqa: E402
from PIL import Image  # noqa: E402

from lib_refonly.errors import BadModel, PainterError  # noqa: E402
from lib_refonly.ui import markup, shim  # noqa: E402
from lib_refonly.ui.host_panel import Answers, HostPanel, build_host_panel  # noqa: E402
from lib_refonly.ui.request import names, read_arguments  # noqa: E402
from lib_refonly.ui.troubles import explain  # noqa: E402
from lib_refonly.webui.pictures import picture_of  # noqa: E402
from lib_refonly.webui.presets import Presets  # noqa: E402
from tests.ui.host_facts import COLUMN, LATER, MODELS, PASTED, PREPROCESSOR, TABS, UNITS_SHOWN, digest, pasted_picture  # noqa: E402


def main(port: int, wrapped_events: bool) -> None:
    if wrapped_events:
        _wrap_events()
    presets = Presets(Path(_HOME.name) / "presets.json")
    panels: dict[str, HostPanel] = {}
    theme = gr.themes.Default(font=["Source Sans Pro", "sans-serif"], font_mono=["monospace"])  # its own fonts come from another host
    with gr.Blocks(analytics_enabled=False, **shim.supported(gr.Blocks.__init__, theme=theme)) as page, gr.Tabs():
        for tab in TABS:
            with gr.Tab(tab), gr.Column(elem_id=f"{tab}_settings"):
                panels[tab] = build_host_panel(f"refonly-{tab}", _accordion, _answers(presets), tab == "img2img", UNITS_SHOWN[tab])
                generate, received = gr.Button("Generate", elem_id=f"{tab}_generate"), gr.Textbox(elem_id=f"{tab}_received", label="Received")
                paste = gr.Button("Read parameters", elem_id=f"{tab}_paste")
            generate.click(_received, panels[tab].inputs, [received])
            # What A1111's "read generation parameters" does to a panel: updates from outside, of pictures too.
            paste.click(_pasted, None, [*(panels[tab].form[name] for name in PASTED), panels[tab].units[0][0]])
    with page:
        shim.listener()
    _add_to_head(f"{looks_and_scripts('refonly.js', 'refonly_stream.js')}<style>{_LOOKS}</style>")
    page.queue()
    looks = shim.supported(page.launch, theme=theme) if "theme" not in shim.supported(gr.Blocks.__init__, theme=theme) else {}
    page.launch(server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True, share=False, **looks)
    print(json.dumps({"gradio": gr.__version__, "components": {tab: [_described(one) for one in panel.inputs] for tab, panel in panels.items()}}), flush=True)
    sys.stdin.read()
    page.close(verbose=False)


_LOOKS = f"#txt2img_settings, #img2img_settings {{ width: {COLUMN}px; flex: none }}"


def _described(component: Any) -> dict[str, Any]:
    return {"name": component.get_block_name(), "value": component.value, "label": component.label, "id": component.elem_id}


# --- what the WebUI brings ----------------------------------------------------------------------------------------------------------------------------


def looks_and_scripts(*names: str) -> str:
    """The extension's style sheet, and those of its scripts."""
    scripts = (f"<script>{(ROOT / 'javascript' / name).read_text('utf-8')}</script>" for name in names)
    return f"<style>{(ROOT / 'style.css').read_text('utf-8')}</style>" + "".join(scripts)


def _add_to_head(html: str) -> None:
    """As A1111 and Forge add an extension's files to the page. What gradio 3 and 4 load from another host is left out."""
    templates: Any = routes.templates
    plain = templates.TemplateResponse

    def with_head(*args: Any, **more: Any) -> Any:
        response = plain(*args, **more)
        own = re.sub(rb"<(script|link|meta)\b[^>]*https?://[^>]*>", b"<\\1>", response.body)
        response.body = own.replace(b"</head>", f"{html}</head>".encode(), 1)
        response.init_headers()
        return response

    templates.TemplateResponse = with_head


def _without_stubs() -> None:
    """gradio 4 and later write a stub file beside every component's class; Forge stops that too."""
    component_meta = sys.modules.get("gradio.component_meta")
    if component_meta is not None:
        vars(component_meta)["create_or_modify_pyi"] = lambda *_: None


_without_stubs()


class _Header(gr.Checkbox):
    """A checkbox that opens an accordion, and is entered like one."""

    accordion: Any = None

    def __enter__(self) -> _Header:
        self.accordion.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.accordion.__exit__(*error)

    def get_block_name(self) -> str:
        return "checkbox"


def _accordion(value: bool, **more: Any) -> Any:
    header = _Header(value, **{**more, "elem_id": f"{more['elem_id']}-checkbox"})
    header.accordion = gr.Accordion(more["label"], open=value, elem_id=more["elem_id"])
    shim.on(header.change, lambda on: gr.update(open=on), [header], [header.accordion])
    return header


class _Wrapped:
    def __init__(self, event: Any) -> None:
        self.replaced_event = event

    def __call__(self, *args: Any, **more: Any) -> Any:
        return self.replaced_event(*args, **more)


def _wrap_events() -> None:
    """Components whose events are objects with a `replaced_event`, as in Forge."""
    for kind in (gr.Button, gr.Checkbox, gr.Dropdown, gr.Image, gr.Slider, gr.Textbox):
        _wrap_events_of(kind)


def _wrap_events_of(kind: Any) -> None:
    plain = kind.__init__

    def init(self: Any, *args: Any, **more: Any) -> None:
        plain(self, *args, **more)
        for event in self.EVENTS:
            setattr(self, str(event), _Wrapped(_Wrapped(getattr(self, str(event)))))  # once for the class, once for the one that it comes from

    init.__wrapped__ = plain  # type: ignore[attr-defined]
    kind.__init__ = init


# --- the panel's answers, and what a script would get -------------------------------------------------------------------------------------------------


def _answers(presets: Presets) -> Answers:
    asked = itertools.count()

    def models() -> list[tuple[str, str]]:
        count = next(asked)
        if not count:
            raise BadModel("Nothing fits.")
        return [*MODELS, (LATER.format(count), LATER.format(count).lower())]

    return Answers(
        models=models,
        preprocessors=lambda: [PREPROCESSOR],
        look=_look,
        presets=presets.names,
        load_preset=presets.get,
        save_preset=lambda name, values: _said(presets.save, name, values),
        delete_preset=lambda name: _said(presets.delete, name),
    )


def _said(act: Any, *values: Any) -> str:
    try:
        act(*values)
    except PainterError as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class _Seen:
    references: tuple[Image.Image, ...]
    blueprint: Image.Image
    notes: tuple[str, ...] = ()


def _look(*arguments: Any) -> str:
    try:
        request = read_arguments(arguments, picture_of)
        if request.drawing is None:
            return markup.model_view(None)
        seen: Any = _Seen(tuple(unit.picture for unit in request.units), request.drawing, (f"The model is {request.settings.model!r}.",))
        return markup.model_view(seen)
    except Exception as error:
        return explain(error, loud=False)


_calls = itertools.count(1)


def _received(*arguments: Any) -> str:
    """What a script's `process` would be handed, and how it is read."""
    told: dict[str, Any] = {"call": next(_calls), "handed": [[name, type(one).__name__] for name, one in zip(names(), arguments, strict=True)]}
    try:
        request = read_arguments(arguments, picture_of)
    except PainterError as error:
        return json.dumps(told | {"error": str(error)})
    units = [{"picture": digest(unit.picture), "mask": digest(unit.mask), **asdict(unit.settings)} for unit in request.units]
    return json.dumps(told | {"drawing": digest(request.drawing), "units": units, "settings": asdict(request.settings)})


def _pasted() -> list[Any]:
    return [gr.update(value=value) for value in (*PASTED.values(), pasted_picture())]


if __name__ == "__main__":
    main(int(sys.argv[1]), "--wrapped-events" in sys.argv[2:])
