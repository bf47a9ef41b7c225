"""What the Train page asks of the WebUI: checkpoints, room on the graphics card, and the folders where finished files belong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadSettings
from lib_refonly.models.registry import user_folder
from lib_refonly.studio.bootstrap.handover import venv_python
from lib_refonly.studio.bootstrap.requirements import Stamp
from lib_refonly.studio.bootstrap.start import Setup
from lib_refonly.studio.commands.jobs import HOUSE, PROGRAM
from lib_refonly.stylecode import shelf
from lib_refonly.training.finished import ADAPTER, CHECKPOINT, EMBEDDING, LORA, ONEPIC, REFONLY, STYLECODE, Finished
from lib_refonly.training.jobs.house import Argv, JobHouse
from lib_refonly.training.jobs.record import ACTIVE, GRACE, Job
from lib_refonly.ui.training_host import Place, Titled, TrainingHost
from lib_refonly.webui import graphics
from lib_refonly.webui.prompts import forget_prompts

_WHOSE = "the WebUI's"
_OWN = (
    "This program's own trainings (not those by sd-scripts) run in an environment of their own, which is not there yet. "
    "Open a terminal in {folder} and type: python studio.py models. That sets it up; it downloads a few GB."
)
_BESIDE = "A training runs ({title}). It shares the graphics card with this picture: both are slower, and may run out of memory."


class WebuiTraining(TrainingHost):
    """For both of the hosts' families."""

    has_checkpoints = True
    busy = "A training runs. A picture that you paint meanwhile brings the checkpoint back onto the graphics card, and takes memory and time from the training."

    def checkpoints(self) -> Titled:
        from modules import sd_models

        infos: list[Any] = list(sd_models.checkpoints_list.values())
        return [(info.name_for_extra if hasattr(info, "name_for_extra") else info.title, str(info.filename)) for info in infos]

    def notes(self) -> Sequence[str]:
        return () if has_own_environment() else (_OWN.format(folder=Setup().root),)

    def make_room(self) -> str:
        self.room = graphics.make_room()
        return self.room or "The WebUI uses no graphics card here, so there is nothing to give free."

    def place(self, found: Finished) -> Place | None:
        own, lora = user_folder(), _folder("lora_dir", "lora_dirs")
        again = "The refresh button beside the model in the Reference Only panel brings it into the list."
        known: dict[str, Place | None] = {
            LORA: lora and Place(lora, f"{_WHOSE} LoRAs", "in txt2img"),
            ONEPIC: lora and Place(lora, f"{_WHOSE} LoRAs", "on the ONE-PIC page"),
            EMBEDDING: (folder := _folder("embeddings_dir")) and Place(folder, f"{_WHOSE} embeddings", "in txt2img"),
            CHECKPOINT: Place(_checkpoint_folder(), f"{_WHOSE} checkpoints", "in txt2img"),
            STYLECODE: Place(own / shelf.FOLDER, "the stylecode models", "on the Stylecodes page"),
            ADAPTER: Place(own / "adapters", "the Reference Only models", then=again),
            REFONLY: Place(own, "the Reference Only models", then=again),
        }
        return known.get(found.kind) or None

    def list_anew(self, found: Finished, placed: Path) -> None:
        if found.kind in (LORA, ONEPIC):
            networks = sys.modules.get("networks")  # the host's own extension; there may be none
            if networks is not None:
                networks.list_available_networks()
        elif found.kind == EMBEDDING:
            _read_embeddings()
        elif found.kind == CHECKPOINT:
            _list_checkpoints()

    def trial(self, found: Finished, placed: Path) -> dict[str, Any]:
        if found.kind in (ONEPIC, STYLECODE):
            return {"page": "ONE-PIC" if found.kind == ONEPIC else "Stylecodes"}
        wanted = {LORA: f"<lora:{placed.stem}:1> {found.word}", EMBEDDING: placed.stem, CHECKPOINT: found.word}
        parcel = {"tab": "txt2img", "prompt": wanted[found.kind].strip()}
        return parcel | ({"checkpoint": _title_of(placed)} if found.kind == CHECKPOINT else {})


class WebuiHouse(JobHouse):
    """Makes room on the graphics card before a job is queued; says so when a job could not run here."""

    def __init__(self, folder: Path = HOUSE, make_room: Callable[[], Any] = lambda: None) -> None:
        super().__init__(folder)
        self._make_room = make_room

    def submit(self, title: str, kind: str, argv: Argv, *, cwd: Path | None = None, env: Mapping[str, str] | None = None, grace: float = GRACE) -> Job:
        def made(folder: Path) -> Sequence[str]:
            command = argv(folder) if callable(argv) else argv
            self._prepare(command)
            return command

        return super().submit(title, kind, made, cwd=cwd, env=env, grace=grace)

    def resume(self, name: str, argv: Sequence[str] | None = None) -> Job:
        self._prepare(argv or self.get(name).argv)
        return super().resume(name, argv)

    def _prepare(self, command: Sequence[str]) -> None:
        if str(PROGRAM[1]) in command and not has_own_environment():
            raise BadSettings(_OWN.format(folder=Setup().root))
        self._make_room()


def has_own_environment() -> bool:
    """Whether what `studio.py` runs in is set up: its trainings run there, whatever Python the WebUI has."""
    setup = Setup()
    return venv_python(setup.venv).exists() and not Stamp(setup.venv / "refonly.json").missing(setup.groups(("studio",)))


_warned: set[str] = set()


def before_painting(p: Any) -> None:
    """Called before every picture: the checkpoint comes back, and who paints is told of a training once."""
    graphics.take_back()
    for job in running():
        if job.id not in _warned:
            _warned.add(job.id)
            p.comment(_BESIDE.format(title=job.title or job.kind))


def running() -> list[Job]:
    """The trainings that run now."""
    return [job for job in JobHouse(HOUSE).list().jobs if job.state in ACTIVE] if HOUSE.is_dir() else []


# --- the host's folders and lists ---------------------------------------------------------------------------------------------------------------------


def _folder(*flags: str) -> Path | None:
    """The first that one of these command-line flags names; some hosts take several."""
    from modules import shared

    named = [getattr(shared.cmd_opts, flag, None) for flag in flags]
    first = [one[0] if isinstance(one, list | tuple) and one else one for one in named]
    return next((Path(str(one)) for one in first if one), None)


def _checkpoint_folder() -> Path:
    from modules import sd_models

    return _folder("ckpt_dir", "ckpt_dirs") or Path(sd_models.model_path)


def _list_checkpoints() -> None:
    from modules import sd_models, shared

    chosen = shared.opts.data.get("sd_model_checkpoint")
    sd_models.list_models()
    shared.opts.data["sd_model_checkpoint"] = chosen  # under --ckpt, listing goes back to that one


def _title_of(placed: Path) -> str:
    from modules import sd_models

    real = placed.resolve()
    return next((info.title for info in sd_models.checkpoints_list.values() if Path(info.filename).resolve() == real), placed.name)


def _read_embeddings() -> None:
    """Forge keeps them with the loaded checkpoint's text encoders; AUTOMATIC1111 in one place, and reads them by itself when it paints next."""
    from modules import sd_models
    from modules.call_queue import queue_lock

    model = sd_models.model_data.sd_model
    if model is None or not queue_lock.acquire(blocking=False):
        return
    try:
        forget_prompts()  # the same words again would not read the embedding that bears their name now
        if "modules_forge" not in sys.modules:
            from modules import sd_hijack

            sd_hijack.model_hijack.embedding_db.load_textual_inversion_embeddings(force_reload=True)
            return
        for name in dir(model):
            engine: Any = getattr(model, name) if name.startswith("text_processing_engine") else None
            if hasattr(engine, "embeddings"):
                engine.embeddings.load_textual_inversion_embeddings()
    finally:
        queue_lock.release()
