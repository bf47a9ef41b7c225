"""sd-scripts' training loops without sd-scripts: what its scripts call, in their order, on one number that is learnt."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Accelerator:
    """One process. `sync_gradients` is true at the end of each `batches` batches."""

    def __init__(self, batches: int = 1) -> None:
        self.is_main_process, self.num_processes, self.batches, self.seen = True, 1, batches, 0

    @property
    def sync_gradients(self) -> bool:
        return self.seen % self.batches == 0

    def prepare(self, *given: Any) -> Any:
        made: Any = given
        return made if len(given) > 1 else made[0]

    @contextlib.contextmanager
    def accumulate(self, *models: Any) -> Iterator[None]:
        self.seen += 1
        yield

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def save_state(self, folder: str) -> None:
        Path(folder).mkdir(parents=True)
        (Path(folder) / "random_states_0.pkl").write_bytes(b"x")


class Schedule:
    def get_last_lr(self) -> list[float]:
        return [1e-4]


def train_util() -> ModuleType:
    """library.train_util: what the shim wraps and what the loops call."""
    made: Any = ModuleType("library.train_util")
    made.sampled = []

    def read_config_from_file(args: Any, parser: argparse.ArgumentParser) -> Any:
        values = tomllib.loads(Path(args.config_file).read_text(encoding="utf-8"))
        return parser.parse_args(namespace=argparse.Namespace(**values))

    def sample_images(accelerator: Any, args: Any, epoch: int | None, step: int, *rest: Any) -> None:
        if args.sample_every_n_steps and epoch is None and step % args.sample_every_n_steps == 0:
            folder = Path(args.output_dir) / "sample"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{step:03}.png").write_bytes(b"png")

    def save_and_remove_state_stepwise(args: Any, accelerator: Any, step: int) -> None:
        folder = Path(args.output_dir) / f"{args.output_name}-step{step:08d}-state"
        accelerator.save_state(str(folder))

    made.read_config_from_file = read_config_from_file
    made.verify_command_line_training_args = lambda args: None
    made.prepare_accelerator = lambda args: Accelerator(args.gradient_accumulation_steps)
    made.resume_from_local_or_hf_if_specified = lambda accelerator, args: None
    made.get_step_ckpt_name = lambda args, ext, step: f"{args.output_name}-step{step:08d}{ext}"
    made.get_remove_step_no = lambda args, step: None
    made.sample_images = sample_images
    made.save_and_remove_state_stepwise = save_and_remove_state_stepwise
    return made


def setup_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    for name in ("config_file", "dataset_config", "output_dir", "resume", "sample_prompts"):
        parser.add_argument(f"--{name}")
    for name in ("save_every_n_steps", "sample_every_n_steps", "sample_every_n_epochs", "max_train_epochs", "initial_step"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--output_name", default="mine")
    parser.add_argument("--max_train_steps", type=int, default=1600)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
    for name in ("save_state", "no_pictures"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser


def loop(args: Any, util: Any, accelerator: Any, sample: Any, before_step: Any) -> None:
    """As all the scripts have it. `before_step` is the test's: it plays the painter."""
    weight = torch.zeros(1, requires_grad=True)
    accelerator.prepare(SimpleNamespace(), Schedule())
    util.resume_from_local_or_hf_if_specified(accelerator, args)
    if args.no_pictures:
        return
    step = 0
    out = Path(args.output_dir)
    out.mkdir(parents=True, exist_ok=True)
    sample(accelerator, args, 0, step if args.resume else 0)
    while step < args.max_train_steps:
        before_step(step)
        with accelerator.accumulate(weight):
            accelerator.backward((weight - 1 - step).square().sum())
        if accelerator.sync_gradients:
            step += 1
            sample(accelerator, args, None, step)
            if args.save_every_n_steps is not None and step % args.save_every_n_steps == 0:
                save_file({"w": weight.detach()}, out / util.get_step_ckpt_name(args, ".safetensors", step))
                if args.save_state:
                    util.save_and_remove_state_stepwise(args, accelerator, step)
    sample(accelerator, args, 1, step)
    if args.save_state:
        accelerator.save_state(str(out / f"{args.output_name}-state"))
    save_file({"w": weight.detach()}, out / f"{args.output_name}.safetensors")


class Fake:
    """All modules. `at`: what to do before the loop's own step N; `args`: those of the last training."""

    def __init__(self) -> None:
        self.util: Any = train_util()
        self.at: dict[int, Any] = {}
        self.args: Any = None

    def before_step(self, step: int) -> None:
        self.at.pop(step, lambda: None)()

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = self

        class NetworkTrainer:
            def load_target_model(self, args: Any, weight_dtype: Any, accelerator: Any) -> tuple[str, Any, Any, Any]:
                return "version", None, None, None

            def sample_images(self, accelerator: Any, args: Any, epoch: int | None, global_step: int, *rest: Any) -> None:
                fake.util.sample_images(accelerator, args, epoch, global_step)

            def train(self, args: Any) -> None:
                fake.args = args
                accelerator = fake.util.prepare_accelerator(args)
                self.load_target_model(args, None, accelerator)
                loop(args, fake.util, accelerator, self.sample_images, fake.before_step)

        def train(args: Any) -> None:
            fake.args = args
            loop(args, fake.util, fake.util.prepare_accelerator(args), lambda *given: fake.util.sample_images(*given), fake.before_step)

        scripts = {
            "train_network": {"NetworkTrainer": NetworkTrainer},
            "train_textual_inversion": {"TextualInversionTrainer": NetworkTrainer},
            "train_db": {"train": train},
        }
        for name, content in scripts.items():
            module: Any = ModuleType(name)
            module.__dict__.update(content, setup_parser=setup_parser)
            monkeypatch.setitem(sys.modules, name, module)
        library: Any = ModuleType("library")
        library.train_util = self.util
        monkeypatch.setitem(sys.modules, "library", library)
        monkeypatch.setitem(sys.modules, "library.train_util", self.util)
