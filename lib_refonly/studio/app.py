"""The studio's page and its server."""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gradio as gr

    from lib_refonly.models.registry import ModelStore
    from lib_refonly.studio.jobs import Colourer
    from lib_refonly.studio.onepic_jobs import CanvasPainter
    from lib_refonly.studio.style_jobs import StylePainter
    from lib_refonly.stylecode.library import Library
    from lib_refonly.ui.models_panel import Download
    from lib_refonly.ui.samples import Sample

LOCAL = "127.0.0.1"
PORT = 7865
_PORTS_TRIED = 20
_ROOT = Path(__file__).resolve().parents[2]
_ASSETS = _ROOT / "lib_refonly" / "assets"
_HOUR = 3600
_LISTEN = """
  The studio answers on EVERY network address of this machine (--listen).
  Anyone who reaches it can colour pictures with it and start a model download{auth}.
  Use it in networks that you trust. Folders on this machine can't be named from the page in this mode.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Open the studio and serve it until Ctrl-C. Returns the exit code: 0, or 2 for arguments that can't be used."""
    args = _parser().parse_args(argv)
    if args.auth is not None and not all(args.auth.partition(":")[::2]):
        print("--auth wants a name and a password with a colon in between: --auth anna:secret", file=sys.stderr)
        return 2
    port = _free_port(args.port, args.host)
    if port is None:
        wanted = f"Port {args.port} is" if args.port else f"Ports {PORT} to {PORT + _PORTS_TRIED - 1} are"
        print(f"{wanted} in use. Is the studio open already? Choose another with --port.", file=sys.stderr)
        return 2
    home = _quiet_environment()
    try:
        _serve(args, port)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="studio.py", description="Colour line drawings from a reference picture, in the browser, on this machine.")
    parser.add_argument("--port", type=int, default=0, help=f"port of the page (default: the first free one from {PORT})")
    parser.add_argument("--no-browser", action="store_true", help="don't open the browser")
    listen = "let other machines in the network use the studio (default: this machine only)"
    parser.add_argument("--listen", dest="host", action="store_const", const="0.0.0.0", default=LOCAL, help=listen)
    parser.add_argument("--auth", metavar="NAME:PASSWORD", help="ask for this name and password before showing the page")
    parser.add_argument("--models-dir", type=Path, metavar="FOLDER", help="folder with further models")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    return parser


def _free_port(wanted: int, host: str) -> int | None:
    import socket

    for port in [wanted] if wanted else range(PORT, PORT + _PORTS_TRIED):
        with socket.socket() as probe:
            if os.name != "nt":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except (OSError, OverflowError):
                continue
            return port
    return None


def _quiet_environment() -> Path:
    """Before gradio is imported: no statistics, no update check, and a folder of our own for uploads. Returns that folder."""
    home = Path(tempfile.mkdtemp(prefix="refonly-studio-"))
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = str(home)
    return home


def _serve(args: argparse.Namespace, port: int) -> None:
    from lib_refonly.models.registry import EMBEDDED, ModelStore, user_folder
    from lib_refonly.studio.engine import Engine
    from lib_refonly.studio.style_engine import StyleEngine

    print("Opening the studio ...", flush=True)
    store = ModelStore([EMBEDDED, user_folder(), *([args.models_dir.expanduser().resolve()] if args.models_dir else [])])
    page = build(Engine(store, args.device), store, local=args.host == LOCAL, styles=StyleEngine(args.device), onepic=_onepic_engine(args.device))
    page.launch(**launch_options(args.host, port, args.auth))
    address = f"http://{LOCAL}:{port}/"
    if args.host != LOCAL:
        print(_LISTEN.format(auth=" once they know the password" if args.auth else "; ask for a password with --auth NAME:PASSWORD"))
    print(f"The studio is open at {address}   (Ctrl-C ends it)", flush=True)
    if not args.no_browser:
        webbrowser.open(address)
    if args.device == "auto" and shutil.which("nvidia-smi"):  # else torch is not loaded before it is needed
        from lib_refonly.studio.devices import hint

        if said := hint():
            print(said, flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("\nThe studio is closed.")
    finally:
        page.close(verbose=False)


def launch_options(host: str, port: int, auth: str | None = None) -> dict[str, Any]:
    """Keyword arguments for `Blocks.launch`: looks, and everything that is shut. `auth` is NAME:PASSWORD."""
    from starlette.middleware import Middleware

    from lib_refonly.studio.guard import OnlyHosts, StayHere
    from lib_refonly.studio.theme import theme

    middleware = [Middleware(StayHere)]
    if host == LOCAL:
        middleware.append(Middleware(OnlyHosts, hosts=(LOCAL, "localhost", "[::1]")))
    return {
        "server_name": host,
        "server_port": port,
        "auth": tuple(auth.split(":", 1)) if auth else None,
        "app_kwargs": {"middleware": middleware, "docs_url": None, "redoc_url": None, "openapi_url": None},
        "theme": theme(),
        "head": _head(),
        "favicon_path": Path(__file__).with_name("favicon.svg"),
        "footer_links": [],
        "run_history": False,
        "share": False,
        "ssr_mode": False,
        "mcp_server": False,
        "enable_monitoring": False,
        "pwa": False,
        "allowed_paths": [],
        "blocked_paths": [str(_ROOT)],
        "max_file_size": "64mb",
        "prevent_thread_lock": True,
        "quiet": True,
    }


def _head() -> str:
    """Style sheets and scripts, inline. (gradio's own `css` rewrites selectors, but not those inside media queries.)"""
    sheets = [path.read_text("utf-8") for path in (_ROOT / "style.css", Path(__file__).with_name("studio.css"))]
    names = ("refonly_stream.js", "refonly.js", "refonly_onepic_model.js", "refonly_onepic.js", "refonly_train.js")
    scripts = [(_ROOT / "javascript" / name).read_text("utf-8") for name in names]
    return "".join(f"<style>{sheet}</style>" for sheet in sheets) + "".join(f"<script>{script}</script>" for script in scripts)


def build(
    engine: Colourer,
    store: ModelStore,
    *,
    local: bool = True,
    download: Download | None = None,
    styles: StylePainter | None = None,
    library: Callable[[], Library] | None = None,
    onepic: CanvasPainter | None = None,
    jobs: Path | None = None,
) -> gr.Blocks:
    """The whole page. `local`: the painter sits at this machine, so the page may name folders on it.

    Args:
        download: fetches a model of the list; the real one by default.
        styles: paints styles; by default an engine that reads its models when they are first needed.
        library: the painter's styles; by default those of this machine.
        onepic: paints canvases; by default an engine that reads its models when they are first needed.
        jobs: the folder of all trainings; by default the one of `studio.py jobs`.
    """
    import gradio as gr

    from lib_refonly.studio.commands.jobs import HOUSE
    from lib_refonly.studio.desk import Desk
    from lib_refonly.studio.training_host import StudioTraining
    from lib_refonly.training.jobs.house import JobHouse
    from lib_refonly.ui import shim
    from lib_refonly.ui.about_panel import build_about_panel
    from lib_refonly.ui.batch_panel import BatchEvents, build_batch_panel
    from lib_refonly.ui.colour_events import ColourEvents
    from lib_refonly.ui.colour_panel import build_colour_panel
    from lib_refonly.ui.models_panel import ModelsEvents, build_models_panel, choices, cut_out
    from lib_refonly.ui.onepic_events import OnePicEvents
    from lib_refonly.ui.onepic_panel import build_onepic_panel, installed
    from lib_refonly.ui.samples import find_samples
    from lib_refonly.ui.style_events import StyleEvents
    from lib_refonly.ui.style_panel import build_style_panel
    from lib_refonly.ui.training_events import TrainingEvents
    from lib_refonly.ui.training_panel import build_training_panel

    desk, found = Desk(), find_samples(_shown(_ASSETS / "samples"))
    with gr.Blocks(title="RefOnly Studio", analytics_enabled=False, fill_width=True, delete_cache=(_HOUR, 72 * _HOUR)) as page:
        gr.HTML(_HEADER, elem_id="studio-header")
        shim.listener()
        with gr.Tabs(elem_id="studio-tabs"):
            with gr.Tab("Colour", id="colour"):
                colour = build_colour_panel(found, _cards(found), choices(store))
            with gr.Tab("Styles", id="styles"):
                style = build_style_panel(built_in=True)
            with gr.Tab("ONE-PIC", id="onepic") as onepic_tab:
                canvas = build_onepic_panel()
            with gr.Tab("Train", id="train") as train_tab:
                training = build_training_panel(local)
            with gr.Tab("Batch", id="batch"):
                batch = build_batch_panel(local)
            with gr.Tab("Models", id="models"):
                models = build_models_panel(store, cut_out(store), colour.model, local)
            with gr.Tab("About", id="about"):
                build_about_panel(_licences())
        ColourEvents(colour, engine, desk, found, lambda: [name for _, name in choices(store)]).wire()
        StyleEvents(style, styles or _style_engine(), library or _library, desk).wire(page.load)
        OnePicEvents(canvas, onepic or _onepic_engine(), desk, installed()).wire(onepic_tab.select)
        if training is not None:
            TrainingEvents(training, JobHouse(jobs or HOUSE), host=StudioTraining()).wire(train_tab.select)
        BatchEvents(batch, colour, engine, desk, local).wire()
        ModelsEvents(models, store, cut_out(store), download or _download).wire(page.load)
    return page


def _style_engine() -> StylePainter:
    from lib_refonly.studio.style_engine import StyleEngine

    return StyleEngine()


def _onepic_engine(device: str = "auto") -> CanvasPainter:
    """Made when it is first needed: even the list of its models imports torch."""
    from lib_refonly.studio.onepic_jobs import Later

    def make() -> CanvasPainter:
        from lib_refonly.studio.onepic_engine import OnePicEngine

        return OnePicEngine(device)

    return Later(make)


@functools.lru_cache(maxsize=1)
def _library() -> Library:
    """Opened when it is first needed. A file that can't be used raises each time, and is not kept."""
    from lib_refonly.stylecode.library import Library, library_file

    return Library(library_file())


def _download(name: str, report: Callable[[int, int], None], mirror: str | None) -> None:
    """Fetch what the list offers. The page calls this only after the painter has consented."""
    from lib_refonly.models.offers import fetch, find_offer

    fetch(find_offer(name), lambda progress: report(progress.done, progress.total), consent=True, mirror=mirror)


def _shown(folder: Path) -> Path:
    """A copy beside the uploads: the page shows files from there, and none of the project's folder."""
    return Path(shutil.copytree(folder, tempfile.mkdtemp(prefix="samples-", dir=os.environ.get("GRADIO_TEMP_DIR")), dirs_exist_ok=True))


def _cards(samples: Sequence[Sample]) -> list[Path]:
    from lib_refonly.ui.samples import card

    cards = [sample.lines.with_name("card.png") for sample in samples]
    for sample, path in zip(samples, cards, strict=True):
        card(sample).save(path)
    return cards


def _licences() -> list[tuple[str, str]]:
    from lib_refonly.ui.about_panel import notices

    files = notices([_ROOT / "LICENSE", _ROOT / "NOTICE", _ASSETS])
    return [(str(path.relative_to(_ROOT)), path.read_text("utf-8", "replace")) for path in files]


_HEADER = """<header class="studio-bar">
<svg viewBox="0 0 34 34" aria-hidden="true" focusable="false"><circle cx="17" cy="17" r="14" class="studio-logo-line"/>
<path d="M17 3a14 14 0 0 1 0 28c6-5 6-9 1-14s-6-9-1-14z" class="studio-logo-fill"/></svg>
<div><h1>RefOnly Studio</h1><p>Colour a line drawing like a reference picture. Everything stays on this machine.</p></div>
<span class="studio-space"></span>
<button id="studio-theme" type="button" aria-pressed="false" aria-label="Dark theme">Dark</button>
</header>"""
