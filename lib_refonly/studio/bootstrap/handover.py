"""Which Python runs the studio, and handing over to another one.

Written for Python 3.6 and later (no newer syntax, no newer library): it is what an unfit Python gets to read. A test holds it to that.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 10)
NEWEST = (3, 13)
HANDED_OVER = "REFONLY_HANDED_OVER"
ROOT = Path(__file__).resolve().parents[3]


def is_fit(version: tuple) -> bool:
    """Whether a Python of this version (major, minor, ...) can run the studio."""
    return OLDEST <= tuple(version[:2]) <= NEWEST


def venv_python(venv: Path) -> Path:
    """The interpreter inside a virtual environment, whether or not it is there."""
    return venv / "Scripts" / "python.exe" if os.name == "nt" else venv / "bin" / "python"


def hand_over(argv: "list[str]") -> int:
    """Run the same command with a fit Python found on this machine, or say which one to install. Returns the exit code."""
    found = None if os.environ.get(HANDED_OVER) else find_fit_python()
    if found is None:
        sys.stderr.write(unfit_message(sys.version_info))
        return 1
    os.environ[HANDED_OVER] = "1"
    return become(found + argv)


def find_fit_python() -> "list[str] | None":
    """The command of a fit Python: the studio's own environment first, then the newest on PATH that can make one."""
    own = venv_python(ROOT / ".venv")
    candidates = [[str(own)]] if own.exists() else []
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        path = shutil.which(f"python3.{minor}")
        if path:
            candidates.append([path])
        if os.name == "nt" and shutil.which("py"):
            candidates.append(["py", f"-3.{minor}"])
    return next((command for command in candidates if _answers(command)), None)


def _answers(command: "list[str]") -> bool:
    """Whether the command is a fit Python that runs and has what a virtual environment needs."""
    probe = f"import sys, venv, ensurepip; sys.exit(not {OLDEST} <= sys.version_info[:2] <= {NEWEST})"
    try:
        return subprocess.call(command + ["-c", probe], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def unfit_message(version: tuple) -> str:
    """What to tell the owner of a Python that cannot run the studio."""
    allowed = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    age = "too old" if tuple(version[:2]) < OLDEST else "too new"
    return (
        f"This is Python {version[0]}.{version[1]}, which is {age}: the studio needs Python {allowed}, "
        "and none was found on this machine.\n"
        f"Install Python 3.{NEWEST[1]} beside it (nothing has to be removed), then run: python3.{NEWEST[1]} studio.py\n"
    )


def become(command: "list[str]") -> int:
    """Go on as `command`. POSIX replaces this process and does not return; Windows waits for the other and returns its exit code."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name != "nt":
        os.execvp(command[0], command)
    process = subprocess.Popen(command)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # Ctrl-C reaches the other process by itself; this one only waits for its answer
            continue
