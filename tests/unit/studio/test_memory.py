"""No memory, told by what paints canvases and styles; with the embedded models."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from PIL import Image

from lib_refonly.errors import OutOfMemory
from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.project import Panel, Project
from lib_refonly.onepic.settings import OnePicPaintSettings
from lib_refonly.studio.memory import memory_errors
from lib_refonly.studio.onepic_engine import OnePicEngine


def test_a_canvas_that_the_memory_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    held = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(held, "PNG")
    project = Project(layout=Layout(1, 2), width=128, height=128, panels=(Panel(picture=held.getvalue()), Panel(role="target")))
    engine = OnePicEngine("cpu")

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with monkeypatch.context() as patch:
        patch.setattr("lib_refonly.onepic.painter.paint", full)
        with pytest.raises(OutOfMemory, match="smaller panels"):
            engine.paint(project, OnePicPaintSettings(steps=1))
    assert engine.paint(project, OnePicPaintSettings(steps=1)).painted.targets[1].size == (128, 128)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_errors("less"):
        raise RuntimeError("shapes do not match")
