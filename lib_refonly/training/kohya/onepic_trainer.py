"""Train a ONE-PIC LoRA on SD 1.5, SD 2 or SDXL through sd-scripts: noise in the target panel alone, and the loss over it alone.

In sd-scripts' own environment, with PYTHONPATH holding its folder and ours:

    accelerate launch lib_refonly/training/kohya/onepic_trainer.py [--sdxl] --canvases FOLDER --pretrained_model_name_or_path ... --output_dir ...

FOLDER is what `studio.py data canvases` wrote. All other options are those of sd-scripts' train_network.py or sdxl_train_network.py; the paper's rank, alpha
and learning rate are the defaults. The paper's section 3.3, equations 2 and 3, as `training.onepic` has them.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from lib_refonly.conditioning.canvas import CleanContext
from lib_refonly.errors import BadSettings, PainterError
from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.lora import ALPHA, RANK
from lib_refonly.training.kohya.canvases import Canvases
from lib_refonly.training.kohya.hooks import Watch, Watched

NETWORK = "lib_refonly.training.kohya.onepic_network"
LEARNING_RATE = 1e-3
"""The paper's, section 4."""
_NOT_OPTIONS = {
    "masked_loss": "the loss is the target panel's alone already",
    "sample_prompts": "its samples begin with noise all over the canvas",
    "network_train_text_encoder_only": "the UNet is what is trained",
}
_NOT_IN_DATA = {
    "flip_aug": "it would mirror the order of the panels",
    "random_crop": "it would move the panels",
    "face_crop_aug_range": "it would move the panels",
    "alpha_mask": "the loss is the target panel's alone already",
}
_base: Any = object


class OnePicTrainer(_base):
    """Put before sd-scripts' NetworkTrainer or SdxlNetworkTrainer: `trainer(base, canvases)`.

    What it changes: the VAE encodes panel by panel, the UNet sees the context clean, and prediction and truth are handed on of the target's cells alone, so
    that every mean over them is one over the target.
    """

    canvases: Canvases

    def assert_extra_args(self, args: Any, train_dataset_group: Any, val_dataset_group: Any) -> None:
        """Raises: BadSettings: pictures would not reach the UNet as they were composed."""
        super().assert_extra_args(args, train_dataset_group, val_dataset_group)
        wrong = [*_wrong_options(args), *_wrong_data(train_dataset_group, self.canvases), *_wrong_data(val_dataset_group, self.canvases)]
        if wrong:
            raise BadSettings("These settings don't go with ONE-PIC: " + "; ".join(dict.fromkeys(wrong)) + ".")

    def load_target_model(self, args: Any, weight_dtype: Any, accelerator: Any) -> Any:
        loaded = super().load_target_model(args, weight_dtype, accelerator)
        encode_apart(loaded[2], self.canvases.layout)
        return loaded

    def get_noise_pred_and_target(self, args: Any, accelerator: Any, noise_scheduler: Any, latents: Tensor, *rest: Any, **more: Any) -> Any:
        target = torch.zeros(latents.shape[-2:], dtype=torch.bool, device=latents.device)
        target[self.canvases.target_cells] = True
        self._clean = CleanContext(latents, target)
        predicted, truth, timesteps, weighting = super().get_noise_pred_and_target(args, accelerator, noise_scheduler, latents, *rest, **more)
        return predicted[..., target], truth[..., target], timesteps, weighting

    def call_unet(self, args: Any, accelerator: Any, unet: Any, noisy_latents: Tensor, *rest: Any, **more: Any) -> Any:
        return super().call_unet(args, accelerator, unet, self._clean.clean(noisy_latents), *rest, **more)

    def update_metadata(self, metadata: dict[str, Any], args: Any) -> None:
        super().update_metadata(metadata, args)
        metadata["refonly_onepic"] = self.canvases.written()


def trainer(base: type[Any], canvases: Canvases, watch: Watch | None = None) -> Any:
    """A trainer of sd-scripts' that trains on canvases. With `watch` a job can ask it to stop, and hears of its steps."""
    watched = () if watch is None else (Watched,)
    made: Any = type("OnePicTrainer", (OnePicTrainer, *watched, base), {"canvases": canvases, "watch": watch})()
    return made


def encode_apart(vae: Any, layout: Layout) -> None:
    """From now on the VAE encodes each panel by itself, also for sd-scripts' cache: none reaches over a seam into the next."""
    encode = vae.encode

    def panel_by_panel(canvas: Tensor, *rest: Any, **more: Any) -> Any:
        seen = encode(apart(canvas, layout), *rest, **more).latent_dist
        return SimpleNamespace(latent_dist=type(seen)(together(seen.parameters, layout)))

    vae.encode = panel_by_panel


def apart(canvas: Tensor, layout: Layout) -> Tensor:
    """[n, C, rows * h, columns * w] -> [n * panels, C, h, w], row by row."""
    n, channels, height, width = canvas.shape
    cut = canvas.reshape(n, channels, layout.rows, height // layout.rows, layout.columns, width // layout.columns)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def together(panels: Tensor, layout: Layout) -> Tensor:
    """The way back from `apart`, also where they have become smaller."""
    channels, height, width = panels.shape[1:]
    cut = panels.reshape(-1, layout.rows, layout.columns, channels, height, width)
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(len(cut), channels, layout.rows * height, layout.columns * width)


def _wrong_options(args: Any) -> Iterator[str]:
    yield from (f"--{name} ({why})" for name, why in _NOT_OPTIONS.items() if getattr(args, name, None))


def _wrong_data(group: Any, canvases: Canvases) -> Iterator[str]:
    for data in getattr(group, "datasets", ()):
        if (data.width, data.height) != canvases.size or data.enable_bucket:
            yield f"resolution or buckets (a canvas is {list(canvases.size)} px and must not be scaled: enable_bucket = false)"
        for subset in data.subsets:
            yield from (f"{name} ({why})" for name, why in _NOT_IN_DATA.items() if getattr(subset, name, None))


def read_arguments(script: Any, train_util: Any) -> tuple[Any, Canvases]:
    """The command line and its --config_file, read by sd-scripts' own parser. Raises: BadSettings: no canvases."""
    parser: argparse.ArgumentParser = script.setup_parser()
    parser.add_argument("--sdxl", action="store_true", help="the checkpoint is an SDXL")
    parser.add_argument("--canvases", metavar="FOLDER", help="what `studio.py data canvases` wrote")
    parser.set_defaults(network_module=NETWORK, network_dim=RANK, network_alpha=ALPHA, network_train_unet_only=True, learning_rate=LEARNING_RATE)
    args = parser.parse_args()
    train_util.verify_command_line_training_args(args)
    args = train_util.read_config_from_file(args, parser)
    if not args.canvases:
        raise BadSettings("--canvases FOLDER is missing: the folder that studio.py data canvases wrote.")
    canvases = Canvases.read(Path(args.canvases))
    args.dataset_config = args.dataset_config or str(Path(args.canvases) / "dataset.toml")
    return args, canvases


def main() -> None:
    sdxl = "--sdxl" in sys.argv[1:]
    script: Any = importlib.import_module("sdxl_train_network" if sdxl else "train_network")
    try:
        args, canvases = read_arguments(script, importlib.import_module("library.train_util"))
        trainer(script.SdxlNetworkTrainer if sdxl else script.NetworkTrainer, canvases).train(args)
    except PainterError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
