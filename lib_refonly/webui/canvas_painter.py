"""ONE-PIC canvases for our own page, painted by the WebUI itself: its checkpoint, its samplers, its LoRAs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from PIL import Image

from lib_refonly.errors import BadSettings
from lib_refonly.models.weights import read_header
from lib_refonly.onepic.compose import Painted, composed
from lib_refonly.onepic.project import Project
from lib_refonly.onepic.settings import AUTO, OnePicPaintSettings
from lib_refonly.onepic.shelf import LoraFile, choose, described
from lib_refonly.studio.onepic_engine import Result
from lib_refonly.ui.onepic_panel import TINY
from lib_refonly.webui.host import host_of
from lib_refonly.webui.own_painting import OnStep, paint, turn

_SAMPLERS = {"PNDM": "PLMS"}
"""What a WebUI calls otherwise."""
_KARRAS = " Karras"


class HostCanvasPainter:
    """Takes the studio's `OnePicEngine`'s place."""

    def paint(self, project: Project, settings: OnePicPaintSettings, on_step: OnStep | None = None) -> Result:
        """See `CanvasPainter.paint`.

        Raises:
            BadSettings: the project has no target, or the host lacks the sampler. BadModel: the LoRA is not in the host's list.
        """
        project.check_ready()
        with turn("onepic"):
            wanted, lora = asked(project, settings)
            _, processed = paint({"must": True, "canvas": project.written()}, wanted, on_step)
        return Result(pictures(project, processed.images[0]), lora, processed.infotexts[0])


def asked(project: Project, s: OnePicPaintSettings) -> tuple[dict[str, Any], str]:
    """The host's own fields for a canvas, and the LoRA's name among them or "".

    Raises:
        BadSettings, BadModel: as `HostCanvasPainter.paint`.
    """
    lora = choose(project.task, project.layout.name, s.lora, [file for file in loras() if s.lora != AUTO or _fits(file)])
    prompt = f"{project.prompt} <lora:{lora.name}:{s.lora_strength:g}>".strip() if lora else project.prompt
    wanted = {"prompt": prompt, "negative_prompt": project.negative, "width": project.width, "height": project.height}
    return wanted | {"steps": s.steps, "cfg_scale": s.cfg, "seed": s.seed, "sampler_name": _sampler(s.sampler)}, lora.name if lora else ""


def parcel(project: Project, settings: OnePicPaintSettings) -> dict[str, Any]:
    """For javascript/refonly_send.js: the canvas, and what belongs into a tab's own fields, by the ends of their ids.

    Raises:
        BadSettings, BadModel: as `HostCanvasPainter.paint`.
    """
    wanted, _ = asked(project, settings)
    fields = {"prompt": wanted["prompt"], "neg_prompt": wanted["negative_prompt"], "steps": str(wanted["steps"]), "cfg_scale": f"{wanted['cfg_scale']:g}"}
    return {"canvas": project.written(), "fields": fields}


def here() -> str:
    """See `Choices.here`."""
    from modules import sd_models

    info = getattr(sd_models.model_data.sd_model, "sd_checkpoint_info", None)
    return TINY if info is not None and TINY in Path(info.filename).name else ""


def listed() -> list[tuple[str, str]]:
    """The LoRAs for the page: (title, name)."""
    return [(file.title or file.name, file.name) for file in loras()]


def _sampler(name: str) -> str:
    from modules import sd_samplers

    name = _SAMPLERS.get(name, name)
    if not {name, name.removesuffix(_KARRAS)} & set(sd_samplers.all_samplers_map):
        raise BadSettings(f"This WebUI has no sampler {name}. Choose another one under Settings.")
    return name


def loras() -> list[LoraFile]:
    """The ONE-PIC LoRAs in the host's list, by the names that its prompts use."""
    networks = sys.modules.get("networks")  # the host's own extension; there may be none
    found = getattr(networks, "available_networks", {})
    files = (described(name, Path(one.filename), one.metadata or {}) for name, one in found.items())
    return [file for file in files if file.task or file.layout]


def _fits(file: LoraFile) -> bool:
    """Whether the loaded checkpoint's UNet has the shape that the LoRA was made for."""
    from modules import shared

    sd_model: Any = shared.sd_model
    modules: Any = host_of(sd_model).checkpoint(sd_model).unet.named_modules()
    here = sorted(module.weight.shape[1] for name, module in modules if name.endswith(".attn1.to_q"))
    infos = read_header(file.path).tensors.items()
    return here == sorted(info.shape[1] for name, info in infos if name.endswith("attn1_to_q.lora_down.weight"))


def pictures(project: Project, painted: Image.Image) -> Painted:
    """What the host handed out: the target panel where there is one, else the whole canvas."""
    targets = [number for number, panel in enumerate(project.panels) if panel.role == "target"]
    boxes = {number: project.layout.box(number, project.width, project.height) for number in targets}
    if painted.size == project.size:
        return Painted({number: painted.crop(box) for number, box in boxes.items()}, painted)
    canvas = composed(project).canvas
    canvas.paste(painted, boxes[targets[0]][:2])
    return Painted({targets[0]: painted}, canvas)
