"""The sampling loop and its two guidance scales."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lib_refonly.conditioning.plan import ImagePrompt, ImageTokens, InputFeature, Plan
from lib_refonly.errors import Interrupted
from lib_refonly.hosts.diffusers import session
from lib_refonly.refonly.sampling import Guidance, denoise
from lib_refonly.refonly.schedulers import make_scheduler
from tests.tiny_models import SCHEDULER, tiny_unet
from tests.unit.refonly.painting import Calls, hooks

WIDTH = 48


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def unet() -> Any:
    return tiny_unet()


@pytest.fixture
def plan() -> Plan:
    return Plan((ImagePrompt((ImageTokens(noise(2, 5, WIDTH)),)),), (InputFeature(noise(2, 32, 8, 8, seed=2)),))


class OneStep:
    """A scheduler that hands the UNet's (guided) output through."""

    init_noise_sigma = 1.0

    def set_timesteps(self, steps: int, device: object) -> None:
        self.timesteps = torch.tensor([500])

    def scale_model_input(self, sample: Tensor, t: Tensor) -> Tensor:
        return sample

    def step(self, out: Tensor, t: Tensor, x: Tensor, return_dict: bool) -> tuple[Tensor]:
        return (out,)


@pytest.mark.parametrize(
    ("image", "lines", "roles"),
    [(1, 1, ("cond",)), (2, 1, ("partial", "cond")), (1, 2, ("uncond", "partial", "cond")), (2, 2, ("uncond", "partial", "cond"))],
)
def test_a_scale_of_1_costs_no_row(unet: Any, plan: Plan, image: float, lines: float, roles: tuple[str, ...]) -> None:
    guidance = Guidance(image, lines)
    assert guidance.roles == roles
    with Calls(unet) as calls:
        denoise(unet, plan, make_scheduler("DDIM", SCHEDULER), noise(2, 4, 8, 8), 3, guidance)
    assert calls.rows == [2 * len(roles)] * 3


@pytest.mark.parametrize(("image", "lines"), [(1.0, 1.0), (3.0, 1.0), (1.0, 0.5), (2.0, 3.0), (0.5, 2.0)])
def test_the_algebra(image: float, lines: float) -> None:
    bare, drawn, whole = noise(2, 4, seed=1), noise(2, 4, seed=2), noise(2, 4, seed=3)
    parts = {"uncond": bare, "partial": drawn, "cond": whole}
    guidance = Guidance(image, lines)
    wanted = bare + lines * (drawn - bare) + image * (whole - drawn)
    torch.testing.assert_close(guidance.combine(torch.cat([parts[role] for role in guidance.roles])), wanted)


def test_each_part_sees_what_its_name_says(unet: Any, plan: Plan) -> None:
    x, empty = noise(2, 4, 8, 8), torch.zeros(2, 1, WIDTH)

    def seen(part: Plan) -> Tensor:
        with session(unet, part):
            return unet(x, 500, encoder_hidden_states=empty, return_dict=False)[0]

    bare, drawn, whole = seen(Plan()), seen(Plan((), plan.input_features)), seen(plan)
    wanted = bare + 3 * (drawn - bare) + 2 * (whole - drawn)
    torch.testing.assert_close(denoise(unet, plan, OneStep(), x, 1, Guidance(2, 3)), wanted, atol=1e-4, rtol=1e-4)


def test_each_picture_has_its_own_noise_on_the_way(unet: Any) -> None:
    def run(rows: list[int]) -> Tensor:
        generators = [torch.Generator().manual_seed(row) for row in rows]
        start = torch.cat([noise(1, 4, 8, 8, seed=row) for row in rows])
        return denoise(unet, Plan(), make_scheduler("Euler a", SCHEDULER), start, 4, generator=generators)

    together = run([3, 4])
    torch.testing.assert_close(together, torch.cat([run([3]), run([4])]), atol=1e-4, rtol=1e-4)


def test_steps_are_told_and_may_stop_the_run(unet: Any, plan: Plan) -> None:
    told: list[tuple[int, torch.Size]] = []

    def on_step(taken: int, latents: Tensor) -> None:
        told.append((taken, latents.shape))
        if taken == 2:
            raise Interrupted("Stopped.")

    with pytest.raises(Interrupted):
        denoise(unet, plan, make_scheduler("UniPC", SCHEDULER), noise(2, 4, 8, 8), 5, on_step=on_step)
    assert told == [(1, (2, 4, 8, 8)), (2, (2, 4, 8, 8))]
    assert hooks(unet) == 0


def test_a_text_may_take_the_empty_place(unet: Any) -> None:
    def run(text: Tensor | None) -> Tensor:
        return denoise(unet, Plan(), OneStep(), noise(1, 4, 8, 8), 1, text=text)

    assert torch.equal(run(None), run(torch.zeros(1, 1, WIDTH)))
    assert (run(None) - run(noise(1, 7, WIDTH))).abs().max() > 1e-3
