"""The browser for the browser tests: found, or installed where that is one plain step (Debian, as root)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find() -> str | None:
    """Path of the first Chromium or Chrome on PATH."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


def ensure(say: Callable[[str], None]) -> str | None:
    """Find a browser or install Debian's. None, after saying why and what follows, when there is none."""
    found = find()
    if found is None and _is_debian_root():
        say("Installing Debian's chromium for the browser tests ...")
        _apt_install("chromium")
        found = find()
    if found is None:
        say("No Chromium found: the browser tests will be skipped. Install it to run them too.")
    return found


def _is_debian_root() -> bool:
    return Path("/etc/debian_version").exists() and shutil.which("apt-get") is not None and hasattr(os, "geteuid") and os.geteuid() == 0


def _apt_install(package: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-y", "-q", "--no-install-recommends", package]):
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
