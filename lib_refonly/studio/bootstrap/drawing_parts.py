"""The node packages for the tests of the drawings: fetched where node and npm are, else those tests are skipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lib_refonly.training.drawings.packages import DrawingToolsMissing, installed
from lib_refonly.training.drawings.packages import ensure as fetch


def ensure(root: Path, say: Callable[[str], None]) -> None:
    """Leave the packages in ROOT/.data/npm, or say why not and what follows."""
    folder = root / ".data" / "npm"
    if installed(folder):
        return
    say("Fetching the parts of the drawings for their tests ...")
    try:
        fetch(folder)
    except DrawingToolsMissing as error:
        say(f"{error} Until then the tests of the drawings are skipped.")
