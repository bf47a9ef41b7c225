"""The texts of panel and tab in other languages: the host reads localizations/ and replaces whole texts on the page."""

from __future__ import annotations

import html
import json
import re
from abc import ABCMeta
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from lib_refonly.ui.host_panel import build_host_panel

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "localizations").glob("*.json"))
_SIZED = re.compile(r"\d (GB|MB|px|wide)")


# Stands for the host's accordion with a checkbox. gradio's own metaclass, which would write a stub file, is passed over.
_Header: Any = ABCMeta.__new__(type(gr.Checkbox), "Checkbox", (gr.Checkbox,), {"__enter__": lambda _: None, "__exit__": lambda *_: None})


def translations(path: Path) -> dict[str, str]:
    def once(pairs: list[tuple[str, str]]) -> dict[str, str]:
        assert len(dict(pairs)) == len(pairs), "a text stands there twice"
        return dict(pairs)

    return json.loads(path.read_text("utf-8"), object_pairs_hook=once)


@pytest.fixture
def page(host: Any) -> gr.Blocks:
    from lib_refonly.webui import tabs
    from lib_refonly.webui.context import answers

    with gr.Blocks() as page:
        for is_img2img in (True, False):
            build_host_panel(f"refonly-{is_img2img}", _Header, answers(), is_img2img)
    ((tab, _, _),) = tabs.build_tab()
    page.blocks.update({-key: block for key, block in tab.blocks.items()})
    return page


def texts(page: gr.Blocks) -> Iterator[str]:
    """What a painter reads there, but for names and sizes of models."""
    for block in page.blocks.values():
        own = [getattr(block, name, None) for name in ("label", "info", "placeholder")]
        if isinstance(block, gr.Button):
            own.append(block.value)
        if isinstance(block, gr.HTML):
            own += map(html.unescape, re.split(r"<[^>]+>", re.sub(r"(?s)<(style|h3)>.*?</\1>", "", str(block.value))))
        if isinstance(block, gr.Radio) and block.elem_id != "refonly-models-wanted":
            own += [title for title, _ in block.choices]
        yield from (text.strip() for text in own if isinstance(text, str) and re.search("[A-Za-z]{2}", text))


def test_every_text_is_translated(page: gr.Blocks) -> None:
    shown = {text for text in texts(page) if not _SIZED.search(text)}
    assert len(shown) > 60
    assert FILES
    for path in FILES:
        missing = shown - set(translations(path))
        assert not missing, path.name


def test_nothing_else_is(page: gr.Blocks) -> None:
    """A key that nobody reads any more would stay unnoticed."""
    files = (path for folder in ("javascript", "lib_refonly/ui", "lib_refonly/webui") for path in (ROOT / folder).glob("*.*"))
    said = "\n".join([*texts(page), *(path.read_text("utf-8") for path in files)])
    for path in FILES:
        for key in translations(path):
            patterned = re.sub(r"^(reference|drawing)(?= →)", "${name}", key)
            assert re.sub(r"(?<=^For )(SDXL|Stable Diffusion \d.x)(?=:)", "{info.made_for}", patterned) in said, key


def test_both_have_the_same() -> None:
    first, *others = (translations(path) for path in FILES)
    assert others
    for other in others:
        assert list(other) == list(first)
    assert all(value for path in FILES for value in translations(path).values())
