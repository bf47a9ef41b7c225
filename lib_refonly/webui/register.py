"""The extension's callbacks, in one place."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from modules import script_callbacks

from lib_refonly.webui import api, forge_example, options, style_network, xyz
from lib_refonly.webui.script import RefOnlyScript


def register() -> None:
    forge_example.teach()
    script_callbacks.on_cfg_denoiser(RefOnlyScript.on_step)
    script_callbacks.on_before_ui(xyz.add_axes)
    script_callbacks.on_before_ui(style_network.register_network)
    script_callbacks.on_ui_settings(options.add_options)
    for module, build in (("tabs", "build_tab"), ("tabs", "build_styles_tab"), ("tabs", "build_onepic_tab"), ("training_tab", "build_train_tab")):
        script_callbacks.on_ui_tabs(_page(module, build))
    script_callbacks.on_app_started(api.add_routes)


def _page(module: str, build: str) -> Callable[[], Any]:
    """What pages need is imported when they are built: a WebUI without a page (--nowebui) never does."""
    return lambda: getattr(importlib.import_module(f"lib_refonly.webui.{module}"), build)()
