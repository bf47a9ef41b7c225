"""Runs pip for one group of packages and shows how far it is: one line a package."""

from __future__ import annotations

import queue
import re
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from lib_refonly.studio.bootstrap.pip_output import Fetching, Installing, Retrying, explain_failure, read_line
from lib_refonly.studio.bootstrap.requirements import Group

HEARTBEAT_SECONDS = 20
_POLL_SECONDS = 0.2

Say = Callable[[str], None]


def pip_command(python: Path, group: Group, constraints: Path) -> list[str]:
    """The pip call. Where packages come from is left to pip's own settings and environment."""
    command = [str(python), "-m", "pip", "install", "--no-input", "--progress-bar", "off", "--no-warn-script-location"]
    command += ["-c", str(constraints)] if group.with_dependencies else ["--no-deps"]
    return [*command, *group.requirements]


def install(python: Path, group: Group, constraints: Path, log: Path, say: Say, on_cuda: Callable[[], None]) -> None:
    """Install one group into the environment of `python`; what is there already is left alone.

    `on_cuda` is called once, before the first of NVIDIA's libraries is fetched; it may raise, which stops pip.

    Raises:
        Offline, CannotWrite, PainterError: what went wrong, read from pip's own words. The whole output is in `log`.
    """
    process = subprocess.Popen(
        pip_command(python, group, constraints),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    assert process.stdout is not None
    progress = _Progress(_site_packages(python), say, on_cuda)
    try:
        lines = _follow(process.stdout, progress, log)
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code != 0:
        raise explain_failure(lines, str(log))


def _follow(output: IO[str], progress: _Progress, log: Path) -> list[str]:
    """Pass every line on to the log and the progress, and look in between how far the silent part (installing) is."""
    waiting: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in output:
            waiting.put(line)
        waiting.put(None)

    threading.Thread(target=read, daemon=True).start()
    lines: list[str] = []
    with log.open("a", encoding="utf-8") as file:
        while True:
            try:
                line = waiting.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                progress.tick()
                continue
            if line is None:
                progress.tick()
                return lines
            lines.append(line.rstrip())
            file.write(line)
            progress.read(line)


class _Progress:
    """Turns pip's lines and the packages that appear on disk into lines for the painter."""

    def __init__(self, packages: Sequence[Path], say: Say, on_cuda: Callable[[], None]) -> None:
        self._packages, self._say, self._on_cuda = packages, say, on_cuda
        self._begun = self._spoke = time.monotonic()
        self._fetched = 0
        self._doing = "working out what is needed"
        self._installing: tuple[str, ...] = ()
        self._installed = 0
        self._cuda_seen = False

    def read(self, line: str) -> None:
        """One line from pip."""
        if "nvidia" in line and line.startswith("Collecting") and not self._cuda_seen:
            self._cuda_seen = True
            self._on_cuda()
        match read_line(line):
            case Fetching(name, version, size):
                self._fetched += 1
                self._doing = f"fetching {name}"
                self._tell(f"[{self._fetched:3}] fetching {name} {version}{f' ({size})' if size else ''}")
            case Installing(names):
                self._installing, self._doing = names, f"installing {names[0]}"
            case Retrying(left):
                self._tell(f"the network does not answer; trying again ({left} tries left)")
            case None:
                pass

    def tick(self) -> None:
        """Called when pip is silent: report packages that have become whole, or that it still goes on."""
        while self._installed < len(self._installing) and self._is_whole(self._installing[self._installed]):
            name = self._installing[self._installed]
            self._installed += 1
            self._tell(f"[{self._installed:3}/{len(self._installing)}] installed {name}")
            if self._installed < len(self._installing):
                self._doing = f"installing {self._installing[self._installed]}"
        if time.monotonic() - self._spoke > HEARTBEAT_SECONDS:
            self._tell(f"... still {self._doing}")

    def _tell(self, text: str) -> None:
        self._spoke = time.monotonic()
        minutes, seconds = divmod(int(self._spoke - self._begun), 60)
        self._say(f"  {minutes}:{seconds:02}  {text}")

    def _is_whole(self, name: str) -> bool:
        wanted = _normal(name)
        records = (record for folder in self._packages for record in folder.glob("*.dist-info/RECORD"))
        return any(_normal(record.parent.name.split("-")[0]) == wanted for record in records)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _site_packages(python: Path) -> list[Path]:
    root = python.parent.parent
    return [*root.glob("lib/python*/site-packages"), *root.glob("Lib/site-packages")]
