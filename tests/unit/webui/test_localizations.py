"""The texts of panel and tabs in other languages: the host reads localizations/ and replaces whole texts on the page."""

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

from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.project import blank
from lib_refonly.onepic.tasks import TASKS
from lib_refonly.ui.host_panel import build_host_panel
from lib_refonly.ui.onepic_panel import about_task, into_choices

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "localizations").glob("*.json"))
_SIZED = re.compile(r"\d (GB|MB|px|wide)")
_LABELLED = re.compile(r"Panel \d, ")
"""A choice with a panel's label in it, which is the project's and may be the painter's own."""
_NAMES = {"LoRA", "ONE-PIC", "RefOnly", "canny", "scribble"}
"""They are the same in every language."""
_UNSEEN = {"refonly-hidden", "refonly-onepic-wire"}
"""Classes of what is on the page for scripts."""
_OF_STUDIO = {"refonly-onepic-model"}
"""Never visible in a WebUI."""
_NAMED = re.compile(r"-(models-wanted|preset|sampler)$")
"""Ids of what offers nothing but names: of models, of samplers, and of what the painter has saved."""
_GIVEN_LATER = re.compile(r'\b(?:value|placeholder)=(?:[\w.]+ if \w+ else )?"([A-Z][^"]+)"')


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

    built = [tabs.build_tab(), tabs.build_styles_tab(), tabs.build_onepic_tab()]
    with gr.Blocks() as page:
        for is_img2img in (True, False):
            build_host_panel(f"refonly-{is_img2img}", _Header, answers(), is_img2img)
        for ((_, title, _),) in built:
            gr.Button(title)  # what opens a tab
    for number, ((tab, _, _),) in enumerate(built, 1):
        page.blocks.update({key + 100_000 * number: block for key, block in tab.blocks.items()})
    return page


def texts(page: gr.Blocks) -> Iterator[str]:
    """What a painter reads there and in what scripts and events add, but for names and sizes of models."""
    of_blocks = (text for block in page.blocks.values() if not _unseen(block) for text in _of_block(block))
    for text in (*of_blocks, *_of_tasks(), *_given_later(), *_of_composer(), *_of_buttons()):
        if isinstance(text, str) and re.search("[A-Za-z]{2}", re.sub(r"\{\w+\}", "", text)) and text.strip() not in _NAMES:
            yield text.strip()


def _unseen(block: Any) -> bool:
    around = getattr(block, "parent", None)
    return block.elem_id in _OF_STUDIO or not _UNSEEN.isdisjoint(block.elem_classes or ()) or (around is not None and _unseen(around))


def _of_block(block: Any) -> Iterator[Any]:
    yield from (getattr(block, name, None) for name in ("label", "info", "placeholder"))
    if isinstance(block, gr.Button):
        yield block.value
    if isinstance(block, gr.HTML):
        yield from _of_html(str(block.value))
    if isinstance(block, gr.Radio | gr.Dropdown) and not _NAMED.search(block.elem_id or ""):
        of_files = (block.elem_id or "").endswith("-model")  # but for the choice that stands for none of them
        yield from (title for title, value in block.choices if not (of_files and value))


def _of_html(markup: str) -> Iterator[str]:
    yield from map(html.unescape, re.split(r"<[^>]+>", re.sub(r"(?s)<(style|h3)>.*?</\1>", "", markup)))


def _of_tasks() -> Iterator[str]:
    """What the ONE-PIC page says when another task or another layout is chosen."""
    for name in ("", *(task.name for task in TASKS)):
        yield from _of_html(about_task(name))
    yield from (task.prompt_hint for task in TASKS)
    yield from (title for title, _ in into_choices(blank(Layout(3, 3))))


def _given_later() -> Iterator[str]:
    """What buttons and fields say after a click: constants in the events' modules."""
    for path in (ROOT / "lib_refonly" / "ui").glob("*.py"):
        if path.name.startswith(("onepic_", "style_")):
            yield from _GIVEN_LATER.findall(path.read_text("utf-8"))


def _of_composer() -> list[str]:
    """Its own words: it looks them up by itself."""
    script = (ROOT / "javascript" / "refonly_onepic.js").read_text("utf-8")
    (words,) = re.findall(r"(?s)\n  api\.strings = \{(.*?)\n  \};", script)
    return [json.loads(text) for text in re.findall(r'\b\w+: ("(?:[^"\\]|\\.)*")', words)]


def _of_buttons() -> list[str]:
    """Those that a script puts under galleries and zones."""
    script = (ROOT / "javascript" / "refonly_send.js").read_text("utf-8")
    return re.findall(r'"(→ [^"]+)"', script) + [f"{name} → img2img" for name in re.findall(r'underZone\(.*, "(\w+)"\)', script)]


def test_every_text_is_translated(page: gr.Blocks) -> None:
    shown = {text for text in texts(page) if not _SIZED.search(text) and not _LABELLED.match(text)}
    assert len(shown) > 350
    assert FILES
    for path in FILES:
        missing = shown - set(translations(path))
        assert not missing, path.name


def test_the_scripts_words_are_found() -> None:
    """They are read out of the sources, so that a source written otherwise would leave them out unnoticed."""
    assert {"Drop, paste or click", "This file is no picture: {name}."} < set(_of_composer())
    assert len(_of_composer()) > 90
    assert {"→ ONE-PIC", "→ RefOnly drawing", "result → img2img", "reference → img2img"} < set(_of_buttons())
    assert {"Stopping", "Really delete?", "No favourite", "What the target shows"} < set(_given_later())


def test_nothing_else_is(page: gr.Blocks) -> None:
    """A key that nobody reads any more would stay unnoticed."""
    files = (path for folder in ("javascript", "lib_refonly/ui", "lib_refonly/webui") for path in (ROOT / folder).glob("*.*"))
    shown, said = set(texts(page)), "\n".join(path.read_text("utf-8") for path in files)
    for path in FILES:
        for key in translations(path):
            patterned = re.sub(r"(?<=^For )(SDXL|Stable Diffusion \d.x)(?=:)", "{info.made_for}", key)
            assert key in shown or re.search(rf"""["'>`]{re.escape(patterned)}["'<` ]""", said), key


def test_both_have_the_same() -> None:
    first, *others = (translations(path) for path in FILES)
    assert others
    for other in others:
        assert list(other) == list(first)
    assert all(value for path in FILES for value in translations(path).values())


def test_what_is_put_in_stays() -> None:
    """{name} and the like are filled in after the translation."""
    for path in FILES:
        for key, value in translations(path).items():
            assert sorted(set(re.findall(r"\{\w+\}", value))) == sorted(set(re.findall(r"\{\w+\}", key))), key


def test_one_line_is_one_text() -> None:
    for path in FILES:
        assert path.read_text("utf-8") == json.dumps(translations(path), ensure_ascii=False, indent=1) + "\n", path.name
