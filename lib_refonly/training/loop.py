"""The one training loop: accelerate, EMA, resumable, a JSON-lines log, sample sheets.

A task says what is learnt (`Task`); the loop says how. Batches are drawn from the seed and the step alone, so that a run that was stopped,
killed or resumed sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from PIL import Image
from torch import Tensor, nn

from lib_refonly.errors import BadSettings


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
    """A module whose `forward(**batch)` returns named scalar losses, "loss" among them."""

    def draw(self, rng: np.random.Generator, size: int) -> dict[str, Tensor]: ...
    def sample(self) -> Image.Image: ...
    def export(self, folder: Path) -> None: ...


class Run:
    """One training run in one folder: events.jsonl, checkpoint/, samples/, export/."""

    def __init__(self, task: Any, config: LoopConfig, folder: Path) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        self.config, self.folder, self.task = config, folder, task
        self.accelerator = Accelerator(mixed_precision=config.precision)
        weights = [p for p in task.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(weights, lr=config.lr, betas=(0.9, config.beta2), weight_decay=config.weight_decay)
        self.module, self.optimiser = self.accelerator.prepare(task, optimiser)
        self.weights = weights
        self.ema = EMAModel(weights, decay=config.ema, use_ema_warmup=True, power=0.75, foreach=True)
        self.accelerator.register_for_checkpointing(self.ema)
        self.step, self._stop = 0, False

    def train(self) -> int:
        """Train until `steps`, the time limit, or SIGINT/SIGTERM; always ends with a checkpoint. Returns the step reached."""
        self.resume()
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: setattr(self, "_stop", True))
        begun, logged, sums, counted = time.monotonic(), time.monotonic(), {}, 0
        while self.step < self.config.steps and not self._stop:
            losses = self._one_step()
            counted += 1
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            if self.step % self.config.log_every == 0:
                now = time.monotonic()
                means = {name: value / counted for name, value in sums.items()}
                self._log("step", **means, lr=self._lr(), seconds=(now - logged) / counted)
                logged, sums, counted = now, {}, 0
            if self.step % self.config.save_every == 0:
                self._save()
            if self.step % self.config.sample_every == 0:
                self._sample()
            self._stop = self._stop or bool(self.config.minutes and time.monotonic() - begun > 60 * self.config.minutes)
        self._save()
        self._sample()
        return self.step

    def export(self) -> Path:
        """Write the averaged weights as the task's own files; returns the folder."""
        with self._averaged():
            self.task.export(self.folder / "export")
        return self.folder / "export"

    def _one_step(self) -> dict[str, float]:
        rng = np.random.default_rng([self.config.seed, self.step, self.accelerator.process_index])
        batch = {name: value.to(self.accelerator.device) for name, value in self.task.draw(rng, self.config.batch).items()}
        for group in self.optimiser.param_groups:
            group["lr"] = self._lr()
        self.task.train()
        with self.accelerator.autocast():
            losses = self.module(**batch)
        if not torch.isfinite(losses["loss"]):
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
        if not self.accelerator.is_main_process:
            return
        self.task.eval()
        with self._averaged():
            sheet = self.task.sample()
        (self.folder / "samples").mkdir(parents=True, exist_ok=True)
        sheet.save(self.folder / "samples" / f"{self.step:07d}.png")
        self._log("sample", file=f"samples/{self.step:07d}.png")

    def _log(self, event: str, **values: Any) -> None:
        if self.accelerator.is_main_process:
            line = {"event": event, "step": self.step, "time": round(time.time(), 1)}
            line |= {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in values.items()}
            with (self.folder / "events.jsonl").open("a", encoding="utf-8") as f:
                f.write(json.dumps(line) + "\n")

    def _save(self) -> None:
        """Checkpoints are swapped in whole: a kill at any moment leaves the old one or the new one."""
        target, fresh, old = (self.folder / n for n in ("checkpoint", "checkpoint.new", "checkpoint.old"))
        self.accelerator.save_state(str(fresh))
        if self.accelerator.is_main_process:
            (fresh / "step.json").write_text(json.dumps({"step": self.step}), encoding="utf-8")
            shutil.rmtree(old, ignore_errors=True)
            if target.exists():
                os.replace(target, old)
            os.replace(fresh, target)
            shutil.rmtree(old, ignore_errors=True)
            self._log("save")
        self.accelerator.wait_for_everyone()

    def resume(self) -> None:
        """Take up the last checkpoint, if there is one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("checkpoint", "checkpoint.old"):
            if (self.folder / name / "step.json").exists():
                self.accelerator.load_state(str(self.folder / name))
                self.ema.to(self.accelerator.device)
                self.step = json.loads((self.folder / name / "step.json").read_text(encoding="utf-8"))["step"]
                self._log("resume")
                return
        self._log("start")


class _Averaged:
    """The averaged weights stand in for the trained ones for the length of a `with`."""

    def __init__(self, ema: EMAModel, weights: list[nn.Parameter]) -> None:
        self.ema, self.weights = ema, weights

    def __enter__(self) -> None:
        self.ema.store(self.weights)
        self.ema.copy_to(self.weights)

    def __exit__(self, *_: object) -> None:
        self.ema.restore(self.weights)
