"""Stylecodes inside the script: the panel's, the prompt's, both, wrong ones, and what goes into the parameters."""

from __future__ import annotations

import shutil
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from lib_refonly.errors import BadModel, BadSettings
from lib_refonly.stylecode.codes import TINY, CodeModel, read, write_long, write_short
from lib_refonly.stylecode.codes.blend import random_style
from tests.contract.test_branches import style_file
from tests.contract.test_contract import hooks
from tests.unit.webui.conftest import text_of
from tests.unit.webui.fake_modules import Processing, SdModel, generate

MODEL = CodeModel("random-sd15")
ONE, OTHER = (write_short(random_style(number), MODEL) for number in (1, 2))


@pytest.fixture
def script(host: Any, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The painter's folder with one stylecode model more."""
    own = tmp_path / "own" / "models"
    shutil.copytree(models, own)
    (own / "stylecodes").mkdir()
    shutil.copy(style_file("sd15"), own / "stylecodes" / "random.safetensors")
    monkeypatch.setenv("REFONLY_MODELS_DIR", str(own))
    monkeypatch.setenv("REFONLY_STYLES", str(tmp_path / "styles.sqlite"))
    from lib_refonly.webui.script import RefOnlyScript

    yield RefOnlyScript()
    assert RefOnlyScript.run_now is None


def paint(script: Any, sd_model: SdModel, style: Any = None, prompt: list[tuple[str, float]] | None = None, p: Any = None, **more: Any) -> torch.Tensor:
    request = {"style": {"enabled": True, "code": style}} if isinstance(style, str) else style or {}
    networks = (lambda p: script.prompted(p, prompt)) if prompt is not None else (lambda _: None)
    latent, swallowed, _ = generate(p or Processing(sd_model), script, [request], script.on_step, networks=networks, **more)
    assert swallowed == []
    return latent


def test_a_code_changes_a_run_and_not_the_next(script: Any, sd_model: SdModel) -> None:
    base = paint(script, sd_model)
    one, other = paint(script, sd_model, ONE), paint(script, sd_model, OTHER)
    assert min(float((a - b).abs().max()) for a, b in ((one, base), (other, base), (one, other))) > 1e-3
    assert torch.equal(paint(script, sd_model, write_long(random_style(1), MODEL)), one)
    assert torch.equal(paint(script, sd_model, {"style": {"enabled": True, "code": ONE, "strength": 0}}), base)
    assert torch.equal(paint(script, sd_model), base)
    assert hooks(sd_model) == 0


def test_the_prompt_s_codes(script: Any, sd_model: SdModel) -> None:
    base = paint(script, sd_model)
    assert torch.equal(paint(script, sd_model, prompt=[]), base)
    assert torch.equal(paint(script, sd_model, prompt=[(ONE, 0.9)]), paint(script, sd_model, ONE))
    both = paint(script, sd_model, prompt=[(ONE, 0.9), (OTHER, 0.9)])
    assert torch.equal(paint(script, sd_model, OTHER, [(ONE, 0.9)]), both)
    assert not torch.equal(both, paint(script, sd_model, ONE))


def test_each_pass_has_its_own_prompt(script: Any, sd_model: SdModel) -> None:
    def networks(p: Any) -> None:
        script.prompted(p, [(OTHER, 0.9)] if p.is_hr_pass else [(ONE, 0.9)])

    latent, swallowed, _ = generate(Processing(sd_model), script, [{}], script.on_step, hires=True, networks=networks)
    assert swallowed == []
    same = paint(script, sd_model, prompt=[(ONE, 0.9)], hires=True)
    assert not torch.equal(latent, same)


@pytest.mark.parametrize("passes", ["low", "high"])
def test_passes(script: Any, sd_model: SdModel, passes: str) -> None:
    style = {"style": {"enabled": True, "code": ONE, "passes": passes}}
    assert not torch.equal(paint(script, sd_model, style, hires=True), paint(script, sd_model, ONE, hires=True))
    assert torch.equal(paint(script, sd_model, style), paint(script, sd_model, ONE if passes == "low" else None))


def test_beside_a_reference(script: Any, sd_model: SdModel, asked: dict[str, Any]) -> None:
    """An adapter leaves the checkpoint's network at work, which the style goes with; a full model brings another, which it need not fit."""
    asked = asked | {"model": "ip-adapter_ours"}
    reference = paint(script, sd_model, asked)
    both = paint(script, sd_model, asked | {"style": {"enabled": True, "code": ONE}})
    assert min(float((both - other).abs().max()) for other in (reference, paint(script, sd_model, ONE))) > 1e-3


@pytest.mark.parametrize(
    ("code", "said"), [("nonsense", "symbols"), (ONE[:-2] + ONE[-1], "symbols"), ("", "no code"), (ONE[:-1] + "1", "not installed|not here")]
)
def test_a_wrong_code_paints_nothing_wrong(script: Any, sd_model: SdModel, code: str, said: str) -> None:
    """Not the plain picture either: it would look as if the style were so."""
    base, p = paint(script, sd_model), Processing(sd_model)
    if said == "not installed|not here":  # it is right, only its model is missing: told, and painted without
        assert torch.equal(paint(script, sd_model, code, p=p), base)
    else:
        with pytest.raises(Exception, match=said):
            paint(script, sd_model, code, p=p)
        with pytest.raises(Exception, match=said):
            paint(script, sd_model, prompt=[(code, 1.0)], p=p)
    assert any("not" in comment for comment in p.comments)
    assert torch.equal(paint(script, sd_model), base)
    assert hooks(sd_model) == 0


def test_another_kind_of_checkpoint_is_said(script: Any, sd_model: SdModel, tmp_path: Path) -> None:
    own = tmp_path / "own" / "models" / "stylecodes"
    shutil.copy(style_file("sdxl"), own / "xl.safetensors")
    p = Processing(sd_model)
    code = write_short(random_style(1), CodeModel("random-sdxl"))
    assert torch.equal(paint(script, sd_model, code, p=p), paint(script, sd_model))
    assert "another kind of network" in p.comments[0]
    assert p.extra_generation_params["RefOnly style note"] == "not applied"
    with pytest.raises(Exception, match="another kind of network"):
        paint(script, sd_model, {"must": True, "style": {"enabled": True, "code": code}})


def test_parameters_bring_the_style_back(script: Any, sd_model: SdModel) -> None:
    p = Processing(sd_model)
    paint(script, sd_model, {"style": {"enabled": True, "code": f"{ONE}:2 {OTHER}", "strength": 0.7, "start": 0.1}}, p=p)
    told = p.extra_generation_params
    assert (told["RefOnly style strength"], told["RefOnly style start"]) == ("0.7", "0.1")
    again = read(told["RefOnly style"], (MODEL,))
    assert again.form == "long"
    plain = Processing(sd_model)
    paint(script, sd_model, p=plain)
    assert plain.extra_generation_params == {}


def test_names_from_the_library(script: Any, sd_model: SdModel, drawing: Image.Image) -> None:
    from lib_refonly.webui.context import context

    context().library.save("soft pastel", read(ONE, (MODEL,)), drawing, tags=("soft",))
    p = Processing(sd_model)
    assert torch.equal(paint(script, sd_model, "Soft Pastel", p=p), paint(script, sd_model, ONE))
    assert read(p.extra_generation_params["RefOnly style"], (MODEL,)).short == ONE, "others have another library"
    assert torch.equal(paint(script, sd_model, prompt=[("soft pastel", 0.9)]), paint(script, sd_model, ONE))


def test_a_picture_holds_codes_and_not_names(script: Any, sd_model: SdModel) -> None:
    from lib_refonly.webui.context import context

    context().library.save("soft pastel", read(ONE, (MODEL,)))
    p: Any = Processing(sd_model)
    p.all_prompts = ["a cat <sref:Soft pastel:0.8> <lora:soft pastel:1>", f"<sref:{OTHER}:1>", "<sref:soft pastel>", "<sref:nobody:1>"]
    paint(script, sd_model, p=p)
    long = write_long(random_style(1), MODEL)
    assert p.all_prompts == [f"a cat <sref:{long}:0.8> <lora:soft pastel:1>", f"<sref:{OTHER}:1>", f"<sref:{long}>", "<sref:nobody:1>"]
    assert p.extra_generation_params["RefOnly style names"] == "soft pastel"


def test_midjourney_s_way(script: Any, sd_model: SdModel) -> None:
    p: Any = Processing(sd_model)
    p.all_prompts, p.all_hr_prompts = [f"a cat, red --sref {ONE}", "a dog"], None
    paint(script, sd_model, p=p)
    assert p.all_prompts == [f"a cat, red <sref:{ONE}:1>", "a dog"]
    assert "--sref" in p.comments[0]


def test_the_extra_network(script: Any, host: Any, sd_model: SdModel, drawing: Image.Image) -> None:
    from lib_refonly.webui import style_network
    from lib_refonly.webui.context import context

    style_network.register_network()
    style_network.register_network()
    network, (page,) = host.extra_networks.extra_network_registry["sref"], host.ui_extra_networks.extra_pages
    p = Processing(sd_model)
    network.activate(p, [types.SimpleNamespace(items=[ONE, "0.5"]), types.SimpleNamespace(items=[OTHER])])
    assert script.run_now.styles.prompted == ((ONE, 0.5), (OTHER, 1.0))
    p.close()
    assert style_network.weighted(["a", "b"]) == ("a:b", 1.0)

    assert list(page.list_items()) == []

    context().library.save("dots 'n lines", read(ONE, (MODEL,)), drawing, tags=("dots",))
    (item,) = page.list_items()
    assert item["prompt"] == '"<sref:dots \'n lines:1>"'
    assert "dots" in item["search_terms"][0]
    shown = Path(item["local_preview"])
    assert shown.parent == Path(page.allowed_directories_for_previews()[0])
    assert Image.open(shown).size[0] <= 256
    assert page.create_item("DOTS 'N LINES")["name"] == "dots 'n lines"
    assert page.create_item("none") is None


def test_a_dropped_picture_gives_its_code(script: Any, host: Any, sd_model: SdModel, reference: Image.Image) -> None:
    from lib_refonly.webui.context import make_code, read_code

    code, _ = make_code(text_of(reference))
    assert read(code, (MODEL, TINY)).model == TINY  # nothing is loaded: the one that is built in
    vars(host.sd_models).update(model_data=types.SimpleNamespace(sd_model=sd_model))
    code, said = make_code(text_of(reference))
    assert read(code, (MODEL, TINY)).model == MODEL  # the one that goes with the checkpoint
    assert "refonly-message" in said
    assert make_code(None) == ("", "")
    assert "no picture" in make_code("bm8gcGljdHVyZQ==")[1].lower() or "picture" in make_code("bm8gcGljdHVyZQ==")[1]
    assert "symbols" in read_code("abc")
    assert read_code("  ") == ""


def test_the_styles_page_paints_with_the_host(script: Any, processing: list[Any], sd_model: SdModel) -> None:
    from lib_refonly.studio.style_engine import StylePaintSettings
    from lib_refonly.webui.style_painter import HostPainter

    told: list[tuple[int, int]] = []
    settings = StylePaintSettings(steps=3, width=64, height=64, seed=7, negative="dark", cfg=5.0)
    one, other = HostPainter().paint_all([random_style(1), random_style(2)], "a cat", settings, MODEL, lambda *done: told.append(done))
    assert one.tobytes() != other.tobytes()
    assert {(0, 6), (3, 6)} <= set(told)
    assert (processing[0].settings["prompt"], processing[0].settings["negative_prompt"], processing[0].settings["seed"]) == ("a cat", "dark", 7)
    assert all(p.closed for p in processing)
    assert hooks(sd_model) == 0
    with pytest.raises(BadModel, match="another kind of network"):
        HostPainter().paint_all([random_style(1)], "a cat", settings, TINY)
    with pytest.raises(BadSettings, match="that is not here"):
        HostPainter().paint_all([random_style(1)], "a cat", settings, CodeModel("gone-1", "x"))


def test_an_axis_asks_for_a_style(script: Any, sd_model: SdModel) -> None:
    from lib_refonly.webui import xyz

    class AxisOption:
        def __init__(self, label: str, _: type, apply: Any, **__: Any) -> None:
            self.label, self.apply = label, apply

    options = {option.label: option for option in xyz._options(types.SimpleNamespace(AxisOption=AxisOption))}
    p = Processing(sd_model)
    options["[RefOnly] Style code"].apply(p, ONE, [])
    assert torch.equal(paint(script, sd_model, p=p), paint(script, sd_model, ONE))
    options["[RefOnly] Style strength"].apply(p, 0.0, [])
    assert torch.equal(paint(script, sd_model, p=p), paint(script, sd_model))


def test_routes(script: Any, host: Any, reference: Image.Image) -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from lib_refonly.webui.api import add_routes

    app = FastAPI()
    add_routes(None, app)
    client = TestClient(app)

    def ask(name: str, **body: Any) -> Any:
        answer = client.post(f"/refonly/stylecode/{name}", json=body)
        return answer.json() if answer.status_code == 200 else (answer.status_code, answer.json()["detail"])

    assert "random-sd15" in [model["name"] for model in client.get("/refonly/stylecode/models").json()["models"]]
    assert ask("read", code=ONE)["long"] == write_long(random_style(1), MODEL)
    assert ask("random", number=1, model="random-sd15")["short"] == ONE
    made = ask("make", pictures=[text_of(reference)], model="random-sd15")
    assert len(made["latent"]) == 20
    assert ask("mix", codes=[ONE, ONE], weights=[1, 3])["short"] == ONE
    wrong: list[tuple[str, dict[str, Any]]] = [
        *(("read", body) for body in ({"code": "x"}, {})),
        *(("make", body) for body in ({"pictures": ["/etc/passwd"]}, {"pictures": []})),
        *(("mix", body) for body in ({"codes": [ONE], "weights": [1, 2]}, {"codes": []}, {"codes": [ONE, OTHER], "weights": ["a", 1]})),
        *(("random", body) for body in ({"number": "1"}, {"number": 1, "model": "none"})),
    ]
    for name, body in wrong:
        status, said = ask(name, **body)
        assert status == 422, (name, body)
        assert said
    host.shared.cmd_opts.api_auth = "name:password"
    assert client.post("/refonly/stylecode/read", json={"code": ONE}).status_code == 401
    assert client.get("/refonly/stylecode/models").status_code == 401
