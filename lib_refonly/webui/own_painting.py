"""Painting in the WebUI at our own pages' request: its checkpoint, its samplers, and of all scripts ours alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

from lib_refonly.errors import BadSettings
from lib_refonly.webui.script import RefOnlyScript

OnStep = Callable[[int, int], None]
_HOOKS = ("before_process", "process", "process_before_every_sampling", "post_sample", "postprocess")
_LOOK = 0.1
"""Seconds between two looks at the host's count of steps."""


class _OursAlone:
    """Stands where a generation has the host's scripts. Other extensions look through its lists for their own, which are not there."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._script, self._request = RefOnlyScript(), request
        self.scripts, self.alwayson_scripts, self.selectable_scripts = list[Any](), list[Any](), list[Any]()

    def __getattr__(self, name: str) -> Any:
        hook = getattr(self._script, name) if name in _HOOKS else None
        if hook is None:
            return lambda *_, **__: None
        return lambda p, *given, **named: hook(p, *given, self._request, **named)


@contextmanager
def turn(job: str) -> Iterator[None]:
    """Wait for the host's queue like any other generation."""
    from modules import shared
    from modules.call_queue import queue_lock

    with queue_lock:
        shared.state.begin(job=job)
        try:
            yield
        finally:
            shared.state.end()


def paint(request: Mapping[str, Any], wanted: Mapping[str, Any], on_step: OnStep | None = None) -> tuple[Any, Any]:
    """The host's generation and what it made. Inside a `turn`.

    Args:
        request: as for the panel (`ui.request.read_request`).
        wanted: the host's own fields: prompt, width, steps ...
        on_step: as in `studio.onepic_jobs.CanvasPainter`.

    Raises:
        BadSettings: nothing was painted.
    """
    from modules import shared
    from modules.processing import StableDiffusionProcessingTxt2Img, process_images

    fixed: dict[str, Any] = {"sd_model": shared.sd_model, "do_not_save_samples": True, "do_not_save_grid": True, "override_settings": {}}
    with closing(StableDiffusionProcessingTxt2Img(**fixed, **wanted)) as p, _watched(on_step, wanted["steps"]):
        p.scripts, p.script_args = _OursAlone(request), ()
        processed = process_images(p)
    if not processed.images:
        raise BadSettings(str(processed.comments).strip() or "The WebUI painted nothing. The terminal says why.")
    return p, processed


@contextmanager
def _watched(on_step: OnStep | None, steps: int) -> Iterator[None]:
    """Tell of the host's steps. What `on_step` raises ends the generation at its next step, and is raised here then."""
    from modules import shared

    if on_step is None:
        yield
        return
    on_step(0, steps)
    over, raised = threading.Event(), list[Exception]()

    def watch() -> None:
        while not over.wait(_LOOK):
            try:
                on_step(min(shared.state.sampling_step, steps), steps)
            except Exception as error:
                raised.append(error)
                shared.state.interrupt()
                return

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
        if raised:
            raise raised[0]
