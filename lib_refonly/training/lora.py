"""Train a LoRA of a character or a style on the built-in small model, from a folder of pictures.

What is learnt is the UNet's: attention and feed-forward layers. The file is kohya's, with ldm's names, which WebUIs find in a UNet of any depth
(`lib_refonly.onepic.lora`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from lib_refonly.onepic import lora
from lib_refonly.training.builtin_settings import LoraConfig
from lib_refonly.training.kohya.goals import MODULES
from lib_refonly.training.own_pictures import FromPictures
from lib_refonly.training.pictures import tags

TARGETS = f"{MODULES['attention']}|{MODULES['feed-forward']}"


class LoraTask(FromPictures):
    """`data`: the pictures' folder; `base`: the folder of the model, which stays as it is."""

    def __init__(self, config: LoraConfig, data: Path, base: Path) -> None:
        from peft import LoraConfig as PeftConfig

        super().__init__(config, data, base)
        self.config, self.names = config, lora.names(self.unet, TARGETS)
        self.unet.add_adapter(PeftConfig(r=config.rank, lora_alpha=config.alpha, target_modules=TARGETS))  # pyright: ignore[reportArgumentType]

    @property
    def word(self) -> str:
        return self.config.word

    def without(self, prompts: Sequence[str], noise: Tensor) -> np.ndarray:
        self.unet.disable_adapters()
        try:
            return self.paint(prompts, noise)
        finally:
            self.unet.enable_adapters()

    def lows(self) -> dict[str, lora.Low]:
        """The trained matrices by kohya's name."""
        return lora.trained(self.unet, self.names, self.config.alpha)

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        counted = dict(tags([self.caption(number) for number in range(len(self.data))]))
        told = {
            "modelspec.title": self.config.name,
            "modelspec.trigger_phrase": self.config.word,
            "ss_output_name": self.config.name,
            "ss_steps": str(int(self.done)),
            "ss_resolution": f"({self.config.size}, {self.config.size})",
            "ss_num_train_images": str(len(self.data)),
            "ss_tag_frequency": json.dumps({self.config.name: counted}),
        }
        lora.save(folder / f"{self.config.name}.safetensors", self.lows(), told)
