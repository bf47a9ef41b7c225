"""ONE-PIC inside a real WebUI, over its HTTP API."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from lib_refonly.imaging.infotext import read_infotext, save_png
from lib_refonly.models.registry import EMBEDDED
from lib_refonly.onepic.compose import composed
from lib_refonly.onepic.examples import example
from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.project import Panel, Project
from lib_refonly.onepic.settings import AUTO, OnePicPaintSettings
from lib_refonly.onepic.shelf import choose, loras
from lib_refonly.onepic.tasks import TASKS
from lib_refonly.studio.onepic_engine import OnePicEngine
from tests.webui.test_api import CHANGED, IP, apart, plain, same
from tests.webui.webui import Failed, Painted, WebUI, asked, drawing, reference

__all__ = ["plain"]
SIDE = 128
TARGET = [SIDE // 8, SIDE // 8, SIDE // 8, SIDE // 8]
"""Top, left, height, width of the last of two by two panels, in latent cells."""


def picture(sample: int) -> bytes:
    return base64.b64decode(reference(sample))


def project(first: int = 0, **more: Any) -> Project:
    panels = (Panel(picture=picture(first)), Panel(picture=picture(2)), Panel(picture=picture(3)), Panel(role="target"))
    return Project(layout=Layout(2, 2), width=SIDE, height=SIDE, panels=panels, **more)


def on(of: Project | None = None) -> dict[str, Any]:
    return {"canvas": json.loads((of or project()).written())}


def watched(webui: WebUI, request: Any, **settings: Any) -> tuple[Painted, dict[str, Any]]:
    painted = webui.paint(request, alwayson_scripts={"Watch the UNet": {"args": [TARGET]}}, **settings)
    return painted, json.loads(read_infotext(painted.text)[2]["Watched"])


def test_a_canvas(webui: WebUI, plain: Painted) -> None:
    """ONE-PIC: the target panel is handed out, follows the other panels, and the next run is clean"""
    one = webui.paint(on())
    assert one.picture.shape == (SIDE, SIDE, 3)
    assert f"Size: {SIDE}x{SIDE}" in one.text
    assert not same(webui.paint(on(project(4))), one)  # by how much is the random checkpoint's affair
    assert same(webui.paint(on()), one)


def test_a_canvas_is_clean_with_every_sampler(webui: WebUI, plain: Painted) -> None:
    """ONE-PIC: with every sampler of the host the UNet is handed the context unchanged at every call, to 1e-6"""
    wrong = []
    for sampler in webui.samplers():
        try:
            _, seen = watched(webui, on(), sampler_name=sampler)
        except Failed as error:
            if "canvas is" not in str(error):
                continue  # the host itself can't at three steps
            wrong.append((sampler, str(error)[:200]))
            continue
        if seen["away"] > 1e-6 or seen["calls"] < 2 or seen["size"] != [2 * SIDE // 8, 2 * SIDE // 8]:
            wrong.append((sampler, str(seen)))
    # Samplers that take steps at other sizes are told that a canvas can't be painted so.
    assert [one for one in wrong if "canvas is" not in one[1]] == []


def test_a_canvas_composes(webui: WebUI, plain: Painted) -> None:
    """ONE-PIC: beside a reference, in batches, with AND and long prompts, at CFG 1, with a LoRA in the prompt"""
    one = webui.paint(on())
    for model in ("rand-refonly", IP):
        assert apart(webui.paint(asked(model=model) | on()), one) > CHANGED
    pair = webui.paint_all(on(), batch_size=2)
    assert same(pair[0], one) or apart(pair[0], one) < 0.5
    assert not same(*pair)
    for texts in ({"prompt": "a cat AND a dog"}, {"prompt": "a cat, " * 60}, {"cfg_scale": 1}, {"prompt": "a cat <lora:random:1>"}):
        painted, seen = watched(webui, on(), **texts)
        assert painted.picture.shape == (SIDE, SIDE, 3)
        assert seen["away"] < 1e-6
        assert apart(painted, one) > CHANGED, texts


def test_a_canvas_in_img2img(webui: WebUI, plain: Painted) -> None:
    """ONE-PIC: in img2img the picture is what the target begins as"""
    own = {"init_images": [drawing(0)], "denoising_strength": 0.3}
    near = webui.paint(on(), "img2img", **own)
    assert near.picture.shape == (SIDE, SIDE, 3)
    other = webui.paint(on(), "img2img", **own | {"init_images": [drawing(1)]})
    assert apart(near, other) > CHANGED


def test_the_context_is_kept_for_some_steps(webui: WebUI, plain: Painted) -> None:
    """ONE-PIC: what the context gives is kept for some steps; between them the UNet is called for the target alone"""
    exact = webui.paint(on(), steps=6)
    kept = webui.paint(on(replace(project(), reuse=3)), steps=6)
    assert 0 < apart(kept, exact) < 0.2 * apart(webui.paint(on(), steps=6, seed=2), exact)


def test_presets_as_in_the_studio(webui: WebUI) -> None:
    """ONE-PIC: each preset's example is painted on tiny-base, with its built-in LoRA if there is one, as the studio paints it"""
    if not webui.loads_tiny:
        pytest.skip("this host's loader takes no UNet as narrow as tiny-base's")
    engine, settings, rows = OnePicEngine("cpu"), OnePicPaintSettings(steps=20, seed=1, sampler="Euler"), list[list[np.ndarray]]()
    for task in TASKS:
        file = choose(task.name, task.layout.name, AUTO, loras([EMBEDDED / "onepic"]))
        asked_for = example(task, SIDE, SIDE)
        how = {"prompt": asked_for.prompt + (f" <lora:{file.name}:1>" if file else ""), "steps": settings.steps, "cfg_scale": settings.cfg}
        (studio,) = engine.paint(asked_for, settings).painted.targets.values()
        seen = ImageOps.pad(Image.fromarray(np.asarray(composed(asked_for).preview())), (2 * SIDE, 2 * SIDE), color="white")
        rows.append([np.asarray(seen), webui.paint(on(asked_for), checkpoint="tiny-base", **how).picture, np.asarray(studio).astype(int)])
    save_png(webui.sheet("presets"), Image.fromarray(np.vstack([_row(*row) for row in rows]).astype(np.uint8)))
    distances = np.array([[np.abs(ours - studio).mean() for _, _, studio in rows] for _, ours, _ in rows])
    assert distances.argmin(1).tolist() == list(range(len(rows))), distances.round(1)


def _row(seen: np.ndarray, ours: np.ndarray, studio: np.ndarray) -> np.ndarray:
    """Side by side: the canvas, and twice as large what the WebUI and the studio painted."""
    return np.hstack([seen, *(np.kron(one, np.ones((2, 2, 1), int)) for one in (ours, studio))])


def test_a_canvas_that_is_wrong(webui: WebUI, plain: Painted) -> None:
    """ONE-PIC: a canvas that can't be had paints no picture and says why"""
    for canvas, words in ((on()["canvas"] | {"version": 7}, "version"), (on()["canvas"] | {"panels": []}, "panels")):
        with pytest.raises(Failed, match=words):
            webui.paint({"canvas": canvas})


def test_several_targets(webui: WebUI, plain: Painted) -> None:
    """ONE-PIC: several targets are handed out as the whole canvas, the other panels as they were given"""
    panels = (*project().panels[:2], Panel(role="target"), Panel(role="target"))
    painted = webui.paint(on(replace(project(), panels=panels)))
    assert painted.picture.shape == (2 * SIDE, 2 * SIDE, 3)
    assert np.ptp(painted.picture[SIDE:]) > 0
