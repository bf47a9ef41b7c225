"""The engine: requests in, coloured pictures out. Loads models when they are first needed, keeps one in memory."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from PIL import Image

from lib_refonly import __version__
from lib_refonly.errors import BadSettings, OutOfMemory
from lib_refonly.imaging.infotext import write_infotext
from lib_refonly.models.registry import ModelEntry, ModelStore
from lib_refonly.refonly.prepare import prepare_reference
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.settings import specs
from lib_refonly.studio.cutter import Cutter
from lib_refonly.studio.frames import Frame, ReadyReference, batches, make_ready
from lib_refonly.studio.kept import Kept, digest
from lib_refonly.studio.memory import memory_errors
from lib_refonly.studio.requests import ColorRequest, ColorResult, OnProgress, Prepared, Progress, variations

if TYPE_CHECKING:
    from torch import Tensor

    from lib_refonly.refonly.model import RefOnlyModel
    from lib_refonly.refonly.sampling import Guidance, OnStep

_BATCH_PIXELS = {"cpu": 8 * 256 * 256, "mps": 8 * 256 * 256, "cuda": 8 * 512 * 512}
"""Canvas pixels that are painted as one batch. On a CPU more gains nothing, and one waits longer for the first picture."""
_TOKENS_KEPT = 32
WEIGHTS = "RefOnly reference weights"
"""The infotext's field for them: numbers with spaces in between, in the order of the references."""
_LESS = "a smaller size, fewer variations, or another model"


class Engine:
    """Thread-safe: one batch is painted at a time, others wait. `device`: auto, cpu, cuda or mps."""

    def __init__(self, store: ModelStore | None = None, device: str = "auto") -> None:
        self.store, self._wanted = store or ModelStore(), device
        self._lock = threading.RLock()  # held while the model works, never while a result is looked at
        self._loaded: tuple[ModelEntry, RefOnlyModel] | None = None
        self._tokens: Kept[tuple[str, bytes], Tensor] = Kept(_TOKENS_KEPT)
        self._cutter = Cutter(self.store.segmenter)

    def prepare(self, request: ColorRequest) -> Prepared:
        """What the model would see, without loading it. Raises: BadModel, BadSettings, OutOfMemory."""
        with memory_errors(_LESS):
            return next(self._frames([request])).prepared

    def color(self, request: ColorRequest, on_progress: OnProgress | None = None) -> Iterator[ColorResult]:
        """Colour one drawing, `settings.count` times with seeds that follow each other. Raises: as `color_all`."""
        return self.color_all([request], on_progress)

    def color_all(self, requests: Sequence[ColorRequest], on_progress: OnProgress | None = None) -> Iterator[ColorResult]:
        """Colour many drawings (the frames of an animation, say), each with its variations; those that fit together are painted as one batch.

        The results come in order, and equal those of single runs but for rounding. One that fails ends the rest.

        Raises:
            BadModel, BadSettings: the model or the settings can't be used. OutOfMemory: says what needs less. Whatever `on_progress` raises.
        """
        singles = [one for request in requests for one in variations(request)]
        if not all(one.references for one in singles):
            raise BadSettings("Add a reference first: a picture of the character in colour.")
        done = 0
        with memory_errors(_LESS):
            for batch in batches(self._frames(singles), self._batch_pixels()):
                tell = _Teller(on_progress, done, len(singles))
                for frame, (painting, guidance) in zip(batch, self._paint(batch, tell), strict=True):
                    yield _result(frame, painting, guidance)
                done += len(batch)

    def _frames(self, requests: Sequence[ColorRequest]) -> Iterator[Frame]:
        return make_ready(requests, lambda name: self.store.get(name).native_size, self._reference)

    def _reference(self, picture: Image.Image, settings: RefOnlySettings) -> ReadyReference:
        return prepare_reference(picture, settings, self._cutter)

    def _paint(self, batch: list[Frame], tell: _Teller) -> list[tuple[Image.Image, Guidance]]:
        """The paintings of a batch, each with the guidance that was used. What the memory does not hold at once is painted in halves."""
        try:
            with self._lock, memory_errors(_LESS):
                return self._paint_at_once(batch, tell)
        except OutOfMemory:
            if len(batch) == 1:
                raise
        # Not inside the handler: the error's traceback holds on to what filled the memory.
        half = len(batch) // 2
        return self._paint(batch[:half], tell) + self._paint(batch[half:], tell.after(half))

    def _paint_at_once(self, batch: list[Frame], tell: _Teller) -> list[tuple[Image.Image, Guidance]]:
        from lib_refonly.refonly.pipeline import guidance_of, paint

        request = batch[0].request
        model, settings = self._model(request.model), request.settings
        jobs = [frame.job() for frame in batch]
        paintings = paint(model, jobs, settings, tell.steps_of(model, batch), lambda picture: self._read(model, picture, settings.fit))
        return [(painting, guidance_of(model, settings)) for painting in paintings]

    def _read(self, model: RefOnlyModel, picture: Image.Image, fit: str) -> Tensor:
        """Image tokens, kept between jobs: an animator's reference is read once for all frames."""
        from lib_refonly.refonly.pipeline import image_tokens

        return self._tokens.get((fit, digest(picture)), lambda: image_tokens(model, picture, fit))

    def _batch_pixels(self) -> int:
        from lib_refonly.studio.devices import pick

        return _BATCH_PIXELS[pick(self._wanted)[0].type]

    def _model(self, name: str) -> RefOnlyModel:
        entry = self.store.get(name)
        if self._loaded is None or self._loaded[0] != entry:
            from lib_refonly.refonly.loader import load_refonly
            from lib_refonly.studio.devices import pick

            self._loaded = None  # given back before the next one is read
            self._tokens.clear()
            gc.collect()
            assert entry.path is not None  # `get` refuses models that are not installed
            device, dtype = pick(self._wanted)
            self._loaded = entry, load_refonly(entry.path, device=device, dtype=dtype)
        return self._loaded[1]


class _Teller:
    """Turns the sampler's steps into `Progress` of one batch, `done` pictures into `count`."""

    def __init__(self, on_progress: OnProgress | None, done: int, count: int) -> None:
        self._tell, self._done, self._count = on_progress, done, count

    def after(self, pictures: int) -> _Teller:
        """For what comes when that many of the batch are painted."""
        return _Teller(self._tell, self._done + pictures, self._count)

    def steps_of(self, model: RefOnlyModel, batch: list[Frame]) -> OnStep | None:
        """A batch is told as if its pictures were painted one after another: so what is told is even, and right of the whole."""
        if self._tell is None:
            return None
        from lib_refonly.studio.preview import Preview

        tell, preview, steps = self._tell, Preview(model), batch[0].request.settings.steps

        def on_step(taken: int, latents: Tensor) -> None:
            index, step = divmod(len(batch) * min(taken, steps) - 1, steps)  # some samplers take one step more
            box = batch[index].lines.box
            rough = box.undo(preview.of(latents[index : index + 1]), box.inner)
            tell(Progress(step, steps, self._done + index, self._count, rough))

        return on_step


def _result(frame: Frame, painting: Image.Image, guidance: Guidance) -> ColorResult:
    from lib_refonly.refonly.finish import finish

    request = frame.request
    picture, own, layer = finish(painting, frame.lines, request.settings)
    text = infotext(request.settings, request.model, frame.lines.canvas.size, guidance.image, [one.weight for one in request.references])
    return ColorResult(picture, own, layer, frame.prepared, request.settings.seed, text)


def infotext(settings: RefOnlySettings, model: str, size: tuple[int, int], guidance: float, weights: Sequence[float] = ()) -> str:
    """A1111's parameters text: its own fields first, then every setting of ours that is not the default.

    Args:
        guidance: what was used. (Where the setting is 0, that is the model's own, and reading the text back gives 0 again.)
        weights: of the references. Written unless all are 1.
    """
    defaults, values = asdict(RefOnlySettings()), asdict(settings)
    fields: dict[str, object] = {
        "Steps": settings.steps,
        "Sampler": settings.sampler,
        "CFG scale": _number(guidance),
        "Seed": settings.seed,
        "Size": f"{size[0]}x{size[1]}",
        "Model": model,
        "RefOnly version": __version__,
    }
    for name, spec in specs(settings).items():
        if spec.infotext and spec.infotext not in fields and values[name] != defaults[name]:
            fields[spec.infotext] = _number(values[name]) if isinstance(values[name], float) else values[name]
    if any(weight != 1 for weight in weights):
        fields[WEIGHTS] = " ".join(map(_number, weights))
    return write_infotext("", "", fields)


def _number(value: float) -> str:
    """As short as it can be read back exactly."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
