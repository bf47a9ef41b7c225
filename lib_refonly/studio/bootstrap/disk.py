"""Is there room for what is about to be installed?"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lib_refonly.errors import CannotWrite

CUDA_MEGABYTES = 7000
"""What a CUDA build of torch and NVIDIA's libraries take on top, at most [from the sizes of their wheels]."""


def require(folder: Path, megabytes: int) -> None:
    """Refuse to begin when the disk that holds `folder` has less than `megabytes` free.

    Raises:
        CannotWrite: says how much is needed and how much is there.
    """
    free = shutil.disk_usage(folder).free // 1_000_000
    if free < megabytes:
        raise CannotWrite(
            f"Not enough space: {folder} needs about {gigabytes(megabytes)} more, and the disk has {gigabytes(free)} free. "
            "Make room, or move this folder to a larger disk, then start again."
        )


def gigabytes(megabytes: int) -> str:
    """'2.9 GB'."""
    return f"{megabytes / 1000:.1f} GB"


def used_megabytes(folder: Path) -> int:
    """What the files under `folder` take; 0 when it is not there."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except FileNotFoundError:  # something cleans up at the same time
                continue
    return total // 1_000_000
