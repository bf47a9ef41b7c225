"""Which device paints, and in which precision."""

from __future__ import annotations

import shutil

import torch

from lib_refonly.errors import BadSettings


def pick(wanted: str = "auto") -> tuple[torch.device, torch.dtype]:
    """auto takes CUDA, then MPS, then the CPU. Half precision on CUDA only: elsewhere it is slower or wrong.

    Raises:
        BadSettings: the device that was asked for is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = next(d for d, works in there.items() if works) if wanted == "auto" else wanted
    if not there.get(name.split(":")[0]):
        raise BadSettings(f"The device {wanted!r} is not there. There is: {', '.join(d for d, works in there.items() if works)}.")
    return torch.device(name), torch.float16 if name.startswith("cuda") else torch.float32


def hint() -> str:
    """What to do when the painter's NVIDIA card lies idle, else nothing. On Windows the plain PyTorch package is built without CUDA."""
    if torch.cuda.is_available() or shutil.which("nvidia-smi") is None:
        return ""
    if torch.version.cuda is None:
        version = torch.__version__.partition("+")[0]
        return (
            "This machine seems to have an NVIDIA card, but the PyTorch in .venv was built without CUDA: the processor does the work. For the card, "
            f'let the Python in .venv run the command that "Get started" on pytorch.org shows for CUDA, with torch=={version}, and start the studio again.'
        )
    return "This machine seems to have an NVIDIA card, but PyTorch can't use it: the processor does the work. A newer driver may mend it."
