from __future__ import annotations

from pathlib import Path

import numpy as np

from lib_refonly.training.evaluate import Case, Score, gates, load_cases, mirrored_and_turned, report, score


def case(colour: tuple[int, int, int]) -> Case:
    truth = np.zeros((32, 32, 3), np.uint8)
    truth[8:24, 8:24] = colour
    alpha = np.zeros((32, 32), np.uint8)
    alpha[8:24, 8:24] = 255
    return Case("g", truth, truth, truth, np.zeros((32, 32), np.uint8), alpha)


def test_the_truth_scores_perfectly_and_another_colour_its_distance() -> None:
    red = case((200, 30, 30))
    perfect = score("g", "model", [(red, red.truth)])
    assert perfect.dE == 0
    assert perfect.within == 1
    half = red.truth.copy()
    half[8:16, 8:24] = (30, 30, 200)
    mixed = score("g", "model", [(red, half)])
    assert mixed.within == 0.5
    assert mixed.dE > 40
    assert mixed.psnr < perfect.psnr


def test_lines_and_greys_do_not_count() -> None:
    red = case((200, 30, 30))
    lined = Case("g", red.truth, red.truth, red.truth, np.where(np.arange(32)[:, None] == 12, 255, 0).astype(np.uint8) * np.ones((1, 32), np.uint8), red.alpha)
    assert red.coloured.sum() - lined.coloured.sum() == 3 * 16
    assert case((128, 128, 128)).coloured.sum() == 0
    assert score("g", "model", [(case((128, 128, 128)), red.truth)]).drawings == 0


def test_the_reference_is_always_mirrored() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :32] = (255, 0, 0)
    picture[:, 32:] = (0, 255, 0)
    for seed in range(20):
        out = mirrored_and_turned(picture, 64, np.random.default_rng(seed))
        assert out[24:40, 8:20, 1].mean() > out[24:40, 8:20, 0].mean()


def test_cases_pair_each_drawing_with_its_own_and_another_reference(drawings: Path) -> None:
    cases = load_cases(drawings, 64, 64, seed=0)
    assert len(cases) == 10
    for one in cases:
        own, wrong, true = (p[p.max(-1) > 40].mean(0) for p in (one.reference, one.wrong, one.truth))
        assert np.abs(own - true).max() < 20
        assert np.abs(wrong - true).max() > np.abs(own - true).max()
    assert len(load_cases(drawings, 64, 64, seed=0, limit=1)) == 4


def test_gates_hold_and_miss() -> None:
    def scores(dE: float, wrong: float) -> list[Score]:
        groups = ("adventurer", "micah", "open-peeps", "openmoji")
        model = [Score(g, "model", 5, dE, 1 - dE / 50, 20) for g in groups]
        return model + [Score(g, "wrong reference", 5, wrong, 0, 10) for g in groups] + [Score(g, "mean fill", 5, 20, 0, 10) for g in groups]

    assert all(g.holds for g in gates(scores(8, 40)))
    assert not any(g.holds for g in gates(scores(30, 40)))
    text = report("m", 128, scores(30, 40), "studio.py evaluate x")
    assert "MISSED" in text
    assert "| adventurer | model | 5 | 30.0 |" in text
