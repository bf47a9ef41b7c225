"""The Train page as a tab of the WebUI. The page itself is in `ui/training_*`; what it asks of the WebUI is in `training`."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import gradio as gr

from lib_refonly.ui import markup

_NEEDED = ("psutil", *(["tomli"] if sys.version_info < (3, 11) else []))
_MISSING = "Training needs {what}, which this WebUI's Python lacks. Restart the WebUI with a connection to the internet, or type in a terminal: {command}"


def missing() -> list[str]:
    """Packages that trainings need here, and that are not there."""
    return [name for name in _NEEDED if importlib.util.find_spec(name) is None]


def build_train_tab() -> list[tuple[Any, str, str]]:
    """For the host's on_ui_tabs."""
    with gr.Blocks(analytics_enabled=False) as page:
        lacking = missing()
        if lacking:
            command = f"{sys.executable} -m pip install {' '.join(lacking)}"
            gr.HTML(markup.heading("Train") + markup.message(_MISSING.format(what=" and ".join(lacking), command=command), "warning"))
        else:
            _build(page)
    for part in page.blocks.values():
        part.do_not_save_to_config = True  # type: ignore[attr-defined] the host's: no line for them in ui-config.json
    return [(page, "RefOnly Train", "refonly_train")]


def _build(page: Any) -> None:
    """Imported here: it needs what may be missing."""
    from lib_refonly.ui.training_events import TrainingEvents
    from lib_refonly.ui.training_panel import build_training_panel
    from lib_refonly.webui.captions import interrogators
    from lib_refonly.webui.tabs import may_point
    from lib_refonly.webui.training import WebuiHouse, WebuiTraining

    host = WebuiTraining()
    panel = build_training_panel(may_point(), host)
    if panel is not None:
        TrainingEvents(panel, WebuiHouse(make_room=host.make_room), interrogators, host).wire(page.load)


def before_painting(p: Any) -> None:
    """See `training.before_painting`."""
    if not missing():
        from lib_refonly.webui import training

        training.before_painting(p)
