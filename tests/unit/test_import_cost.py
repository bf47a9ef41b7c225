"""What starts quickly stays quick: nothing big is imported before it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIG = ("torch", "diffusers", "transformers", "gradio", "onnxruntime", "cv2", "accelerate", "huggingface_hub")
SECONDS = 0.3

_MEASURE = """
import json, sys, time
sys.path.insert(0, {root!r})
begun = time.process_time()
{code}
seconds = time.process_time() - begun
print(json.dumps([seconds, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""

_HELP = """
from contextlib import redirect_stdout
from io import StringIO
from lib_refonly.studio.cli import main
for words in (["--help"], ["color", "--help"], ["page", "--help"]):
    try:
        with redirect_stdout(StringIO()):
            main(words)
    except SystemExit as left:
        assert left.code == 0
"""

_BATCH_WITH_NOTHING_TO_DO = """
import lib_refonly.studio.commands.pairing, lib_refonly.studio.commands.reporting, lib_refonly.models.registry
lib_refonly.models.registry.ModelStore([]).entries()
"""


@pytest.mark.parametrize(
    "code",
    ["import lib_refonly", "import lib_refonly.studio.bootstrap.start", "import lib_refonly.studio.app", _HELP, _BATCH_WITH_NOTHING_TO_DO],
    ids=["package", "bootstrap", "page", "help", "model list"],
)
def test_it_is_quick_and_imports_nothing_big(code: str) -> None:
    """Processor time of the process, the best of two: a busy machine does not make code slow."""
    runs = [json.loads(_python(_MEASURE.format(root=str(ROOT), code=code))) for _ in range(2)]
    seconds, loaded = min(run[0] for run in runs), runs[0][1]
    assert not set(BIG) & set(loaded)
    assert seconds < SECONDS


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
