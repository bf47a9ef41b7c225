"""What a painter can train through sd-scripts, and by which of its scripts. Light: it is also read in sd-scripts' own environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CHOSEN = "lib_refonly.training.kohya.chosen_network"
ONEPIC = "lib_refonly.training.kohya.onepic_network"

MODULES = {
    "self-attention": r".*attn1\.to_(q|k|v|out\.0)",
    "cross-attention": r".*attn2\.to_(q|k|v|out\.0)",
    "text": r".*attn2\.to_(k|v)",
    "attention": r".*attn[12]\.to_(q|k|v|out\.0)",
    "feed-forward": r".*\.ff\.net\.(0\.proj|2)",
}
"""What a LoRA on chosen modules can be put on: a name, and the UNet's own names of its layers, which are the same in all families."""


@dataclass(frozen=True)
class Goal:
    """One thing that can be trained on one family of checkpoints.

    kind: "lora", "chosen" (a LoRA on some modules only), "full", "embedding" or "onepic". family: "sd1", "sd2", "sdxl" or "flux".
    script: sd-scripts' entry script, without .py. trainer: its class; "" where it has none, then `sampler` is the module whose `sample_images` it calls.
    fixed: options that the goal itself decides.
    """

    kind: str
    family: str
    title: str
    script: str
    trainer: str = ""
    sampler: str = ""
    fixed: Mapping[str, str | bool] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.family}"

    @property
    def makes(self) -> str:
        """Which of a WebUI's lists the result belongs to: "lora", "embedding" or "checkpoint"."""
        return {"full": "checkpoint", "embedding": "embedding"}.get(self.kind, "lora")


_LORA, _LORA_XL, _LORA_FLUX = ("train_network", "NetworkTrainer"), ("sdxl_train_network", "SdxlNetworkTrainer"), ("flux_train_network", "FluxNetworkTrainer")
_PLAIN, _V2 = {"network_module": "networks.lora"}, {"v2": True}
_FEW, _PANELS = {"network_module": CHOSEN, "network_train_unet_only": True}, {"network_module": ONEPIC, "network_train_unet_only": True}

_ALL = (
    Goal("lora", "sd1", "LoRA for SD 1.5", *_LORA, fixed=_PLAIN),
    Goal("lora", "sd2", "LoRA for SD 2", *_LORA, fixed=_PLAIN | _V2),
    Goal("lora", "sdxl", "LoRA for SDXL", *_LORA_XL, fixed=_PLAIN),
    Goal("lora", "flux", "LoRA for FLUX", *_LORA_FLUX, fixed={"network_module": "networks.lora_flux", "network_train_unet_only": True}),
    Goal("chosen", "sd1", "LoRA on chosen modules, for SD 1.5", *_LORA, fixed=_FEW),
    Goal("chosen", "sd2", "LoRA on chosen modules, for SD 2", *_LORA, fixed=_FEW | _V2),
    Goal("chosen", "sdxl", "LoRA on chosen modules, for SDXL", *_LORA_XL, fixed=_FEW),
    Goal("full", "sd1", "A whole model, from SD 1.5", "train_db", sampler="library.train_util"),
    Goal("full", "sd2", "A whole model, from SD 2", "train_db", sampler="library.train_util", fixed=_V2),
    Goal("full", "sdxl", "A whole model, from SDXL", "sdxl_train", sampler="library.sdxl_train_util"),
    Goal("embedding", "sd1", "Embedding for SD 1.5", "train_textual_inversion", "TextualInversionTrainer"),
    Goal("embedding", "sdxl", "Embedding for SDXL", "sdxl_train_textual_inversion", "SdxlTextualInversionTrainer"),
    Goal("onepic", "sd1", "ONE-PIC LoRA for SD 1.5", *_LORA, fixed=_PANELS),
    Goal("onepic", "sd2", "ONE-PIC LoRA for SD 2", *_LORA, fixed=_PANELS | _V2),
    Goal("onepic", "sdxl", "ONE-PIC LoRA for SDXL", *_LORA_XL, fixed=_PANELS),
)

GOALS = {goal.name: goal for goal in _ALL}
SCRIPTS = tuple(dict.fromkeys(goal.script for goal in _ALL))
