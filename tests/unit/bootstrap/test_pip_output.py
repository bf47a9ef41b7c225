from __future__ import annotations

import pytest

from lib_refonly.studio.bootstrap.pip_output import Fetching, Installing, Retrying, read_line


@pytest.mark.parametrize(
    ("line", "means"),
    [
        ("  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (780.5 MB)", Fetching("torch", "2.13.0", "780.5 MB")),
        ("Processing /opt/wheels/torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl", Fetching("torch", "2.13.0+cpu", "")),
        ("  Using cached nvidia_cublas-13.1-py3-none-any.whl (400 MB)", Fetching("nvidia-cublas", "13.1", "400 MB")),
        ("  Downloading pydub-0.25.1.tar.gz (38 kB)", Fetching("pydub", "0.25.1", "38 kB")),
        ("  Downloading torch-2.13.0-cp311-cp311-win_amd64.whl.metadata (30 kB)", None),
        ("Installing collected packages: mpmath, tqdm", Installing(("mpmath", "tqdm"))),
        ("WARNING: Retrying (Retry(total=4, connect=None)) after connection broken by 'X'", Retrying(4)),
        ("Collecting torch==2.13.0", None),
        ("Requirement already satisfied: numpy in ./x", None),
    ],
)
def test_lines(line: str, means: object) -> None:
    assert read_line(line) == means
