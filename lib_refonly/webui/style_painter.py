"""Pictures for the styles page, painted by the WebUI itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from lib_refonly.errors import BadModel
from lib_refonly.studio.style_engine import StylePaintSettings
from lib_refonly.stylecode.codes import Code, CodeModel, write_long
from lib_refonly.stylecode.shelf import find
from lib_refonly.webui.context import context
from lib_refonly.webui.own_painting import OnStep, paint, turn
from lib_refonly.webui.style_choice import usual

_SAMPLER = "Euler"


class HostPainter:
    """Takes the studio's `StyleEngine`'s place."""

    def code_of(self, pictures: Sequence[Image.Image]) -> Code:
        """See `CodeMaker.code_of`."""
        return context().maker.code_of(pictures, usual())

    def paint_all(
        self,
        latents: Sequence[Sequence[float]],
        prompt: str,
        settings: StylePaintSettings,
        model: CodeModel | None = None,
        on_step: OnStep | None = None,
    ) -> list[Image.Image]:
        """The same prompt and seed in each style. `on_step(done, of all)` may raise to stop.

        Raises:
            BadModel: the codes' model is not installed, or goes with another kind of checkpoint.
        """
        owner = model or find(usual()).info.code
        with turn("stylecode"):
            return [_paint(write_long(latent, owner), prompt, settings, _counted(on_step, number, len(latents))) for number, latent in enumerate(latents)]


def _counted(on_step: OnStep | None, number: int, pictures: int) -> Callable[[int, int], None] | None:
    """Steps of one picture as steps of all."""
    return None if on_step is None else lambda done, steps: on_step(number * steps + done, pictures * steps)


def _paint(code: str, prompt: str, s: StylePaintSettings, on_step: OnStep | None) -> Image.Image:
    style = {"enabled": True, "code": code, "strength": s.strength, "start": s.start, "end": s.end, "reach": s.reach}
    wanted: dict[str, Any] = {"prompt": prompt, "negative_prompt": s.negative, "width": s.width, "height": s.height, "steps": s.steps, "cfg_scale": s.cfg}
    p, processed = paint({"must": True, "style": style}, wanted | {"seed": s.seed, "sampler_name": _SAMPLER}, on_step)
    if "RefOnly style note" in p.extra_generation_params:
        raise BadModel(str(processed.comments).strip() or "The style could not be applied.")
    return processed.images[0]
