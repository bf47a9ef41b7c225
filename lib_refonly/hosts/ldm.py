"""ldm's UNetModel, the class of AUTOMATIC1111's WebUI: where the injections go in. Nothing of ldm is imported.

The hooks sit on the layers inside the blocks, which every variant of the class calls; some variants iterate over a block's layers themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from types import MethodType
from typing import Any

from torch import Tensor, nn

from lib_refonly.conditioning.plan import COND, UNCOND, Plan
from lib_refonly.hosts.anatomy import Anatomy, Middle, Site, Stage
from lib_refonly.hosts.noise import Noise
from lib_refonly.hosts.session import Session
from lib_refonly.hosts.stand_in import Prediction, StandIn, alpha_bar_at, in_terms_of


def session(unet: Any, plan: Plan, noise: Noise | None = None) -> Session:
    """`with session(unet, plan) as s:` the UNet follows the plan. Set `s.roles` before calls whose rows are not all conditional. A canvas needs `noise`."""
    return Session(anatomy(unet), plan, noise=noise)


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


class Attachment:
    """A session, and perhaps another UNet, inside AUTOMATIC1111's model for the length of each of its calls.

    `model` is the module that holds `diffusion_model` (LatentDiffusion's or sgm's wrapper). Between calls the model is as it was, so that whatever the
    WebUI does there (a refiner read into the same object, a checkpoint change) meets its own UNet. Ends with `remove`, which may be called twice.

    predicts: what the checkpoint predicts; alphas_cumprod: its noise schedule, [T]. Both are for a stand-in only.
    """

    def __init__(
        self, model: Any, session: Session, stand_in: StandIn | None = None, predicts: Prediction = "epsilon", alphas_cumprod: Tensor | None = None
    ) -> None:
        self.session, self.stand_in, self.alphas_cumprod = session, stand_in, alphas_cumprod
        self.predicts: Prediction = predicts
        self._own: nn.Module | None = None
        self._exact = session.exact
        self._depth, self._lent = 0, ExitStack()
        # Before the WebUI's hook that moves the model to the device: it then moves the one that is going to run.
        before = model.register_forward_pre_hook(self._enter, with_kwargs=True, prepend=True)
        self._handles = [before, model.register_forward_hook(self._leave, with_kwargs=True, always_call=True)]

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _enter(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self._depth += 1
        if self._depth > 1:  # under --medvram ControlNet calls the model, with nothing, from within its call: that must not end ours
            return args, kwargs
        self.session.exact = self._exact or own_forward(model.diffusion_model) is not None
        self.session.__enter__()
        if self.stand_in is None:
            return args, kwargs
        own = self._own = model.diffusion_model
        model.diffusion_model = self.stand_in.unet
        # c_concat: an inpainting checkpoint's mask and picture, for which a plain UNet has no channels.
        changed = {"c_concat": [], "c_adm": None}
        forward = own_forward(own)
        if forward is not None and _widths(own) == _widths(self.stand_in.unet):
            self._lend(forward, self.stand_in)  # it reads the text itself
        else:
            changed["c_crossattn"] = [self.stand_in.no_text(args[0])]
        return args, kwargs | changed

    def _lend(self, forward: Callable[..., Any], stand_in: StandIn) -> None:
        """For one call: ControlNet's forward in the stand-in, where the attentions still get no text."""
        context = self.session.anatomy.context

        def without_text(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return args[:1], kwargs | {context: stand_in.no_text(args[0])}

        stand_in.unet.forward = MethodType(forward, stand_in.unet)
        self._lent.callback(delattr, stand_in.unet, "forward")
        for site in self.session.anatomy.sites:
            self._lent.callback(site.attention.register_forward_pre_hook(without_text, with_kwargs=True, prepend=True).remove)

    def _leave(self, model: Any, args: tuple[Any, ...], _: dict[str, Any], out: Tensor | None) -> Tensor | None:
        self._depth -= 1
        if self._depth:
            return None
        self.session.__exit__()
        self._lent.close()
        if self._own is None or self.stand_in is None:
            return None
        model.diffusion_model, self._own = self._own, None
        if out is None or self.alphas_cumprod is None or self.stand_in.prediction == self.predicts:
            return None
        return in_terms_of(out, args[0], alpha_bar_at(args[1], self.alphas_cumprod), self.stand_in.prediction, self.predicts)


def own_forward(unet: Any) -> Callable[..., Any] | None:
    """What ControlNet has put in the place of this one UNet's forward: a function of the UNet and its call."""
    function = getattr(vars(unet).get("forward"), "__func__", None)
    return None if function is type(unet).forward else function


def _widths(unet: Any) -> list[int]:
    """Of what each block on the way down hands on. A ControlNet is made for one row of them."""
    return [block[0].out_channels for block in unet.input_blocks]


def anatomy(unet: Any) -> Anatomy:
    """The injection points of an ldm UNetModel (SD 1.x, 2.x and, in sgm's copy of the class, SDXL)."""
    resnet, transformer, *_ = middle = unet.middle_block
    stages = (Stage("M00", middle[-1]), *(Stage(f"OUT{i:02d}", block[-1]) for i, block in enumerate(unet.output_blocks)))
    return Anatomy(unet, unet.input_blocks[0][0], tuple(_sites(unet)), _read_call, "context", stages, Middle(resnet, transformer))


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
