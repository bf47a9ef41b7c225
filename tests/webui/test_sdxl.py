"""Adapters on a checkpoint of SDXL's kind inside a real WebUI. Each test is one line of the table in docs/hosts.md; the docstring says what it shows."""

from __future__ import annotations

from typing import Any

import pytest

from tests.webui import sdxl
from tests.webui.test_api import CHANGED, IP, apart, same
from tests.webui.webui import Failed, Painted, WebUI, asked, drawing, reference

_NO_DOWNLOAD = {"show_progress_type": "Approx cheap"}
"""The host's usual preview of an SDXL picture needs a network that it would fetch first."""
ADAPTERS = pytest.mark.parametrize("model", [sdxl.PLAIN, sdxl.PLUS], ids=["plain", "plus"])


def paint_all(webui: WebUI, request: Any = None, kind: str = "txt2img", **settings: Any) -> list[Painted]:
    return webui.paint_all(request, kind, checkpoint=sdxl.NAME, override_settings=_NO_DOWNLOAD, **settings)


def paint(webui: WebUI, request: Any = None, kind: str = "txt2img", **settings: Any) -> Painted:
    return paint_all(webui, request, kind, **settings)[0]


@pytest.fixture
def plain(webui: WebUI) -> Any:
    """A plain picture before the test, and the same after it: whatever was done between, nothing is left behind."""
    if webui.is_forge:
        pytest.skip("this host's loader knows SDXL by its true width and number of transformer blocks")
    before = paint(webui)
    yield before
    assert same(paint(webui), before), "the next plain run is another picture"


@ADAPTERS
def test_sdxl_adapter(webui: WebUI, plain: Painted, model: str) -> None:
    """SDXL: an adapter's picture changes with its reference, and with the text"""
    ours = paint(webui, asked(model=model))
    assert apart(ours, plain) > CHANGED
    assert "RefOnly note" not in ours.text
    other = asked(model=model)
    other["units"] = [{"picture": reference(1)}]
    assert apart(paint(webui, other), ours) > 0.2
    assert apart(paint(webui, asked(model=model), prompt="a red cat"), ours) > 0.2
    assert same(paint(webui, asked(model=model)), ours)


@ADAPTERS
def test_sdxl_strength_nought(webui: WebUI, plain: Painted, model: str) -> None:
    """SDXL: strength 0 is the checkpoint, bit for bit"""
    assert same(paint(webui, asked(model=model, strength=0)), plain)


@ADAPTERS
def test_sdxl_hires(webui: WebUI, plain: Painted, model: str) -> None:
    """SDXL: hires fix, both passes, the low one, the high one"""
    hires = webui.hires(0.9)
    without = paint(webui, **hires)
    both, low, high = (paint(webui, asked(model=model, passes=passes), **hires) for passes in ("both", "low", "high"))
    distances = [apart(one, other) for one, other in ((both, without), (low, without), (high, without), (low, both), (high, both))]
    assert min(distances) > 0.2, distances


@ADAPTERS
def test_sdxl_img2img(webui: WebUI, plain: Painted, model: str) -> None:
    """SDXL: img2img"""
    own = {"init_images": [drawing(0)], "denoising_strength": 0.9}
    assert apart(paint(webui, asked(model=model), "img2img", **own), paint(webui, kind="img2img", **own)) > CHANGED


@ADAPTERS
def test_sdxl_cfg(webui: WebUI, plain: Painted, model: str) -> None:
    """SDXL: CFG 1, and CFG higher"""
    ours = {scale: paint(webui, asked(model=model), cfg_scale=scale) for scale in (1, 7)}
    assert all(apart(one, paint(webui, cfg_scale=scale)) > 0.2 for scale, one in ours.items())
    assert apart(ours[1], ours[7]) > 0.2


@ADAPTERS
def test_sdxl_prompts(webui: WebUI, plain: Painted, model: str) -> None:
    """SDXL: AND, long and negative prompts, prompts of different lengths"""
    # In words that are one token to both of the checkpoint's tokenizers: the WebUI asks for as many from each.
    for prompt, negative in (("a cat AND a red cat", ""), ("a cat, " * 60, ""), ("a cat", "a red cat, " * 60), ("a cat AND " + "a red cat, " * 60, "red")):
        texts = {"prompt": prompt, "negative_prompt": negative}
        assert apart(paint(webui, asked(model=model), **texts), paint(webui, **texts)) > CHANGED, texts


@ADAPTERS
def test_sdxl_batch(webui: WebUI, plain: Painted, model: str) -> None:
    """SDXL: a batch gives the single pictures"""
    singles = [paint(webui, asked(model=model), seed=seed) for seed in (1, 2)]
    both = paint_all(webui, asked(model=model), batch_size=2)
    assert all(apart(got, wanted) < 0.5 for got, wanted in zip(both, singles, strict=True))
    assert apart(*singles) > CHANGED


@pytest.mark.parametrize(
    ("model", "sentence"),
    [("rand-refonly", "does not fit rand-sdxl: their VAEs make different latents"), (IP, "is made for Stable Diffusion 1.x, which rand-sdxl is not")],
    ids=["full", "adapter"],
)
def test_sdxl_what_does_not_fit(webui: WebUI, plain: Painted, model: str, sentence: str) -> None:
    """SDXL: a full model, and an adapter made for SD 1.x, are refused in a sentence"""
    with pytest.raises(Failed, match=sentence):
        paint(webui, asked(model=model, must=True))
    painted = paint(webui, asked(model=model))
    assert same(painted, plain)
    assert "RefOnly note: not applied" in painted.text


def test_sdxl_adapter_elsewhere(webui: WebUI, plain: Painted) -> None:
    """SDXL: its adapter on an SD 1.x checkpoint is refused in a sentence"""
    with pytest.raises(Failed, match="is made for SDXL, which rand-sd15 is not"):
        webui.paint(asked(model=sdxl.PLAIN, must=True))
