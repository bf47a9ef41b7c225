"""AUTOMATIC1111's WebUI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from lib_refonly.conditioning.plan import Plan
from lib_refonly.hosts.control import NarrowedNetwork
from lib_refonly.hosts.ldm import Attachment, RowCursor, anatomy, own_forward
from lib_refonly.hosts.noise import Noise
from lib_refonly.hosts.session import Session
from lib_refonly.hosts.stand_in import StandIn, prediction_of
from lib_refonly.refonly.hosted import Latents
from lib_refonly.webui.control import narrowed
from lib_refonly.webui.host import Attached, Checkpoint
from lib_refonly.webui.prompts import forget_prompts


class A1111Attached:
    def __init__(self, attachment: Attachment, cursor: RowCursor, sd_model: Any, stand_in: StandIn | None, controls: Sequence[NarrowedNetwork] = ()) -> None:
        self.attachment, self.cursor, self.sd_model, self.stand_in = attachment, cursor, sd_model, stand_in
        self.controls = controls

    @property
    def calls(self) -> int:
        return self.attachment.session.calls

    def remove(self) -> None:
        self.attachment.remove()
        for control in self.controls:
            control.remove()
        if self.stand_in is not None:
            self.stand_in.unet.to("cpu")
            _forget_device(self.sd_model)
            if own_forward(self.sd_model.model.diffusion_model) is not None:
                # ControlNet puts a mark into the prompts' tokens, and has the WebUI forget them when its forward has read it. That one didn't run: the
                # next picture would be painted with the mark as a word.
                forget_prompts()


class _Refusal:
    calls = 1

    def __init__(self, model: nn.Module, error: Exception) -> None:
        def refuse(*_: object) -> None:
            raise error

        self._handle = model.register_forward_pre_hook(refuse)

    def remove(self) -> None:
        self._handle.remove()


class A1111Host:
    def checkpoint(self, sd_model: Any) -> Checkpoint:
        from modules import devices

        unet = sd_model.model.diffusion_model
        shapes = {name: tuple(weight.shape) for name, weight in sd_model.first_stage_model.named_parameters()}
        try:
            latents = Latents.of(shapes, sd_model.scale_factor)
        except (KeyError, AttributeError):
            latents = None
        return Checkpoint(sd_model.sd_checkpoint_info.name_for_extra, unet, lambda: anatomy(unet), latents, devices.dtype_unet)

    @contextmanager
    def lent(self, sd_model: Any, module: nn.Module) -> Iterator[None]:
        from modules import devices

        _forget_device(sd_model)
        module.to(devices.device)
        try:
            yield
        finally:
            module.to("cpu")
            devices.torch_gc()

    def attach(self, p: Any, plan: Plan, stand_in: StandIn | None) -> Attached:
        from modules import devices

        sd_model, cursor = p.sd_model, RowCursor()
        unet = sd_model.model.diffusion_model
        if stand_in is not None:
            _forget_device(sd_model)
            unet = stand_in.unet.to(devices.device)
        predicts = prediction_of(getattr(sd_model, "parameterization", "eps"))
        noise = Noise(sd_model.alphas_cumprod, predicts if stand_in is None else stand_in.prediction)
        session = Session(anatomy(unet), plan, roles=cursor, noise=noise)
        attachment = Attachment(sd_model.model, session, stand_in, predicts, sd_model.alphas_cumprod)
        controls = narrowed(p, plan.canvas.control) if plan.canvas is not None and plan.canvas.control is not None else ()
        return A1111Attached(attachment, cursor, sd_model, stand_in, controls)

    def refuse(self, p: Any, error: Exception) -> Attached:
        return _Refusal(p.sd_model.model, error)

    def begin_step(self, attached: Attached, params: Any) -> None:
        if isinstance(attached, A1111Attached):
            text = params.text_cond
            text = text["crossattn"] if isinstance(text, dict) else text
            attached.cursor.begin_step(text.shape[0])


def _forget_device(sd_model: Any) -> None:
    """Under --medvram and --lowvram, which keep one part on the device and remember which: nothing is there now."""
    from modules import lowvram

    if lowvram.is_enabled(sd_model):
        lowvram.send_everything_to_cpu()
