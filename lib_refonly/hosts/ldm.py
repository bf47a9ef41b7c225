"""ldm's UNetModel, the class of AUTOMATIC1111's WebUI: where the injections go in. Nothing of ldm is imported.

The hooks sit on the layers inside the blocks, which every variant of the class calls; some variants iterate over a block's layers themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from lib_refonly.conditioning.plan import COND, UNCOND, Plan
from lib_refonly.hosts.anatomy import Anatomy, Site
from lib_refonly.hosts.session import Session


def session(unet: Any, plan: Plan) -> Session:
    """`with session(unet, plan) as s:` the UNet follows the plan. Set `s.roles` before calls whose rows are not all conditional."""
    return Session(anatomy(unet), plan)


class RowCursor:
    """Tells the rows of AUTOMATIC1111's UNet calls apart.

    One step's rows come conditional ones first, in one call or in several, whichever prompts, AND and skipped unconditional rows make of it. So the
    number of conditional rows, which the WebUI says at the step's start, and the count of rows since then are enough.
    """

    def __init__(self) -> None:
        self._conditional, self._seen = 0, 0

    def begin_step(self, conditional: int) -> None:
        self._conditional, self._seen = conditional, 0

    def __call__(self, rows: int) -> tuple[str, ...]:
        first, self._seen = self._seen, self._seen + rows
        return tuple(COND if row < self._conditional else UNCOND for row in range(first, first + rows))


def anatomy(unet: Any) -> Anatomy:
    """The injection points of an ldm UNetModel (SD 1.x, 2.x and, in sgm's copy of the class, SDXL)."""
    return Anatomy(unet, unet.input_blocks[0][0], tuple(_sites(unet)), _read_call, "context")


def _read_call(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Any]:
    sample = args[0] if args else kwargs["x"]
    timestep = args[1] if len(args) > 1 else kwargs["timesteps"]
    return sample, timestep


def _sites(unet: Any) -> Iterator[Site]:
    for i, block in enumerate(unet.input_blocks):
        yield from _block(block, f"IN{i:02d}")
    yield from _block(unet.middle_block, "M00")
    for i, block in enumerate(unet.output_blocks):
        yield from _block(block, f"OUT{i:02d}")


def _block(block: nn.Module, name: str) -> Iterator[Site]:
    for module in block.children():
        for i, layer in enumerate(getattr(module, "transformer_blocks", ())):
            a = layer.attn2
            yield Site(f"{name}.{i}", a, a.to_q, a.to_k, a.to_v, a.to_out, a.heads, a.to_k.in_features)
