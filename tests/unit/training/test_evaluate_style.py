"""The scores of a stylecode model: do they tell a painter that follows its codes from one that doesn't?"""

from __future__ import annotations

import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib_refonly.training import evaluate_style as scoring
from lib_refonly.training.styles import judge as judging
from lib_refonly.training.styles.build import StyledSet, build


@pytest.fixture
def styled(drawings: Path, tmp_path: Path) -> Path:
    build(drawings, tmp_path / "styles", seed=3, styles=5, views=4, split="heldout")
    return tmp_path / "styles"


def latents_of(styles: int, views: int, noise: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    raw = rng.standard_normal((styles, 1, 20)) + noise * rng.standard_normal((styles, views, 20))
    return (raw - raw.mean(-1, keepdims=True)) / raw.std(-1, keepdims=True)


def test_codes_that_tell_styles_apart_score_better() -> None:
    good, bad = (scoring.code_scores(latents_of(20, 4, noise)) for noise in (0.2, 3.0))
    assert [one.kept for one in good] == ["latent", "code", "v1 code"]
    for one, other in zip(good, bad, strict=True):
        assert one.within < one.between / 4
        assert other.within > other.between / 2
        assert one.nearest > 0.95 > other.nearest
    latent, code, v1 = good
    assert latent.error == 0 < code.error < 0.03 < 0.2 < v1.error


def test_the_judge_learns_style_and_content_apart(drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "STEPS", 2)
    monkeypatch.setattr(judging, "_PAIRS", 4)
    told: list[tuple[int, int]] = []
    judge = judging.trained(drawings, tmp_path, on_step=lambda *step: told.append(step))
    assert told == [(1, 2), (2, 2)]
    again = judging.trained(drawings, tmp_path, on_step=lambda *_: pytest.fail("it was kept"))
    picture = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for eye in ("style", "content"):
        seen = judge.look(eye, [picture, 255 - picture])
        assert seen.shape == (2, 64)
        np.testing.assert_allclose(np.linalg.norm(seen, axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(again.look(eye, [picture, 255 - picture]), seen)
    first, same_style, same_content = judging._triple(judging.DrawingSet(drawings), np.random.default_rng(0))
    assert first.shape == same_style.shape == same_content.shape == (4, 64, 64, 3)


class Colours:
    """Sees a picture as its corner's colour: the style of a plain ground, more or less."""

    def look(self, eye: str, pictures: Sequence[np.ndarray]) -> np.ndarray:
        seen = np.stack([picture[:4, :4].reshape(-1, 3).mean(0) if eye == "style" else picture.reshape(-1, 3).std(0) for picture in pictures]) + 1.0
        return (seen / np.linalg.norm(seen, axis=1, keepdims=True)).astype(np.float32)


class Painter:
    """Gives back the true picture of the style whose latent it is handed, or always the first one's."""

    size = 64

    def __init__(self, shown: StyledSet, follows: bool) -> None:
        self.shown, self.follows = shown, follows
        self.codes = latents_of(len(shown), 1, 0.0)[:, 0]
        self.starts: list[float] = []

    def latents(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        grounds = [self._style(picture) for picture in pictures]
        return self.codes[grounds]

    def _style(self, picture: np.ndarray) -> int:
        return int(np.argmin([np.abs(self.shown.pictures[i].astype(int) - picture).sum((1, 2, 3)).min() for i in range(len(self.shown))]))

    def paint(self, prompts: Sequence[str], latent: Sequence[float] | None, seed: int, cfg: float, start: float = 0.0) -> list[np.ndarray]:
        self.starts.append(start)
        style = 0 if latent is None or not self.follows else int(np.argmax(self.codes @ np.array(latent)))
        return [self.shown.pictures[style, -1] for _ in prompts]

    def error(self, pictures: Sequence[np.ndarray], prompts: Sequence[str], latent: Sequence[float] | None, start: float) -> float:
        painted = self.paint(prompts, latent, 0, 1.0)
        return float(np.mean([(one.astype(float) - other) ** 2 for one, other in zip(painted, pictures, strict=True)]))


def test_a_painter_that_follows_its_codes_holds(styled: Path) -> None:
    shown = StyledSet(styled)
    results: dict[bool, Any] = {}
    for follows in (True, False):
        painter = Painter(shown, follows)
        codes, painted, sheet = scoring.evaluate(painter, Colours(), styled, captions=2)  # type: ignore[arg-type]
        assert set(painter.starts) == {0.0, 0.15}
        results[follows] = types.SimpleNamespace(codes=codes, painted={one.way: one for one in painted}, holds=scoring.holds(codes, painted))
        assert [one.way for one in painted] == list(scoring.WAYS)
        assert painted[0].pictures == 10
        assert min(sheet.size) > 128
    good, bad = results[True], results[False]
    assert good.painted["code"].style > bad.painted["code"].style
    assert good.painted["code"].agreement > 0.99 > bad.painted["code"].agreement
    assert good.painted["another style's code"].own < good.painted["code"].own
    assert good.painted["code"].error < good.painted["another style's code"].error
    assert not bad.holds
    text = scoring.report("Tested", good.codes, list(good.painted.values()), 5, 4, "studio.py evaluate ...")
    assert text.count("\n| ") >= 9
    assert f" | {good.painted['code'].error:.4f} |" in text
    assert "20 %, the content in 25 %" in text
