"""Which rows of a UNet call an injection reaches, and when."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib_refonly.conditioning.canvas import Box
from lib_refonly.errors import BadSettings


@dataclass(frozen=True)
class Call:
    """One call of the UNet. `roles` has one entry a row; `height`, `width` are the latent's; `progress` goes from 0 (noise) to 1 (picture). `part`: which
    part of a canvas the latent is, where it is not all of it, and the canvas' height and width."""

    roles: tuple[str, ...]
    height: int
    width: int
    progress: float
    part: tuple[Box, tuple[int, int]] | None = None

    def seen(self, picture: Tensor) -> Tensor:
        """What the call computes of a mask or feature [..., H, W] that lies over the whole canvas, at any resolution."""
        if self.part is None:
            return picture
        box, size = self.part
        if picture.shape[-2:] != size:
            planes = picture.reshape(1, -1, *picture.shape[-2:]).float()
            picture = nn.functional.interpolate(planes, size=size, mode="area").reshape(*picture.shape[:-2], *size).to(picture.dtype)
        return box.cut(picture)

    def reached(self, roles: Collection[str]) -> list[int]:
        return [i for i, role in enumerate(self.roles) if role in roles]


class Now:
    """The UNet call under way. Apart from the session, so that what sits in the layers doesn't refer back to it: a session that is done with is freed
    at once, K and V with it, and not when Python happens to look for cycles."""

    def __init__(self) -> None:
        self.call: Call | None = None

    def get(self) -> Call:
        if self.call is None:
            raise RuntimeError("A block of the UNet was called outside a call of the UNet itself")
        return self.call


def spread_roles(chunks: Sequence[str], rows: int) -> tuple[str, ...]:
    """Roles of `rows` rows that consist of equal chunks, in order: ("uncond", "cond") over 4 rows is u, u, c, c.

    Raises:
        BadSettings: the rows can't be shared out equally.
    """
    if not chunks or rows % len(chunks):
        raise BadSettings(f"A batch of {rows} rows can't be shared out among {len(chunks)} parts ({', '.join(chunks)}).")
    return tuple(role for role in chunks for _ in range(rows // len(chunks)))


def progress_of(timestep: Tensor | float, last: int = 999) -> float:
    """0 at t = `last` (noise), 1 at t = 0 (picture). All rows of a call share one timestep; k-diffusion's may be fractional."""
    return 1.0 - min(max(first_of(timestep), 0.0), last) / last


def first_of(timestep: Tensor | float) -> float:
    """One number for a call whose rows share a timestep."""
    return float(timestep.reshape(-1)[0]) if isinstance(timestep, Tensor) else float(timestep)


def per_row(values: Tensor, reached: Sequence[int], rows: int) -> Tensor:
    """Values made for one row or for the n pictures of a batch -> one for each reached row.

    A reached row takes the value of its place among the rows with the same chunk: values [1, ...] serve all, values [n, ...] repeat every n
    rows, which is how hosts lay a batch of n out beside its unconditional half.

    Raises:
        BadSettings: the number of values divides neither.
    """
    n = values.shape[0]
    if n == 1:
        return values.expand(len(reached), *values.shape[1:])
    if rows % n:
        raise BadSettings(f"{n} conditions can't be shared out among the {rows} rows of one UNet call.")
    return values[torch.tensor([i % n for i in reached], device=values.device)]
