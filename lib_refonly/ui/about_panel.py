"""The About page: what this is, whose work it stands on, and under which licences."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import gradio as gr

from lib_refonly.ui import markup

_INTRO = """<div class="refonly-about"><h2 class="refonly-heading">About</h2>
<p>RefOnly Studio colours line drawings from a reference picture. It follows <em>Stable Diffusion Reference Only</em>: one picture says which
colours, one drawing says where, and no words are needed.</p>
<p>Everything happens on this machine. No picture, setting or statistic is sent anywhere; the one exception is a model download that you
start and confirm yourself.</p>
<h3>Keys</h3>
<dl><dt><kbd>Ctrl</kbd> <kbd>Enter</kbd></dt><dd>Colour</dd><dt><kbd>Esc</kbd></dt><dd>Stop</dd>
<dt><kbd>Ctrl</kbd> <kbd>V</kbd></dt><dd>Paste a picture into the zone under the pointer, or into the first free one</dd></dl></div>"""


def notices(roots: Sequence[Path]) -> list[Path]:
    """Licence and attribution texts under `roots`: files named LICENSE*, NOTICE*, ATTRIBUTION* or COPYING*."""
    starts = ("license", "licence", "notice", "attribution", "copying")
    found = (path for root in roots if root.exists() for path in ([root] if root.is_file() else sorted(root.rglob("*"))))
    return [path for path in found if path.is_file() and path.name.lower().startswith(starts)]


def build_about_panel(texts: Sequence[tuple[str, str]]) -> None:
    """Lay the page out. `texts` are (heading, text) of the licences; they are shown as plain text."""
    with gr.Column(elem_classes=["refonly-section", "refonly-narrow"]):
        gr.HTML(_INTRO)
        gr.HTML(markup.heading("Licences and attribution") + "".join(_licence(heading, text) for heading, text in texts))


def _licence(heading: str, text: str) -> str:
    return f'<details class="refonly-licence"><summary>{escape(heading)}</summary><pre>{escape(text)}</pre></details>'
