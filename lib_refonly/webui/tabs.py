"""The extension's own tab. The page itself is `ui.start_panel`; here is what it asks of the WebUI."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from lib_refonly.errors import BadModel
from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.models.offers import ADAPTERS, fetch, find_offer
from lib_refonly.models.registry import EMBEDDED
from lib_refonly.onepic.shelf import FOLDER as LORAS
from lib_refonly.studio.desk import Desk
from lib_refonly.stylecode import shelf
from lib_refonly.ui import shim
from lib_refonly.ui.models_panel import Beside, Card, ModelsEvents, cut_out
from lib_refonly.ui.onepic_events import OnePicEvents
from lib_refonly.ui.onepic_panel import Choices, build_onepic_panel
from lib_refonly.ui.samples import find_samples
from lib_refonly.ui.start_panel import EXAMPLE, Example, build_start_panel
from lib_refonly.ui.style_events import StyleEvents
from lib_refonly.ui.style_panel import build_style_panel
from lib_refonly.webui.canvas_painter import HostCanvasPainter, here, listed, parcel
from lib_refonly.webui.context import context
from lib_refonly.webui.forge_example import choose_first, taught
from lib_refonly.webui.models import FULL, Choice, Shelf, about
from lib_refonly.webui.style_painter import HostPainter

_SHARED = ("listen", "share", "ngrok", "server_name", "hide_ui_dir_config")
_UNKNOWN = (
    "Not for this WebUI: it loads no UNet as narrow as the small example checkpoint's, so the built-in model has nothing to paint on here. "
    "Download the authors' model below, and load any Stable Diffusion 1.x or 2.x checkpoint."
)


def build_tab() -> list[tuple[Any, str, str]]:
    """For the host's on_ui_tabs."""
    shelf = context().shelf
    beside = with_adapters(shelf)
    example = Example(install_example, _UNKNOWN if "modules_forge" in sys.modules and not taught() else "")
    with gr.Blocks(analytics_enabled=False) as page:
        shim.listener()
        panel = build_start_panel(shelf.store, beside, find_samples(EMBEDDED / "samples"), example, may_point())
        ModelsEvents(panel.models, shelf.store, beside, _download).wire(page.load)
    for part in page.blocks.values():
        part.do_not_save_to_config = True  # type: ignore[attr-defined] the host's: no line for them in ui-config.json
    return [(page, "RefOnly", "refonly")]


def build_styles_tab() -> list[tuple[Any, str, str]]:
    """For the host's on_ui_tabs: the styles page, on which the loaded checkpoint paints."""
    with gr.Blocks(analytics_enabled=False) as page:
        panel = build_style_panel()
        StyleEvents(panel, HostPainter(), lambda: context().library, Desk(), known=shelf.known).wire(page.load)
    for part in page.blocks.values():
        part.do_not_save_to_config = True  # type: ignore[attr-defined]
    return [(page, "Stylecodes", "refonly_styles")]


def build_onepic_tab() -> list[tuple[Any, str, str]]:
    """For the host's on_ui_tabs: the ONE-PIC page, on which the loaded checkpoint paints."""
    with gr.Blocks(analytics_enabled=False) as page:
        panel = build_onepic_panel(hosted=True)
        OnePicEvents(panel, HostCanvasPainter(), Desk(), Choices(list, listed, here), parcel).wire(page.load)
    for part in page.blocks.values():
        part.do_not_save_to_config = True  # type: ignore[attr-defined]
    return [(page, "ONE-PIC", "refonly_onepic")]


def with_adapters(shelf: Shelf) -> Beside:
    """The cut-out, the adapters that lie in the host's folders and in ours, and those that can be had."""
    cut = cut_out(shelf.store)

    def cards() -> list[Card]:
        return [*cut.cards(), *(_card(shelf, choice) for choice in shelf.choices() if choice.kind != FULL)]

    return Beside(cards, lambda: [*cut.offers(), *(offer for offer in ADAPTERS if not offer.installed)])


def _card(shelf: Shelf, choice: Choice) -> Card:
    try:
        return Card(choice.title, "Installed", (about(shelf, choice),))
    except BadModel as error:
        return Card(choice.title, "Damaged", (str(error),))


def may_point() -> bool:
    """Whether only who sits at this machine sees the page."""
    from modules import shared

    return not any(getattr(shared.cmd_opts, name, None) for name in _SHARED)


def install_example() -> str:
    """Convert the example into the host's folder of checkpoints, and have it listed, and its LoRAs too. Returns its name in the list.

    Raises:
        CannotWrite: disk full, no permission.
    """
    from modules import sd_models, shared

    from lib_refonly.refonly.convert import to_ldm

    folder = Path(getattr(shared.cmd_opts, "ckpt_dir", None) or sd_models.model_path)
    out = to_ldm(EMBEDDED / "tiny-base", folder / f"{EXAMPLE}.safetensors")
    chosen = shared.opts.data.get("sd_model_checkpoint")
    sd_models.list_models()
    shared.opts.data["sd_model_checkpoint"] = chosen  # under --ckpt, listing goes back to that one
    choose_first()
    _install_loras()
    listed = (info.title for info in sd_models.checkpoints_list.values() if Path(info.filename).resolve() == out.resolve())
    return next(listed, out.name)


def _install_loras() -> None:
    """The example's ONE-PIC LoRAs, into the host's folder of LoRAs."""
    from modules import shared

    networks, folder = sys.modules.get("networks"), getattr(shared.cmd_opts, "lora_dir", None)
    if networks is None or not folder:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    for path in sorted((EMBEDDED / LORAS).glob("*.safetensors")):
        write_atomically(Path(folder) / path.name, path.read_bytes())
    networks.list_available_networks()


def _download(name: str, report: Callable[[int, int], None], mirror: str | None) -> None:
    """Fetch what the list offers. The page calls this only after the painter has consented."""
    fetch(find_offer(name), lambda progress: report(progress.done, progress.total), consent=True, mirror=mirror)
