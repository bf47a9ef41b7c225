"""The WebUI's interrogators behind the Train page's captions."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lib_refonly.errors import BadModel
from tests.unit.webui.fake_modules import fake_modules


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Any]:
    """A WebUI with both interrogators, whose models are not there."""
    with fake_modules(tmp_path) as found:
        clip, booru = _Clip(), _Booru()
        found.shared.interrogator = clip
        found.shared.cmd_opts.clip_models_path = str(tmp_path / "clip")
        for name, content in (
            ("paths", {"models_path": str(tmp_path / "models")}),
            ("call_queue", {"queue_lock": threading.Lock()}),
            ("interrogate", {}),
            ("deepbooru", {"model": booru}),
        ):
            module = types.ModuleType(f"modules.{name}")
            module.__spec__ = ModuleSpec(module.__name__, None)
            vars(module).update(content)
            sys.modules[module.__name__] = module
            setattr(sys.modules["modules"], name, module)
        yield types.SimpleNamespace(clip=clip, booru=booru, folder=tmp_path)


class _Clip:
    told = "a girl (smiling), (by miho:0.213), red hair"

    def interrogate(self, picture: Image.Image) -> str:
        assert picture.mode == "RGB"
        return self.told


class _Booru:
    broken = False

    def __init__(self) -> None:
        self.calls = list[str]()

    def start(self) -> None:
        self.calls.append("start")
        if self.broken:
            raise IndexError("list index out of range")

    def stop(self) -> None:
        self.calls.append("stop")

    def tag_multi(self, picture: Image.Image, force_disable_ranks: bool = False) -> str:
        assert force_disable_ranks
        return r"1girl, long_hair, miho \(idol\), ^_^"


def captioners() -> dict[str, Any]:
    from lib_refonly.webui.captions import interrogators

    return {one.name: one for one in interrogators()}


def test_both_describe_in_plain_words(host: Any) -> None:
    found, picture = captioners(), Image.new("RGBA", (8, 8))
    assert found["host/clip"].begin()(picture) == "a girl (smiling), by miho, red hair"
    assert found["host/deepbooru"].begin()(picture) == "1girl, long hair, miho (idol), ^_^"
    assert host.booru.calls == ["start", "stop"]


def test_what_would_be_downloaded_is_said(host: Any) -> None:
    assert [one.downloads for one in captioners().values()] == ["BLIP, 0.9 GB and CLIP ViT-L/14, 0.9 GB", "DeepDanbooru, 0.6 GB"]
    for name in ("models/BLIP/b.pth", "models/torch_deepdanbooru/m.pt", "clip/ViT-L-14.pt"):
        path = host.folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    assert [one.downloads for one in captioners().values()] == ["", ""]


def test_failures_are_no_captions(host: Any) -> None:
    host.clip.told, host.booru.broken = "a girl<error>", True
    for captioner in captioners().values():
        with pytest.raises(BadModel, match="not on this machine.*internet"):
            captioner.begin()(Image.new("RGB", (8, 8)))


@pytest.mark.usefixtures("host")
def test_forge_neo_has_neither() -> None:
    for name in ("modules.interrogate", "modules.deepbooru"):
        del sys.modules[name]
    assert captioners() == {}
