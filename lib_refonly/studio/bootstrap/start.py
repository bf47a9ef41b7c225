"""From `studio.py`'s arguments to the right program in the right environment."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lib_refonly.errors import CannotWrite, PainterError
from lib_refonly.studio.bootstrap import chromium, disk, drawing_parts, environment
from lib_refonly.studio.bootstrap.handover import ROOT, become, venv_python
from lib_refonly.studio.bootstrap.install import install
from lib_refonly.studio.bootstrap.lock import only_one
from lib_refonly.studio.bootstrap.requirements import Group, Stamp, fingerprint, read_groups

TEST_HELP = """usage: studio.py test [--setup-only] [--dev] [PYTEST ARGUMENT ...]

Sets up what the tests need, then runs them; everything else is handed to pytest.

  --setup-only   set up, run nothing
  --dev          also the tools of .ci/run (ruff, pyright)

examples:
  studio.py test                          all tests, on several cores; skipped ones are listed with their reasons
  studio.py test tests/unit -q -x         some of them
"""
_ON_CORES = ("-n", "logical", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder")
"""A file's tests stay together: many share what is slow to begin, a browser or a model. As collected: the files at the end are quick ones."""
_WHAT = {
    "studio": "the studio",
    "test": "the tests",
    "ldm": "the tests' ldm UNet",
    "dataset": "what data sets need",
    "ray": "Ray",
    "dev": "the developer's tools",
}


@dataclass(frozen=True)
class Setup:
    """Where things lie. Tests put a small project somewhere else."""

    root: Path = ROOT

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    @property
    def constraints(self) -> Path:
        return self.root / "constraints.txt"

    def groups(self, names: Sequence[str]) -> list[tuple[Group, str]]:
        """The named groups of pyproject.toml, each with its fingerprint for the Python that the environment has or will have."""
        known, python = read_groups(self.root / "pyproject.toml"), self._python_version()
        return [(known[name], fingerprint(known[name], self.constraints, python)) for name in names]

    def _python_version(self) -> tuple[int, int]:
        try:
            lines = (self.venv / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
        except OSError:
            return sys.version_info[:2]
        settings = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
        parts = settings.get("version", "").split(".")
        return (int(parts[0]), int(parts[1])) if len(parts) > 1 else sys.version_info[:2]


def start(argv: Sequence[str], setup: Setup | None = None) -> int:
    """Set up what is missing, then run the command in the studio's environment. Returns the exit code; on POSIX it may not return."""
    setup = setup or Setup()
    try:
        if argv[:1] == ["test"]:
            return _test(argv[1:], setup)
        if not _wants_only_words(argv):
            ensure(("studio", *_optional(argv)), setup, _say)
            if not environment.is_running_in(setup.venv):
                return become([str(venv_python(setup.venv)), str(setup.root / "studio.py"), *argv])
    except PainterError as error:
        _say(f"\n{error}")
        return error.exit_code
    except KeyboardInterrupt:
        _say("\nStopped. Start again to go on from here.")
        return 130
    from lib_refonly.studio.cli import main

    return main(argv)


def _optional(argv: Sequence[str]) -> list[str]:
    """The groups that only this command needs."""
    if argv[:1] != ["dataset"]:
        return []
    return ["dataset", *(["ray"] if any(word.partition("=")[0] == "--ray" for word in argv) else [])]


def _wants_only_words(argv: Sequence[str]) -> bool:
    """Help and version need nothing installed."""
    own = argv[: argv.index("--")] if "--" in argv else argv
    return any(word in ("-h", "--help", "--version") for word in own)


def _test(argv: Sequence[str], setup: Setup) -> int:
    if argv[:1] in (["-h"], ["--help"]):
        print(TEST_HELP, end="")
        return 0
    own = {word for word in ("--setup-only", "--dev") if word in argv}
    ensure(("studio", "test", "ldm", *(["dev"] if "--dev" in own else [])), setup, _say)
    chromium.ensure(_say)
    drawing_parts.ensure(setup.root, _say)
    if "--setup-only" in own:
        return 0
    os.chdir(setup.root)
    wanted = [word for word in argv if word not in own]
    return become([str(venv_python(setup.venv)), "-m", "pytest", "-rs", *(wanted or _ON_CORES)])


def ensure(names: Sequence[str], setup: Setup, say: Callable[[str], None]) -> None:
    """Leave the named groups installed. With everything stamped this reads three small files and starts nothing.

    Raises:
        PainterError: what is wrong (disk, network, Python, folder) and what to do.
    """
    stamp = Stamp(setup.venv / "refonly.json")
    if venv_python(setup.venv).exists() and not stamp.missing(setup.groups(names)):
        return
    begun = time.monotonic()
    try:
        with only_one(setup.root / ".setup.lock", lambda: say("Another start is setting up; waiting for it ...")):
            environment.ensure(setup.venv)
            wanted = setup.groups(names)
            for group in stamp.missing(wanted):
                _install(group, setup, say)
                stamp.add(group, dict(wanted)[group])
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotWrite(f"{setup.root} cannot be written ({reason}). Move this folder to where you may write, then start again.") from error
    say(f"Ready after {time.monotonic() - begun:.0f} s.\n")


def _install(group: Group, setup: Setup, say: Callable[[str], None]) -> None:
    have = disk.used_megabytes(setup.venv) if group.name == "studio" else 0
    need = max(group.megabytes - have, 100)
    disk.require(setup.root, need)
    what = _WHAT[group.name]
    size = f", up to {disk.gigabytes(need)}" if need > 100 else ""
    say(f"Setting up {what} in {setup.venv}{size}. This is done once; it can be stopped (Ctrl-C) and goes on at the next start.")

    def on_cuda() -> None:
        disk.require(setup.root, need + disk.CUDA_MEGABYTES - min(have, disk.CUDA_MEGABYTES))

    install(venv_python(setup.venv), group, setup.constraints, setup.venv / "setup.log", say, on_cuda)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
