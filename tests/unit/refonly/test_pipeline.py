"""Painting: what decides a picture and what doesn't, and that nothing is computed twice. On a tiny random model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lib_refonly.errors import BadSettings
from lib_refonly.refonly.model import RefOnlyModel
from lib_refonly.refonly.pipeline import ImageInput, Job, decode, guidance_of, make_plan, paint, start_noise
from lib_refonly.refonly.settings import SAMPLERS, RefOnlySettings
from tests.unit.refonly.painting import Calls, blueprint, colours, differ, hooks, lively_model

FOUR_LEVELS: dict[str, Any] = {
    "block_out_channels": (32, 64, 64, 64),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "attention_head_dim": [2, 2, 2, 2],
}


@pytest.fixture(scope="module")
def model() -> RefOnlyModel:
    return lively_model()


def a_job(seed: int = 0, *references: ImageInput, shift: int = 0, size: tuple[int, int] = (48, 64)) -> Job:
    return Job(references or (ImageInput(colours()),), blueprint(size, shift), seed)


def painted(model: RefOnlyModel, *jobs: Job, **settings: Any) -> list[Image.Image]:
    chosen: dict[str, Any] = {"steps": 3, "guidance": 1.0, "blueprint_guidance": 1.0} | settings
    return paint(model, jobs, RefOnlySettings(**chosen))


def one(model: RefOnlyModel, *references: ImageInput, **settings: Any) -> Image.Image:
    return painted(model, a_job(0, *references), **settings)[0]


@pytest.mark.parametrize("guidance", [(1.0, 1.0), (2.0, 1.0), (2.0, 2.0)], ids=["off", "reference", "both"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_batch_equals_single_runs(model: RefOnlyModel, sampler: str, guidance: tuple[float, float]) -> None:
    jobs = [a_job(7, ImageInput(colours(1))), a_job(8, ImageInput(colours(2)), shift=3), a_job(8, ImageInput(colours(1)), shift=-3)]
    settings = {"sampler": sampler, "steps": 4, "guidance": guidance[0], "blueprint_guidance": guidance[1]}
    together = painted(model, *jobs, **settings)
    for job, picture in zip(jobs, together, strict=True):
        (alone,) = painted(model, job, **settings)
        assert differ(alone, picture) <= 1
        assert picture.size == (48, 64)
        assert np.asarray(picture).std() > 1, "not flat, as a picture of NaN would be"
    assert differ(together[0], together[1]) > 10


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_few_steps(model: RefOnlyModel, sampler: str, steps: int) -> None:
    assert np.asarray(one(model, sampler=sampler, steps=steps)).std() > 1


@pytest.mark.parametrize("sampler", ["UniPC", "Euler a"])
def test_the_seed_decides(model: RefOnlyModel, sampler: str) -> None:
    first, again, other = (painted(model, a_job(seed), sampler=sampler)[0] for seed in (5, 5, 6))
    assert differ(first, again) == 0
    assert differ(first, other) > 10


def test_prediction_type_is_the_models(model: RefOnlyModel) -> None:
    other = lively_model()
    other.scheduler_config["prediction_type"] = "epsilon"
    assert differ(one(model), one(other)) > 10


def test_without_strength_the_reference_does_not_count(model: RefOnlyModel) -> None:
    first, second = ImageInput(colours(1)), ImageInput(colours(2))
    assert differ(one(model, first, reference_strength=0.0), one(model, second, reference_strength=0.0)) == 0
    assert differ(one(model, first), one(model, second)) > 2
    assert differ(one(model, first), one(model, first, reference_strength=0.0)) > 2
    assert differ(one(model, first, guidance=3.0), one(model, second, guidance=3.0)) > 2


def test_without_strength_the_lines_do_not_count(model: RefOnlyModel) -> None:
    jobs = [Job((ImageInput(colours()),), Image.new("L", (48, 64), level), 0) for level in (0, 255)]
    assert differ(*painted(model, *jobs, blueprint_strength=0.0)) == 0
    assert differ(*painted(model, *jobs)) > 10


@pytest.mark.parametrize("part", ["reference", "blueprint"])
def test_start_and_end(model: RefOnlyModel, part: str) -> None:
    def run(start: float, end: float) -> Image.Image:
        return one(model, steps=6, **{f"{part}_start": start, f"{part}_end": end})

    never = one(model, steps=6, **{f"{part}_strength": 0.0})
    whole, early, late = run(0.0, 1.0), run(0.0, 0.5), run(0.5, 1.0)
    assert differ(run(1.0, 1.0), never) == 0
    pictures = [whole, early, late, never]
    assert all(differ(a, b) > 1 for i, a in enumerate(pictures) for b in pictures[:i])


@pytest.mark.parametrize("part", ["reference", "blueprint"])
def test_a_start_after_the_end_is_refused(model: RefOnlyModel, part: str) -> None:
    with pytest.raises(BadSettings, match="start is not after the end"):
        one(model, **{f"{part}_start": 0.8, f"{part}_end": 0.2})


def test_weights_share_one_attention_out(model: RefOnlyModel) -> None:
    red, blue = colours(1), colours(2)
    alone = one(model, ImageInput(red))
    assert differ(one(model, ImageInput(red, 0.3)), alone) <= 1, "a single reference has nobody to share with"
    assert differ(one(model, ImageInput(red), ImageInput(blue, 0.0)), alone) <= 1
    twice = one(model, ImageInput(red), ImageInput(blue), ImageInput(blue))
    assert differ(one(model, ImageInput(red), ImageInput(blue, 2.0)), twice) <= 1
    assert differ(one(model, ImageInput(red), ImageInput(blue)), twice) > 1


def test_references_without_any_weight_are_none(model: RefOnlyModel) -> None:
    assert differ(one(model, ImageInput(colours(), 0.0)), one(model, reference_strength=0.0)) == 0


def a_mask(level: int, left_only: bool = False) -> Image.Image:
    mask = Image.new("L", (48, 64), 0 if left_only else level)
    mask.paste(level, (0, 0, 24, 64))
    return mask


def test_masks(model: RefOnlyModel) -> None:
    white, black, left = (one(model, ImageInput(colours(), mask=mask)) for mask in (a_mask(255), a_mask(0), a_mask(255, left_only=True)))
    assert differ(white, one(model)) <= 1
    assert differ(black, one(model, reference_strength=0.0)) <= 1
    assert differ(left, white) > 1
    assert differ(left, black) > 1


def test_a_mask_lies_as_the_canvas_does(model: RefOnlyModel) -> None:
    plan = make_plan(model, [a_job(0, ImageInput(colours(), mask=a_mask(255, left_only=True)))], RefOnlySettings())
    mask = plan.image_prompts[0].pictures[0].mask
    assert mask is not None
    assert mask.shape == (64, 48)
    assert mask[:, :24].min() == 1
    assert mask[:, 24:].max() == 0


def test_nothing_is_computed_twice(model: RefOnlyModel) -> None:
    reference = ImageInput(colours())
    jobs = [a_job(seed, reference, shift=seed) for seed in range(3)]
    with Calls(model.image_encoder) as encoder, Calls(model.blueprint) as lines, Calls(model.unet) as unet:
        painted(model, *jobs, steps=5)
    assert (encoder.rows, lines.rows, unet.rows) == ([1], [3], [3] * 5)


def test_the_lines_of_variations_are_encoded_once(model: RefOnlyModel) -> None:
    first = a_job()
    jobs = [Job(first.references, first.blueprint, seed) for seed in range(3)]
    with Calls(model.blueprint) as lines:
        pictures = painted(model, *jobs)
    assert lines.rows == [1]
    assert differ(pictures[2], painted(model, a_job(2))[0]) <= 1


def test_a_cache_may_read_the_references(model: RefOnlyModel) -> None:
    asked: list[Image.Image] = []

    def tokens(picture: Image.Image) -> torch.Tensor:
        asked.append(picture)
        return torch.zeros(1, 3, 48)

    first, second = colours(1), colours(2)
    with Calls(model.image_encoder) as encoder:
        paint(model, [a_job(0, ImageInput(first), ImageInput(second))], RefOnlySettings(steps=1), tokens=tokens)
    assert encoder.rows == []
    assert asked == [first, second]


def test_noise_is_each_pictures_own(model: RefOnlyModel) -> None:
    def dice(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    both = start_noise(model, dice(1, 2**32 - 1), (48, 64))
    assert both.shape == (2, 4, 8, 6)
    assert torch.equal(both[1:], start_noise(model, dice(2**32 - 1), (48, 64)))
    assert abs(float(both.mean())) < 0.3
    assert abs(float(both.std()) - 1) < 0.2


def test_guidance_of_0_is_the_models_own(model: RefOnlyModel) -> None:
    assert guidance_of(model, RefOnlySettings()).image == model.card.guidance == 1.5
    assert guidance_of(model, RefOnlySettings(guidance=1.0)).image == 1.0
    assert guidance_of(model, RefOnlySettings(blueprint_guidance=3.0)).blueprint == 3.0


@pytest.mark.parametrize("size", [(8, 128), (128, 8), (8, 64), (72, 120), (104, 40)])
def test_sizes_that_the_unet_cannot_halve_evenly(size: tuple[int, int]) -> None:
    model = lively_model(**FOUR_LEVELS)
    mask = Image.new("L", size, 128)
    (picture,) = painted(model, a_job(0, ImageInput(colours(), mask=mask), size=size), steps=2)
    assert picture.size == size


def test_decoding_clamps(model: RefOnlyModel) -> None:
    levels = np.asarray(decode(model, 100 * torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))))
    assert (levels.min(), levels.max()) == (0, 255)


@pytest.mark.parametrize("sampler", ["UniPC", "PNDM"])
def test_stopping_leaves_the_unet_as_it_was(model: RefOnlyModel, sampler: str) -> None:
    before = one(model, sampler=sampler)
    for at in (1, 2, 3):

        def stop(taken: int, _: torch.Tensor, at: int = at) -> None:
            if taken == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            paint(model, [a_job()], RefOnlySettings(steps=3, sampler=sampler), stop)
        assert hooks(model.unet) == 0
    assert differ(one(model, sampler=sampler), before) == 0


def test_references_of_a_batch_may_differ(model: RefOnlyModel) -> None:
    def rows(jobs: Sequence[Job]) -> int:
        return make_plan(model, jobs, RefOnlySettings()).image_prompts[0].pictures[0].tokens.shape[0]

    shared = ImageInput(colours(1))
    assert rows([a_job(0, shared), a_job(1, shared)]) == 1
    assert rows([a_job(0, shared), a_job(1, ImageInput(colours(2)))]) == 2
