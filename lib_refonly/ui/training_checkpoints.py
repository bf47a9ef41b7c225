"""On the Train page inside a WebUI: its checkpoints to choose from. A choice fills the checkpoint's field and the family, which the file tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadModel
from lib_refonly.models.sniff import ModelKind, kind_of
from lib_refonly.models.weights import read_header
from lib_refonly.ui import markup, shim
from lib_refonly.ui.training_fields import FAMILIES
from lib_refonly.ui.training_host import TrainingHost
from lib_refonly.ui.training_panel import TrainingPanel
from lib_refonly.ui.training_session import TrainingSession
from lib_refonly.ui.troubles import guarded

Updates = dict[Any, Any]
FIELD = "pretrained_model_name_or_path"
_FAMILIES = {ModelKind.SD15_CHECKPOINT: "sd1", ModelKind.SD2_CHECKPOINT: "sd2", ModelKind.SDXL_CHECKPOINT: "sdxl"}
_FLUX = ("double_blocks.", "model.diffusion_model.double_blocks.")


def family_of(path: Path) -> str:
    """A name of FAMILIES, from the header.

    Raises:
        BadModel: it can't be read, or is something else; the text says what.
    """
    if path.suffix != ".safetensors":
        raise BadModel(f"{path.name} is no .safetensors, so what it is was not looked at. Choose its family yourself.")
    tensors = read_header(path).tensors
    kind = kind_of(tensors)
    family = "flux" if any(name.startswith(_FLUX) for name in tensors) else _FAMILIES.get(kind)
    if family is None:
        raise BadModel(f"{path.name} is {kind.value}, which sd-scripts doesn't train. Choose another checkpoint.")
    return family


class CheckpointEvents:
    """`choose`: another goal is chosen, as `TrainingEvents.choose` takes it; what it needs and shows are the two lists."""

    def __init__(self, panel: TrainingPanel, host: TrainingHost, choose: Callable[..., Updates], needs: list[Any], shown: list[Any]) -> None:
        self.panel, self.host, self._choose, self._needs, self._shown = panel, host, choose, needs, shown

    def wire(self, opened: Any) -> None:
        """Connect the events."""
        box, message = self.panel.checkpoint, self.panel.goal.message
        shim.on(opened, guarded(message)(self.list), None, [box, message])
        event = getattr(box, "input", None) or box.change
        shim.on(event, guarded(message)(self.take), [self._needs[0], box, *self._needs[1:]], self._shown)

    def list(self) -> Updates:
        """The WebUI's list as it is now."""
        return {self.panel.checkpoint: shim.titled_choices(self.panel.checkpoint, self.host.checkpoints())}

    def take(self, session: TrainingSession, path: str | None, *values: Any) -> Updates:
        """The chosen one into the form."""
        g = self.panel.goal
        if not path:
            return {g.message: ""}
        field, parts = g.form[FIELD], list(values)
        filled = [*g.chosen, *g.form.inputs]
        parts[filled.index(field)] = path
        try:
            family = FAMILIES[family_of(Path(path))]
        except BadModel as error:
            return {field: path, g.message: markup.message(str(error), "warning")}
        parts[filled.index(g.family)] = family
        made = self._choose(session, *parts)
        now = made.get(g.family, {})
        if isinstance(now, dict) and now.get("value", family) != family:
            told = f"This is a checkpoint of {family}, which the task above can't be trained for. Choose another task or another checkpoint."
            return made | {field: path, g.message: markup.message(told, "warning")}
        return made | {field: shim.update(value=path, visible=True)}
