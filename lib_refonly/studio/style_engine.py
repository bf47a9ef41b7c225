"""Codes from pictures, and pictures from codes, outside a WebUI. Models are read when they are first needed; one of each is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from lib_refonly.conditioning.window import Window
from lib_refonly.settings import check, like, setting
from lib_refonly.studio.memory import memory_errors
from lib_refonly.stylecode.codes.codec import Code
from lib_refonly.stylecode.codes.known import CodeModel
from lib_refonly.stylecode.maker import CodeMaker
from lib_refonly.stylecode.settings import StyleSettings
from lib_refonly.stylecode.shelf import StyleFile, base_for, find

if TYPE_CHECKING:
    import torch

    from lib_refonly.conditioning.plan import Plan
    from lib_refonly.refonly.text_to_image import TextToImage
    from lib_refonly.stylecode.model import StylecodeModel


@dataclass(frozen=True)
class StylePaintSettings:
    """How a prompt is painted in a style. Sizes in pixels."""

    negative: str = setting("", "Negative prompt", "What the picture must not show.")
    width: int = setting(256, "Width", "In pixels.", minimum=64, maximum=2048, step=8)
    height: int = setting(256, "Height", "In pixels.", minimum=64, maximum=2048, step=8)
    steps: int = setting(20, "Steps", "More take longer; 20 are enough.", minimum=1, maximum=150, step=1)
    cfg: float = setting(4.0, "CFG scale", "How closely the prompt is followed.", minimum=1.0, maximum=30.0, step=0.5)
    seed: int = setting(0, "Seed", "The same number paints the same picture.", minimum=0, maximum=2**32 - 1, step=1)
    strength: float = like(StyleSettings, "strength")
    start: float = like(StyleSettings, "start")
    end: float = like(StyleSettings, "end")
    reach: str = like(StyleSettings, "reach")

    def __post_init__(self) -> None:
        check(self)
        Window(self.start, self.end)


class StyleEngine:
    """Thread-safe: one job at a time. `device`: auto, cpu, cuda or mps."""

    def __init__(self, device: str = "auto") -> None:
        self._wanted, self._lock = device, threading.RLock()
        self._model: tuple[StyleFile, StylecodeModel] | None = None
        self._base: TextToImage | None = None
        self._maker = CodeMaker()

    def code_of(self, pictures: Sequence[Image.Image], model: CodeModel | None = None) -> Code:
        """See `CodeMaker.code_of`."""
        return self._maker.code_of(pictures, model)

    def paint(self, latent: Sequence[float], prompt: str, settings: StylePaintSettings | None = None, model: CodeModel | None = None) -> Image.Image:
        """One picture. `latent`: a code's 20 numbers. Raises: as `paint_all`."""
        return self.paint_all([latent], prompt, settings or StylePaintSettings(), model)[0]

    def paint_all(
        self,
        latents: Sequence[Sequence[float]],
        prompt: str,
        settings: StylePaintSettings,
        model: CodeModel | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[Image.Image]:
        """The same prompt and seed in each of several styles. `on_step(done, steps)` may raise to stop.

        Raises:
            BadModel: the codes' model, or a checkpoint for it, is not installed. OutOfMemory.
        """
        with self._lock, memory_errors("a smaller size"):
            loaded = self._loaded(find(model))
            base = self._painter(loaded)
            s, out = settings, []
            size = (s.width // 8 * 8, s.height // 8 * 8)
            for number, latent in enumerate(latents):
                tell = None if on_step is None else _teller(on_step, number, len(latents), s.steps)
                out += base.paint([prompt], self._plan(loaded, latent, s), s.negative, size, s.steps, s.cfg, s.seed, on_step=tell)
        return out

    def _plan(self, loaded: StylecodeModel, latent: Sequence[float], s: StylePaintSettings) -> Plan:
        import torch

        from lib_refonly.conditioning.plan import Plan
        from lib_refonly.stylecode.control import StyleRun, style_branch

        weight = next(loaded.autoencoder.parameters())
        run = StyleRun(loaded.control, loaded.autoencoder, torch.tensor([list(latent)]).to(weight))
        return Plan(branches=(style_branch(run, s.strength, Window(s.start, s.end), s.reach),))

    def _loaded(self, file: StyleFile) -> StylecodeModel:
        if self._model is None or self._model[0] != file:
            from lib_refonly.stylecode.model import on_diffusers

            self._model = self._base = None
            device, dtype = self._device()
            model = on_diffusers(file.path, dtype=dtype)
            for network in (model.autoencoder, model.control):
                network.to(device)
            self._model = file, model
        return self._model[1]

    def _painter(self, loaded: StylecodeModel) -> TextToImage:
        folder = base_for(loaded.info)
        if self._base is None or self._base.folder != folder:
            from lib_refonly.refonly.text_to_image import TextToImage

            self._base = None
            self._base = TextToImage(folder, *self._device())
        return self._base

    def _device(self) -> tuple[torch.device, torch.dtype]:
        from lib_refonly.studio.devices import pick

        return pick(self._wanted)


def _teller(on_step: Callable[[int, int], None], number: int, count: int, steps: int) -> Callable[[int, object], None]:
    return lambda step, _: on_step(number * steps + min(step, steps), count * steps)
