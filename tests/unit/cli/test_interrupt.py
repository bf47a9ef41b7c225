"""Ctrl-C and a reader that leaves, on a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lib_refonly.studio.bootstrap.handover import ROOT
from tests.unit.cli.fakes import draw


@pytest.fixture
def process(tmp_path: Path):
    """Colours five drawings, 0.4 s each."""
    draw(tmp_path / "reference.png", colour="red")
    for number in range(5):
        draw(tmp_path / "lines" / f"{number}.png")
    command = [sys.executable, "-m", "tests.unit.cli.slow_studio", "color", "reference.png", "lines", "-o", "out", "--json", "--layer"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    # A shell's background job is started with SIGINT ignored, and a child inherits that.
    wake = None if os.name == "nt" else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    child = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=wake)
    yield child
    child.kill()
    child.communicate()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_ctrl_c_leaves_whole_files_and_exits_130(process: subprocess.Popen[str], tmp_path: Path) -> None:
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert first["out"] == os.path.join("out", "0.png")
    summary = json.loads(out.splitlines()[-1])
    assert (summary["summary"], summary["exit_code"]) == (True, 130)
    assert "Traceback" not in err
    assert "--resume" in err
    written = sorted(os.listdir(tmp_path / "out"))
    assert written == [name for number in range(summary["done"]) for name in (f"{number}.layer.png", f"{number}.png")]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no broken pipes of this kind")
def test_a_reader_that_leaves_causes_no_traceback(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    process.wait(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr.read()
