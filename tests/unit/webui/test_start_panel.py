"""The extension's own tab: what is on the page, what leaves it, and what it asks of the WebUI."""

from __future__ import annotations

import base64
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from lib_refonly.errors import CannotWrite
from lib_refonly.models.registry import EMBEDDED, ModelStore
from lib_refonly.ui import models_panel, start_panel
from lib_refonly.ui.models_panel import ModelsEvents, cut_out
from lib_refonly.ui.samples import find_samples
from lib_refonly.ui.start_panel import Example, StartPanel, build_start_panel, example_text, installed, sample_cards
from tests.ui.fakes import FakeStore, character
from tests.webui.checkpoints import random_image_encoder, random_ip_adapter

EVIL = """<img src=x onerror="alert(1)">&'"""


def build(store: ModelStore, example: Example, may_point: bool = True) -> tuple[gr.Blocks, StartPanel]:
    with gr.Blocks() as page:
        return page, build_start_panel(store, cut_out(store), find_samples(EMBEDDED / "samples"), example, may_point)


def has(page: gr.Blocks, elem_id: str) -> bool:
    return any(getattr(block, "elem_id", None) == elem_id for block in page.blocks.values())


def test_the_shipped_samples_are_handed_over_whole() -> None:
    samples = find_samples(EMBEDDED / "samples")
    cards = sample_cards(samples).split("<article")[1:]
    assert len(cards) == len(samples) >= 6
    for sample, card in zip(samples, cards, strict=True):
        pictures = dict(re.findall(r'data-refonly-role="(\w+)" src="data:image/png;base64,([\w+/=]+)"', card))
        assert {role: base64.b64decode(text) for role, text in pictures.items()} == {
            "reference": sample.reference.read_bytes(),
            "drawing": sample.lines.read_bytes(),
        }
        assert re.findall(r'data-refonly-try="(\w+)"', card) == ["txt2img", "img2img"]
    assert "<h3>Curls</h3>" in cards[0]
    assert sample_cards([]) == ""


def test_names_are_only_text(tmp_path: Path) -> None:
    folder = tmp_path / """2 <img onerror="x">&'"""
    folder.mkdir()
    character(True, 32).save(folder / "lines.png")
    character(False, 32).save(folder / "reference.png")
    for html in (sample_cards(find_samples(tmp_path)), installed(EVIL), example_text(Example(str, EVIL))):
        assert "<img onerror" not in html
        assert "<img src=x" not in html
        assert 'onerror="' not in html
        assert "&lt;img" in html
    assert f'data-refonly-load="{"&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&amp;&#x27;"}"' in installed(EVIL)


def test_the_example_is_offered_where_it_can_be_loaded() -> None:
    page, panel = build(FakeStore(), Example(lambda: "small.safetensors"))
    assert panel.install is not None
    assert "256" in sample_cards(find_samples(EMBEDDED / "samples"))
    elsewhere, none = build(FakeStore(), Example(str, "Not for this WebUI."))
    assert none.install is None
    assert has(page, "refonly-start-install")
    assert not has(elsewhere, "refonly-start-install")
    assert "Not for this WebUI." in example_text(Example(str, "Not for this WebUI."))


def answer(page: gr.Blocks, component: Any, *values: Any) -> Any:
    """What the page's handler of a click on `component` gives."""
    (handler,) = (one.fn for one in page.fns.values() if (component._id, "click") in one.targets)
    assert handler is not None
    return handler(*values)


def test_installing_says_what_it_is_called_or_what_is_wrong() -> None:
    page, panel = build(FakeStore(), Example(lambda: "small.safetensors"))
    assert "small.safetensors is among your checkpoints now" in answer(page, panel.install)[panel.message]

    def full() -> str:
        raise CannotWrite("The disk is full.")

    page, panel = build(FakeStore(), Example(full))
    assert "The disk is full." in answer(page, panel.install)[panel.message]


def test_folders_are_named_only_from_this_machine() -> None:
    """Not only hidden: there is no handler that a request could call."""
    for may_point in (True, False):
        store = FakeStore()
        with gr.Blocks() as page:
            panel = build_start_panel(store, cut_out(store), [], Example(str), may_point)
            events = ModelsEvents(panel.models, store, cut_out(store), lambda *_: None)
            events.wire(page.load)
        assert has(page, "refonly-models-folder") is may_point
        assert any("point_to" in str(getattr(one.fn, "__wrapped__", one.fn)) for one in page.fns.values()) is may_point


def test_models_are_chosen_in_the_panel_and_downloaded_here() -> None:
    store = FakeStore()
    with gr.Blocks() as page:
        panel = build_start_panel(store, cut_out(store), [], Example(str), True).models
        events = ModelsEvents(panel, store, cut_out(store), lambda name, report, mirror: store.install(name))
        events.wire(page.load)
    assert panel.use is None
    assert not has(page, "refonly-models-use")
    assert "Character cut-out" in panel.cards.value
    assert "big" in [name for _, name in models_panel.offered(store, cut_out(store))]
    *_, end = events.fetch("big", True)
    assert "Press Refresh in the panel" in end[panel.message]
    assert end[panel.more]["visible"] is True  # the cut-out is left
    assert end[panel.cards].count('data-state="Installed"') == 2
    assert "Press Refresh in the panel" in events.point_to("/models/another")[panel.message]
    *_, refused = events.fetch("big", False)
    assert "Tick the box" in refused[panel.message]


def test_a_mirror_is_named_before_anybody_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    assert build(FakeStore(), Example(str))[1].models.consent.label == "Yes, connect to huggingface.co and download it"
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/hub")
    assert build(FakeStore(), Example(str))[1].models.consent.label == "Yes, connect to mirror.example and download it"


def test_a_mirror_of_the_painters_own() -> None:
    """Only who sits at the machine names one, it takes a yes of its own, and it reaches the download."""
    asked: list[str | None] = []
    for may_point in (True, False):
        store = FakeStore()
        with gr.Blocks() as page:
            panel = build_start_panel(store, cut_out(store), [], Example(str), may_point).models
            events = ModelsEvents(panel, store, cut_out(store), lambda name, report, mirror: asked.append(mirror))
            events.wire(page.load)
        assert has(page, "refonly-models-mirror") is may_point
        if may_point:
            (told,) = (one.fn for one in page.fns.values() if (panel.mirror._id, "change") in one.targets)
            assert told is not None
            new = told(" https://other.example ")
            assert (new["label"], new["value"]) == ("Yes, connect to other.example and download it", False)
            list(events.fetch("big", True, " https://other.example "))
        list(events.fetch("big", True))
    assert asked == ["https://other.example", None, None]


# --- the WebUI's side ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def a1111(host: Any, tmp_path: Path) -> Iterator[Any]:
    """A folder of checkpoints, listed as A1111 does it: under --ckpt, listing chooses that one again."""
    (tmp_path / "checkpoints").mkdir()
    host.shared.opts.data = {"sd_model_checkpoint": "what the painter chose"}
    listed: dict[str, Any] = {}

    def list_models() -> None:
        listed.clear()
        host.shared.opts.data["sd_model_checkpoint"] = "what --ckpt says"
        for path in (tmp_path / "checkpoints").glob("*.safetensors"):
            listed[path.name] = types.SimpleNamespace(filename=str(path), title=f"{path.name} [0123456789]")

    vars(host.sd_models).update(model_path=str(tmp_path / "checkpoints"), list_models=list_models, checkpoints_list=listed)
    return host


def test_the_tab(a1111: Any) -> None:
    from lib_refonly.webui import register

    register.register()
    build_tab, build_styles, build_onepic, _ = a1111.callbacks["on_ui_tabs"]
    ((page, title, elem_id),) = build_tab()
    assert (title, elem_id) == ("RefOnly", "refonly")
    assert has(page, "refonly-start-install")
    assert all(block.do_not_save_to_config for block in page.blocks.values())
    ((styles, title, elem_id),) = build_styles()
    assert (title, elem_id) == ("Stylecodes", "refonly_styles")
    assert has(styles, "refonly-styles")
    assert all(block.do_not_save_to_config for block in styles.blocks.values())
    ((canvas, title, elem_id),) = build_onepic()
    assert (title, elem_id) == ("ONE-PIC", "refonly_onepic")
    assert has(canvas, "refonly-onepic-to-img2img")
    assert all(block.do_not_save_to_config for block in canvas.blocks.values())


@pytest.mark.parametrize("known", [True, False])
def test_forge_s_family_is_offered_what_its_loader_knows(a1111: Any, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    from lib_refonly.webui import tabs

    monkeypatch.setitem(sys.modules, "modules_forge", types.ModuleType("modules_forge"))
    monkeypatch.setattr(tabs, "taught", lambda: known)
    ((page, _, _),) = tabs.build_tab()
    assert has(page, "refonly-start-install") is known
    assert any("Not for this WebUI" in str(getattr(block, "value", "")) for block in page.blocks.values()) is not known


@pytest.mark.parametrize(
    ("flags", "may"), [({}, True), ({"listen": False, "share": False, "ngrok": None}, True), *(({name: "x"}, False) for name in ("listen", "share", "ngrok"))]
)
def test_folders_may_be_named_only_where_nobody_else_sees_the_page(a1111: Any, flags: dict[str, Any], may: bool) -> None:
    from lib_refonly.webui import tabs

    vars(a1111.shared.cmd_opts).update(flags)
    assert tabs.may_point() is may
    ((page, _, _),) = tabs.build_tab()
    assert has(page, "refonly-models-point") is may


def test_adapters_are_listed_and_offered(a1111: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib_refonly.models import offers
    from lib_refonly.webui import tabs
    from lib_refonly.webui.models import Shelf

    monkeypatch.setenv("REFONLY_MODELS_DIR", str(tmp_path))
    own = tmp_path / offers.IP_ADAPTERS
    shelf = Shelf(ModelStore([EMBEDDED]), (EMBEDDED, own), (own,))
    beside = tabs.with_adapters(shelf)
    assert [card.title for card in beside.cards()] == [offers.SEGMENTER.title, offers.TAGGER.title, "Tiny Reference Only adapter (256 px)"]
    assert {offer.name for offer in offers.ADAPTERS} < {offer.name for offer in beside.offers()}

    first = offers.ADAPTERS[0]
    adapter, encoder = (own / str(name) for name in first.remote.files)
    adapter.parent.mkdir(parents=True)
    unet = UNet2DConditionModel(block_out_channels=(32, 64, 128, 128), cross_attention_dim=768, attention_head_dim=8)
    save_file(random_ip_adapter(unet, 768), adapter)
    (card,) = (card for card in beside.cards() if card.title == first.name)
    assert "For Stable Diffusion 1.x: it follows" in card.texts[0]
    assert "image encoder that is not installed" in card.texts[0]
    assert first in beside.offers()  # half of it is missing
    encoder.parent.mkdir()
    save_file(random_image_encoder().state_dict(), encoder)
    (card,) = (card for card in beside.cards() if card.title == first.name)
    assert card.state == "Installed"
    assert "not installed" not in card.texts[0]
    assert first not in beside.offers()

    save_file({"image_proj.strange": torch.zeros(1), "ip_adapter.1.to_k_ip.weight": torch.zeros(1, 1)}, own / "strange.safetensors")
    (card,) = (card for card in beside.cards() if card.title == "strange")
    assert card.state == "Damaged"


def test_the_example_s_loras_come_with_it(a1111: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lib_refonly.webui import tabs

    looked: list[str] = []
    monkeypatch.setitem(sys.modules, "networks", types.SimpleNamespace(list_available_networks=lambda: looked.append("looked")))
    monkeypatch.setattr(a1111.shared.cmd_opts, "lora_dir", str(tmp_path / "Lora"), raising=False)
    tabs.install_example()
    there = {path.name for path in (tmp_path / "Lora").iterdir()}
    assert there == {path.name for path in (EMBEDDED / "onepic").glob("*.safetensors")} != set()
    assert looked == ["looked"]


@pytest.mark.parametrize("by_flag", [True, False])
def test_the_example_goes_where_the_host_looks_and_the_choice_stays(a1111: Any, tmp_path: Path, by_flag: bool) -> None:
    from lib_refonly.webui import tabs

    if by_flag:
        a1111.shared.cmd_opts.ckpt_dir = str(tmp_path / "checkpoints")
        a1111.sd_models.model_path = str(tmp_path / "not here")
    for _ in range(2):  # again over the one that is there: after an update it may be another
        assert tabs.install_example() == "refonly-tiny-base.safetensors [0123456789]"
    there = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert there == {"refonly-tiny-base.safetensors", "refonly-tiny-base.yaml", "refonly-tiny-base.clip"}
    assert a1111.shared.opts.data == {"sd_model_checkpoint": "what the painter chose"}
    assert not (tmp_path / "not here").exists()


def test_the_page_is_small_and_asks_nobody(a1111: Any) -> None:
    from lib_refonly.webui import tabs

    ((page, _, _),) = tabs.build_tab()
    html = "".join(str(block.value) for block in page.blocks.values() if isinstance(block, gr.HTML))
    assert len(html) < 600_000
    assert "<script" not in html
    assert set(re.findall(r'(?:src|href)="([^"]{0,22})', html)) == {"data:image/png;base64,"}
    assert start_panel._STYLE.count("{") == start_panel._STYLE.count("}")
