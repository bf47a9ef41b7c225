"""Processes that outlive us: started apart, told by number and birth, ended with everything that they started."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

JOB_FOLDER = "REFONLY_JOB"
"""Environment variable of a job's processes: the job's folder. A trainer finds its asks and events by it; we find what has lost its parent."""
_SAME = 0.05
"""Seconds. Births are counted in hundredths on Linux, and in less elsewhere."""

if sys.platform == "win32":
    _APART = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
else:
    _APART = 0


@dataclass(frozen=True)
class Identity:
    """A process, and no later one of the same number.

    born: seconds since the system's start where that is known (Linux: setting the clock doesn't move it), else since 1970.
    boot: which start of the system, where that is known.
    """

    pid: int
    born: float
    boot: str = ""

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """None: there is no such process, or it has ended and only waits to be noticed."""
        found = _birth(pid)
        return None if found is None else cls(pid, *found)

    def alive(self) -> bool:
        """Whether it still runs."""
        now = Identity.of(self.pid)
        return now is not None and now.boot == self.boot and abs(now.born - self.born) < _SAME


def alive(identity: Identity | None) -> bool:
    """Whether there is one, and it still runs."""
    return identity is not None and identity.alive()


def _birth(pid: int) -> tuple[float, str] | None:
    if sys.platform == "linux":
        return _birth_on_linux(pid)
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else (process.create_time(), "")
    except (psutil.Error, ValueError):
        return None


def _birth_on_linux(pid: int) -> tuple[float, str] | None:
    """psutil adds the time of the boot, which moves when the clock is set: a running job would be taken for lost."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return None if fields[0] in b"ZXx" else (int(fields[19]) / os.sysconf("SC_CLK_TCK"), boot)
    except (OSError, IndexError, ValueError):
        return None


def start(argv: Sequence[str], cwd: Path, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own: neither Ctrl-C nor the end of the starter reaches it. What it prints is added to `log`.

    Raises:
        OSError: no such program or folder.
    """
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        return subprocess.Popen(
            list(argv),
            cwd=cwd,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=subprocess.STDOUT,
            start_new_session=sys.platform != "win32",
            creationflags=_APART,
        )
    finally:
        os.close(handle)


def family(identity: Identity | None, folder: Path) -> list[psutil.Process]:
    """A job's process, what it started, and what of that has lost its parent since: told by the environment variable."""
    found: dict[int, psutil.Process] = {}
    with contextlib.suppress(psutil.Error):
        if identity is not None and identity.alive():
            first = psutil.Process(identity.pid)
            found |= {one.pid: one for one in (first, *first.children(recursive=True))}
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if one.environ().get(JOB_FOLDER) == str(folder):
                found[one.pid] = one
    found.pop(os.getpid(), None)
    return list(found.values())


def end(identity: Identity | None, folder: Path, at_once: bool) -> None:
    """Ask the whole family to end (SIGTERM), or end it at once. Does not wait: whoever is their parent has to hear of it."""
    for one in family(identity, folder):
        with contextlib.suppress(psutil.Error):
            if at_once:
                one.kill()
            else:
                one.terminate()


def clear_away(folder: Path, patience: float = 10.0) -> bool:
    """End at once what is left of a job whose own process is gone. Whether nothing is left after `patience` seconds."""
    left = family(None, folder)
    for one in left:
        with contextlib.suppress(psutil.Error):
            one.kill()
    return not psutil.wait_procs(left, timeout=patience)[1] if left else True
