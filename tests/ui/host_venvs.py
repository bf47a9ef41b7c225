"""The environments of the WebUIs' gradio versions for `test_host_panel.py`: made once, in `.venv-gradio`, and kept until the pins change."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib_refonly.errors import Offline, PainterError
from lib_refonly.studio.bootstrap import environment
from lib_refonly.studio.bootstrap.handover import venv_python
from lib_refonly.studio.bootstrap.lock import only_one
from lib_refonly.studio.bootstrap.pip_output import explain_failure

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".venv-gradio"
NEWEST = (3, 11)
"""The WebUIs' Pillow has no wheels for a later Python; they run on 3.10 themselves."""


class NotHere(Exception):
    """This machine cannot have the environment now; the text says why."""


def python_with_gradio(version: str) -> Path:
    """The Python of the environment with the pins of `gradio-VERSION.txt`; it is made if it is not there as the pins say.

    Raises:
        NotHere: no network, or a Python that the pins are not for. PainterError: pip failed otherwise.
    """
    pins = Path(__file__).with_name(f"gradio-{version}.txt")
    wanted = hashlib.sha256(pins.read_bytes() + bytes(sys.version_info[:2])).hexdigest()[:12]
    place = HOME / f"{version}-{wanted}"
    if (place / "whole").exists() and environment.is_usable(place):
        return venv_python(place)
    if sys.version_info[:2] > NEWEST:
        raise NotHere(f"gradio {version} is tested with Python 3.10 and 3.11, as the WebUIs have; this is {sys.version_info[0]}.{sys.version_info[1]}")
    HOME.mkdir(exist_ok=True)
    with only_one(HOME / ".lock", lambda: None):
        if not (place / "whole").exists():
            for old in HOME.glob(f"{version}-*"):
                shutil.rmtree(old)
            _make(place, pins)
    return venv_python(place)


@contextmanager
def page_of(python: Path, code: str, log: Path, *words: str, patience: float = 240) -> Iterator[tuple[str, Any]]:
    """A page that `code` serves under `python`: its address, and the lines that it prints. argv: the port, this project's folder, `words`. The code prints
    "ready" when the page is up. It is killed at the end: asked to close, gradio 3 may wait for the browser for ever."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(python), "-c", code, str(port), str(ROOT), *words]
    with log.open("w") as errors, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True) as server:
        assert server.stdout is not None
        watch = threading.Timer(patience, server.kill)
        watch.start()
        try:
            ready = any(line.startswith("ready") for line in server.stdout)
            watch.cancel()
            assert ready, f"the page did not start:\n{log.read_text()}"
            yield f"http://127.0.0.1:{port}/", server.stdout
        finally:
            server.kill()


def _make(place: Path, pins: Path) -> None:
    """`whole` is written last; what was left off half-way is made anew. (An environment cannot be moved when it is done: its scripts name their place.)"""
    environment.ensure(place)
    install = ["-m", "pip", "install", "--no-input", "--no-deps", "--only-binary", ":all:", "--progress-bar", "off", "--no-compile", "-r", str(pins)]
    with tempfile.TemporaryDirectory() as cwd:
        ran = subprocess.run([venv_python(place), *install], capture_output=True, text=True, errors="replace", cwd=cwd, env={**os.environ}, check=False)
    if ran.returncode == 0:
        (place / "whole").touch()
        return
    (HOME / "pip.log").write_text(ran.stdout + ran.stderr, encoding="utf-8")
    error = explain_failure((ran.stdout + ran.stderr).splitlines(), str(HOME / "pip.log"))
    if isinstance(error, Offline):
        raise NotHere(f"the environment for {pins.stem} could not be made: {error}")
    raise PainterError(f"The environment for {pins.stem} could not be made: {error}")
