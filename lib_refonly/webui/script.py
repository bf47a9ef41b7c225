"""The AlwaysOn script: the host's hooks in, a `Run` out. One generation at a time, as in the hosts."""

from __future__ import annotations

from typing import Any

from modules import scripts

from lib_refonly.ui.host_panel import HostPanel, build_host_panel
from lib_refonly.ui.request import is_enabled, read_arguments
from lib_refonly.webui import infotext, xyz
from lib_refonly.webui.canvas import announce
from lib_refonly.webui.context import answers, context
from lib_refonly.webui.pictures import picture_of
from lib_refonly.webui.run import Run
from lib_refonly.webui.styles import NETWORK, Styles, understood
from lib_refonly.webui.training_tab import before_painting

TITLE = "Reference Only"
_LATENT = 8


class RefOnlyScript(scripts.Script):
    run_now: Run | None = None
    """The generation under way. Shared by both tabs' instances: the host paints one at a time."""

    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        from modules.ui_components import InputAccordion

        prefix = f"refonly-{'img2img' if is_img2img else 'txt2img'}"
        panel: HostPanel = build_host_panel(prefix, InputAccordion, answers(), is_img2img, context().units)
        self.infotext_fields = infotext.fields(panel, context().pictures)
        self.paste_field_names = [infotext.MODEL]
        for part in panel.inputs:
            part.do_not_save_to_config = True
        return panel.inputs

    def before_process(self, p: Any, *arguments: Any) -> None:
        self._end(p)
        before_painting(p)
        announce(p, arguments)

    def process(self, p: Any, *arguments: Any) -> None:
        self._end(p)
        infotext.forget(p.extra_generation_params)
        _understand(p)
        if not is_enabled(arguments) and not xyz.asks(p):
            return
        run = self._begin(p)
        try:
            run.prepare(p, xyz.overridden(p, read_arguments(arguments, picture_of)), context().pictures)
        except Exception as error:
            run.fail(p, error)

    def process_before_every_sampling(self, p: Any, *arguments: Any, **given: Any) -> None:
        run, latent = RefOnlyScript.run_now, given.get("x")
        if run is None or latent is None:
            return
        try:
            run.attach(p, (latent.shape[-1] * _LATENT, latent.shape[-2] * _LATENT))
        except Exception as error:
            run.fail(p, error)
            run.attach(p, (0, 0))

    def post_sample(self, p: Any, given: Any = None, *arguments: Any) -> None:
        if RefOnlyScript.run_now is not None:
            RefOnlyScript.run_now.end()
            if hasattr(given, "samples"):
                given.samples = RefOnlyScript.run_now.cut(given.samples)

    def postprocess(self, p: Any, processed: Any, *arguments: Any) -> None:
        run = RefOnlyScript.run_now
        self._end(p)
        if run is not None and run.expected and not run.calls:
            processed.comments += "\nReference Only was not applied: another extension took over the UNet calls. Switch it off, or try again without it."

    @classmethod
    def prompted(cls, p: Any, styles: list[tuple[str, float]]) -> None:
        """What the prompt of the coming pass asks for, `<sref:...>` after `<sref:...>`: codes or names, and weights."""
        if styles and cls.run_now is None:
            cls._begin(p)
        if cls.run_now is not None:
            cls.run_now.styles.prompted = tuple(styles)

    @classmethod
    def _begin(cls, p: Any) -> Run:
        run = RefOnlyScript.run_now = Run(context().shelf, context().cutter, Styles(context().library))
        _undo_at_close(p, run)
        return run

    @staticmethod
    def on_step(params: Any) -> None:
        """The host's on_cfg_denoiser."""
        if RefOnlyScript.run_now is not None:
            RefOnlyScript.run_now.begin_step(params)

    @staticmethod
    def _end(p: Any) -> None:
        if RefOnlyScript.run_now is not None:
            RefOnlyScript.run_now.close(p)
        RefOnlyScript.run_now = None


def _understand(p: Any) -> None:
    """Prompts as they are to be painted and kept with the picture."""
    for prompts in (getattr(p, name, None) or [] for name in ("all_prompts", "all_hr_prompts")):
        for place, prompt in enumerate(prompts):
            if NETWORK not in prompt:
                continue
            read = understood(prompt, context().library.named)
            prompts[place] = read.text
            if read.typed:
                p.comment("Stylecode: --sref CODE was read as <sref:CODE:1>, which is how a WebUI writes it.")
            if read.names:
                p.extra_generation_params["RefOnly style names"] = ", ".join(read.names)


def _undo_at_close(p: Any, run: Run) -> None:
    """When sampling raises, `p.close` is the only thing that the host still calls."""

    def closing() -> None:
        run.close(p)
        if RefOnlyScript.run_now is run:
            RefOnlyScript.run_now = None
        vars(p).pop("close", None)  # or p would hold itself, and every picture of the run with it, until Python looks for cycles
        p.close()

    p.close = closing
