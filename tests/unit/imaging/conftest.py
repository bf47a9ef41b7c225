from pathlib import Path

import pytest


@pytest.fixture
def golden() -> Path:
    """The golden pack of the released code: numbers and input pictures."""
    return Path(__file__).parents[2] / "golden" / "refonly_golden"
