"""The extension's section of the host's settings page."""

from __future__ import annotations

import gradio as gr

from lib_refonly.refonly.panel import UNITS


def add_options() -> None:
    from modules import shared

    section = ("refonly", "Reference Only")
    shared.opts.add_option(
        "refonly_units",
        shared.OptionInfo(UNITS, "References in the panel", gr.Slider, {"minimum": 1, "maximum": UNITS, "step": 1}, section=section).needs_reload_ui(),
    )
    shared.opts.add_option(
        "refonly_kept_pictures",
        shared.OptionInfo(200, "Pictures kept for pasting parameters, in MB (0 keeps none)", gr.Number, {"precision": 0}, section=section).needs_restart(),
    )
