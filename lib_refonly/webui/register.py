"""The extension's callbacks, in one place."""

from __future__ import annotations

from typing import Any

from lib_refonly.webui import api, options, xyz
from lib_refonly.webui.script import RefOnlyScript


def register(callbacks: Any) -> None:
    callbacks.on_cfg_denoiser(RefOnlyScript.on_step)
    callbacks.on_before_ui(xyz.add_axes)
    callbacks.on_ui_settings(options.add_options)
    callbacks.on_app_started(api.add_routes)
