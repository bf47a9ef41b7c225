"""Stylecodes inside a real WebUI, over its HTTP API."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops

from lib_refonly.imaging.decode import decode_base64
from lib_refonly.imaging.infotext import save_png
from lib_refonly.studio.style_engine import StyleEngine, StylePaintSettings
from lib_refonly.stylecode.codes import TINY, write_long, write_short
from lib_refonly.stylecode.codes.blend import random_style
from lib_refonly.stylecode.codes.codec import Code
from lib_refonly.stylecode.maker import CodeMaker
from lib_refonly.stylecode.shelf import find
from tests.webui.styles import MODEL
from tests.webui.test_api import CHANGED, IP, apart, plain, same, the_prompt_acts
from tests.webui.webui import Failed, Painted, WebUI, asked, drawing, reference

__all__ = ["plain"]
ONE, OTHER = (write_short(random_style(number), MODEL) for number in (1, 2))


def styled(code: str = ONE, **settings: Any) -> dict[str, Any]:
    return {"style": {"enabled": True, "code": code} | settings}


def test_a_code_in_the_panel(webui: WebUI, plain: Painted) -> None:
    """stylecodes: a code changes the picture; the long form and a repetition give the same; strength 0 is the checkpoint"""
    one = webui.paint(styled())
    assert apart(one, plain) > CHANGED
    assert not same(webui.paint(styled(OTHER)), one)
    assert same(webui.paint(styled(write_long(random_style(1), MODEL))), one)
    assert same(webui.paint(styled(strength=0)), plain)
    assert "RefOnly style: " in one.text


def test_a_code_in_the_prompt(webui: WebUI, plain: Painted) -> None:
    """stylecodes: `<sref:CODE:0.9>` in the prompt, several, Midjourney's --sref"""
    one = webui.paint(styled())
    assert same(webui.paint(prompt=f"a cat <sref:{ONE}:0.9>"), one)
    assert same(webui.paint(prompt=f"a cat --sref {ONE}"), webui.paint(prompt=f"a cat <sref:{ONE}:1>"))
    both = webui.paint(prompt=f"a cat <sref:{ONE}:0.9> <sref:{OTHER}:0.9>")
    assert not same(both, one)


def test_a_wrong_code_paints_nothing(webui: WebUI, plain: Painted) -> None:
    """stylecodes: a wrong code paints no picture and says what is wrong; one of another model says whose it is"""
    with pytest.raises(Failed, match="symbols"):
        webui.paint(styled("nonsense"))
    with pytest.raises(Failed, match="add up|balance"):
        webui.paint(prompt=f"a cat <sref:{ONE[1] + ONE[0] + ONE[2:]}:1>" if ONE[0] != ONE[1] else f"a cat <sref:A{ONE[1:]}:1>")
    other = webui.paint(styled(write_short(random_style(1), TINY)))
    assert same(other, plain)
    assert "RefOnly style note: not applied" in other.text


def test_style_composes(webui: WebUI, plain: Painted) -> None:
    """stylecodes: beside a reference, in hires fix, in batches, with prompts of different lengths"""
    reference_ = webui.paint(asked(model=IP))
    both = webui.paint(asked(model=IP) | styled())
    assert min(apart(both, reference_), apart(both, webui.paint(styled()))) > 0.2
    hires = webui.hires(0.7)
    without = webui.paint(**hires)
    passes = [webui.paint(styled(passes=name), **hires) for name in ("both", "low", "high")]
    assert all(apart(one, without) > 0.2 for one in passes)
    singles = [webui.paint(styled(), seed=seed) for seed in (1, 2)]
    for got, wanted in zip(webui.paint_all(styled(), batch_size=2), singles, strict=True):
        assert apart(got, wanted) < 0.5
    long = {"prompt": "a cat AND " + "a dog, " * 60, "negative_prompt": "x"}
    assert apart(webui.paint(styled(), **long), webui.paint(**long)) > CHANGED


def test_style_every_sampler(webui: WebUI, plain: Painted) -> None:
    """stylecodes: every sampler of the host"""
    silent = []
    for sampler in webui.samplers():
        try:
            without = webui.paint(sampler_name=sampler)
        except Failed:
            continue  # the host itself can't at three steps
        if apart(webui.paint(styled(), sampler_name=sampler), without) < CHANGED and the_prompt_acts(webui, sampler, without):
            silent.append(sampler)
    assert not silent, silent


def test_style_sizes(webui: WebUI, plain: Painted) -> None:
    """stylecodes: sizes whose latent can't be halved evenly"""
    for width, height in ((136, 128), (104, 72)):
        try:
            without = webui.paint(width=width, height=height)
        except Failed:
            pytest.skip("this host's own UNet takes no such size")
        assert apart(webui.paint(styled(), width=width, height=height), without) > CHANGED


def test_style_prompt_replaced_in_a_plot(webui: WebUI, plain: Painted) -> None:
    """stylecodes: X/Y/Z's prompt S/R changes the code"""
    arguments = webui.plot("Prompt S/R", f"{ONE}, {OTHER}")
    grid = webui.paint_all(prompt=f"a cat <sref:{ONE}:1>", script_name="X/Y/Z plot", script_args=arguments, n_iter=1)[0]
    half = grid.picture.shape[1] // 2
    assert np.abs(grid.picture[:, :half] - grid.picture[:, -half:]).mean() > 0.05


def test_a_code_of_the_studio(webui: WebUI) -> None:
    """stylecodes: a code that the studio made of a picture gives the same style on tiny-base here as there"""
    if not webui.loads_tiny:
        pytest.skip("this host's loader takes no UNet as narrow as tiny-base's")
    columns = []
    for ground in ("teal", "orange", "white"):
        picture = _striped(ground)
        code = CodeMaker().code_of([picture], TINY)
        text, how = code.short, {"width": 256, "height": 256, "steps": 20, "cfg_scale": 4, "sampler_name": "Euler"}
        ours = webui.paint(prompt=f"{_PROMPT} <sref:{text}:1>", checkpoint="tiny-base", **how).picture
        columns.append((np.asarray(picture), ours, _in_the_studio(code)))
    save_png(webui.sheet("styles"), Image.fromarray(np.hstack([np.vstack(column) for column in columns]).astype(np.uint8)))
    for number, (_, ours, _) in enumerate(columns):
        distances = [float(np.abs(ours - studio).mean()) for _, _, studio in columns]
        assert int(np.argmin(distances)) == number, distances  # two ways of sampling are never the same, and what a style adds is sensitive to that


_PROMPT = "storybook character, long wavy green hair, dark skin, smiling"


def _striped(ground: str) -> Image.Image:
    """A sample's character on stripes instead of white."""
    character = decode_base64(reference(0)).convert("RGB").resize((256, 256))
    stripes = Image.new("RGB", (256, 256), "black")
    for at in range(0, 256, 32):
        stripes.paste(ground, (at, 0, at + 16, 256))
    return ImageChops.multiply(character, stripes)


def _in_the_studio(code: Code) -> np.ndarray:
    engine = StyleEngine("cpu")
    loaded = engine._loaded(find(TINY))
    plan = engine._plan(loaded, code.latent, StylePaintSettings())
    (painted,) = engine._painter(loaded).paint([_PROMPT], plan, size=(256, 256), steps=20, cfg=4, seed=1, sampler="Euler")
    return np.asarray(painted).astype(int)


def test_style_routes(webui: WebUI) -> None:
    """stylecodes: own routes read, make, mix"""
    assert webui.ask("/refonly/stylecode/read", {"code": ONE})["short"] == ONE
    made = webui.ask("/refonly/stylecode/make", {"pictures": [reference(), drawing()], "model": MODEL.name})
    assert webui.ask("/refonly/stylecode/mix", {"codes": [made["long"], ONE], "weights": [1, 0]})["short"] == made["short"]
    with pytest.raises(Failed, match="422"):
        webui.ask("/refonly/stylecode/make", {"pictures": ["/etc/passwd"]})
