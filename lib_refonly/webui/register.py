"""The extension's callbacks, in one place."""

from __future__ import annotations

from modules import script_callbacks

from lib_refonly.webui import api, options, style_network, tabs, training_tab, xyz
from lib_refonly.webui.script import RefOnlyScript


def register() -> None:
    script_callbacks.on_cfg_denoiser(RefOnlyScript.on_step)
    script_callbacks.on_before_ui(xyz.add_axes)
    script_callbacks.on_before_ui(style_network.register_network)
    script_callbacks.on_ui_settings(options.add_options)
    script_callbacks.on_ui_tabs(tabs.build_tab)
    script_callbacks.on_ui_tabs(tabs.build_styles_tab)
    script_callbacks.on_ui_tabs(tabs.build_onepic_tab)
    script_callbacks.on_ui_tabs(training_tab.build_train_tab)
    script_callbacks.on_app_started(api.add_routes)
