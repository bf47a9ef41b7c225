"""Only for the tests: an always-on script that looks at what the UNet is really called with, and writes it into the picture's parameters.

Its one argument is a part of the latent, [top, left, height, width]: outside of it the first convolution must be handed the same at every call of a run.
"""

from __future__ import annotations

import json
from typing import Any

import gradio as gr
import torch
from modules import scripts


class WatchUNet(scripts.Script):
    handle: Any = None
    seen: list[torch.Tensor]

    def title(self) -> str:
        return "Watch the UNet"

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        return [gr.Textbox("", visible=False)]

    def process_before_every_sampling(self, p: Any, part: Any = "", *_: Any, **__: Any) -> None:
        self._end()
        if part:
            model = p.sd_model.forge_objects.unet.model if hasattr(p.sd_model, "forge_objects") else p.sd_model.model
            self.seen = []
            # The layer inside: hooks of the call that change what it is handed have run by then.
            self.handle = model.diffusion_model.input_blocks[0][0].register_forward_hook(lambda _, given, __: self.seen.append(given[0].detach().float().cpu()))

    def post_sample(self, p: Any, ps: Any, part: Any = "", *_: Any) -> None:
        self._end()
        if part and self.seen:
            top, left, height, width = part
            inside = torch.zeros(self.seen[0].shape[-2:], dtype=torch.bool)
            inside[top : top + height, left : left + width] = True
            first = self.seen[0][:1]
            away = max(float((x - first)[..., ~inside].abs().max()) for x in self.seen)
            moved = max(float((x[:1] - first)[..., inside].abs().max()) for x in self.seen)
            p.extra_generation_params["Watched"] = json.dumps({"calls": len(self.seen), "away": away, "moved": moved, "size": list(inside.shape)})

    def _end(self) -> None:
        if self.handle is not None:
            self.handle.remove()
            self.handle = None
