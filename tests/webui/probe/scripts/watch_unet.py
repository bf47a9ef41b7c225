"""Only for the tests: an always-on script that looks at what the UNet is really called with, and writes it into the picture's parameters.

Its one argument is a part of the latent, [top, left, height, width]: outside of it the first convolution must be handed the same at every call of a run.
What stands between one block's answer and what the next one is handed was added by somebody, as by a ControlNet: "added" says how much, inside and outside.
"""

from __future__ import annotations

import json
from typing import Any

import gradio as gr
import torch
from modules import scripts


class WatchUNet(scripts.Script):
    handles: tuple[Any, ...] = ()
    seen: list[torch.Tensor]
    added: list[torch.Tensor]
    last: torch.Tensor | None = None

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
            unet = model.diffusion_model
            self.seen, self.added, self.last = [], [], None
            # The layer inside: hooks of the call that change what it is handed have run by then.
            first = unet.input_blocks[0][0].register_forward_hook(lambda _, given, __: self.seen.append(given[0].detach().float().cpu()))
            blocks = [*unet.input_blocks, unet.middle_block, *unet.output_blocks]
            before = [block.register_forward_pre_hook(self._handed) for block in blocks[1:]]
            self.handles = (first, *before, *(block.register_forward_hook(self._answered) for block in blocks[:-1]))

    def _answered(self, _: Any, __: Any, out: torch.Tensor) -> None:
        self.last = out.detach().float().cpu().clone()

    def _handed(self, _: Any, given: tuple[Any, ...]) -> None:
        if self.last is not None:
            here = given[0].detach().float().cpu()[:, : self.last.shape[1]]
            if here.shape == self.last.shape:  # a grid may change on the way up
                self.added.append((here - self.last).abs().amax((0, 1)))

    def post_sample(self, p: Any, ps: Any, part: Any = "", *_: Any) -> None:
        self._end()
        if part and self.seen:
            top, left, height, width = part
            inside = torch.zeros(self.seen[0].shape[-2:], dtype=torch.bool)
            inside[top : top + height, left : left + width] = True
            first = self.seen[0][:1]
            away = max(float((x - first)[..., ~inside].abs().max()) for x in self.seen)
            moved = max(float((x[:1] - first)[..., inside].abs().max()) for x in self.seen)
            added = [0.0, 0.0]
            for change in self.added:
                within = torch.nn.functional.adaptive_max_pool2d(inside[None].float(), change.shape[-2:])[0] > 0
                added = [max(most, float(change[where].max()) if where.any() else 0.0) for most, where in zip(added, (within, ~within), strict=True)]
            found = {"calls": len(self.seen), "away": away, "moved": moved, "size": list(inside.shape), "added": added}
            p.extra_generation_params["Watched"] = json.dumps(found)

    def _end(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles = ()
