"""The line detectors of the host's ControlNet: its two registries as they are in the sources, with detectors of our own in them."""

from __future__ import annotations

import sys
import types
import urllib.error
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from lib_refonly.errors import BadPicture, Offline, PainterError
from lib_refonly.refonly.host_plan import find_lines
from lib_refonly.refonly.panel import PanelSettings
from lib_refonly.webui.preprocessors import PREFIX, controlnet_preprocessors

PICTURE = Image.new("RGBA", (40, 20), "white")
FORGE, EXTENSION = "modules_forge.shared", "scripts.supported_preprocessor"


class Slider:
    """PreprocessorParameter: every slider has a value, those too that are not shown."""

    def __init__(self, value: float = 0.5, visible: bool = False) -> None:
        self.gradio_update_kwargs = {"minimum": 0.0, "maximum": 1.0, "step": 0.01, "label": "A slider", "value": value, "visible": visible}


class Detector:
    """Preprocessor of both: called with names, sliders None unless given."""

    def __init__(self, find: Callable[[np.ndarray], Any], low: float | None = None, resolution: float = 512) -> None:
        self.find, self.slider_resolution = find, Slider(resolution, True)
        self.slider_1 = Slider() if low is None else Slider(low, True)
        self.slider_2, self.slider_3 = Slider(), Slider()
        self.seen: dict[str, Any] = {}

    def __call__(
        self, input_image: np.ndarray, resolution: int, slider_1: Any = None, slider_2: Any = None, slider_3: Any = None, input_mask: Any = None, **_: Any
    ) -> Any:
        self.seen = {"resolution": resolution, "slider_1": slider_1, "slider_2": slider_2, "slider_3": slider_3, "grad": torch.is_grad_enabled()}
        assert int(slider_1) >= 0  # what canny does: None is an error
        return self.find(input_image)


class Result(NamedTuple):
    value: Any
    display_images: list[np.ndarray]


def grey(value: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda picture: np.full(picture.shape[:2], value, np.uint8)


Register = Callable[[dict[str, Any]], None]


@pytest.fixture(params=[FORGE, EXTENSION])
def register(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Register:
    """Put detectors into one of the two registries."""
    for name in (FORGE, EXTENSION):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def put(detectors: dict[str, Any]) -> None:
        module = types.ModuleType(request.param)
        if request.param == FORGE:
            vars(module)["supported_preprocessors"] = detectors
        else:
            vars(module)["Preprocessor"] = type("Preprocessor", (), {"all_processors": detectors})
        monkeypatch.setitem(sys.modules, request.param, module)

    return put


def test_none_without_controlnet() -> None:
    assert FORGE not in sys.modules
    assert controlnet_preprocessors() == {}


def test_only_what_finds_lines(register: Register) -> None:
    names = ["none", "canny", "depth_midas", "lineart_anime", "softedge_hed", "openpose", "mlsd", "invert (from white bg & black line)"]
    register({name: Detector(grey(0)) for name in names})
    assert list(controlnet_preprocessors()) == [PREFIX + name for name in ("canny", "lineart_anime", "mlsd", "softedge_hed")]


def test_sliders_stand_at_their_own_defaults(register: Register) -> None:
    detector = Detector(grey(7), low=100, resolution=1280)
    register({"canny": detector})
    found = controlnet_preprocessors()[PREFIX + "canny"](PICTURE)
    assert detector.seen == {"resolution": 1280, "slider_1": 100, "slider_2": 0.5, "slider_3": 0.5, "grad": False}
    assert found.convert("L").getextrema() == (7, 7)


@pytest.mark.parametrize(
    "find",
    [
        grey(200),
        lambda picture: np.full_like(picture, 200),
        lambda picture: Result(np.full_like(picture, 200), []),
        lambda picture: torch.full(picture.shape, 200.0),
    ],
    ids=["grey", "colour", "with pictures to show", "tensor"],
)
def test_whatever_a_detector_returns(register: Register, find: Callable[[np.ndarray], Any]) -> None:
    register({"lineart": Detector(find)})
    lines = find_lines(PICTURE, PanelSettings(preprocessor=PREFIX + "lineart"), controlnet_preprocessors()).blueprint
    assert (lines.mode, lines.size, lines.getextrema()) == ("L", PICTURE.size, (200, 200))


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (urllib.error.URLError("no route"), Offline, "'mlsd' needs a file"),
        (ConnectionError("refused"), Offline, "'mlsd' needs a file"),
        (RuntimeError("sizes differ"), BadPicture, "'mlsd' failed on this drawing \\(sizes differ\\)"),
    ],
)
def test_an_error_is_a_sentence(register: Register, error: Exception, kind: type[PainterError], said: str) -> None:
    def find(_: np.ndarray) -> None:
        raise error

    register({"mlsd": Detector(find)})
    with pytest.raises(kind, match=said):
        controlnet_preprocessors()[PREFIX + "mlsd"](PICTURE)


def test_what_is_no_picture_is_a_sentence_too(register: Register) -> None:
    register({"hed": Detector(lambda _: {"image_embeds": 1})})
    with pytest.raises(BadPicture, match="'hed' failed"):
        controlnet_preprocessors()[PREFIX + "hed"](PICTURE)


@pytest.mark.parametrize("name", [FORGE, EXTENSION])
def test_an_unknown_controlnet_does_not_keep_the_panel_away(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    assert controlnet_preprocessors() == {}
