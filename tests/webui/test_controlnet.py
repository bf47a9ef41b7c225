"""The host's ControlNet beside the extension in a real WebUI. Each test is one line of the table in docs/hosts.md; the docstring says what it shows."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from lib_refonly.imaging.decode import decode_base64
from lib_refonly.imaging.infotext import read_infotext
from lib_refonly.onepic.project import Project
from tests.webui import checkpoints, controlnets
from tests.webui.test_api import CHANGED, IP, apart, same
from tests.webui.test_onepic import TARGET, on, project
from tests.webui.webui import Failed, Painted, WebUI, asked, drawing, reference

ACTS = 0.2
"""Mean difference, of 255, between two pictures of which one has one influence more."""
DETECTORS = ("canny", "scribble_xdog", "lineart_standard")


class Case(NamedTuple):
    """A checkpoint, our adapter for it, and a model for ControlNet."""

    checkpoint: str
    adapter: str
    control: str


@pytest.fixture(autouse=True)
def _has_controlnet(webui: WebUI) -> None:
    if not controlnets.is_there(webui):
        pytest.skip("no ControlNet in this WebUI")


@pytest.fixture(scope="module")
def cases(webui: WebUI) -> Iterator[list[Case]]:
    if not controlnets.is_there(webui):
        yield []
    elif webui.is_forge:
        yield [Case("rand-sd15", IP, controlnets.CONTROLNET)]
    else:
        made = controlnets.wide(webui)
        webui.ask("/sdapi/v1/refresh-checkpoints", {})
        yield [Case("rand-sd15", IP, controlnets.T2I_ADAPTER), Case(controlnets.WIDE, controlnets.WIDE_IP, controlnets.CONTROLNET)]
        webui.paint()  # another checkpoint than the one that goes
        for path in made:
            path.unlink()
        webui.ask("/sdapi/v1/refresh-checkpoints", {})


def unit(webui: WebUI, model: str, **more: Any) -> dict[str, Any]:
    title = next(name for name in webui.ask("/controlnet/model_list")["model_list"] if name.startswith(model))
    # A detected map would stand among the pictures that come back.
    own = {"enabled": True, "model": title, "module": "None" if webui.is_forge else "none", "save_detected_map": False}
    return own | ({} if "ipadapter_input" in more else {"image": drawing()}) | more


def paint(webui: WebUI, case: Case, request: Any = None, *units: dict[str, Any]) -> Painted:
    return webui.paint(request, checkpoint=case.checkpoint, alwayson_scripts={"ControlNet": {"args": list(units)}} if units else {})


def test_line_detectors(webui: WebUI) -> None:
    """ControlNet's line detectors find our lines; one whose file is not there says so"""
    listed = webui.ask("/controlnet/module_list?alias_names=true")["module_list"]
    own = _lines(webui, "auto")
    found: list[np.ndarray] = []
    for detector in DETECTORS:
        found.append(_lines(webui, "ControlNet: " + next(name for name in listed if name.startswith(detector))))
        assert found[-1].shape == own.shape
        assert 0 < found[-1].mean() < 64, f"{detector}: not light lines on black"
        assert np.corrcoef(found[-1].ravel(), own.ravel())[0, 1] > 0.2, f"{detector}: other lines than the drawing's"
    assert all(np.abs(one - other).mean() > 0.5 for one, other in zip(found, found[1:], strict=False))
    with suppress(_AbsentFile):  # a WebUI that has been online has it
        _lines(webui, "ControlNet: " + next(name for name in listed if name.startswith("softedge_teed")))
    assert apart(webui.paint(asked(preprocessor=f"ControlNet: {DETECTORS[0]}")), webui.paint(asked())) > ACTS


def test_controlnet_beside_an_adapter(webui: WebUI, cases: list[Case]) -> None:
    """ControlNet beside an adapter: both act, and each goes when it is switched off"""
    for case in cases:
        control, request = unit(webui, case.control), asked(model=case.adapter)
        plain, ours, alone = paint(webui, case), paint(webui, case, request), paint(webui, case, None, control)
        both = paint(webui, case, request, control)
        assert min(apart(alone, plain), apart(ours, plain)) > CHANGED, case
        assert min(apart(both, alone), apart(both, ours)) > ACTS, case
        assert same(paint(webui, case, None, control), alone), case
        assert same(paint(webui, case, request), ours), case
        assert same(paint(webui, case), plain), case


def test_controlnet_beside_a_full_model(webui: WebUI, cases: list[Case]) -> None:
    """ControlNet beside a full model: it acts where the model has the checkpoint's shape, and does no harm where it has not"""
    for case, model in [(cases[0], controlnets.FULL), *((case, "rand-refonly") for case in cases)]:
        control, request = unit(webui, case.control), asked(model=model)
        plain, ours, alone = paint(webui, case), paint(webui, case, request), paint(webui, case, None, control)
        both = paint(webui, case, request, control)
        assert min(apart(ours, plain), apart(both, plain), apart(both, alone)) > CHANGED, model
        if model == controlnets.FULL:
            assert apart(both, ours) > ACTS
        else:
            assert same(both, ours), case
        assert same(paint(webui, case), plain), (model, case)
        assert same(paint(webui, case, request), ours), (model, case)


def test_controlnet_on_a_canvas(webui: WebUI, cases: list[Case]) -> None:
    """ONE-PIC: ControlNet acts on the target panel alone, whatever the tab's size; over the whole canvas where that is switched off"""
    everywhere = replace(project(), control_alone=False)

    def painted(case: Case, of: Project, *units: dict[str, Any], **more: Any) -> tuple[Painted, list[float]]:
        beside = {"Watch the UNet": {"args": [TARGET]}} | ({"ControlNet": {"args": list(units)}} if units else {})
        one = webui.paint(on(of), checkpoint=case.checkpoint, alwayson_scripts=beside, steps=2, **more)
        return one, json.loads(read_infotext(one.text)[2]["Watched"])["added"]

    for case in cases:
        control = unit(webui, case.control)
        (plain, none), (alone, kept), (whole, spread) = painted(case, project()), painted(case, project(), control), painted(case, everywhere, control)
        assert none == [0, 0], case
        assert kept[0] > 0, case
        assert kept[1] == 0, case
        assert min(spread) > 0, case
        assert not same(alone, plain), case
        assert not same(alone, whole), case
        assert same(painted(case, project(), control, width=192)[0], alone), case
        assert same(painted(case, project())[0], plain), case


def test_ip_adapter_of_controlnet(webui: WebUI, cases: list[Case]) -> None:
    """ControlNet's own IP-Adapter beside ours: both act"""
    case = cases[0]
    if webui.is_forge:
        controlnets.image_encoder(webui)
        control = unit(webui, controlnets.IP_ADAPTER, module="CLIP-ViT-H (IPAdapter)", image=reference(1))
    else:
        features = torch.randn(1, checkpoints.FEATURES, generator=torch.Generator().manual_seed(9))
        control = unit(webui, controlnets.IP_ADAPTER, module="ip-adapter_clip_h", ipadapter_input=[_saved({"image_embeds": features})])
    request = asked(model=case.adapter)
    plain, ours, alone = paint(webui, case), paint(webui, case, request), paint(webui, case, None, control)
    if webui.name == "Forge-Neo" and same(alone, plain):
        pytest.skip("this host's own IP-Adapter can't read its image encoder")
    both = paint(webui, case, request, control)
    assert min(apart(alone, plain), apart(ours, plain)) > CHANGED
    assert min(apart(both, alone), apart(both, ours)) > ACTS
    assert same(paint(webui, case, request), ours)
    assert same(paint(webui, case), plain)


class _AbsentFile(Exception):
    """The preprocessor says that it needs a download."""


def _lines(webui: WebUI, preprocessor: str) -> np.ndarray:
    try:
        answer = webui.ask("/refonly/preprocess", {"drawing": drawing(), "preprocessor": preprocessor})
    except Failed as error:
        raise (_AbsentFile if "needs a file" in str(error) else Failed)(str(error)) from None
    return np.asarray(decode_base64(answer["blueprint"]).convert("L")).astype(float)


def _saved(value: Any) -> str:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return base64.b64encode(buffer.getvalue()).decode()
