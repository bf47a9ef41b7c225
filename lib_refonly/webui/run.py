"""One generation with the panel switched on: from the request to hooks in the UNet, and out again whatever happens."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from lib_refonly.conditioning.canvas import CleanContext
from lib_refonly.conditioning.plan import Plan
from lib_refonly.errors import BadModel, BadSettings, PainterError
from lib_refonly.hosts.ldm import anatomy as ldm_anatomy
from lib_refonly.hosts.stand_in import StandIn
from lib_refonly.onepic.project import Project
from lib_refonly.refonly.host_plan import Conditions, Part, find_lines
from lib_refonly.refonly.prepare import FindCharacter, prepare_reference
from lib_refonly.refonly.settings import RefOnlySettings
from lib_refonly.ui.request import PanelRequest
from lib_refonly.webui import infotext, models
from lib_refonly.webui.canvas import Canvas
from lib_refonly.webui.host import Attached, Checkpoint, Host, host_of
from lib_refonly.webui.loaded import Loaded
from lib_refonly.webui.pictures import PictureStore
from lib_refonly.webui.preprocessors import controlnet_preprocessors
from lib_refonly.webui.styles import Lending, Styles

_log = logging.getLogger(__name__)


class Run:
    """A generation. `prepare` reads the pictures; `attach` is called before every pass, `end` as often as the host likes."""

    def __init__(self, shelf: models.Shelf, find_character: FindCharacter, styles: Styles) -> None:
        self.shelf, self.find_character, self.styles = shelf, find_character, styles
        self.request: PanelRequest | None = None
        self.attached: Attached | None = None
        self.failure: Exception | None = None
        self.calls = 0
        self.expected = False
        self._conditions: Conditions | None = None
        self._choice: models.Choice | None = None
        self._model: Loaded | None = None
        self._host: Host | None = None
        self._lending = Lending()
        self._canvas: Canvas | None = None

    def prepare(self, p: Any, request: PanelRequest, pictures: PictureStore) -> None:
        """Read model and pictures, and write the settings into the picture's parameters.

        Raises:
            PainterError: something is missing or does not fit.
        """
        self.request, self.styles.asked = request, request.style
        self._host = host_of(p.sd_model)
        p.extra_generation_params.update(infotext.style_written(request.style, self.styles.library.named))
        if request.canvas is not None:
            self._prepare_canvas(p, request.canvas, pictures)
        try:
            if request.settings.enabled:
                self._prepare_references(p, request, pictures, self._host)
        finally:
            if self._canvas is not None:  # last, for references look at the host's own size and picture; and whatever becomes of them
                with self._or_nothing():
                    self._canvas.begin(p)

    @contextmanager
    def _or_nothing(self) -> Iterator[None]:
        """A canvas that can't be had paints nothing: what would come out was not asked for."""
        try:
            yield
        except Exception as error:
            self.failure = error
            raise

    def _prepare_canvas(self, p: Any, project: Project, pictures: PictureStore) -> None:
        with self._or_nothing():
            self._canvas = Canvas(project)
        p.extra_generation_params[infotext.CANVAS] = infotext.canvas_written(project, pictures)

    def _prepare_references(self, p: Any, request: PanelRequest, pictures: PictureStore, host: Host) -> None:
        request = self.request = self._with_drawing(request, p)
        checkpoint = host.checkpoint(p.sd_model)
        choice = self._choice = models.find(self.shelf, request.settings.model, checkpoint)
        self._model = models.loaded(self.shelf, choice, checkpoint)
        self._conditions = self._read(request, self._model, p)
        if self._model.only_unguided and getattr(p, "cfg_scale", 1) != 1:
            p.comment("Reference Only: this model was trained without guidance. Set the CFG scale to 1, or colours come out too strong.")
        p.extra_generation_params.update(infotext.written(request, choice.name, pictures))

    @staticmethod
    def _with_drawing(request: PanelRequest, p: Any) -> PanelRequest:
        """In img2img the picture itself is the drawing, where none is given."""
        given = getattr(p, "init_images", None)
        if request.drawing is None and given and isinstance(given[0], Image.Image):
            request = replace(request, drawing=given[0])
        if request.drawing is None and not request.units:
            raise BadSettings("Reference Only is switched on, but has no picture. Add a reference and a line drawing, or switch it off.")
        return request

    def _read(self, request: PanelRequest, model: Loaded, p: Any) -> Conditions:
        settings, lines = request.settings, None
        if request.drawing is not None:
            found = find_lines(request.drawing, settings, controlnet_preprocessors())
            lines = found.blueprint
            for note in found.notes:
                p.comment(f"Reference Only: {note}")
        prepared = RefOnlySettings(background=settings.background, fit=settings.fit)
        tokens: list[Tensor] = []
        assert self._host is not None
        with self._host.lent(p.sd_model, model.image_encoder), torch.no_grad():
            for unit in request.units:
                picture, note = prepare_reference(unit.picture, prepared, self.find_character)
                tokens.append(model.tokens(picture, settings.fit))
                p.comment(f"Reference Only: {note}")
        return Conditions(settings, request.units, tokens, lines, model.blueprint)

    def attach(self, p: Any, size: tuple[int, int]) -> None:
        """Before every pass; `size` in pixels. A pass that is announced twice is attached once.

        Raises:
            BadModel: the pass has another checkpoint than the run began with (hires fix), and the model does not fit it.
        """
        self.end()
        if self.failure is not None:
            assert self._host is not None
            self.attached = self._host.refuse(p, self.failure)
            return
        host = self._host = self._host or host_of(p.sd_model)
        context = self._context(p)
        if self._canvas is not None:
            size = self._canvas.inner
        checkpoint, hires_pass = host.checkpoint(p.sd_model), bool(getattr(p, "is_hr_pass", False))
        plan = self._references(p, host, checkpoint, size, hires_pass)
        stand_in = self._model.stand_in if plan and self._model else None
        plan += self._style(p, host, checkpoint, stand_in, hires_pass)
        if self._canvas is not None and context is not None:
            plan = self._canvas.around(plan, context)
        if plan:
            self.attached, self.expected = host.attach(p, plan, stand_in), True

    def _context(self, p: Any) -> CleanContext | None:
        with self._or_nothing():
            return self._canvas.context(p) if self._canvas else None

    def cut(self, samples: Any) -> Any:
        """The host's finished latents, as they are to be decoded."""
        return samples if self._canvas is None or self.failure is not None else self._canvas.cut(samples)

    def close(self, p: Any) -> None:
        """The run is over: the host gets back what it had."""
        self.end()
        if self._canvas is not None:
            self._canvas.end(p)

    def _references(self, p: Any, host: Host, checkpoint: Checkpoint, size: tuple[int, int], hires_pass: bool) -> Plan:
        if self._conditions is None or self._model is None or self._choice is None or not self._conditions.settings.acts_in(hires_pass):
            return Plan()
        why = models.problem(self.shelf, self._choice, checkpoint)
        if why:
            raise BadModel(why)
        with host.lent(p.sd_model, self._model.blueprint) if self._model.blueprint else nullcontext():
            return self._conditions.plan(size, self._model.prompts, _part(p)).active()

    def _style(self, p: Any, host: Host, checkpoint: Checkpoint, stand_in: StandIn | None, hires_pass: bool) -> Plan:
        """A style that can't be had leaves the rest as it is, and says so. A code that is wrong paints nothing: what would come out was not asked for.

        Raises:
            BadSettings: a code is wrong.
        """
        try:
            wanted = self.styles.wanted(hires_pass)
        except BadSettings as error:
            self.failure = error
            raise
        if wanted is None:
            return Plan()
        try:
            unet = checkpoint.unet if stand_in is None else stand_in.unet
            anatomy = checkpoint.anatomy() if stand_in is None else ldm_anatomy(unet)
            plan, both = self.styles.plan(wanted, anatomy, type(unet), checkpoint.dtype)
        except BadModel as error:
            self._tell_style(p, error)
            return Plan()
        self._lending.begin(host, p.sd_model, both)
        for note in self.styles.notes:
            p.comment(f"Stylecode: {note}")
        return plan

    def _tell_style(self, p: Any, error: BadModel) -> None:
        if self.request is not None and self.request.settings.must:
            raise error
        p.comment(f"The stylecode was not applied: {error}")
        p.extra_generation_params["RefOnly style note"] = "not applied"

    def begin_step(self, params: Any) -> None:
        if self.attached is not None and self._host is not None:
            self._host.begin_step(self.attached, params)

    def fail(self, p: Any, error: Exception) -> None:
        """Tell the painter, and stop the run if that was asked for."""
        if not isinstance(error, PainterError):
            _log.exception("Reference Only", exc_info=error)
        text = str(error) if isinstance(error, PainterError) else f"something went wrong inside ({error}); the terminal says more."
        p.comment(f"Reference Only was not applied: {text}")
        p.extra_generation_params["RefOnly note"] = "not applied"
        self._conditions = None
        # What was asked for could not even be read, or must not be left out: no picture that only looks as if it had been followed.
        if self.request is None or self.request.settings.must:
            self.failure = error
            self._host = self._host or host_of(p.sd_model)

    def end(self) -> None:
        if self.attached is not None:
            self.calls += self.attached.calls
            self.attached.remove()
            self.attached = None
        self._lending.end()


def _part(p: Any) -> Part | None:
    """What of the picture is painted, when only the masked part is: the host notes where it will paste it."""
    place, images = getattr(p, "paste_to", None), getattr(p, "init_images", None)
    if not getattr(p, "inpaint_full_res", False) or getattr(p, "image_mask", None) is None or not place or not images:
        return None
    left, top, width, height = place
    return Part(images[0].size, (left, top, left + width, top + height))
