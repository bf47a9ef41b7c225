"""Rows as AUTOMATIC1111 hands them to the UNet: conditional ones first, in one call or in several."""

from __future__ import annotations

import pytest
import torch

from lib_refonly.conditioning.plan import ImagePrompt, ImageTokens, Plan
from lib_refonly.hosts.ldm import RowCursor
from tests.contract.conftest import noise, subject_named
from tests.contract.test_contract import CLOSE
from tests.contract.unets import WIDTH


@pytest.mark.parametrize(
    ("conditional", "calls"),
    [(2, (4,)), (2, (2, 2)), (2, (1, 1, 1, 1)), (3, (3, 1)), (4, (2, 2)), (2, (2,))],
    ids=["one call", "prompts of other lengths", "row by row", "a AND b", "no negative rows in this step", "unconditional rows skipped"],
)
def test_conditional_rows_are_told_apart(conditional: int, calls: tuple[int, ...]) -> None:
    subject, text = subject_named("ldm-sd15"), noise(1, 7, WIDTH, seed=2)
    samples, tokens = noise(sum(calls), 4, 16, 8), noise(1, 5, WIDTH, seed=3)
    cursor, out = RowCursor(), samples
    with subject.session(subject.unet, Plan((ImagePrompt((ImageTokens(tokens),)),))) as session:
        session.roles = cursor
        for _ in range(2):  # a second step begins anew
            cursor.begin_step(conditional)
            out = torch.cat([subject.call(part, 500.0, text.expand(len(part), -1, -1)) for part in samples.split(calls)])
    for i, row in enumerate(out):
        wanted = subject.call(samples[i : i + 1], 500.0, tokens if i < conditional else text)
        torch.testing.assert_close(row[None], wanted, **CLOSE)
