"""The studio on this machine: a whole picture, its peak memory, a batch of frames, and the way from the command to the page."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.measure import Spread
from benchmarks.results import Result, Table
from benchmarks.worker import FRAMES, ONE_BY_ONE, TOGETHER
from lib_refonly.errors import PainterError
from lib_refonly.studio.bootstrap.handover import ROOT
from lib_refonly.studio.bootstrap.requirements import Stamp
from lib_refonly.studio.bootstrap.start import Setup

SIZES = (128, 256)
STEPS = 20
_PATIENCE = 120  # seconds for the page

ABOUT = f"""Model: {{model}}, {STEPS} steps UniPC, drawings of 512 px, everything from the drawing to the finished picture with its lines. First \
picture: in a fresh process, importing and loading everything; the next ones with the model loaded. Peak memory: resident, of a process that \
coloured pictures of this size and did nothing else. Batch: {FRAMES} frames of one animation with one reference, handed over together, against \
{FRAMES} single runs in the same process, the reference read once in both. Clock of the batch: {{clock}}."""


def measure(model: str, device: str, rounds: int, clock: str) -> Result:
    """Run every part in processes of its own. model: a name of the model list, or a folder.

    Raises:
        PainterError: the model is not there, or the environment is not set up.
    """
    pictures = {size: _worker("picture", model, size, rounds, device) for size in SIZES}
    batches = {size: _worker("batch", model, size, max(1, rounds // 2), device) for size in SIZES}
    starts = [start_to_page() for _ in range(min(rounds, 3))]
    return summarise(os.path.basename(model.rstrip("/\\")), clock, pictures, batches, starts)


def _worker(what: str, model: str, size: int, rounds: int, device: str) -> dict[str, Any]:
    words = ["-m", "benchmarks.worker", what, model, str(size), str(STEPS), str(rounds), device]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise PainterError(f"The benchmark of {size} px failed. {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ''}".strip())
    return json.loads(done.stdout.splitlines()[-1])


def start_to_page() -> float:
    """Seconds from `studio.py` to the page's first answer.

    Raises:
        PainterError: the environment is not set up (its setting up would be measured), or the page did not come.
    """
    setup = Setup(ROOT)
    if Stamp(setup.venv / "refonly.json").missing(setup.groups(("studio",))):
        raise PainterError("The studio's environment is not complete. Run `python3 studio.py test --setup-only` first.")
    port, begun = _free_port(), time.perf_counter()
    words = [sys.executable, str(ROOT / "studio.py"), "--no-browser", "--port", str(port)]
    with _running(words) as studio:
        while not _answers(port):
            if studio.poll() is not None or time.perf_counter() - begun > _PATIENCE:
                raise PainterError("The studio's page did not open. Start it by hand (python3 studio.py) to see why.")
            time.sleep(0.02)
        return time.perf_counter() - begun


@contextlib.contextmanager
def _running(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a studio; on Windows it is a child of the process that was started."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            child.terminate()
    process.terminate()
    process.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except ConnectionError:
        return False
    finally:
        connection.close()


def summarise(model: str, clock: str, pictures: dict[int, Any], batches: dict[int, dict[str, list[float]]], starts: list[float]) -> Result:
    """Three tables out of what the processes said."""
    samples: dict[str, list[float]] = {"start to page": starts}
    whole, frames = [], []
    for size, found in pictures.items():
        wall, processor = ([pair[i] for pair in found["later"]] for i in (0, 1))
        samples |= {f"picture {size}": wall, f"picture {size}, first": [found["first"][0]], f"picture {size}, peak bytes": [found["peak"]]}
        median, spread = Spread.of(wall).text(2)
        memory = f"{found['peak'] / 2**20:.0f} MB"
        whole.append((f"{size} px", median, spread, f"{Spread.of(processor).median:.2f}", f"{found['first'][0]:.2f}", memory))
    for size, seconds in batches.items():
        samples |= {f"{what}, {size} px": values for what, values in seconds.items()}
        ratio = Spread.of(together / single for together, single in zip(seconds[TOGETHER], seconds[ONE_BY_ONE], strict=True))
        each = [f"{Spread.of(seconds[what]).median / FRAMES:.3f}" for what in (ONE_BY_ONE, TOGETHER)]
        frames.append((f"{size} px", *each, *ratio.text(2)))
    tables = (
        Table(("whole picture", "seconds", "lowest to highest", "processor seconds", "first picture, seconds", "peak memory"), tuple(whole)),
        Table((f"{FRAMES} frames", "single run, seconds", "in the batch, seconds", "batch / single", "lowest to highest"), tuple(frames)),
        Table(("start", "seconds", "lowest to highest"), (("from `studio.py` to the page's answer", *Spread.of(starts).text(1)),)),
    )
    return Result("studio", "The studio", ABOUT.format(model=model, clock=clock), tables, samples)
