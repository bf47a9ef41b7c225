"""Which device paints, and in which precision."""

from __future__ import annotations

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
