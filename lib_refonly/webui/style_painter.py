"""Pictures for the styles page, painted by the WebUI itself: its checkpoint, its samplers, and of all scripts ours alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from PIL import Image

from lib_refonly.errors import BadModel, BadSettings
from lib_refonly.studio.style_engine import StylePaintSettings
from lib_refonly.stylecode.codes import Code, CodeModel, write_long
from lib_refonly.stylecode.shelf import find
from lib_refonly.webui.context import context
from lib_refonly.webui.script import RefOnlyScript

_SAMPLER = "Euler"
_HOOKS = ("before_process", "process", "process_before_every_sampling", "post_sample", "postprocess")


class HostPainter:
    """Takes the studio's `StyleEngine`'s place. Waits for the host's queue like any other generation."""

    def code_of(self, pictures: Sequence[Image.Image]) -> Code:
        """See `CodeMaker.code_of`."""
        return context().maker.code_of(pictures)

    def paint_all(
        self,
        latents: Sequence[Sequence[float]],
        prompt: str,
        settings: StylePaintSettings,
        model: CodeModel | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Image.Image]:
        """The same prompt and seed in each style. `on_step` is called between pictures.

        Raises:
            BadModel: the codes' model is not installed, or goes with another kind of checkpoint.
        """
        from modules import shared
        from modules.call_queue import queue_lock

        owner = model or find().info.code
        pictures = []
        with queue_lock:
            shared.state.begin(job="stylecode")
            try:
                for number, latent in enumerate(latents):
                    if on_step is not None:
                        on_step(number * settings.steps, len(latents) * settings.steps)
                    pictures.append(_paint(write_long(latent, owner), prompt, settings))
            finally:
                shared.state.end()
        return pictures


class _OursAlone:
    """Stands where a generation has the host's scripts. Other extensions look through its lists for their own, which are not there."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._script, self._request = RefOnlyScript(), request
        self.scripts, self.alwayson_scripts, self.selectable_scripts = list[Any](), list[Any](), list[Any]()

    def __getattr__(self, name: str) -> Any:
        hook = getattr(self._script, name) if name in _HOOKS else None
        if hook is None:
            return lambda *_, **__: None
        return lambda p, *given, **named: hook(p, *given, self._request, **named)


def _paint(code: str, prompt: str, s: StylePaintSettings) -> Image.Image:
    from modules import shared
    from modules.processing import StableDiffusionProcessingTxt2Img, process_images

    style = {"enabled": True, "code": code, "strength": s.strength, "start": s.start, "end": s.end, "reach": s.reach}
    wanted: dict[str, Any] = {"prompt": prompt, "negative_prompt": s.negative, "width": s.width, "height": s.height, "steps": s.steps, "cfg_scale": s.cfg}
    made = StableDiffusionProcessingTxt2Img(
        sd_model=shared.sd_model, seed=s.seed, sampler_name=_SAMPLER, do_not_save_samples=True, do_not_save_grid=True, override_settings={}, **wanted
    )
    with closing(made) as p:
        p.scripts, p.script_args = _OursAlone({"must": True, "style": style}), ()
        processed = process_images(p)
    if "RefOnly style note" in p.extra_generation_params:
        raise BadModel(str(processed.comments).strip() or "The style could not be applied.")
    if not processed.images:
        raise BadSettings("The WebUI painted nothing. The terminal says why.")
    return processed.images[0]
