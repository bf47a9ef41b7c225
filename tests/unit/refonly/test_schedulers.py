from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from lib_refonly.errors import BadModel, BadSettings
from lib_refonly.refonly.schedulers import make_scheduler
from lib_refonly.refonly.settings import SAMPLERS
from tests.tiny_models import SCHEDULER


def perfect_run(name: str, config: Mapping[str, object], steps: int = 20) -> torch.Tensor:
    """Sampling with a network that knows the picture: every sampler has to arrive at it."""
    scheduler = make_scheduler(name, config)
    scheduler.set_timesteps(steps)
    target, generator = torch.full((1, 4, 4, 4), 0.7), torch.Generator().manual_seed(0)
    x = torch.randn(target.shape, generator=generator) * scheduler.init_noise_sigma
    extra = {"generator": generator} if "generator" in scheduler.step.__code__.co_varnames else {}
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, t)
        abar = scheduler.alphas_cumprod[int(t)]
        noise = (seen - abar.sqrt() * target) / (1 - abar).sqrt()
        v = abar.sqrt() * noise - (1 - abar).sqrt() * target
        x = scheduler.step(v if config["prediction_type"] == "v_prediction" else noise, t, x, return_dict=False, **extra)[0]
    return (x - target).abs().max()


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_arrives(name: str, prediction: str) -> None:
    assert perfect_run(name, SCHEDULER | {"prediction_type": prediction}) < 0.1


def test_unipc_ends_as_the_released_code_does_unless_told() -> None:
    assert make_scheduler("UniPC", SCHEDULER).config.final_sigmas_type == "sigma_min"
    assert make_scheduler("UniPC", SCHEDULER | {"final_sigmas_type": "zero"}).config.final_sigmas_type == "zero"


def test_unipc_timesteps_are_the_released_ones() -> None:
    scheduler = make_scheduler("UniPC", SCHEDULER)
    scheduler.set_timesteps(20)
    assert scheduler.timesteps[:2].tolist() == [999, 949]
    assert scheduler.timesteps[-1] == 50


def test_what_the_config_says_wins() -> None:
    scheduler = make_scheduler("DDIM", SCHEDULER | {"timestep_spacing": "trailing", "beta_end": 0.02})
    assert (scheduler.config.timestep_spacing, scheduler.config.beta_end) == ("trailing", 0.02)
    assert make_scheduler("DPM++ 2M Karras", SCHEDULER | {"use_karras_sigmas": False}).config.use_karras_sigmas is True
    assert make_scheduler("DPM++ 2M", SCHEDULER | {"use_karras_sigmas": True}).config.use_karras_sigmas is False


def test_unknown_sampler() -> None:
    with pytest.raises(BadSettings, match="Magic"):
        make_scheduler("Magic", SCHEDULER)


def test_zero_signal_models_refuse_samplers_that_cannot() -> None:
    with pytest.raises(BadSettings, match="LMS cannot run"):
        make_scheduler("LMS", SCHEDULER | {"rescale_betas_zero_snr": True})


def test_a_config_that_the_sampler_refuses() -> None:
    with pytest.raises(BadModel, match="scheduler_config"):
        make_scheduler("DDIM", SCHEDULER | {"beta_schedule": "wavy"})
