"""Setting up: what pip is asked, what is skipped, what is said when it fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lib_refonly.errors import CannotWrite, Offline, PainterError
from lib_refonly.studio.bootstrap import disk, environment
from lib_refonly.studio.bootstrap.handover import ROOT
from lib_refonly.studio.bootstrap.lock import only_one
from lib_refonly.studio.bootstrap.start import ensure
from tests.unit.bootstrap.project import Project

NVIDIA = "Collecting nvidia-cublas==13.1.1.3 (from torch==2.13.0)"


def test_first_start_installs_and_the_second_does_nothing(project: Project) -> None:
    ensure(("studio",), project.setup, project.said.append)
    ensure(("studio",), project.setup, project.said.append)

    (call,) = project.calls()
    assert call[:3] == ["-m", "pip", "install"]
    assert call[-2:] == ["alpha>=1", "beta"]
    assert call[call.index("-c") + 1] == str(project.root / "constraints.txt")
    assert project.said[-1].startswith("Ready after")


def test_a_stamped_start_runs_no_program_at_all(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure(("studio",), project.setup, project.said.append)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    ensure(("studio",), project.setup, project.said.append)


@pytest.mark.parametrize(("file", "text"), [("constraints.txt", "alpha==1.1\n"), ("pyproject.toml", None)])
def test_changed_requirements_are_installed_again(project: Project, file: str, text: str | None) -> None:
    ensure(("studio",), project.setup, project.said.append)
    path = project.root / file
    path.write_text(text or path.read_text(encoding="utf-8").replace("beta", "beta>2"), encoding="utf-8")
    ensure(("studio",), project.setup, project.said.append)
    assert len(project.calls()) == 2


def test_extras_are_added_to_what_is_there(project: Project) -> None:
    ensure(("studio",), project.setup, project.said.append)
    ensure(("studio", "test", "ldm"), project.setup, project.said.append)
    _, test, ldm = project.calls()
    assert test[-1] == "gamma"
    assert "--no-deps" in ldm
    assert "-c" not in ldm
    assert ldm[-1] == "delta==2.0"


def test_every_package_gets_its_line(project: Project) -> None:
    project.pip_will(
        lines=(
            "Collecting alpha>=1",
            "  Downloading alpha-1.0-py3-none-any.whl (12.3 MB)",
            "  Using cached beta-1.0-py3-none-any.whl.metadata (3 kB)",
            "  Using cached beta-1.0-py3-none-any.whl (10 kB)",
            "Installing collected packages: beta, alpha",
        ),
        installs=("beta", "alpha"),
    )
    ensure(("studio",), project.setup, project.said.append)
    lines = [line.split("  ", 2)[2] for line in project.said if line.startswith("  ")]
    assert lines == [
        "[  1] fetching alpha 1.0 (12.3 MB)",
        "[  2] fetching beta 1.0 (10 kB)",
        "[  1/2] installed beta",
        "[  2/2] installed alpha",
    ]


@pytest.mark.parametrize(
    ("line", "error", "says"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", CannotWrite, "disk filled up"),
        ("WARNING: ... Failed to establish a new connection: [Errno -3] Temporary failure in name resolution", Offline, "cannot be reached"),
        ("WARNING: SSLError(SSLCertVerificationError(1, 'certificate verify failed: self-signed'))", Offline, "certificate"),
        ("ERROR: No matching distribution found for torch==2.13.0", PainterError, "no torch==2.13.0 for this computer"),
        ("ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: 'x'", CannotWrite, "cannot be written"),
        ("ERROR: Something new.", PainterError, "Something new."),
        ("", PainterError, "without saying why"),
    ],
)
def test_a_failed_pip_is_explained_and_nothing_is_stamped(project: Project, line: str, error: type[PainterError], says: str) -> None:
    project.pip_will(lines=(line,), code=1)
    with pytest.raises(error, match=says) as caught:
        ensure(("studio",), project.setup, project.said.append)
    assert type(caught.value) is error
    project.pip_will()
    ensure(("studio",), project.setup, project.said.append)
    assert len(project.calls()) == 2


def test_too_small_a_disk_is_refused_before_pip_runs(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: _Free(500_000_000))
    with pytest.raises(CannotWrite, match=r"about 3\.0 GB more, and the disk has 0\.5 GB free"):
        ensure(("studio",), project.setup, project.said.append)
    assert project.calls() == []


def test_cuda_that_does_not_fit_stops_pip(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.pip_will(lines=(NVIDIA,), sleeps=60)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: _Free(4_000_000_000))
    begun = time.monotonic()
    with pytest.raises(CannotWrite, match=r"about 10\.0 GB more"):
        ensure(("studio",), project.setup, project.said.append)
    assert time.monotonic() - begun < 30


class _Free:
    def __init__(self, free: int) -> None:
        self.free = free


def test_killed_in_the_middle_it_goes_on_at_the_next_start(project: Project) -> None:
    project.pip_will(installs=("alpha",), half=("beta",), sleeps=60)
    script = (
        "import sys; from pathlib import Path; from lib_refonly.studio.bootstrap.start import Setup, ensure; "
        "ensure(('studio',), Setup(Path(sys.argv[1])), print)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(project.root)], cwd=ROOT, stdout=subprocess.DEVNULL)
    here = project.root / "pip-is-here"
    _wait_for(lambda: here.exists() and here.read_text() != "")
    process.send_signal(signal.SIGKILL)
    process.wait()
    os.kill(int(here.read_text()), signal.SIGKILL)
    assert (project.packages / "beta-1.0.dist-info").exists()
    (project.packages / "~lpha").mkdir()

    project.pip_will()
    ensure(("studio",), project.setup, project.said.append)

    assert (project.packages / "alpha-1.0.dist-info" / "RECORD").exists()
    assert not (project.packages / "beta-1.0.dist-info").exists()
    assert not (project.packages / "~lpha").exists()
    assert len(project.calls()) == 2


def _wait_for(condition: object) -> None:
    end = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_a_second_start_waits_for_the_first(tmp_path: Path) -> None:
    order: list[str] = []
    waits = threading.Event()

    def second() -> None:
        with only_one(tmp_path / "lock", waits.set):
            order.append("second")

    with only_one(tmp_path / "lock", lambda: order.append("unexpected")):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_broken_environment_is_made_anew(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    python = project.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    made: list[Path] = []
    monkeypatch.setattr(environment, "_create", made.append)
    environment.ensure(project.root / ".venv")
    assert made == [project.root / ".venv"]


def test_a_foreign_folder_in_its_place_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / ".venv" / "precious.txt"
    precious.parent.mkdir()
    precious.write_text("mine")
    with pytest.raises(PainterError, match="in the way"):
        environment.ensure(tmp_path / ".venv")
    assert precious.read_text() == "mine"


def test_a_missing_venv_module_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else object())
    with pytest.raises(PainterError, match=rf"apt install python3\.{sys.version_info[1]}-venv"):
        environment.ensure(tmp_path / ".venv")


def test_an_environment_that_cannot_be_made_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "Error: [Errno 30] Read-only file system: '.venv'\n")
    monkeypatch.setattr(environment.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(CannotWrite, match="Read-only file system"):
        environment.ensure(tmp_path / ".venv")


def test_a_folder_that_cannot_be_written_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CannotWrite, match=r"cannot be written \(Permission denied\)"):
        ensure(("studio",), project.setup, project.said.append)
