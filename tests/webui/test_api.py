"""The extension inside a real WebUI, over its HTTP API. Each test is one line of the table in docs/hosts.md; the docstring says what it shows."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lib_refonly import __version__
from lib_refonly.imaging.decode import decode_base64
from lib_refonly.imaging.infotext import png_bytes, save_png
from lib_refonly.studio.engine import Engine
from lib_refonly.ui.request import names
from tests.webui.webui import SAMPLES, TITLE, Failed, Painted, WebUI, asked, beside, drawing, reference

CHANGED = 1.0
"""Mean difference of two pictures, of 255, that no rounding makes."""
IP = "ip-adapter_random"


def apart(one: Painted, other: Painted) -> float:
    assert one.picture.shape == other.picture.shape
    return float(np.abs(one.picture - other.picture).mean())


def same(one: Painted, other: Painted) -> bool:
    return bool(np.array_equal(one.picture, other.picture))


@pytest.fixture
def plain(webui: WebUI) -> Any:
    """A plain picture before the test, and the same after it: whatever was done between, nothing is left behind."""
    before = webui.paint()
    yield before
    assert same(webui.paint(), before), "the next plain run is another picture"


def test_routes(webui: WebUI) -> None:
    """own routes: version, schema, models, preprocess"""
    assert webui.ask("/refonly/version") == {"version": __version__}
    assert webui.ask("/refonly/schema")["arguments"] == names()
    assert {"rand-refonly", "tiny-refonly", IP} <= {model["name"] for model in webui.ask("/refonly/models")["models"]}
    assert webui.ask("/refonly/preprocess", {"drawing": drawing()})["blueprint"]
    with pytest.raises(Failed, match="422"):
        webui.ask("/refonly/preprocess", {"drawing": "/etc/passwd"})


def test_reference_and_lines_matter(webui: WebUI, plain: Painted) -> None:
    """full model: reference and drawing each change the picture"""
    ours = webui.paint(asked())
    assert apart(ours, plain) > CHANGED
    assert apart(webui.paint(asked(1, lines=0)), ours) > CHANGED
    assert apart(webui.paint(asked(0, lines=1)), ours) > CHANGED
    assert same(webui.paint(asked()), ours)
    assert webui.paint(asked()).info["infotexts"][0].count("RefOnly") == 3


def test_text_does_not_matter(webui: WebUI, plain: Painted) -> None:
    """full model: the prompt has no part in it"""
    assert same(webui.paint(asked(), prompt="a red house"), webui.paint(asked()))


def test_models_one_right_after_the_other(webui: WebUI, plain: Painted) -> None:
    """a full model, an adapter right after it, and the full model again: each acts"""
    for model in ("rand-refonly", IP, "rand-refonly"):
        assert apart(webui.paint(asked(model=model, must=True)), plain) > CHANGED, model


def test_strength_nought_is_the_base(webui: WebUI, plain: Painted) -> None:
    """strength 0 is the checkpoint, bit for bit"""
    assert same(webui.paint(asked(strength=0, line_strength=0)), plain)
    assert same(webui.paint(asked(model=IP, strength=0)), plain)


def test_units(webui: WebUI, plain: Painted) -> None:
    """units: weight, window, mask and blocks act"""
    both = asked()
    both["units"] = [{"picture": reference(0)}, {"picture": reference(1)}]
    ours, first = webui.paint(both), webui.paint(asked())
    assert apart(ours, first) > CHANGED
    assert same(webui.paint(both | {"units": [both["units"][0], both["units"][1] | {"weight": 0}]}), first)
    for change in ({"end": 0.4}, {"mask": drawing(0)}, {"blocks": "IN:0, OUT:0.2"}):
        assert apart(webui.paint(both | {"units": [both["units"][0] | change, both["units"][1]]}), ours) > 0.05, change


def test_positional_arguments(webui: WebUI, plain: Painted) -> None:
    """arguments in a row paint what the object paints"""
    values: list[Any] = [None] * len(names())
    values[0], values[1], values[names().index("drawing")], values[names().index("unit 1 picture")] = True, "rand-refonly", drawing(), reference()
    assert same(webui.paint(values), webui.paint(asked()))


def test_cfg(webui: WebUI, plain: Painted) -> None:
    """CFG 1, and CFG higher"""
    assert apart(webui.paint(asked(), cfg_scale=1), webui.paint(asked(), cfg_scale=7)) > 0.2


def test_batches(webui: WebUI, plain: Painted) -> None:
    """batch size and batch count give the single pictures"""
    singles = [webui.paint(asked(), seed=seed) for seed in (1, 2)]
    for size, count in ((2, 1), (1, 2)):
        for got, wanted in zip(webui.paint_all(asked(), batch_size=size, n_iter=count), singles, strict=True):
            assert apart(got, wanted) < 0.5


def the_prompt_acts(webui: WebUI, sampler: str, without: Painted) -> bool:
    """Not so in a sampler that is for another kind of checkpoint (rectified flow), and paints the same whatever it is told."""
    return apart(webui.paint(sampler_name=sampler, prompt="something quite different"), without) >= CHANGED


@pytest.mark.parametrize("model", ["rand-refonly", IP])
def test_every_sampler(webui: WebUI, plain: Painted, model: str) -> None:
    """every sampler of the host"""
    silent = []
    for sampler in webui.samplers():
        try:
            without = webui.paint(sampler_name=sampler)
        except Failed:
            continue  # the host itself can't at three steps
        if apart(webui.paint(asked(model=model), sampler_name=sampler), without) < CHANGED and the_prompt_acts(webui, sampler, without):
            silent.append(sampler)
    assert not silent, silent


@pytest.mark.parametrize("model", ["rand-refonly", IP])
def test_prompts(webui: WebUI, plain: Painted, model: str) -> None:
    """AND, long and negative prompts, prompts of different lengths"""
    for prompt, negative in (("a cat AND a dog", ""), ("a cat, " * 60, ""), ("a cat", "a dog, " * 60), ("a cat AND " + "a dog, " * 60, "x")):
        texts = {"prompt": prompt, "negative_prompt": negative}
        assert apart(webui.paint(asked(model=model), **texts), webui.paint(**texts)) > CHANGED, texts


@pytest.mark.parametrize("model", ["rand-refonly", IP])
def test_hires(webui: WebUI, plain: Painted, model: str) -> None:
    """hires fix: both passes, the low one, the high one"""
    hires = webui.hires(0.7)
    without = webui.paint(**hires)
    painted = {passes: webui.paint(asked(model=model, passes=passes), **hires) for passes in ("both", "low", "high")}
    assert all(apart(one, without) > 0.2 for one in painted.values())
    assert all(apart(painted["both"], painted[passes]) > 0.2 for passes in ("low", "high"))


@pytest.mark.parametrize("model", ["rand-refonly", IP])
def test_img2img(webui: WebUI, plain: Painted, model: str) -> None:
    """img2img; its picture is the drawing where none is given"""
    own = {"init_images": [drawing(0)], "denoising_strength": 0.9}
    without = webui.paint(kind="img2img", **own)
    ours = webui.paint(asked(model=model), "img2img", **own)
    assert apart(ours, without) > CHANGED
    taken = webui.paint(asked(model=model, drawing=None), "img2img", **own)
    assert same(taken, ours)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "only masked"])
@pytest.mark.parametrize("model", ["rand-refonly", IP])
def test_inpaint(webui: WebUI, plain: Painted, model: str, whole: bool) -> None:
    """inpainting, the whole picture and only the masked part"""
    half = np.zeros((128, 128), np.uint8)
    half[:, 64:] = 255
    picture = np.asarray(Image.open(sorted(SAMPLES.iterdir())[0] / "lines.png").convert("RGB").resize((128, 128)))
    own = {"init_images": [_png(picture)], "mask": _png(half), "denoising_strength": 0.9, "inpaint_full_res": not whole, "inpainting_fill": 1, "mask_blur": 0}
    without = webui.paint(kind="img2img", **own)
    ours = webui.paint(asked(model=model), "img2img", **own)
    change = np.abs(ours.picture - without.picture).mean(2)
    assert change[:, 72:].mean() > CHANGED
    assert change[:, :56].mean() < change[:, 72:].mean() / 4


@pytest.mark.parametrize("model", ["rand-refonly", IP])
def test_soft_inpainting(webui: WebUI, plain: Painted, model: str) -> None:
    """the host's own soft inpainting, at the same time"""
    ramp = np.tile(np.linspace(0, 255, 128).astype(np.uint8), (128, 1))
    picture = np.asarray(Image.open(sorted(SAMPLES.iterdir())[0] / "lines.png").convert("RGB").resize((128, 128)))
    own = {"init_images": [_png(picture)], "mask": _png(ramp), "denoising_strength": 0.9, "inpainting_fill": 1, "mask_blur": 0}
    soft = {"alwayson_scripts": {"Soft Inpainting": {"args": [True, 1, 0.5, 4, 0, 0.5, 2]}}}
    hard, ours = webui.paint(asked(model=model), "img2img", **own), webui.paint(asked(model=model), "img2img", **own, **soft)
    without = webui.paint(kind="img2img", **own, **soft)
    if float(np.abs(without.picture - picture).mean()) < 0.05:
        pytest.skip("the host's own soft inpainting leaves this picture as it was, with random weights")
    assert apart(ours, hard) > 0.05, "soft inpainting has no part in it"
    assert apart(ours, without) > 0.2


def test_token_merging(webui: WebUI, plain: Painted) -> None:
    """token merging beside the text's adapter"""
    merged: dict[str, Any] = {"override_settings": {"token_merging_ratio": 0.5}}
    without = webui.paint(**merged)
    assert apart(webui.paint(asked(model=IP), **merged), without) > CHANGED
    webui.paint(override_settings={"token_merging_ratio": 0.0})


@pytest.mark.parametrize("words", ["a cat <lora:random:1>", "a cat randomword"], ids=["LoRA", "embedding"])
def test_lora_and_embedding(webui: WebUI, plain: Painted, words: str) -> None:
    """a LoRA and a textual-inversion embedding in the prompt, alone and with the adapter"""
    assert "randomword" in webui.ask("/sdapi/v1/embeddings")["loaded"]
    alone, ours, both = webui.paint(prompt=words), webui.paint(asked(model=IP)), webui.paint(asked(model=IP), prompt=words)
    assert min(apart(alone, plain), apart(both, ours), apart(both, alone)) > 0.2
    assert same(webui.paint(asked(model=IP)), ours)


def test_refiner(webui: WebUI, plain: Painted) -> None:
    """refiner: the second checkpoint goes on, the next run is clean"""
    if webui.is_forge:
        pytest.skip("one checkpoint only: this host's loader knows true widths alone")
    refined = {"refiner_checkpoint": webui.checkpoint("rand-sd21v"), "refiner_switch_at": 0.5, "steps": 6}
    for model in ("rand-refonly", IP):
        assert webui.paint(asked(model=model), **refined).picture.std() > 0


@pytest.mark.parametrize("model", ["rand-refonly", IP])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_an_exception_in_the_middle(webui: WebUI, plain: Painted, model: str, step: int) -> None:
    """an exception at any step, another extension's: the next run is clean"""
    with pytest.raises(Failed, match="raised in the middle"):
        webui.paint(asked(model=model), steps=5, alwayson_scripts={"Raise at": {"args": [step]}})
    assert same(webui.paint(asked(model=model)), webui.paint(asked(model=model)))


def test_a_run_that_must_stop(webui: WebUI, plain: Painted) -> None:
    """a run that must be stopped is stopped with the sentence"""
    with pytest.raises(Failed, match="no picture"):
        webui.paint({"enabled": True, "must": True})
    with pytest.raises(Failed, match="base64"):
        webui.paint(asked() | {"drawing": "/etc/passwd"})
    with pytest.raises(Failed, match="does not fit|There is no model"):
        webui.paint(asked(model="nonsense", must=True))


def test_what_cannot_be_applied_is_said(webui: WebUI, plain: Painted) -> None:
    """what can't be applied leaves the plain picture and a note in it"""
    painted = webui.paint(asked(model="tiny-refonly"))
    assert same(painted, plain)
    assert "RefOnly note: not applied" in painted.text


@pytest.mark.parametrize("model", ["rand-refonly", IP])
@pytest.mark.parametrize("word", ["interrupt", "skip"])
def test_interrupt_and_skip(webui: WebUI, plain: Painted, model: str, word: str) -> None:
    """interrupt and skip in the middle of a run"""
    beside(lambda: webui.ask(f"/sdapi/v1/{word}", {}), 2.0)
    webui.paint_all(asked(model=model), steps=60)  # of none, if it came before the first step


def test_two_users(webui: WebUI, plain: Painted) -> None:
    """two users at once: each gets what is theirs"""
    alone = webui.paint(asked())
    with ThreadPoolExecutor(2) as both:
        jobs = [both.submit(webui.paint, request) for request in (asked(), None, asked(), None)]
        results = [job.result() for job in jobs]
    assert [same(result, wanted) for result, wanted in zip(results, (alone, plain, alone, plain), strict=True)] == [True] * 4


def test_memory(webui: WebUI, plain: Painted) -> None:
    """50 runs in a row, no growing memory"""

    def runs(count: int) -> None:
        for number in range(count):
            webui.paint(asked(number % 2, model=("rand-refonly", IP)[number % 2]), steps=1, width=64, height=64)

    runs(10)
    before = webui.memory
    runs(50)
    assert webui.memory - before < 60 * 2**20, f"{(webui.memory - before) / 2**20:.0f} MB more"


def test_another_checkpoint(webui: WebUI, plain: Painted) -> None:
    """a v-prediction checkpoint: the full model stands in there as well"""
    if webui.is_forge:
        pytest.skip("one checkpoint only: this host's loader knows true widths alone")
    ours = webui.paint(asked(), cfg_scale=1, steps=20)
    on_v = webui.paint(asked(), checkpoint="rand-sd21v", cfg_scale=1, steps=20)
    assert apart(ours, on_v) < 2  # the same UNet, the same VAE's latents: only how they are said differs


def test_xyz(webui: WebUI, plain: Painted) -> None:
    """X/Y/Z: an axis of ours changes the cells"""
    arguments = webui.plot("[RefOnly] Reference strength", "0, 1")
    grid = webui.paint_all(asked(), script_name="X/Y/Z plot", script_args=arguments, n_iter=1)[0]
    half = grid.picture.shape[1] // 2
    assert np.abs(grid.picture[:, :half] - grid.picture[:, -half:]).mean() > 0.2


def test_colours_as_the_studio_does(webui: WebUI) -> None:
    """tiny-refonly on tiny-base colours the samples as the studio does"""
    if not webui.loads_tiny:
        pytest.skip("this host's loader takes no UNet as narrow as tiny-base's")
    columns = []
    for sample in range(3):
        request = asked(sample, model="tiny-refonly")
        ours = webui.paint(request, checkpoint="tiny-base", width=256, height=256, steps=20, cfg_scale=1, sampler_name="Euler").picture
        studio = _in_the_studio(sample)
        assert float(np.abs(ours - studio).mean()) < 6
        inputs = [decode_base64(one).convert("RGB").resize((256, 256)) for one in (reference(sample), drawing(sample))]
        columns.append(np.vstack([*map(np.asarray, inputs), ours, studio]))
    save_png(webui.sheet("samples"), Image.fromarray(np.hstack(columns).astype(np.uint8)))


def test_converted_checkpoint(webui: WebUI, plain: Painted) -> None:
    """a converted model can be chosen in the host's own list"""
    if not webui.loads_tiny:
        pytest.skip("this host's loader takes no UNet as narrow as tiny-refonly's")
    painted = webui.paint(asked(model="tiny-refonly"), checkpoint="tiny-refonly", width=256, height=256, steps=4, cfg_scale=1)
    assert painted.picture.std() > 10


def _in_the_studio(sample: int) -> np.ndarray:
    from lib_refonly.refonly.settings import RefOnlySettings
    from lib_refonly.studio.requests import ColorRequest, Reference

    settings = RefOnlySettings(seed=1, steps=20, sampler="Euler", lines_back=0, paper="as painted")
    request = ColorRequest((Reference(decode_base64(reference(sample))),), decode_base64(drawing(sample)), settings)
    *_, result = Engine().color(request)
    painting = result.painting
    return np.asarray(painting.convert("RGB").resize((256, 256))).astype(int)


def _png(array: np.ndarray) -> str:
    return base64.b64encode(png_bytes(Image.fromarray(array))).decode()


def test_the_script_is_listed(webui: WebUI) -> None:
    """the script stands in the host's own list, for both tabs"""
    listed = [one for one in webui.ask("/sdapi/v1/script-info") if one["name"] == TITLE.lower()]
    assert [len(one["args"]) for one in listed] == [len(names())] * 2
    assert json.dumps(listed)
