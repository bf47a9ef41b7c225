"""gradio's event stream (javascript/refonly_stream.js): what is asked for while the server hangs up is answered all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.ui.conftest import Studio
from tests.ui.host_venvs import NotHere, page_of, python_with_gradio

_LATE = """(() => { const ask = window.fetch
window.hungUp = 0
window.kept = []  // a stream that only a timer knows may be collected
window.fetch = async (what, how) => {
    const answer = await ask(what, how)
    if (!String(what.url ?? what).includes('/queue/data?')) return answer
    const reader = answer.body.getReader()
    const late = new ReadableStream({ async pull(out) {
        const { done, value } = await reader.read()
        if (done) return out.close()
        if (new TextDecoder().decode(value).includes('close_stream')) {
            window.hungUp += 1
            await new Promise(done => setTimeout(done, LATE))
        }
        out.enqueue(value)
    } })
    window.kept.push(reader, late)
    return new Response(late, answer)
} })()"""
_PAGE = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.ui import host_page
import gradio as gr
from lib_refonly.ui import shim
with gr.Blocks(analytics_enabled=False) as page:
    shim.listener()
    counted = gr.Number(0, elem_id="counted", precision=0)
    for step in (1, 10):
        shim.on(gr.Button(str(step), elem_id=f"add-{step}").click, lambda count, step=step: count + step, [counted], [counted])
host_page._add_to_head(host_page.looks_and_scripts("refonly_stream.js"))
page.queue()
page.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), prevent_thread_lock=True, quiet=True, share=False)
print("ready", flush=True)
sys.stdin.read()
page.close(verbose=False)
"""


def opened(browser: Any, address: str) -> Any:
    page = browser.new_page()
    page.add_init_script(_LATE.replace("LATE", "1500"))
    page.goto(address)
    return page


def test_in_the_studio(browser: Any, studio: Studio) -> None:
    page = opened(browser, studio.address)
    page.wait_for_selector("#refonly-go")
    page.fill("#refonly-seed input", "5")
    page.click("#refonly-go")  # without pictures: it says so
    page.wait_for_function("window.hungUp > 0")
    page.click("#refonly-seed-new")
    page.wait_for_function("document.querySelector('#refonly-seed input').value === '-1'")
    page.close()


@pytest.mark.parametrize("version", ["3.41.2", "4.40.0"])
def test_in_a_webui(browser: Any, version: str, tmp_path: Path) -> None:
    """gradio 3 has no such stream: there the script has nothing to do, and breaks nothing."""
    try:
        python = python_with_gradio(version)
    except NotHere as why:
        pytest.skip(str(why))
    with page_of(python, _PAGE, tmp_path / "log.txt") as (address, _):
        page = opened(browser, address)
        page.click("#add-1")
        page.wait_for_function("document.querySelector('#counted input').value === '1'")
        if version != "3.41.2":
            page.wait_for_function("window.hungUp > 0")
        page.click("#add-10")
        page.wait_for_function("document.querySelector('#counted input').value === '11'")
        assert not page.is_visible("#refonly-listen")
        page.close()
