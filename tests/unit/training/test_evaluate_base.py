from __future__ import annotations

import numpy as np
import pytest

from lib_refonly.training.evaluate_base import COLOURS, GUIDANCE, Response, holds, report_base, share


@pytest.mark.parametrize("name", COLOURS)
def test_each_colour_is_recognised_as_itself_and_no_other(name: str) -> None:
    picture = np.zeros((1, 8, 8, 3), np.uint8)
    picture[:, :4] = COLOURS[name]
    assert share(picture, COLOURS[name]) == 1
    # Lab sets red beside orange and blue beside purple beside pink; green has no neighbour.
    others = [c for c in COLOURS if c != name and share(picture, COLOURS[c]) > 0]
    assert set(others) <= set(COLOURS) - {"green"}
    assert len(others) <= 2


def test_black_and_grey_have_no_share() -> None:
    assert share(np.zeros((2, 8, 8, 3), np.uint8), COLOURS["red"]) == 0


def test_what_counts_as_reading_the_prompt() -> None:
    good = [Response(c, (0.3, 0.5, 0.7, 0.8), 0.05, 0.1, 0.02) for c in COLOURS]
    deaf = [Response(c, (0.2, 0.2, 0.2, 0.2), 0.2, 0.2, 0.2) for c in COLOURS]
    assert holds(good)
    assert not holds(deaf)
    text = report_base("tiny-base", good, "x")
    assert text.count("| 70 % |") == len(COLOURS)
    assert text.splitlines()[-1].count("|") == len(GUIDANCE) + 5
