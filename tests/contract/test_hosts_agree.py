"""The same plan on the same weights gives the same result on every host."""

from __future__ import annotations

import pytest
import torch

from lib_refonly.conditioning.plan import COND, UNCOND, ImagePrompt, ImageTokens, InputFeature, Plan, Window
from tests.contract.conftest import noise, subject_named
from tests.contract.unets import WIDTH

HOSTS = ("diffusers", "ldm", "forge")


@pytest.mark.parametrize("kind", ["sd15", "sd21"])
@pytest.mark.parametrize("t", [999.0, 400.0, 1.0])
def test_diffusers_ldm_and_forge(kind: str, t: float) -> None:
    mask = torch.zeros(128, 64)
    mask[40:] = 1
    pictures = (ImageTokens(noise(1, 9, WIDTH, seed=3), 0.7), ImageTokens(noise(1, 5, WIDTH, seed=4), mask=mask))
    prompt = ImagePrompt(pictures, 0.9, window=Window(0, 0.9), site_weights={"IN04": 0.5, "M00": 0.0, "OUT09.0": 0.3})
    plan = Plan((prompt,), (InputFeature(noise(1, 32, 16, 8, seed=5), 0.8),))
    samples, text = noise(2, 4, 16, 8), noise(2, 7, WIDTH, seed=2)
    results = []
    for host in HOSTS:
        subject = subject_named(f"{host}-{kind}")
        with subject.session(subject.unet, plan) as session:
            session.roles = (UNCOND, COND)
            results.append(subject.call(samples, t, text))
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", ["sd15", "sd21"])
def test_the_sites_have_the_same_names(kind: str) -> None:
    names = [[s.name for s in subject_named(f"{host}-{kind}").session(subject_named(f"{host}-{kind}").unet, Plan()).anatomy.sites] for host in HOSTS]
    assert names[0] == names[1] == names[2]
    assert len(names[0]) == 16
    assert names[0][0] == "IN01.0"
    assert names[0][-1] == "OUT11.0"
