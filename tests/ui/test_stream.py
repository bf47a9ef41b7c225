"""gradio's event stream: what is asked for while the server hangs up is answered all the same."""

from __future__ import annotations

from typing import Any

from tests.ui.conftest import Studio

_LATE = """(() => { const ask = window.fetch
window.hungUp = 0
window.fetch = async (what, how) => {
    const answer = await ask(what, how)
    if (!String(what.url ?? what).includes('/queue/data?')) return answer
    const late = new TransformStream({ async transform(chunk, out) {
        if (new TextDecoder().decode(chunk).includes('close_stream')) {
            window.hungUp += 1
            await new Promise(done => setTimeout(done, 1500))
        }
        out.enqueue(chunk)
    } })
    return new Response(answer.body.pipeThrough(late), { status: answer.status, headers: answer.headers })
} })()"""


def test_what_is_asked_for_while_the_server_hangs_up_is_answered(browser: Any, studio: Studio) -> None:
    page = browser.new_page()
    page.set_default_timeout(15_000)
    page.add_init_script(_LATE)
    page.goto(studio.address)
    page.wait_for_selector("#refonly-go")
    page.fill("#refonly-seed input", "5")
    page.click("#refonly-go")  # without pictures: it says so
    page.wait_for_function("window.hungUp > 0")
    page.click("#refonly-seed-new")
    page.wait_for_function("document.querySelector('#refonly-seed input').value === '-1'")
    page.close()
