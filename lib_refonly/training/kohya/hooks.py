"""What a job asks of sd-scripts' training loop, and what the loop tells: after every optimiser step flag files are looked for and a line is written.

Nothing of sd-scripts is changed on disk. Its trainers call `sample_images` after each optimiser step and look at `save_every_n_steps` right after that, so
that a step can be made to save by setting the option there. The scripts without a class (full fine-tuning) call the same functions by their module, where they
are wrapped. Everything else hangs on the one accelerator that all scripts make: `backward` is given the loss, `prepare` the schedule of the learning rate,
`accumulate` opens the next step, `save_state` writes what a training goes on from.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lib_refonly.training.jobs import asks, events
from lib_refonly.training.kohya import states

_PART = ".part"
_SHORTEST = 0.5
"""Seconds between two lines of `events.jsonl`; quicker steps are told together, by their mean."""
_base: Any = object


class Stopped(Exception):
    """The training ends here, as was asked; everything is saved."""


class Watch:
    """Between one training loop and its job's folder. `job` is None where nobody asks and nobody listens: then states are still saved whole."""

    def __init__(self, job: Path | None = None) -> None:
        self.job = job
        self.trained = False
        self.step = self._before = 0
        self._ending, self._restore = "", dict[str, Any]()
        self._by_signal: list[str] = []
        self._losses: list[Any] = []
        self._schedule: Any = None
        self._accelerator: Any = None
        self._args: Any = None
        self._seen: dict[str, int] = {}
        self._told, self._told_step = time.monotonic(), 0

    def goes_on(self, step: int) -> None:
        """The training goes on after `step` steps; the loop's own numbers begin anew."""
        self.step = self._told_step = self._before = step

    def ask(self, what: str) -> None:
        """As if there were a flag file. Safe to call while a signal is handled."""
        self._by_signal.append(what)

    # --- what the loop hands over --------------------------------------------------------------------------------------------------------------------

    def begin(self, accelerator: Any, args: Any) -> None:
        """Called once with the loop's accelerator and options, before anything is prepared."""
        self._accelerator, self._args = accelerator, args
        if self._is_first():
            for cut_off in Path(args.output_dir).glob(f"*-state{_PART}"):
                shutil.rmtree(cut_off, ignore_errors=True)
        self._seen = self._files()
        wrap(accelerator, "backward", self._backward)
        wrap(accelerator, "prepare", self._prepare)
        wrap(accelerator, "accumulate", self._accumulate)
        wrap(accelerator, "save_state", self._save_state)

    @contextmanager
    def sampling(self, epoch: int | None, step: int) -> Iterator[None]:
        """Around sd-scripts' own `sample_images`. Called with no epoch it means that an optimiser step is done."""
        if epoch is None and step > 0:
            self._stepped(step + self._before)
        before = self._samples()
        yield
        if new := sorted(self._samples() - before):
            self._tell("sample", files=new)

    def nothing_left(self, args: Any, step: int) -> None:
        """All steps were trained in earlier sittings: only the end is to be told."""
        self._args, self.step, self._told_step, self.trained = args, step, step, True
        self._seen = self._files()

    def end(self, stopped: bool) -> None:
        """Tell the newest model, and how it ended: "done", or "stopped" with why: "stop", "pause" or "signal"."""
        self._flush()
        self._report_saved()
        models = sorted(self._models(), key=lambda path: (path.stat().st_mtime_ns, -len(path.name)))
        if models:
            self._tell("result", file=self._named(models[-1]))
        if stopped:
            self._tell("stopped", why=self._ending)
        else:
            self._tell("done")

    # --- a step ------------------------------------------------------------------------------------------------------------------------------------

    def _stepped(self, step: int) -> None:
        self.step = step
        for ask in self._asked():
            if ask != "sample":
                self._set(save_every_n_steps=1, save_state=True)
                self._ending = self._ending if ask == "save" else ask
            elif self._args.sample_prompts:
                self._set(sample_every_n_steps=1, sample_every_n_epochs=None)
            else:
                self._tell("sample-failed", why="There are no sample prompts. Write some, then start anew.")
        if self._ending or time.monotonic() - self._told >= _SHORTEST:
            self._flush()

    def _asked(self) -> list[str]:
        """Of all processes the first one looks; all have to save and stop after the same step."""
        found = [self._take()]
        if getattr(self._accelerator, "num_processes", 1) > 1:
            torch.distributed.broadcast_object_list(found, src=0, device=self._accelerator.device)
        return found[0]

    def _take(self) -> list[str]:
        """What was asked by a file comes last: it says more than a signal."""
        found, self._by_signal = self._by_signal, []
        if self.job is not None and self._is_first():
            found += sorted(asks.Asks(self.job).take_all())
        return found

    def _set(self, **options: Any) -> None:
        """For this step alone."""
        for name, value in options.items():
            self._restore.setdefault(name, getattr(self._args, name, None))
            setattr(self._args, name, value)

    # --- around the accelerator's own ------------------------------------------------------------------------------------------------------------------

    def _backward(self, original: Callable[..., Any], loss: Any, *rest: Any, **more: Any) -> Any:
        self._losses.append(loss.detach())
        return original(loss, *rest, **more)

    def _prepare(self, original: Callable[..., Any], *given: Any, **more: Any) -> Any:
        made = original(*given, **more)
        for one in made if isinstance(made, tuple | list) else (made,):
            if self._schedule is None and hasattr(one, "get_last_lr"):
                self._schedule = one
        return made

    def _accumulate(self, original: Callable[..., Any], *given: Any, **more: Any) -> Any:
        self._report_saved()
        if self._ending:
            raise Stopped
        for name, value in self._restore.items():
            setattr(self._args, name, value)
        self._restore.clear()
        if not self.trained:
            self.trained, self._told = True, time.monotonic()
            self._tell("resume" if self.step else "start", steps=self._args.max_train_steps + self._before)
        return original(*given, **more)

    def _save_state(self, original: Callable[..., Any], folder: str, *rest: Any, **more: Any) -> None:
        """Beside its place first: a state is whole or not there, whatever happens meanwhile. Those of the last two steps are kept."""
        place = Path(folder)
        beside = place.with_name(place.name + _PART)
        shutil.rmtree(beside, ignore_errors=True)
        original(str(beside), *rest, **more)
        if self._is_first():
            (beside / states.STEP_FILE).write_text(json.dumps({"step": self.step}), encoding="utf-8")
            to_disk(beside)
            shutil.rmtree(place, ignore_errors=True)
            os.replace(beside, place)
            for old in states.spare(place.parent):
                shutil.rmtree(old, ignore_errors=True)

    # --- telling -----------------------------------------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        steps, now = self.step - self._told_step, time.monotonic()
        if steps <= 0:
            return
        loss = float(torch.stack([one.float().mean() for one in self._losses]).mean()) if self._losses else None
        lr = float(self._schedule.get_last_lr()[0]) if self._schedule is not None else None
        self._tell("step", loss=loss, lr=lr, seconds=(now - self._told) / steps, **memory())
        self._told, self._told_step = now, self.step
        self._losses.clear()

    def _report_saved(self) -> None:
        files = self._files()
        if new := sorted(name for name, written in files.items() if self._seen.get(name) != written):
            self._tell("save", files=new)
        self._seen = files

    def _files(self) -> dict[str, int]:
        """Models and whole states, and when they were written: what is saved again under its name is new."""
        whole = [path for _, path in states.whole(Path(self._args.output_dir))]
        return {self._named(path): path.stat().st_mtime_ns for path in (*self._models(), *whole)}

    def _models(self) -> list[Path]:
        return [path for path in Path(self._args.output_dir).glob("*.safetensors") if path.is_file()]

    def _samples(self) -> set[str]:
        return {self._named(path) for path in (Path(self._args.output_dir) / "sample").glob("*.png")}

    def _named(self, path: Path) -> str:
        """As readers of the events find it: from the job's folder on."""
        return os.path.relpath(path, self.job).replace(os.sep, "/") if self.job is not None else str(path)

    def _tell(self, event: str, **values: Any) -> None:
        if self.job is not None and self._is_first():
            events.append(self.job / events.FILE, {"event": event, "time": time.time(), "step": self.step} | values)

    def _is_first(self) -> bool:
        return getattr(self._accelerator, "is_main_process", True)


class Watched(_base):
    """Put before one of sd-scripts' trainers: `watched(base, watch)`."""

    watch: Watch

    def load_target_model(self, args: Any, weight_dtype: Any, accelerator: Any) -> Any:
        self.watch.begin(accelerator, args)
        return super().load_target_model(args, weight_dtype, accelerator)

    def sample_images(self, accelerator: Any, args: Any, epoch: int | None, global_step: int, *rest: Any, **more: Any) -> None:
        with self.watch.sampling(epoch, global_step):
            super().sample_images(accelerator, args, epoch, global_step, *rest, **more)


def watched(base: type[Any], watch: Watch) -> Any:
    """A trainer of sd-scripts' that looks and tells after every step."""
    made: Any = type(f"Watched{base.__name__}", (Watched, base), {"watch": watch})()
    return made


def watch_functions(train_util: Any, sampler: Any, watch: Watch) -> None:
    """For scripts without a trainer class. `sampler` is the module whose `sample_images` the script calls."""

    def prepare(original: Callable[..., Any], args: Any) -> Any:
        accelerator = original(args)
        watch.begin(accelerator, args)
        return accelerator

    def sample(original: Callable[..., Any], accelerator: Any, args: Any, epoch: int | None, step: int, *rest: Any, **more: Any) -> None:
        with watch.sampling(epoch, step):
            original(accelerator, args, epoch, step, *rest, **more)

    wrap(train_util, "prepare_accelerator", prepare)
    wrap(sampler, "sample_images", sample)


def go_on_from(train_util: Any, before: int) -> None:
    """Scripts begin to count anew when they resume: they train the steps that are left, and their files have the true step's number.

    sd-scripts makes the learning rate's schedule for all steps, loads the state, and counts the epochs only then: in between the number is lowered.
    """

    def resume(original: Callable[..., Any], accelerator: Any, args: Any) -> None:
        original(accelerator, args)
        args.max_train_steps -= before
        if (getattr(args, "stop_text_encoder_training", None) or 0) > 0:
            args.stop_text_encoder_training = max(args.stop_text_encoder_training - before, 0)

    def shifted(original: Callable[..., Any], *given: Any) -> Any:
        return original(*given[:-1], given[-1] + before)

    wrap(train_util, "resume_from_local_or_hf_if_specified", resume)
    for name in ("get_step_ckpt_name", "get_remove_step_no", "save_and_remove_state_stepwise"):
        wrap(train_util, name, shifted)


def to_disk(folder: Path) -> None:
    """Until this was done, files can be lost in a power cut, though their folder has its name already."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())


def memory() -> dict[str, int]:
    """Bytes at most so far, of this process and of the GPU, as far as they can be known."""
    found = {}
    if torch.cuda.is_available():
        found["memory_gpu"] = torch.cuda.max_memory_allocated()
    if sys.platform != "win32":
        import resource

        found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return found


def wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """`owner.name` is called through `around`, which gets the original first."""
    original = getattr(owner, name)
    setattr(owner, name, lambda *given, **more: around(original, *given, **more))
