from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from tests.contract.unets import SUBJECTS, WIDTH, Subject


@cache
def subject_named(name: str) -> Subject:
    if not name.startswith("diffusers"):
        pytest.importorskip("ldm.modules.diffusionmodules.openaimodel", reason="stable-diffusion-sdkit (the real ldm UNet) is not installed")
    return SUBJECTS[name]()


@pytest.fixture(params=list(SUBJECTS))
def subject(request: pytest.FixtureRequest) -> Subject:
    return subject_named(request.param)


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def sample() -> Tensor:
    return noise(1, 4, 16, 8)


@pytest.fixture
def text() -> Tensor:
    return noise(1, 7, WIDTH, seed=2)


@pytest.fixture
def tokens() -> Tensor:
    return noise(1, 11, WIDTH, seed=3)


@pytest.fixture
def feature(subject: Subject) -> Tensor:
    return noise(1, 32, 16, 8, seed=4)
