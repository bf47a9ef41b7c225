"""sd-scripts in an environment of its own: made when the painter asks for it, never by itself. Started again, it goes on where it was stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from lib_refonly.errors import BadSettings, CannotWrite, Offline, PainterError
from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.studio.bootstrap import disk, environment
from lib_refonly.studio.bootstrap.handover import venv_python
from lib_refonly.studio.bootstrap.install import install as run_pip
from lib_refonly.studio.bootstrap.lock import only_one
from lib_refonly.studio.bootstrap.requirements import Group
from lib_refonly.training.kohya import installed, options
from lib_refonly.training.kohya.installed import SD_SCRIPTS, Installed

URL = "https://github.com/kohya-ss/sd-scripts"
TRIED = "v0.10.1"
"""The version that this project was tried with."""
WHEELS = "https://download.pytorch.org/whl/"
OPTIONS = "options.json"
_MEGABYTES = 3000
"""On the disk, without CUDA [from the sizes of the wheels]."""
_TAG = re.compile(r"v?\d+(\.\d+){1,3}")
_TORCH = re.compile(r"\d+\.\d+(\.\d+)?(\+(cpu|cu\d{3}|rocm\d+(\.\d+)*))?")
_REQUIREMENT = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w,-]+\])?\s*((==|>=|<=|~=|!=|<|>)[\w.*+,<>=!~ -]+)?")
_PARTS = ("train_network.py", "library/train_util.py", "requirements.txt")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wish:
    """What the painter asked for. source: a folder, or a tag of git. python: makes the environment ("" is this program's). torch: its version, with +cu128 or
    the like where it is not PyPI's; "" is the one that this program has.

    Raises:
        BadSettings: neither a folder nor a tag, or no version.
    """

    source: str
    python: str = ""
    torch: str = ""

    def __post_init__(self) -> None:
        if not (self.folder or _TAG.fullmatch(self.source)):
            raise BadSettings(f"{self.source!r} is neither a folder nor a version such as {TRIED}. Name one of them after --from.")
        if self.torch and not _TORCH.fullmatch(self.torch):
            raise BadSettings(f"{self.torch!r} is no version of torch. It looks like 2.7.1 or 2.7.1+cu128.")

    @property
    def folder(self) -> Path | None:
        return Path(self.source).resolve() if self.source and Path(self.source).is_dir() else None


def install(wish: Wish, say: Say, home: Path | None = None) -> Installed:
    """Everything, up to the parser's own list of options.

    Raises:
        BadSettings: the folder holds no sd-scripts, or its requirements name something else than packages. Offline, CannotWrite, PainterError: what went wrong.
    """
    home = home or installed.home()
    place = home / SD_SCRIPTS
    try:
        place.mkdir(parents=True, exist_ok=True)
        with only_one(place / ".install.lock", lambda: say("Another installation is at work; waiting for it ...")):
            return _install(wish, place, home, say)
    except OSError as error:
        raise CannotWrite(
            f"{place} can't be written ({error.strerror or error}). Free some space, or let $REFONLY_TRAINERS_DIR name another folder."
        ) from error


def _install(wish: Wish, place: Path, home: Path, say: Say) -> Installed:
    folder = wish.folder or _cloned(wish.source, place, say)
    wanted = requirements(folder)
    venv = place / "venv"
    _make(venv, wish.python, say)
    version = wish.torch or own_torch()
    say(f"torch {version}: {'as asked' if wish.torch else 'the one that this program has, since it fits your graphics card; --torch VERSION names another'}.")
    _fill(venv, version, wanted, place, say)
    python = venv_python(venv)
    say("Asking sd-scripts for its options ...")
    known = options.ask(python, folder)
    write_atomically(place / OPTIONS, known.encode())
    one = Installed(SD_SCRIPTS, str(folder), str(python), options.read(known).version, _commit(folder), version, str(place / OPTIONS))
    installed.remember(one, home)
    return one


def remove(say: Say, home: Path | None = None) -> None:
    """Its environment, and the source that was fetched; a folder that the painter named stays.

    Raises:
        BadSettings: the list of trainers is damaged. CannotWrite: something is in use.
    """
    home = home or installed.home()
    place = home / SD_SCRIPTS
    if place.is_symlink():
        raise BadSettings(f"{place} is a link, and is not followed. Remove it yourself.")
    if installed.listed(home):
        installed.forget(SD_SCRIPTS, home)
    try:
        if place.exists():
            shutil.rmtree(place)
            say(f"Removed {place}.")
    except OSError as error:
        raise CannotWrite(f"{error.filename or place} can't be removed ({error.strerror}). End what trains, then try again.") from error


def requirements(folder: Path) -> tuple[str, ...]:
    """sd-scripts' own pins. Its line `-e .` is left out: the folder is found by PYTHONPATH.

    Raises:
        BadSettings: no sd-scripts, or a line that is no package.
    """
    missing = [part for part in _PARTS if not (folder / part).is_file()]
    if missing:
        raise BadSettings(f"{folder} holds no sd-scripts: {missing[0]} is missing. Name the folder that has it.")
    lines = [line.partition("#")[0].strip() for line in (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()]
    named = [line for line in lines if line and line not in ("-e .", "--editable .")]
    wrong = [line for line in named if not _REQUIREMENT.fullmatch(line)]
    if wrong:
        raise BadSettings(f"requirements.txt of {folder} has a line that is no package of an index: {wrong[0][:80]!r}. Take sd-scripts from its own page.")
    return tuple(named)


def own_torch() -> str:
    """The version of torch that this program runs with. Raises: BadSettings: none."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        raise BadSettings("Which torch? Say --torch VERSION, such as 2.7.1+cu128.") from None


def torch_requirements(version: str) -> tuple[str, ...]:
    """What pip is told: torch, the torchvision that belongs to it, and where other builds than PyPI's come from."""
    build = version.partition("+")[2]
    return (*(("--extra-index-url", WHEELS + build) if build else ()), f"torch=={version}", "torchvision")


def _fill(venv: Path, version: str, wanted: tuple[str, ...], place: Path, say: Say) -> None:
    have = disk.used_megabytes(venv)
    disk.require(place, max(_MEGABYTES - have, 200))
    pins = place / "constraints.txt"
    pins.write_text(f"torch=={version}\n", encoding="utf-8")

    def on_cuda() -> None:
        disk.require(place, max(_MEGABYTES + disk.CUDA_MEGABYTES - have, 200))

    group = Group(SD_SCRIPTS, (*torch_requirements(version), *wanted), _MEGABYTES)
    run_pip(venv_python(venv), group, pins, place / "install.log", say, on_cuda)


def _make(venv: Path, python: str, say: Say) -> None:
    if not environment.is_usable(venv):
        say(f"Making an environment in {venv} ...")
    if python and not environment.is_usable(venv):
        _made_by(python, venv)
    environment.ensure(venv)


def _made_by(python: str, venv: Path) -> None:
    found = shutil.which(python)
    if found is None:
        raise BadSettings(f"{python!r} is no Python that can be started. Name another one after --python.")
    made = subprocess.run([found, "-m", "venv", "--clear", str(venv)], capture_output=True, text=True, errors="replace", check=False)
    if made.returncode != 0 or not environment.is_usable(venv):
        reason = (made.stderr.strip() or made.stdout.strip() or "it is none of Python 3.10 to 3.13").splitlines()[-1]
        raise PainterError(f"{python} can't make the environment: {reason}. Name another Python after --python.")


def _cloned(tag: str, place: Path, say: Say) -> Path:
    """The source of one version; the one that is there stays when it is the same."""
    source, mark = place / "source", place / "source.json"
    if source.is_dir() and mark.is_file() and json.loads(mark.read_text(encoding="utf-8")).get("tag") == tag:
        return source
    if shutil.which("git") is None:
        raise PainterError(f"git is needed to fetch sd-scripts. Install git, or unpack sd-scripts {tag} yourself and name its folder after --from.")
    say(f"Fetching sd-scripts {tag} from {URL} ...")
    beside = place / "source.part"
    shutil.rmtree(beside, ignore_errors=True)
    command = ["git", "clone", "--quiet", "--depth", "1", "--branch", tag, "--", URL, str(beside)]
    made = subprocess.run(command, capture_output=True, text=True, errors="replace", env=os.environ | {"GIT_TERMINAL_PROMPT": "0"}, check=False)
    if made.returncode != 0:
        raise _no_clone(tag, made.stderr)
    mark.unlink(missing_ok=True)
    shutil.rmtree(source, ignore_errors=True)
    os.replace(beside, source)
    mark.write_text(json.dumps({"tag": tag}), encoding="utf-8")
    return source


def _no_clone(tag: str, said: str) -> PainterError:
    last = (said.strip() or "git stopped without saying why").splitlines()[-1]
    if "Remote branch" in said or "not found in upstream" in said:
        return BadSettings(f"sd-scripts has no version {tag}. {TRIED} is the one that was tried here.")
    if re.search(r"No space left|Disk quota", said):
        return CannotWrite("The disk filled up while sd-scripts was fetched. Make room, then start again.")
    if re.search(r"Could not resolve|unable to access|Failed to connect|timed out", said):
        return Offline(f"sd-scripts can't be fetched: {last}. Is the network up? You can also name a folder that holds it after --from.")
    return PainterError(f"sd-scripts can't be fetched: {last}")


def _commit(folder: Path) -> str:
    if not (folder / ".git").exists():
        return "unknown"
    try:
        made = subprocess.run(["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return made.stdout.strip()
