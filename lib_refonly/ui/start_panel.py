"""The extension's own tab inside a WebUI: samples to try, the small example checkpoint, the models. It knows gradio, and nothing of the WebUI.

javascript/refonly_send.js hears what is clicked on a sample's card and on the example's message.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from lib_refonly.models.registry import ModelStore
from lib_refonly.ui import markup, shim
from lib_refonly.ui.models_panel import Beside, ModelsPanel, build_models_panel
from lib_refonly.ui.samples import Sample
from lib_refonly.ui.troubles import guarded

_TABS = ("txt2img", "img2img")
EXAMPLE, _SIDE = "refonly-tiny-base", 256
"""The example checkpoint's name, and the side of what the built-in model paints on it, px."""


@dataclass(frozen=True)
class Example:
    """The small example checkpoint, which the built-in model belongs to.

    `install` puts it among the WebUI's own and returns the name by which it is listed there. `why_not`: why this WebUI can't load it; "" when it can.
    """

    install: Callable[[], str]
    why_not: str = ""


@dataclass
class StartPanel:
    """The page's components. `install` is None where the example can't be loaded."""

    models: ModelsPanel
    install: Any
    message: Any


def build_start_panel(store: ModelStore, beside: Beside, samples: Sequence[Sample], example: Example, may_point: bool) -> StartPanel:
    """Lay the page out. `may_point`: the painter sits at this machine and may name a folder on it."""
    with gr.Column(elem_classes=["refonly-start"]):
        gr.HTML(_STYLE + sample_cards(samples, built_in=not example.why_not), elem_id="refonly-start-samples")
        with gr.Column(elem_classes=["refonly-section"], elem_id="refonly-start-example"):
            gr.HTML(example_text(example))
            install = None if example.why_not else gr.Button("Install the small example checkpoint", elem_id="refonly-start-install")
            message = gr.HTML("", elem_id="refonly-start-message")
        models = build_models_panel(store, beside, None, may_point)
    panel = StartPanel(models, install, message)
    if install is not None:
        shim.on(install.click, guarded(message)(lambda: {message: installed(example.install())}), None, [message])
    return panel


def example_text(example: Example) -> str:
    """The heading above the button; on a WebUI that can't load the example, why."""
    about = f"For the built-in model. It comes with the extension (nothing is downloaded), is added to your checkpoints, and paints at {_SIDE} × {_SIDE}."
    return markup.heading("A small checkpoint to try it with", example.why_not or about)


def installed(name: str) -> str:
    """The message after the example was installed, with a button that loads it. `name`: as in the WebUI's list of checkpoints."""
    said = escape(f"{name} is among your checkpoints now.")
    button = f'<button type="button" class="refonly-button" data-refonly-load="{escape(name)}">Load it</button>'
    return f'<div class="refonly-message" data-kind="done" role="status"><p>{said}</p>{button}</div>'


def sample_cards(samples: Sequence[Sample], built_in: bool = True) -> str:
    """The samples as cards. The pictures lie in the page as data, whole: what is shown is what a click hands over. `built_in`: its model can be used."""
    if not samples:
        return ""
    hint = "A click opens the tab and fills its Reference Only panel; then press Generate."
    hint += f" The built-in model paints them at {_SIDE} × {_SIDE}." if built_in else ""
    own = f'data-refonly-checkpoint="{EXAMPLE}" data-refonly-side="{_SIDE}"'
    return f'{markup.heading("Samples", hint)}<div class="refonly-samples" {own}>{"".join(map(_sample_card, samples))}</div>'


def _sample_card(sample: Sample) -> str:
    name = escape(sample.name.lstrip("0123456789 ") or sample.name)
    pictures = "".join(
        f'<img data-refonly-role="{role}" src="{_data_uri(path)}" alt="{name}: {alt}">'
        for role, path, alt in (("reference", sample.reference, "reference"), ("drawing", sample.lines, "line drawing"))
    )
    buttons = "".join(f'<button type="button" class="refonly-button" data-refonly-try="{tab}">Try in {tab}</button>' for tab in _TABS)
    return f'<article class="refonly-sample"><h3>{name}</h3><div>{pictures}</div>{buttons}</article>'


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


_STYLE = """<style>
.gradio-container.gradio-container {
  .refonly-start { gap: 28px; }
  .refonly-samples { display: grid; grid-template-columns: repeat(auto-fill, minmax(168px, 1fr)); gap: 10px; margin-top: 12px; }
  .refonly-sample { display: grid; gap: 6px; padding: 10px; border-radius: 12px; }
  .refonly-sample { border: 1px solid var(--border-color-primary); background: var(--block-background-fill); }
  .refonly-sample h3 { margin: 0; font-size: 14px; font-weight: 600; color: var(--body-text-color); }
  .refonly-sample div { display: grid; grid-template-columns: 1fr 1fr; gap: 6px; }
  .refonly-sample .refonly-button { padding: 2px 8px; }
  .refonly-sample img { width: 100%; aspect-ratio: 1; object-fit: contain; margin: 0; background: #fff; border-radius: 8px; }
  #refonly-start-message .refonly-message { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 16px; }
  #refonly-start-install { align-self: flex-start; flex-grow: 0; width: auto; }
  #refonly-start-message:not(:has(.refonly-message)) { display: none !important; }
}
</style>"""
