"""How long it takes until the program answers at all: the package's import and the command line's help."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from benchmarks.measure import Spread
from benchmarks.results import Gate, Result, Table
from lib_refonly.studio.bootstrap.handover import ROOT

BIG = ("torch", "diffusers", "transformers", "gradio", "accelerate", "onnxruntime", "cv2", "huggingface_hub")
LIMIT = 0.3
IMPORT, HELP, COMMAND, BARE = "`import lib_refonly`", "what `studio.py --help` imports and does", "`studio.py --help`, whole process", "Python alone"

ABOUT = """Fresh processes, {runs} runs. The first two rows are taken inside the process (its start not counted), as wall clock and as processor \
time; the last two are the wall clock of whole processes. Big packages that were imported: {big}."""

_CODE = {
    IMPORT: "import lib_refonly",
    HELP: """
from contextlib import redirect_stdout
from io import StringIO
from lib_refonly.studio.bootstrap.start import start
try:
    with redirect_stdout(StringIO()):
        start(["--help"])
except SystemExit:
    pass
""",
}
_TIMED = """
import json, sys, time
sys.path.insert(0, {root!r})
wall, processor = time.perf_counter(), time.process_time()
{code}
wall, processor = time.perf_counter() - wall, time.process_time() - processor
print(json.dumps([wall, processor, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""


def measure(runs: int) -> Result:
    """Time every case `runs` times, in turns."""
    samples: dict[str, list[float]] = {}
    loaded: set[str] = set()
    for _ in range(runs):
        for what, code in _CODE.items():
            wall, processor, modules = json.loads(_python("-c", _TIMED.format(root=str(ROOT), code=code)))
            samples.setdefault(what, []).append(wall)
            samples.setdefault(f"{what}, processor time", []).append(processor)
            loaded |= set(modules)
        for what, words in ((COMMAND, [str(ROOT / "studio.py"), "--help"]), (BARE, ["-c", "pass"])):
            begun = time.perf_counter()
            _python(*words)
            samples.setdefault(what, []).append(time.perf_counter() - begun)
    return summarise(samples, sorted(set(BIG) & loaded), runs)


def _python(*words: str) -> str:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def summarise(samples: dict[str, list[float]], big: list[str], runs: int) -> Result:
    """The table and the gates. Gates read the processor time: a busy machine does not make an import slow."""
    rows = []
    for what in (IMPORT, HELP, COMMAND, BARE):
        processor = samples.get(f"{what}, processor time")
        rows.append((what, *Spread.of(samples[what]).text(3), Spread.of(processor).text(3)[0] if processor else ""))
    table = Table(("", "seconds", "lowest to highest", "processor seconds"), tuple(rows))
    gates = [Gate(f"{what}, processor seconds:", Spread.of(samples[f"{what}, processor time"]).median, LIMIT) for what in (IMPORT, HELP)]
    gates.append(Gate("big packages imported:", len(big), 0))
    about = ABOUT.format(runs=runs, big=", ".join(big) or "none")
    return Result("imports", "Imports", about, (table,), samples, tuple(gates))
