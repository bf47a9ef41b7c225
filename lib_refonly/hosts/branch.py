"""A network beside the UNet's middle block and way up, mixed in after each of its blocks (`conditioning.plan.SideBranch`).

Hooks again, on the layers that end the blocks: what the UNet gives there is exchanged for the mixture, so whatever else acts on the way up (a ControlNet,
attention patches) acts on what it would act on anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from lib_refonly.conditioning.plan import SideBranch, at_site
from lib_refonly.conditioning.rows import Now, per_row
from lib_refonly.errors import BadModel
from lib_refonly.hosts.anatomy import Anatomy, Middle

F = nn.functional


class BranchInjection:
    """One branch in one UNet. It runs on the rows that it reaches, and on none outside its window."""

    def __init__(self, now: Now, anatomy: Anatomy, branch: SideBranch) -> None:
        if anatomy.middle is None:
            raise BadModel("A stylecode goes into the middle block's attention, which the loaded checkpoint has none of.")
        self.now, self.branch, self.stages = now, branch, anatomy.stages
        self.middle: Middle = anatomy.middle
        self.context_name = anatomy.context
        self._reached: list[int] = []
        self._emb: Tensor | None = None
        self._context: Tensor | None = None
        self._hidden: Tensor | None = None
        self._begun: dict[tuple[int, int], Tensor] = {}

    def install(self, keep: Callable[[Any], None]) -> None:
        """Hook in; `keep` is given every handle."""
        keep(self.middle.resnet.register_forward_pre_hook(self._catch_emb, with_kwargs=True))
        keep(self.middle.transformer.register_forward_pre_hook(self._catch_context, with_kwargs=True))
        for number, stage in enumerate(self.stages):
            keep(stage.end.register_forward_hook(partial(self._mix_in, number)))

    def _catch_emb(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = self.now.get()
        self._reached = call.reached(self.branch.roles) if self.branch.window.holds(call.progress) else []
        self._emb = args[1] if len(args) > 1 else kwargs.get("emb", kwargs.get("temb"))
        self._hidden = None

    def _catch_context(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        context = args[1] if len(args) > 1 else kwargs.get(self.context_name)
        self._context = context[0] if isinstance(context, list) else context  # one for each transformer block, in some variants

    def _mix_in(self, number: int, _: nn.Module, __: Any, given: Any) -> Any:
        if not self._reached:
            return None
        out: Tensor = given[0] if isinstance(given, tuple) else given
        every = len(self._reached) == out.shape[0]
        base = out if every else out[self._reached]
        hidden, mixed = self._run(number, base)
        self._hidden = hidden
        strength = self.branch.strength * at_site(self.branch.site_weights, self.stages[number].name)
        if not strength:
            return None
        gate = strength if self.branch.mask is None else strength * _at(self.branch.mask, base)
        new = base * (1 - gate) + mixed.to(base) * gate
        if not every:
            new, rows = out.clone(), new
            new[self._reached] = rows
        return (new, *given[1:]) if isinstance(given, tuple) else new

    def _run(self, number: int, base: Tensor) -> tuple[Tensor, Tensor]:
        emb, context = self._emb, self._context
        if emb is None or context is None:
            raise BadModel("The UNet calls its middle block in a way that a stylecode can't follow.")
        hidden = self._begin(base) if self._hidden is None else self._hidden
        rows = self._reached
        emb, context = emb[rows], context[rows]
        hidden = self.branch.network.block(number, hidden, emb, context)
        if hidden.shape[-2:] != base.shape[-2:]:  # the UNet's skips decide where a latent can't be halved evenly
            hidden = F.interpolate(hidden, size=base.shape[-2:], mode="nearest")
        return self.branch.network.mix(number, hidden, base)

    def _begin(self, base: Tensor) -> Tensor:
        size = (base.shape[-2], base.shape[-1])
        if size not in self._begun:
            self._begun[size] = self.branch.network.begin(*size)
        return per_row(self._begun[size].to(base), self._reached, len(self.now.get().roles))


def _at(mask: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(mask[None, None].float(), size=like.shape[-2:], mode="area").to(like)
