"""What a clean context gives to the target, kept from one step for the next ones.

In a canvas the target hears of the context at three kinds of layers: self-attention reads its K and V, a convolution its cells along the border, and a
group norm its share in mean and variance. These change little between two steps, because the context itself does not change: only the time embedding, and
what the context in turn hears of the target. So a step computes the whole canvas and keeps the three; the next ones compute the target alone, with the
kept ones put where they belong. With nothing changed in between that is exactly what the whole canvas would have given (tests/contract/test_canvas.py).

What changes does so steadily: from the second whole step on, the steps between take what the last two point to, on a straight line over the timestep
(the way of TaylorSeer, arXiv 2503.06923, there for whole layers of a transformer). docs/benchmarks.md has what it brings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lib_refonly.conditioning.canvas import Box, CleanContext
from lib_refonly.conditioning.rows import first_of

F = nn.functional
_HALF = 500.0
"""Timesteps below this are the second half: by then it is decided what is painted."""
_LEAST = 1e-12
"""A variance has a logarithm from here on; group norms add far more (1e-6 and up)."""


@dataclass
class _Kept:
    """What the layers kept in one call over the whole canvas."""

    rows: int
    t: float
    step: int
    parts: dict[nn.Module, tuple[Tensor, ...]] = field(default_factory=dict[nn.Module, tuple[Tensor, ...]])


class _Store:
    """What the layers put away and ask for during one call. `of_call` are the calls with the whole canvas that it goes by: the last one and, where that
    says where things go, the one before.
    """

    def __init__(self, box: Box, height: int, width: int) -> None:
        self.box, self.height = box, height
        self.share = box.height * box.width / (height * width)
        self.keeping = self.reading = self.impossible = False
        self.of_call: tuple[_Kept, ...] = ()
        self._further = 0.0

    def begin_keeping(self, kept: _Kept) -> None:
        self.keeping, self.of_call = True, (kept,)

    def begin_reading(self, t: float, kept: Sequence[_Kept]) -> None:
        """`kept`: the last one, and the one before if there is. Where a sampler turns back in time, they point nowhere."""
        self.reading, self.of_call = True, tuple(kept[:1])
        if len(kept) > 1 and kept[0].rows == kept[1].rows and t < kept[0].t < kept[1].t:
            self.of_call, self._further = (kept[0], kept[1]), (kept[0].t - t) / (kept[1].t - kept[0].t)

    def end(self) -> None:
        self.keeping = self.reading = False
        self.of_call = ()

    def put(self, module: nn.Module, *parts: Tensor) -> None:
        self.of_call[0].parts[module] = parts

    def get(self, module: nn.Module) -> tuple[Tensor, ...]:
        last, *before = (kept.parts[module] for kept in self.of_call)
        return tuple(torch.lerp(now, was, -self._further) for now, was in zip(last, before[0], strict=True)) if before else last

    def at(self, rows: int) -> Box:
        """The box where a canvas has `rows` rows of cells."""
        b, scale = self.box, self.height // rows
        return Box(b.top // scale, b.left // scale, b.height // scale, b.width // scale)


class ContextReuse:
    """For one canvas in one UNet. `begin` and `end` around each call; `install` before the first."""

    def __init__(self, unet: nn.Module, canvas: CleanContext) -> None:
        self.every = canvas.reuse
        box = canvas.box()
        self._store = _Store(box, *canvas.target.shape) if box is not None else None
        self._kept: dict[int, list[_Kept]] = {}
        """For each of a step's calls (a host may call once for cond and once for uncond), the last two, the newer first."""
        self._t: float | None = None
        self._step, self._number = -1, 0
        self._layers = tuple(_layers(unet, self._store)) if self._store else ()

    def install(self, keep: Callable[[Any], None]) -> None:
        """Hook in; `keep` is given every handle."""
        for layer in self._layers:
            layer.install(keep)

    def begin(self, rows: int, timestep: Any, exact: bool) -> Box | None:
        """Which part of the canvas this call computes; None is all of it."""
        store = self._store
        if store is None:
            return None
        t = first_of(timestep)
        if t != self._t:
            self._t, self._step, self._number = t, self._step + 1, -1
        self._number += 1
        if exact or store.impossible:
            return None
        kept = self._kept.setdefault(self._number, [])
        if self._known(kept, rows):
            store.begin_reading(t, kept)
            return store.box
        kept[:] = [_Kept(rows, t, self._step), *kept[:1]]
        store.begin_keeping(kept[0])
        return None

    def _known(self, kept: Sequence[_Kept], rows: int) -> bool:
        """Whether this step goes by those before it; in the way's second half a third more of them in a row do."""
        if not kept or kept[0].rows != rows:
            return False
        return self._step - kept[0].step < (self.every * 4 // 3 if (self._t or 0.0) < _HALF else self.every)

    def end(self) -> Box | None:
        """After the call. Returns what `begin` had."""
        store = self._store
        if store is None:
            return None
        box = store.box if store.reading else None
        store.end()
        return box


def _layers(unet: nn.Module, store: _Store) -> Any:
    for module in unet.modules():
        if isinstance(module, nn.GroupNorm):
            yield _Norm(module, store)
        elif isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
            yield _Convolution(module, store)
        for layer in getattr(module, "transformer_blocks", ()):
            own = layer.attn1
            if own.to_k.in_features == own.to_q.in_features:
                yield _KeysOrValues(own.to_k, module, store)
                yield _KeysOrValues(own.to_v, module, store)


class _Norm:
    """Mean and variance over the whole canvas."""

    def __init__(self, module: nn.GroupNorm, store: _Store) -> None:
        self.module, self.store = module, store

    def install(self, keep: Callable[[Any], None]) -> None:
        keep(self.module.register_forward_hook(self._after))

    def _after(self, module: nn.GroupNorm, args: tuple[Any, ...], out: Tensor) -> Tensor | None:
        x, store = args[0], self.store
        if x.dim() != 4 or not (store.keeping or store.reading):
            return None
        own, groups = store.share, module.num_groups
        if store.keeping:
            context = (_moments(x, groups) - own * _moments(store.at(x.shape[-2]).cut(x), groups)) / (1 - own)
            mean, square = context.unbind(-1)
            # A straight line through two variances may lead below zero; one through their logarithms does not.
            store.put(module, mean, (square - mean**2).clamp(min=_LEAST).log())
            return None
        mean, spread = store.get(module)
        context = torch.stack([mean, mean**2 + spread.exp()], -1)
        mean, square = (own * _moments(x, groups) + (1 - own) * context).unbind(-1)
        gain, mean = (part.repeat_interleave(x.shape[1] // groups, 1) for part in ((square - mean**2).clamp(min=0).add(module.eps).rsqrt(), mean))
        if module.affine:
            gain = gain * module.weight.float()
        shift = (module.bias.float() if module.affine else 0.0) - mean * gain
        return (x.float() * gain[..., None, None]).add_(shift[..., None, None]).to(out.dtype)


def _moments(x: Tensor, groups: int) -> Tensor:
    """[rows, C, h, w] -> means and mean squares, [rows, groups, 2]."""
    flat = x.reshape(x.shape[0], groups, -1)
    mean = flat.mean(-1, dtype=torch.float32)
    return torch.stack([mean, torch.linalg.vector_norm(flat, dim=-1, dtype=torch.float32) ** 2 / flat.shape[-1]], -1)


class _Convolution(TorchFunctionMode):
    """What the context's cells along the border add to the target's. A convolution is linear, so this is kept and drawn out like the rest. The weights
    are those that `torch.conv2d` is handed, since a host may cast or move them, or put a LoRA into or beside them.
    """

    def __init__(self, module: nn.Conv2d, store: _Store) -> None:
        super().__init__()
        self.module, self.store = module, store
        self._entered = False
        self._kept: list[Tensor] = []

    def install(self, keep: Callable[[Any], None]) -> None:
        keep(self.module.register_forward_pre_hook(self._before))
        keep(self.module.register_forward_hook(self._after, always_call=True))

    def _before(self, *_: Any) -> None:
        if self.store.keeping or self.store.reading:
            self._kept = list(self.store.get(self.module)) if self.store.reading else []
            self._entered = True
            self.__enter__()

    def _after(self, *_: Any) -> None:
        if self._entered:
            self._entered = False
            self.__exit__(None, None, None)
            if self.store.keeping:
                self.store.put(self.module, *self._kept)
                self.store.impossible |= not self._kept  # computed by something else

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.conv2d:
            self._border(out, *args, **(kwargs or {}))
        return out

    def _border(self, out: Tensor, x: Tensor, weight: Tensor, _: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> None:
        """Keep what the border adds, or add it to `out`."""
        if weight.shape[-2:] == (1, 1):
            return
        stride, padding, dilation = (value if isinstance(value, int) else value[0] for value in (stride, padding, dilation))
        if self.store.reading:
            height, width = out.shape[-2:]
            out.view(*out.shape[:2], -1)[..., _rim(height, width, x.device)] += self._kept.pop(0)
        elif weight.shape[-2:] == (3, 3) and (padding, dilation, groups) == (1, 1, 1):
            cells, outside = _reached(self.store.at(x.shape[-2]), x.shape[-2], x.shape[-1], stride, x.device)
            patches = (x.flatten(-2)[..., cells] * outside).unflatten(-1, (9, -1)).flatten(1, 2)
            self._kept.append(weight.flatten(1) @ patches)
        else:  # "tiling" in a WebUI: the border is another
            self.store.impossible = True


@lru_cache(64)
def _rim(height: int, width: int, device: torch.device) -> Tensor:
    """Which cells of a picture lie at its border, [cells]."""
    inner = torch.zeros(height, width, dtype=torch.bool)
    inner[1:-1, 1:-1] = True
    return (~inner).flatten().nonzero().flatten().to(device)


@lru_cache(64)
def _reached(box: Box, height: int, width: int, stride: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The cells of a canvas that a kernel of 3 by 3 reads at the border of `box`, [9 * cells], and whether they lie in the canvas, outside of `box`."""
    wide = box.width // stride
    at = _rim(box.height // stride, wide, torch.device("cpu"))
    around = torch.arange(-1, 2)
    y = (box.top + stride * (at // wide) + around.repeat_interleave(3)[:, None]).flatten()
    x = (box.left + stride * (at % wide) + around.repeat(3)[:, None]).flatten()
    inside = (y >= box.top) & (y < box.top + box.height) & (x >= box.left) & (x < box.left + box.width)
    outside = (y >= 0) & (y < height) & (x >= 0) & (x < width) & ~inside
    return (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).to(device), outside.to(device)


class _KeysOrValues:
    """K, or V, of the context's tokens, in front of the target's."""

    def __init__(self, module: nn.Module, transformer: nn.Module, store: _Store) -> None:
        self.module, self.transformer, self.store = module, transformer, store
        self._size = (0, 0)

    def install(self, keep: Callable[[Any], None]) -> None:
        keep(self.transformer.register_forward_pre_hook(self._see_size, with_kwargs=True))
        keep(self.module.register_forward_hook(self._after))

    def _see_size(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs["hidden_states"]
        self._size = (x.shape[-2], x.shape[-1])

    def _after(self, module: nn.Module, _: Any, out: Tensor) -> Tensor | None:
        store = self.store
        if store.keeping:
            height, width = self._size
            if out.shape[1] != height * width:  # tokens were merged, or cut into tiles: there is no telling whose they are
                store.impossible = True
                return None
            outside = torch.ones(height, width, dtype=torch.bool, device=out.device)
            store.at(height).cut(outside).fill_(False)
            store.put(module, out[:, outside.flatten()])
        elif store.reading:
            return torch.cat([*store.get(module), out], 1)
        return None
