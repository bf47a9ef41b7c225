"""From requests to batches: each drawing's pictures made ready, and drawings that can be painted together found. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from lib_refonly.refonly.prepare import PreparedLines, prepare_lines, prepare_mask
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.studio.requests import ColorRequest, Prepared

if TYPE_CHECKING:
    from lib_refonly.refonly.pipeline import Job

ReadyReference = tuple[Image.Image, str]
"""A reference as the model sees it, and the sentence on what was found."""


@dataclass(frozen=True)
class Frame:
    """One request with its pictures made ready."""

    request: ColorRequest
    lines: PreparedLines
    references: tuple[ReadyReference, ...]

    @property
    def prepared(self) -> Prepared:
        """What the painter is shown of it."""
        notes = dict.fromkeys((*self.lines.notes, *(note for _, note in self.references)))  # the same of two references is said once
        return Prepared(tuple(picture for picture, _ in self.references), self.lines.canvas, tuple(notes))

    @property
    def kind(self) -> tuple[Any, ...]:
        """What the frames of one batch have in common. A mask is one for the whole batch, and lies on the canvas as the drawing does."""
        references = tuple((r.weight, r.mask and (id(r.mask), self.lines.box)) for r in self.request.references)
        return self.request.model, replace(self.request.settings, seed=0), self.lines.canvas.size, references

    def job(self) -> Job:
        """What the model is asked to paint."""
        from lib_refonly.refonly.pipeline import ImageInput, Job

        box, given = self.lines.box, zip(self.request.references, self.references, strict=True)
        inputs = (ImageInput(picture, r.weight, None if r.mask is None else prepare_mask(r.mask, box)) for r, (picture, _) in given)
        return Job(tuple(inputs), self.lines.canvas, self.request.settings.seed)


def make_ready(
    requests: Sequence[ColorRequest], native_size: Callable[[str], int], reference: Callable[[Image.Image, RefOnlySettings], ReadyReference]
) -> Iterator[Frame]:
    """The frames of `requests`. What they share is prepared once: the lines of variations, a reference that serves many drawings.

    Args:
        native_size: of the model of that name.
        reference: prepares one picture.
    """
    references: dict[tuple[int, str], ReadyReference] = {}
    last: Frame | None = None
    for request in requests:
        settings = request.settings
        shared = last.lines if last is not None and _same_drawing(last.request, request) else None
        lines = shared or prepare_lines(request.lines, settings, native_size(request.model))
        for one in request.references:
            key = (id(one.picture), settings.background)
            if key not in references:
                references[key] = reference(one.picture, settings)
        last = Frame(request, lines, tuple(references[id(one.picture), settings.background] for one in request.references))
        yield last


def _same_drawing(one: ColorRequest, other: ColorRequest) -> bool:
    return one.lines is other.lines and one.model == other.model and replace(one.settings, seed=0) == replace(other.settings, seed=0)


def batches(frames: Iterable[Frame], pixels: int) -> Iterator[list[Frame]]:
    """Frames that follow each other and can be painted as one batch, whose canvases have at most `pixels` in all (but one frame at least)."""
    batch: list[Frame] = []
    for frame in frames:
        width, height = frame.lines.canvas.size
        if batch and (frame.kind != batch[0].kind or (len(batch) + 1) * width * height > pixels):
            yield batch
            batch = []
        batch.append(frame)
    if batch:
        yield batch
