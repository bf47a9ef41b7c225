"""Paint: image tokens and the blueprint's feature in, pictures out. The whole of the method on a `RefOnlyModel`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lib_refonly.conditioning.plan import ImagePrompt, ImageTokens, InputFeature, Plan, Window
from lib_refonly.refonly.blueprint import blueprint_tensor
from lib_refonly.refonly.image_encoder import encode, preprocess
from lib_refonly.refonly.model import RefOnlyModel
from lib_refonly.refonly.sampling import Guidance, OnStep, denoise
from lib_refonly.refonly.schedulers import make_scheduler
from lib_refonly.refonly.settings import RefOnlySettings


@dataclass(frozen=True)
class ImageInput:
    """One reference for the model: RGB, its weight, and where on the canvas it acts (mode L at the canvas' size, white = here)."""

    picture: Image.Image
    weight: float = 1.0
    mask: Image.Image | None = None


@dataclass(frozen=True)
class Job:
    """One picture to paint. `blueprint`: mode L, white on black, at the canvas' size."""

    references: tuple[ImageInput, ...]
    blueprint: Image.Image
    seed: int


@torch.no_grad()
def image_tokens(model: RefOnlyModel, picture: Image.Image, fit: str) -> Tensor:
    """The tokens of one reference, [1, tokens, width]."""
    return encode(model.image_encoder, preprocess(picture, model.prompt_spec, fit))


@torch.no_grad()
def make_plan(model: RefOnlyModel, jobs: Sequence[Job], settings: RefOnlySettings, tokens: Callable[[Image.Image], Tensor] | None = None) -> Plan:
    """What goes into the UNet for jobs that are painted as one batch: they have the same number of references, weights and masks, and one size.

    tokens: reads a reference (a cache, say); by default the model's image encoder.
    """
    read = tokens or (lambda picture: image_tokens(model, picture, settings.fit))
    prompt = ImagePrompt(
        pictures=tuple(_pictures(jobs, place, read) for place in range(len(jobs[0].references))),
        strength=settings.reference_strength,
        window=Window(settings.reference_start, settings.reference_end),
    )
    same = all(job.blueprint is jobs[0].blueprint for job in jobs)  # variations of one drawing
    canvases = torch.cat([blueprint_tensor(job.blueprint) for job in (jobs[:1] if same else jobs)]).to(model.device, model.dtype)
    feature = InputFeature(model.blueprint(canvases), settings.blueprint_strength, window=Window(settings.blueprint_start, settings.blueprint_end))
    return Plan((prompt,), (feature,))


def _pictures(jobs: Sequence[Job], place: int, read: Callable[[Image.Image], Tensor]) -> ImageTokens:
    first = jobs[0].references[place]
    mask = None if first.mask is None else torch.from_numpy(np.asarray(first.mask.convert("L"), dtype=np.float32) / 255)
    same = all(job.references[place].picture is first.picture for job in jobs)
    parts = [read(job.references[place].picture) for job in (jobs[:1] if same else jobs)]
    return ImageTokens(torch.cat(parts), first.weight, None if mask is None else mask.to(parts[0].device))


def guidance_of(model: RefOnlyModel, settings: RefOnlySettings) -> Guidance:
    """The scales of the settings; 0 stands for the model's own."""
    card = model.card
    return Guidance(settings.guidance or card.guidance, settings.blueprint_guidance or card.blueprint_guidance)


def start_noise(model: RefOnlyModel, dice: Sequence[torch.Generator], size: tuple[int, int]) -> Tensor:
    """Unit noise [n, C, h/8, w/8], each picture's from its own generator of the CPU: the same on every device and in every batch."""
    shape = (model.unet.config["in_channels"], size[1] // 8, size[0] // 8)
    rows = [torch.randn(shape, generator=own, dtype=torch.float32) for own in dice]
    return torch.stack(rows).to(model.device, model.dtype)


@torch.no_grad()
def paint(
    model: RefOnlyModel,
    jobs: Sequence[Job],
    settings: RefOnlySettings,
    on_step: OnStep | None = None,
    tokens: Callable[[Image.Image], Tensor] | None = None,
) -> list[Image.Image]:
    """Paint `jobs` as one batch; RGB pictures at the canvas' size, in their order."""
    # The ancestral samplers draw from them while they run: each picture from its own, so that a batch equals single runs.
    dice = [torch.Generator().manual_seed(job.seed) for job in jobs]
    noise = start_noise(model, dice, jobs[0].blueprint.size)
    scheduler = make_scheduler(settings.sampler, model.scheduler_config)
    plan = make_plan(model, jobs, settings, tokens)
    latents = denoise(model.unet, plan, scheduler, noise, settings.steps, guidance_of(model, settings), dice, on_step)
    return [decode(model, row[None]) for row in latents]


@torch.no_grad()
def decode(model: RefOnlyModel, latents: Tensor) -> Image.Image:
    """Latents [1, C, h, w] -> RGB."""
    vae: Any = model.vae
    pixels = vae.decode(latents.to(model.vae.dtype) / model.vae_scale, return_dict=False)[0]
    array = ((pixels[0].float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(array.permute(1, 2, 0).cpu().numpy())
