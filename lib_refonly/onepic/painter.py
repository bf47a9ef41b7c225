"""ONE-PIC with a diffusers folder's networks: what the studio paints canvases with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from lib_refonly.conditioning.plan import Plan
from lib_refonly.onepic.compose import Composed, Painted, composed
from lib_refonly.onepic.latents import cell, clean_context
from lib_refonly.onepic.lora import Low, merged
from lib_refonly.onepic.project import Project
from lib_refonly.onepic.settings import OnePicPaintSettings
from lib_refonly.refonly.sampling import Guidance, denoise
from lib_refonly.refonly.schedulers import make_scheduler
from lib_refonly.refonly.text_to_image import TextToImage


@torch.no_grad()
def paint(
    base: TextToImage,
    project: Project,
    settings: OnePicPaintSettings,
    lora: Mapping[str, Low] | None = None,
    plan: Plan | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Painted:
    """`plan`: what acts beside the canvas, over the whole of it.

    Raises:
        BadSettings: the project has no target. BadModel: the LoRA belongs to another checkpoint.
    """
    project.check_ready()
    seen, s = composed(project), settings
    context = clean_context(seen, project.layout, base.encode, project.reuse)
    dice = torch.Generator().manual_seed(s.seed)
    noise = torch.randn(context.latents.shape, generator=dice).to(base.device, base.dtype)
    # Where nothing tells the two sides apart, CFG changes nothing and costs twice.
    cfg = 1.0 if plan is None and project.prompt == project.negative else s.cfg
    text = base.contexts([project.prompt] if cfg == 1 else [project.negative, project.prompt])
    whole = replace(plan or Plan(), canvas=context)
    scheduler = make_scheduler(s.sampler, base.scheduler_config)
    with nullcontext() if lora is None else merged(base.unet, lora, s.lora_strength):
        latents = denoise(base.unet, whole, scheduler, noise, s.steps, Guidance(cfg), dice, on_step, text)
    latents = torch.where(context.target.to(latents.device), latents, context.latents)
    return _decoded(base, project, seen, latents)


def _decoded(base: TextToImage, project: Project, seen: Composed, latents: Tensor) -> Painted:
    """Only what was painted goes through the VAE; context panels are shown as they were given."""
    layout, whole = project.layout, seen.canvas.copy()
    cells = torch.from_numpy(seen.target.copy())
    targets = {}
    for number in range(layout.panels):
        if cell(cells, layout, number).any():
            targets[number] = base.decode(cell(latents, layout, number).contiguous())[0]
            whole.paste(targets[number], layout.box(number, project.width, project.height)[:2])
    return Painted(targets, whole)
