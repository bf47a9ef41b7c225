"""Only for the tests: an always-on script that makes the UNet raise in the middle of sampling, as any other extension might."""

from __future__ import annotations

from typing import Any

import gradio as gr
from modules import script_callbacks, scripts
from torch.nn.modules.module import register_module_forward_pre_hook

_NEVER = 1_000_000


class RaiseAt(scripts.Script):
    step = _NEVER

    def title(self) -> str:
        return "Raise at"

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        return [gr.Number(_NEVER, visible=False)]

    def process(self, p: Any, *arguments: Any) -> None:
        RaiseAt.step = int(arguments[0])

    @staticmethod
    def arm() -> None:
        """The next network that is called raises: an exception in the callback itself would be caught by the host."""

        def raising(*_: object) -> None:
            handle.remove()
            RaiseAt.step = _NEVER
            raise RuntimeError("raised in the middle")

        handle = register_module_forward_pre_hook(raising)

    @staticmethod
    def on_step(params: Any) -> None:
        if params.sampling_step >= RaiseAt.step:
            RaiseAt.arm()


script_callbacks.on_cfg_denoiser(RaiseAt.on_step)
