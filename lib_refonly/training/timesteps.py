"""Which step of the noise each row of a batch is trained at."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def draw(rng: np.random.Generator, count: int, of: int, noisy: float) -> Tensor:
    """int64 [count] below `of`, evenly; a share `noisy` of them nearly all noise, where what is given beside the picture decides what it becomes."""
    u = rng.random(count)
    t = np.where(rng.random(count) < noisy, 1 - u**3, u) * of
    return torch.from_numpy(np.minimum(t.astype(np.int64), of - 1))
