"""Locks, pictures, presets, parameters: the parts around the script."""

from __future__ import annotations

import base64
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lib_refonly.conditioning.canvas import CleanContext
from lib_refonly.conditioning.plan import Plan
from lib_refonly.errors import BadPicture, BadSettings, CannotWrite
from lib_refonly.refonly.panel import PanelSettings, Unit, UnitSettings
from lib_refonly.stylecode.codes import TINY, write_long
from lib_refonly.stylecode.codes.blend import random_style
from lib_refonly.stylecode.settings import PROMPT, StyleSettings
from lib_refonly.ui.request import PanelRequest
from tests.unit.webui.conftest import text_of

RED = Image.new("RGB", (8, 8), "red")


@pytest.mark.parametrize(
    "wrong", ["/etc/passwd", "C:\\a.png", "\\\\server\\share\\a.png", "file:///etc/passwd", "https://example.org/a.png", "%2e%2e/a.png", "nonsense", 3, b"x"]
)
def test_only_pictures_are_pictures(host: Any, wrong: Any) -> None:
    from lib_refonly.webui.pictures import picture_of

    with pytest.raises(BadPicture):
        picture_of(wrong)


def test_pictures_as_hosts_hand_them_over(host: Any, tmp_path: Path) -> None:
    from lib_refonly.webui.pictures import picture_of

    RED.save(tmp_path / "red.png")
    for given in (RED, np.asarray(RED), tmp_path / "red.png", text_of(RED), f"data:image/png;base64,{text_of(RED)}"):
        found = picture_of(given)
        assert found is not None
        assert found.convert("RGB").getpixel((0, 0)) == (255, 0, 0)
    assert picture_of(None) is picture_of("") is None


class TestStore:
    def test_it_gives_back_what_it_kept(self, host: Any, tmp_path: Path) -> None:
        from lib_refonly.webui.pictures import PictureStore

        store = PictureStore(tmp_path / "kept", 10_000)
        name = store.keep(RED)
        assert store.keep(RED.copy()) == name
        found = store.get(name)
        assert found is not None
        assert found.tobytes() == RED.tobytes()

    @pytest.mark.parametrize("name", ["../secret", "..%2fsecret", "", "x" * 16, "0123456789abcdef/../secret", "0123456789ABCDEF"])
    def test_names_from_outside_are_no_paths(self, host: Any, tmp_path: Path, name: str) -> None:
        from lib_refonly.webui.pictures import PictureStore

        RED.save(tmp_path / "secret.png")
        (tmp_path / "kept").mkdir()
        assert PictureStore(tmp_path / "kept", 10_000).get(name) is None

    def test_it_is_bounded_and_what_was_used_longest_ago_goes(self, host: Any, tmp_path: Path) -> None:
        from lib_refonly.webui.pictures import PictureStore

        rng = np.random.default_rng(0)
        store, names = PictureStore(tmp_path / "kept", 30_000), []
        for age in range(10):
            names.append(store.keep(Image.fromarray(rng.integers(0, 255, (50, 50, 3), np.uint8))))
            os.utime(tmp_path / "kept" / f"{names[-1]}.png", (age, age))
        assert sum(file.stat().st_size for file in (tmp_path / "kept").iterdir()) <= 30_000
        assert store.get(names[-1]) is not None
        assert store.get(names[0]) is None

    def test_a_damaged_file_is_no_picture(self, host: Any, tmp_path: Path) -> None:
        from lib_refonly.webui.pictures import PictureStore

        store = PictureStore(tmp_path / "kept", 10_000)
        name = store.keep(RED)
        (tmp_path / "kept" / f"{name}.png").write_bytes(b"PNG?")
        assert store.get(name) is None

    def test_none_kept_when_there_is_no_room_for_any(self, host: Any, tmp_path: Path) -> None:
        from lib_refonly.webui.pictures import PictureStore

        assert PictureStore(tmp_path / "kept", 0).keep(RED)
        assert not (tmp_path / "kept").exists()


class TestPresets:
    def test_round_trip(self, host: Any, tmp_path: Path) -> None:
        from lib_refonly.webui.presets import Presets

        presets = Presets(tmp_path / "presets.json")
        assert presets.names() == []
        presets.save("soft <b>lines</b>", {"strength": 0.5, "fitting": "crop"})
        assert presets.names() == ["soft <b>lines</b>"]
        assert presets.get("soft <b>lines</b>") == {"strength": 0.5, "fitting": "crop"}
        presets.delete("soft <b>lines</b>")
        assert presets.names() == []

    def test_a_damaged_file_is_kept_aside(self, host: Any, tmp_path: Path) -> None:
        from lib_refonly.webui.presets import Presets

        path = tmp_path / "presets.json"
        path.write_text('{"mine": {"strength": 0.', "utf-8")
        presets = Presets(path)
        assert presets.names() == []
        presets.save("new", {"strength": 1.0})
        assert (tmp_path / "presets.damaged.json").read_text("utf-8").startswith('{"mine"')

    def test_what_does_not_fit_is_left_out_or_refused(self, host: Any, tmp_path: Path) -> None:
        from lib_refonly.webui.presets import Presets

        path = tmp_path / "presets.json"
        path.write_text(json.dumps({"old": {"strength": 99, "gone": 1, "fitting": "crop"}}), "utf-8")
        presets = Presets(path)
        assert presets.get("old") == {"fitting": "crop"}
        for name, values in (("", {}), ("x" * 81, {}), ("a", {"strength": 99})):
            with pytest.raises(BadSettings):
                presets.save(name, values)

    def test_a_folder_that_may_not_be_written_to_is_said(self, host: Any, tmp_path: Path) -> None:
        from lib_refonly.webui.presets import Presets

        (tmp_path / "presets.json").mkdir()
        with pytest.raises(CannotWrite):
            Presets(tmp_path / "presets.json").save("a", {})


class Component:
    """As much of a gradio component as the parameters need."""


class Form(dict[str, Any]):
    def __init__(self, prefix: str = "") -> None:
        super().__init__()
        self.prefix = prefix

    def __missing__(self, name: str) -> Any:
        return self.setdefault(name, self.prefix + name)


def panel() -> Any:
    units = [(f"picture {n}", f"mask {n}", {name: f"{name} {n}" for name in ("weight", "start", "end", "blocks")}) for n in range(1, 5)]
    return types.SimpleNamespace(enabled="enabled", form=Form(), style=Form("style "), drawing="drawing", canvas="canvas", units=units)


def test_parameters_bring_the_panel_back(host: Any, tmp_path: Path) -> None:
    """Every setting away from its default, written as the host writes it and read as the host reads it."""
    from lib_refonly.imaging.infotext import read_infotext, write_infotext
    from lib_refonly.webui import infotext
    from lib_refonly.webui.pictures import PictureStore

    store = PictureStore(tmp_path / "kept", 10**6)
    settings = PanelSettings(True, "m", 0.5, 0.7, 0.1, 0.9, "canny", "light on dark", 7, 9, "crop", "keep", "crop", "high", True)
    units = (Unit(RED, UnitSettings(0.8, 0.2, 0.6, "IN04-IN08:0.5, M:0")), Unit(RED, UnitSettings(), RED.convert("L")))
    style = StyleSettings(True, write_long(random_style(1), TINY), 0.4, 0.1, 0.8, PROMPT, "low")
    told = infotext.written(PanelRequest(settings, units, RED), "m", store) | infotext.style_written(style, lambda _: None)
    texts = read_infotext(write_infotext("a, b", "", {"Steps": 20, "Size": "8x8", "Seed": 1} | told))[2]
    values = {component: read(texts) for component, read in infotext.fields(panel(), store)}
    assert values["enabled"] is True
    assert {name: values[name] for name in vars(settings) if name != "enabled"} == {name: value for name, value in vars(settings).items() if name != "enabled"}
    from lib_refonly.refonly.panel import block_weights

    assert [values[f"{name} 1"] for name in ("weight", "start", "end")] == [0.8, 0.2, 0.6]
    assert block_weights(values["blocks 1"]) == block_weights("IN04-IN08:0.5, M:0")
    assert (values["weight 2"], values["blocks 2"]) == (1.0, "")
    assert values["drawing"]["value"].tobytes() == values["picture 2"]["value"].tobytes() == RED.tobytes()
    assert values["mask 2"]["value"] is not None
    assert {name: values[f"style {name}"] for name in vars(style)} == vars(style)
    assert values["mask 1"]["value"] is values["picture 3"]["value"] is None


def test_parameters_of_another_picture_switch_the_panel_off_and_leave_the_rest(host: Any, tmp_path: Path) -> None:
    from lib_refonly.webui import infotext
    from lib_refonly.webui.pictures import PictureStore

    values = {component: read({"Steps": "20"}) for component, read in infotext.fields(panel(), PictureStore(tmp_path, 0))}
    assert values.pop("enabled") is values.pop("style enabled") is False
    assert values.pop("canvas") == ""  # what is not there is taken away: a canvas left behind would be painted on
    assert set(values.values()) == {None}


def test_hostile_parameters_change_nothing(host: Any, tmp_path: Path) -> None:
    from lib_refonly.webui import infotext
    from lib_refonly.webui.pictures import PictureStore

    texts = {
        "RefOnly model": "m",
        "RefOnly strength": "nan",
        "RefOnly fitting": "<b>",
        "RefOnly style": "<b>" * 100,
        "RefOnly style strength": "inf",
        "RefOnly unit 1": "picture: ../../etc/passwd, weight: 1e9, blocks: ;;;x",
        "RefOnly canvas": '{"format":"refonly-onepic","version":1,"panels":[{"picture":"../../etc/passwd"}]}',
    }
    values = {component: read(texts) for component, read in infotext.fields(panel(), PictureStore(tmp_path, 0))}
    assert (values["strength"], values["fitting"], values["weight 1"], values["blocks 1"]) == (1.0, "pad", 1.0, "")
    assert values["picture 1"]["value"] is None
    assert values["style strength"] == 0.9
    assert values["canvas"] == ""


def test_forge_s_checkpoint_is_not_what_stood_in_for_it(host: Any) -> None:
    """Between two runs the last one's patcher is still the model's; the host puts its own back only when the next pass begins."""
    from lib_refonly.webui.forge import ForgeHost

    def objects(unet: torch.nn.Module) -> Any:
        patcher = types.SimpleNamespace(model=types.SimpleNamespace(diffusion_model=unet, get_dtype=lambda: torch.float32))
        return types.SimpleNamespace(unet=patcher, vae=types.SimpleNamespace(first_stage_model=torch.nn.Linear(1, 1)))

    own, standing = torch.nn.Linear(1, 1), torch.nn.Linear(2, 2)
    sd_model = types.SimpleNamespace(forge_objects=objects(standing), forge_objects_original=objects(own))
    assert ForgeHost().checkpoint(sd_model).unet is own
    assert ForgeHost().checkpoint(types.SimpleNamespace(forge_objects=objects(own))).unet is own


@pytest.mark.parametrize(("reuse", "said"), [(1, []), (3, ["ONE-PIC: context reuse does not act with this checkpoint; each step computes the whole canvas."])])
def test_a_canvas_on_flow_matching_says_that_nothing_is_reused(host: Any, reuse: int, said: list[str]) -> None:
    from lib_refonly.webui.forge import ForgeHost

    class Patcher:
        model = types.SimpleNamespace(diffusion_model=torch.nn.Linear(1, 1))
        model_options: dict[str, Any] = {}

        def clone(self) -> Patcher:
            return Patcher()

        def set_model_unet_function_wrapper(self, wrapper: Any) -> None:
            self.model_options = {"wrapper": wrapper}

    own, comments = Patcher(), []
    objects = types.SimpleNamespace(unet=own)
    canvas = CleanContext(torch.zeros(1, 4, 8, 16), torch.arange(16).ge(8).expand(8, 16), reuse)
    p = types.SimpleNamespace(sd_model=types.SimpleNamespace(forge_objects=objects), comment=comments.append)
    ForgeHost().attach(p, Plan(canvas=canvas), None)
    assert objects.unet is not own
    assert comments == said


class TestLocks:
    """The routes are open exactly where the host's own are."""

    def request(self, **more: Any) -> Any:
        return types.SimpleNamespace(headers=more.get("headers", {}), cookies=more.get("cookies", {}))

    def basic(self, pair: str) -> dict[str, str]:
        return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}

    def test_without_a_lock_everybody(self, host: Any) -> None:
        from lib_refonly.webui.api import may_pass

        assert may_pass(self.request(), types.SimpleNamespace(auth=None, tokens={}))

    def test_api_auth(self, host: Any) -> None:
        from lib_refonly.webui.api import may_pass

        host.shared.cmd_opts.api_auth = "me:secret, you:other"
        app = types.SimpleNamespace(auth=None, tokens={})
        assert may_pass(self.request(headers=self.basic("you:other")), app)
        for headers in ({}, self.basic("me:other"), self.basic("me"), {"authorization": "Basic %%%"}, {"authorization": "Bearer me:secret"}, self.basic("")):
            assert not may_pass(self.request(headers=headers), app)

    def test_gradio_auth(self, host: Any) -> None:
        from lib_refonly.webui.api import may_pass

        app = types.SimpleNamespace(auth={"me": "secret"}, tokens={"abc": "me"})
        assert may_pass(self.request(cookies={"access-token-1": "abc"}), app)
        for cookies in ({}, {"access-token-1": "guess"}, {"other": "abc"}):
            assert not may_pass(self.request(cookies=cookies), app)

    @pytest.mark.parametrize("route", ["/refonly/version", "/refonly/schema", "/refonly/models"])
    def test_the_routes_are_behind_them(self, host: Any, route: str) -> None:
        testclient = pytest.importorskip("fastapi.testclient", reason="route tests need fastapi's test client (httpx)")
        from fastapi import FastAPI

        from lib_refonly.webui.api import add_routes

        host.shared.cmd_opts.api_auth = "me:secret"
        app = FastAPI()
        add_routes(None, app)
        client = testclient.TestClient(app)
        assert client.get(route).status_code == 401
        assert client.post("/refonly/preprocess", json={}).status_code == 401
        answer = client.get(route, headers=self.basic("me:secret"))
        assert answer.status_code == 200
        assert str(Path.home()) not in answer.text


def test_registering_asks_for_each_callback_once(host: Any) -> None:
    from lib_refonly.webui.register import register

    register()
    assert {name: len(found) for name, found in host.callbacks.items()}.keys() >= {"on_cfg_denoiser", "on_ui_settings", "on_app_started", "on_before_ui"}
    for add in host.callbacks["on_ui_settings"]:
        add()
    assert host.shared.opts.refonly_units == 4


def test_axes_are_added_once(host: Any) -> None:
    from lib_refonly.webui import xyz

    class AxisOption:
        def __init__(self, label: str, *_: Any, **__: Any) -> None:
            self.label = label

    module = types.SimpleNamespace(AxisOption=AxisOption, axis_options=[])
    script = type("Script", (), {"__module__": "xyz_grid.py"})
    host.scripts.scripts_data.append(types.SimpleNamespace(script_class=script, module=module))
    xyz.add_axes()
    count = len(module.axis_options)
    xyz.add_axes()
    assert len(module.axis_options) == count > 5


def test_importing_it_loads_no_model_and_nothing_that_the_host_has_not(host: Any) -> None:
    """In a process that has what the hosts have at that time: torch, gradio, numpy, PIL, cv2, fastapi.

    It may take 0.3 s; on a machine that is slow just now, a tenth of what those took. The best of three counts: chance only ever adds.
    """
    import subprocess

    code = """
import sys, time
import torch, gradio, numpy, PIL.Image, cv2, fastapi
theirs = time.process_time()
from pathlib import Path
from tests.unit.webui.fake_modules import fake_modules
with fake_modules(Path(".")):
    for name in [n for n in sys.modules if n.startswith("lib_refonly")]:
        del sys.modules[name]
    before, begun = set(sys.modules), time.process_time()
    from lib_refonly.webui.register import register
    register()
    seconds = time.process_time() - begun
    print(seconds, theirs, sorted({n.partition(".")[0] for n in set(sys.modules) - before}))
"""
    over = []
    for _ in range(3):
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[3]).stdout
        seconds, theirs, new = out.split(" ", 2)
        assert not {"diffusers", "transformers", "accelerate"} & set(eval(new))
        over.append(float(seconds) - max(0.3, 0.1 * float(theirs)))
    assert min(over) < 0
