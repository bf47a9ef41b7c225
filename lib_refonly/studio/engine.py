"""The engine: requests in, coloured pictures out. Loads models when they are first needed, keeps one in memory."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from lib_refonly import __version__
from lib_refonly.errors import BadSettings, OutOfMemory
from lib_refonly.imaging.infotext import write_infotext
from lib_refonly.models.registry import ModelEntry, ModelStore
from lib_refonly.refonly.prepare import PreparedLines, prepare_lines, prepare_reference
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.settings import specs
from lib_refonly.studio.requests import ColorRequest, ColorResult, OnProgress, Prepared, Progress

if TYPE_CHECKING:
    from torch import Tensor

    from lib_refonly.refonly.model import RefOnlyModel
    from lib_refonly.refonly.pipeline import Job

_BATCH_PIXELS = 8 * 256 * 256
"""Canvas pixels that are painted as one batch on a CPU: more gains nothing there, and waits longer for the first picture."""
_TOKENS_KEPT = 32
_LAST_SEED = 2**32 - 1


class Engine:
    """Thread-safe: one job runs at a time, others wait. `device`: auto, cpu, cuda or mps."""

    def __init__(self, store: ModelStore | None = None, device: str = "auto") -> None:
        self.store, self._wanted = store or ModelStore(), device
        self._lock = threading.RLock()
        self._loaded: tuple[ModelEntry, RefOnlyModel] | None = None
        self._tokens: OrderedDict[tuple[Any, ...], Tensor] = OrderedDict()

    def prepare(self, request: ColorRequest) -> Prepared:
        """What the model would see, without loading it. Raises: BadModel, BadSettings."""
        lines = prepare_lines(request.lines, request.settings, self.store.get(request.model).native_size)
        ready = [prepare_reference(r.picture, request.settings) for r in request.references]
        return Prepared(tuple(picture for picture, _ in ready), lines.canvas, (*lines.notes, *(note for _, note in ready)))

    def color(self, request: ColorRequest, on_progress: OnProgress | None = None) -> Iterator[ColorResult]:
        """Colour one drawing, `settings.count` times with seeds that follow each other.

        Raises:
            BadModel, BadSettings: the model or the settings can't be used. OutOfMemory: says what needs less. Whatever `on_progress` raises.
        """
        first = request.settings.seed if request.settings.seed >= 0 else random.randrange(_LAST_SEED)
        variations = [
            replace(request, settings=replace(request.settings, seed=(first + i) % (_LAST_SEED + 1), count=1))
            for i in range(request.settings.count)
        ]
        return self.color_all(variations, on_progress)

    def color_all(self, requests: Sequence[ColorRequest], on_progress: OnProgress | None = None) -> Iterator[ColorResult]:
        """Colour many drawings (frames, variations) with known seeds; those that fit together are painted as one batch."""
        for request in requests:
            if not request.references:
                raise BadSettings("Add a reference first: a picture of the character in colour.")
        with self._lock, _memory_errors():
            done = 0
            for group in self._groups(requests):
                report = _Reporter(self._model(group[0][0].model), on_progress, group, done, len(requests))
                yield from self._paint(group, report)
                done += len(group)

    def _groups(self, requests: Sequence[ColorRequest]) -> Iterator[list[_Ready]]:
        """Requests that follow each other and can be one batch: same model, settings, canvas and kind of references."""
        group: list[_Ready] = []
        for request in requests:
            lines = prepare_lines(request.lines, request.settings, self.store.get(request.model).native_size)
            pixels = (len(group) + 1) * lines.canvas.width * lines.canvas.height
            if group and (_kind(request, lines) != _kind(*group[0]) or pixels > _BATCH_PIXELS):
                yield group
                group = []
            group.append((request, lines))
        if group:
            yield group

    def _paint(self, group: list[_Ready], report: _Reporter) -> Iterator[ColorResult]:
        from lib_refonly.refonly.finish import finish
        from lib_refonly.refonly.pipeline import guidance_of, paint

        settings, model = group[0][0].settings, report.model
        ready = {id(r.picture): prepare_reference(r.picture, settings) for request, _ in group for r in request.references}
        jobs = [_job(request, lines, ready) for request, lines in group]
        paintings = paint(model, jobs, settings, report.step, lambda picture: self._read(model, picture, settings.fit))
        guidance = guidance_of(model, settings)
        for (request, lines), job, painting in zip(group, jobs, paintings, strict=True):
            picture, own, layer = finish(painting, lines, request.settings)
            notes = (*lines.notes, *(ready[id(r.picture)][1] for r in request.references))
            prepared = Prepared(tuple(r.picture for r in job.references), lines.canvas, notes)
            text = infotext(request.settings, request.model, lines.canvas.size, guidance.image)
            yield ColorResult(picture, own, layer, prepared, job.seed, text)

    def _read(self, model: RefOnlyModel, picture: Image.Image, fit: str) -> Tensor:
        """Image tokens, kept between jobs: an animator's reference is read once for all frames."""
        from lib_refonly.refonly.pipeline import image_tokens

        key = (id(model), fit, picture.size, hash(picture.tobytes()))
        if key not in self._tokens:
            self._tokens[key] = image_tokens(model, picture, fit)
            while len(self._tokens) > _TOKENS_KEPT:
                self._tokens.popitem(last=False)
        self._tokens.move_to_end(key)
        return self._tokens[key]

    def _model(self, name: str) -> RefOnlyModel:
        entry = self.store.get(name)
        if self._loaded is None or self._loaded[0] != entry:
            from lib_refonly.refonly.loader import load_refonly
            from lib_refonly.studio.devices import pick

            self._loaded = None  # given back before the next one is read
            self._tokens.clear()
            assert entry.path is not None  # `get` refuses models that are not installed
            device, dtype = pick(self._wanted)
            self._loaded = entry, load_refonly(entry.path, device=device, dtype=dtype)
        return self._loaded[1]


_Ready = tuple[ColorRequest, PreparedLines]


def _kind(request: ColorRequest, lines: PreparedLines) -> tuple[Any, ...]:
    settings = replace(request.settings, seed=0)
    # A batch has one noise stream (ancestral samplers) and one mask a place: such requests are painted alone.
    alone = id(request) if settings.sampler == "Euler a" or any(r.mask for r in request.references) else 0
    return request.model, settings, lines.canvas.size, tuple(r.weight for r in request.references), alone


def _job(request: ColorRequest, lines: PreparedLines, ready: dict[int, tuple[Image.Image, str]]) -> Job:
    from lib_refonly.refonly.pipeline import ImageInput, Job

    references = tuple(
        ImageInput(ready[id(r.picture)][0], r.weight, None if r.mask is None else lines.box.apply(r.mask.convert("L")))
        for r in request.references
    )
    return Job(references, lines.canvas, request.settings.seed)


class _Reporter:
    """Turns the sampler's steps into `Progress` of one batch among many."""

    def __init__(self, model: RefOnlyModel, on_progress: OnProgress | None, group: list[_Ready], done: int, count: int) -> None:
        from lib_refonly.studio.preview import Preview

        self.model, self._tell, self._group, self._done, self._count = model, on_progress, group, done, count
        self._preview = Preview(model)

    def step(self, step: int, latents: Tensor) -> None:
        if self._tell:
            settings, lines = self._group[0][0].settings, self._group[0][1]
            picture = lines.box.undo(self._preview.of(latents[:1]))
            self._tell(Progress(step, settings.steps, self._done, self._count, picture))


def infotext(settings: RefOnlySettings, model: str, size: tuple[int, int], guidance: float) -> str:
    """A1111's parameters text: its own fields first, then every setting of ours that is not the default."""
    defaults, values = asdict(RefOnlySettings()), asdict(settings)
    fields: dict[str, object] = {
        "Steps": settings.steps,
        "Sampler": settings.sampler,
        "CFG scale": f"{guidance:g}",
        "Seed": settings.seed,
        "Size": f"{size[0]}x{size[1]}",
        "Model": model,
        "RefOnly version": __version__,
    }
    for name, spec in specs(settings).items():
        if spec.infotext and spec.infotext not in fields and values[name] != defaults[name]:
            fields[spec.infotext] = f"{values[name]:g}" if isinstance(values[name], float) else values[name]
    return write_infotext("", "", fields)


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "out of memory" not in str(error).lower() and "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory("The device has no memory left. Take a smaller size, fewer variations, or another model.") from error
