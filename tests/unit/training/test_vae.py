from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lib_refonly.training.vae import VaeConfig, VaeTask, halve, latent_statistics, to_bytes, to_signed
from lib_refonly.training.vae_shape import LDM_EPS, fold, normalise_latents, norms, soften

SMALL = VaeConfig(widths=(64, 64), crop=16)


@pytest.fixture
def task(drawings: Path) -> VaeTask:
    torch.manual_seed(0)
    return VaeTask(SMALL, drawings)


def through(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return vae.decode(vae.encode(pixels).latent_dist.mode()).sample


def test_it_starts_as_the_mean_colour_of_each_patch(task: VaeTask) -> None:
    """Colours that are constant in a patch come back nearly as they were, before any training."""
    colours = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    pixels = colours.repeat_interleave(8, 2).repeat_interleave(8, 3)
    out = through(task.vae, pixels)
    inner = out.reshape(4, 3, 4, 8, 4, 8)[:, :, :, 3:5, :, 3:5].mean((3, 5))
    flat, back = colours.permute(1, 0, 2, 3).flatten(1), inner.permute(1, 0, 2, 3).flatten(1)
    for channel in range(3):
        assert torch.corrcoef(torch.stack([flat[channel], back[channel]]))[0, 1] > 0.98


def test_folding_changes_the_weights_and_not_the_function(task: VaeTask) -> None:
    for weight in task.vae.parameters():
        weight.data.add_(0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)))
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3)) * 2 - 1
    before = through(task.vae, pixels)
    fold(task.vae)
    assert {norm.eps for norm in norms(task.vae)} == {LDM_EPS}
    torch.testing.assert_close(through(task.vae, pixels), before, rtol=0, atol=1e-4)
    soften(task.vae)
    assert (through(task.vae, pixels) - before).abs().max() > 1e-3


def test_normalised_latents_have_the_size_that_sd_expects(task: VaeTask, drawings: Path) -> None:
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3)) * 2 - 1
    before = through(task.vae, pixels)
    mean, std = latent_statistics(task.vae, task.data, count=10)
    normalise_latents(task.vae, mean, std)
    torch.testing.assert_close(through(task.vae, pixels), before, rtol=0, atol=1e-4)
    mean, std = latent_statistics(task.vae, task.data, count=10)
    torch.testing.assert_close(mean, torch.zeros(4), rtol=0, atol=1e-3)
    torch.testing.assert_close(std * task.vae.config["scaling_factor"], torch.ones(4), rtol=1e-3, atol=0)


def test_training_lowers_the_loss(task: VaeTask) -> None:
    optimiser = torch.optim.AdamW(task.parameters(), lr=1e-3)
    batch = task.draw(np.random.default_rng(0), 8)
    losses = []
    for _ in range(12):
        loss = task(**batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_crops_are_pictures_in_range(task: VaeTask) -> None:
    pixels = task.draw(np.random.default_rng(1), 16)["pixels"]
    assert pixels.shape == (16, 3, 16, 16)
    assert pixels.min() >= -1
    assert pixels.max() <= 1
    assert pixels.std() > 0.1


def test_bytes_round_trip() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    assert np.array_equal(to_bytes(to_signed(pictures)), pictures)
    assert np.array_equal(halve(np.full((4, 4, 3), 255, np.uint8)), np.full((2, 2, 3), 255))
