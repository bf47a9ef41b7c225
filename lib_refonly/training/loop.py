"""The one training loop: accelerate, EMA, resumable, a JSON-lines log, sample sheets, ears for what a page asks.

A task says what is learnt (`Task`); the loop says how. Batches are drawn from the seed and the step alone, so that a run that was stopped,
killed or resumed sees what an uninterrupted one would have seen. A kill at any moment costs at most `save_every` steps.

With several processes (`accelerate launch`) each draws rows of its own and has the whole model; what is asked of one, or goes wrong in one, is heard by
all at the same step. The first one alone writes and paints. Their machines have to see the run's folder under the same path.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from diffusers.training_utils import EMAModel
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from lib_refonly.errors import BadSettings, CannotWrite
from lib_refonly.imaging.infotext import save_png
from lib_refonly.training.jobs import events, swap
from lib_refonly.training.jobs.asks import Asks

_SAVE_ERRORS = (OSError, RuntimeError, SafetensorError, CannotWrite)
"""What a full disk is to Python, to torch, to safetensors and to us."""
_ENDINGS = ("minutes", "signal", "pause", "stop")
_HEARD = (*_ENDINGS, "save", "sample")
_SPLIT = {"ACCELERATE_USE_FSDP": "FSDP", "ACCELERATE_USE_DEEPSPEED": "DeepSpeed", "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM"}
"""By what `accelerate launch` says it: what leaves each process a part of the weights, or of the average, or of the optimiser."""


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast. `minutes` (0 = no limit) ends a sitting, not the training: the next start goes on from there."""

    steps: int
    batch: int
    lr: float
    lr_end: float = 0.0
    warmup: int = 100
    weight_decay: float = 0.01
    beta2: float = 0.99
    grad_clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    precision: str = "bf16"
    log_every: int = 20
    save_every: int = 250
    sample_every: int = 500
    minutes: float = 0.0
    threads: int = 0


class Task(Protocol):
    """A module whose `forward(**batch)` returns named scalar losses, "loss" among them. It may say in `sample_shows` what its samples show, for painters."""

    def draw(self, rng: np.random.Generator, size: int) -> dict[str, Tensor]: ...
    def sample(self) -> Image.Image: ...
    def export(self, folder: Path) -> None: ...


class Run:
    """One training run in one folder: events.jsonl, checkpoint/, samples/, export/; in asks/ it is asked to stop, pause, save or sample (`jobs.asks`)."""

    def __init__(self, task: Any, config: LoopConfig, folder: Path) -> None:
        _refuse_unfit()
        if config.threads:
            torch.set_num_threads(config.threads)
        self.config, self.folder, self.task = config, folder, task
        # A task may have weights that its loss does not reach, such as CLIP's last norm.
        self.accelerator = Accelerator(mixed_precision=config.precision, kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)])
        if self.accelerator.process_index:  # else all processes would add the same noise to other rows
            torch.manual_seed(config.seed + self.accelerator.process_index)
        weights = [p for p in task.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(weights, lr=config.lr, betas=(0.9, config.beta2), weight_decay=config.weight_decay)
        self.module, self.optimiser = self.accelerator.prepare(task, optimiser)
        self.weights = weights
        self.ema = EMAModel(weights, decay=config.ema, use_ema_warmup=True, power=0.75, foreach=True)
        self.accelerator.register_for_checkpointing(self.ema)
        self.step, self._stop, self._why, self._saved, self._sampled, self._signalled = 0, False, "", -1, -1, False
        self._asks = Asks(folder)

    def train(self, export: bool = False) -> int:
        """Train until `steps`, the time limit, SIGINT/SIGTERM or until asked to end; always ends with a checkpoint. Returns the step reached.

        export: also write the averaged weights, before the end is told. Raises: BadSettings: the loss is no number. CannotWrite: the last save failed.
        """
        before = {name: signal.signal(name, lambda *_: self._signal()) for name in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.resume()
            self._steps()
            self._finish(export)
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)
        return self.step

    def _steps(self) -> None:
        begun, means = time.monotonic(), _Means()
        while self.step < self.config.steps and not self._stop:
            means.add(self._one_step())
            asked = self._heard(begun)
            if self.step % self.config.log_every == 0:
                self._log("step", **self._of_all(means.taken()), lr=self._lr(), **self._memory())
            if self.step % self.config.save_every == 0 or "save" in asked:
                self._save()
            if self.step % self.config.sample_every == 0 or "sample" in asked:
                self._sample()
            for why in _ENDINGS:
                if why in asked:
                    self._stop, self._why = True, why

    def _signal(self) -> None:
        self._signalled = True  # no more: one process that ended its loop by itself would leave the others waiting

    def _finish(self, export: bool) -> None:
        """What is told last is true of everything before it: whoever finds "done" or "stopped" finds all that was saved."""
        problem = self._save() if self._saved != self.step else ""
        if problem:
            raise CannotWrite(problem)
        if self._sampled != self.step:
            self._sample()
        if export and self.accelerator.is_main_process:
            self.export()
        self.accelerator.wait_for_everyone()
        if self.step >= self.config.steps:
            self._log("done")
        else:
            self._log("stopped", why=self._why or "signal")

    def _heard(self, begun: float) -> set[str]:
        """What is asked of this step, the same in all processes: they have to save and to end together."""
        asked = self._asks.take_all() if self.accelerator.is_main_process else set()
        if self.config.minutes and time.monotonic() - begun > 60 * self.config.minutes:
            asked.add("minutes")
        if self._signalled:
            asked.add("signal")
        return {what for what, said in zip(_HEARD, self._anywhere(*(what in asked for what in _HEARD)), strict=True) if said}

    def export(self) -> Path:
        """Write the averaged weights as the task's own files; returns the folder."""
        with self._averaged():
            self.task.export(self.folder / "export")
        self._log("result", file="export")
        return self.folder / "export"

    def _one_step(self) -> dict[str, float]:
        rng = np.random.default_rng([self.config.seed, self.step, self.accelerator.process_index])
        batch = {name: value.to(self.accelerator.device) for name, value in self.task.draw(rng, self.config.batch).items()}
        for group in self.optimiser.param_groups:
            group["lr"] = self._lr()
        self.task.train()
        with self.accelerator.autocast():
            losses = self.module(**batch)
        if self._anywhere(not torch.isfinite(losses["loss"]))[0]:
            raise BadSettings(f"The loss is no number any more at step {self.step}. Lower the learning rate ({self.config.lr:g}) and resume.")
        self.accelerator.backward(losses["loss"])
        self.accelerator.clip_grad_norm_(self.weights, self.config.grad_clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.ema.step(self.weights)
        self.step += 1
        return {name: value.item() for name, value in losses.items()}

    def _lr(self) -> float:
        c = self.config
        cosine = 0.5 + 0.5 * math.cos(math.pi * min(1.0, self.step / c.steps))
        return min(1.0, (self.step + 1) / max(1, c.warmup)) * (c.lr_end + (c.lr - c.lr_end) * cosine)

    def _averaged(self) -> _Averaged:
        return _Averaged(self.ema, self.weights)

    @torch.no_grad()
    def _sample(self) -> None:
        self._sampled = self.step
        if not self.accelerator.is_main_process:
            return
        self.task.eval()
        with self._averaged():
            sheet = self.task.sample()
        try:
            (self.folder / "samples").mkdir(parents=True, exist_ok=True)
            save_png(self.folder / "samples" / f"{self.step:07d}.png", sheet)
        except (OSError, CannotWrite) as error:
            self._log("sample-failed", why=str(error))
            return
        shows = getattr(self.task, "sample_shows", "")
        self._log("sample", file=f"samples/{self.step:07d}.png", **({"shows": shows} if shows else {}))

    def _memory(self) -> dict[str, int]:
        """Bytes that this process holds now, and the most that it ever held on the graphics card."""
        card = {"memory_gpu": torch.cuda.max_memory_allocated()} if torch.cuda.is_available() else {}
        return {"memory": psutil.Process().memory_info().rss, **card}

    def _log(self, event: str, **values: Any) -> None:
        if not self.accelerator.is_main_process:
            return
        line = {"event": event, "step": self.step, "time": round(time.time(), 1)}
        line |= {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in values.items()}
        try:
            events.append(self.folder / events.FILE, line)
        except OSError as error:  # a full disk may be empty again at the next save; training goes on
            print(f"{events.FILE} could not be written ({error.strerror or error}): {line}", file=sys.stderr)

    def _save(self) -> str:
        """Replace the checkpoint. Why it could not be, in a sentence: then the one before is whole, and its loss would cost the steps since then."""
        problem = ""
        try:
            if self.accelerator.is_main_process:
                swap.begin(self.folder)
            self.accelerator.wait_for_everyone()
            self.accelerator.save_state(str(self.folder / swap.FRESH))
        except _SAVE_ERRORS as error:
            problem = _save_problem(error)
        if self._anywhere(bool(problem))[0]:
            problem = problem or "Another process could not save the training."
        elif self.accelerator.is_main_process:
            try:
                swap.commit(self.folder, self.step)
            except _SAVE_ERRORS as error:
                problem = _save_problem(error)
        if problem:
            if self.accelerator.is_main_process:
                swap.discard(self.folder)
            self._log("save-failed", why=problem)
        else:
            self._saved = self.step
            self._log("save")
        self.accelerator.wait_for_everyone()
        return problem

    def _anywhere(self, *here: bool) -> list[bool]:
        """Of each, whether it is so in any of the processes. All of them have to ask."""
        if self.accelerator.num_processes == 1:
            return list(here)
        gathered: Any = self.accelerator.gather(torch.tensor([here], device=self.accelerator.device))
        return gathered.any(0).tolist()

    def _of_all(self, losses: dict[str, float]) -> dict[str, float]:
        """The means over all processes."""
        if self.accelerator.num_processes == 1:
            return losses
        mean: Any = self.accelerator.reduce(torch.tensor(list(losses.values()), device=self.accelerator.device), "mean")
        return dict(zip(losses, mean.tolist(), strict=True))

    def resume(self) -> None:
        """Take up the last checkpoint, if there is one, and tell it. Raises: BadSettings: the processes see different folders."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.accelerator.is_main_process:
            swap.settle(self.folder)
        self.accelerator.wait_for_everyone()
        self._log("resume" if self.load() else "start", steps=self.config.steps)
        self.accelerator.wait_for_everyone()
        steps: Any = self.accelerator.gather(torch.tensor([self.step], device=self.accelerator.device))
        if self._anywhere(not (self.folder / events.FILE).exists() or bool((steps != steps[0]).any()))[0]:
            raise BadSettings(f"The machines do not see the same folder {self.folder}. Put the run on a file system that they share.")

    def load(self) -> bool:
        """Read the last checkpoint, and change nothing in the folder: another process may be training there. False: there is none.

        Raises: BadSettings: it is of another kind of training, or of other sizes.
        """
        checkpoint = swap.newest(self.folder)
        if checkpoint is None:
            return False
        try:
            self.accelerator.load_state(str(checkpoint))
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, KeyError) as error:  # whatever torch makes of weights that are others
            why = str(error).splitlines()[-1].strip()[:200]
            raise BadSettings(f"What was saved in {self.folder} is another training: {why} Choose another folder, or set back what was changed.") from error
        self.ema.to(self.accelerator.device)
        self.step = self._saved = swap.step_of(checkpoint)
        return True


def _refuse_unfit() -> None:
    """Before accelerate looks for their packages. Raises: BadSettings."""
    split = next((name for variable, name in _SPLIT.items() if os.environ.get(variable, "").lower() in ("true", "1")), "")
    if split:
        raise BadSettings(
            f"This trainer does not work under {split}: the averaged weights, the samples and the export need the whole model in each process. "
            "Take plain data parallelism instead (docs/accelerate/one-machine.yaml, two-machines.yaml)."
        )
    if os.environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1") != "1":
        raise BadSettings("This trainer does not accumulate gradients. Set gradient_accumulation_steps to 1, and take a larger batch or more processes.")


def _save_problem(error: Exception) -> str:
    """safetensors and torch wrap the system's error into words of their own; torch does not even say which it was."""
    said = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
    full = "No space left" in said or "PytorchStreamWriter" in said or "inline_container" in said or "the disk is full" in said
    return f"The training could not be saved: {'the disk is full' if full else said}. Make room on the disk; what was saved before is kept."


@dataclass
class _Means:
    """Losses since they were last told."""

    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0
    since: float = field(default_factory=time.monotonic)

    def add(self, losses: dict[str, float]) -> None:
        self.count += 1
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def taken(self) -> dict[str, float]:
        """The means and the seconds a step; counting begins anew."""
        now = time.monotonic()
        told = {name: value / self.count for name, value in self.sums.items()} | {"seconds": (now - self.since) / self.count}
        self.sums, self.count, self.since = {}, 0, now
        return told


class _Averaged:
    """The averaged weights stand in for the trained ones for the length of a `with`."""

    def __init__(self, ema: EMAModel, weights: list[nn.Parameter]) -> None:
        self.ema, self.weights = ema, weights

    def __enter__(self) -> None:
        self.ema.store(self.weights)
        self.ema.copy_to(self.weights)

    def __exit__(self, *_: object) -> None:
        self.ema.restore(self.weights)
