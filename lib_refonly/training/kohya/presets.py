"""Where the settings begin: what each task and each size of graphics card changes, as data.

Rates, ranks and steps by task are common practice, ONE-PIC's are its paper's (section 4); blocks to swap are those of sd-scripts' own guide to FLUX. What fits
into a card was not measured here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib_refonly.errors import BadSettings
from lib_refonly.training.kohya.goals import GOALS, Goal
from lib_refonly.training.kohya.settings import KohyaSettings

VRAM = (6, 8, 12, 16, 24)
"""GB. The last one stands for more, too."""
_Values = Mapping[str, Any]

TASKS: Mapping[str, str] = {
    "character": "A character",
    "style": "A style",
    "embedding": "A word (embedding)",
    "onepic": "A ONE-PIC task",
    "model": "A model of your own",
}

_KINDS: Mapping[str, tuple[str, ...]] = {
    "character": ("lora", "chosen"),
    "style": ("lora", "chosen"),
    "embedding": ("embedding",),
    "onepic": ("onepic",),
    "model": ("full",),
}
"""What each task can be trained as."""

_BY_TASK: Mapping[str, _Values] = {
    "character": {"network_dim": 16, "network_alpha": 8.0, "max_train_steps": 1600},
    "style": {"network_dim": 32, "network_alpha": 16.0, "max_train_steps": 3000, "flip_aug": True},
    "embedding": {"learning_rate": 5e-3, "lr_scheduler": "constant", "max_train_steps": 2000, "num_vectors_per_token": 4},
    "onepic": {"network_dim": 32, "network_alpha": 4.0, "learning_rate": 1e-3, "lr_scheduler": "constant", "max_train_steps": 400, "enable_bucket": False},
    "model": {"learning_rate": 2e-6, "lr_scheduler": "constant_with_warmup", "lr_warmup_steps": 100, "max_train_steps": 6000, "save_every_n_steps": 1000},
}

_BY_KIND: Mapping[str, _Values] = {
    "chosen": {"network_args": "modules=attention"},
    "full": {"save_last_n_steps": 1000},
}

_BY_FAMILY: Mapping[str, _Values] = {
    "sd1": {"resolution": "512,512"},
    "sd2": {"resolution": "768,768", "v_parameterization": True},
    "sdxl": {"resolution": "1024,1024", "max_bucket_reso": 2048, "no_half_vae": True},
    "flux": {"resolution": "1024,1024", "max_bucket_reso": 2048, "cache_text_encoder_outputs": True, "fp8_base": True},
}

_SAVING = {"gradient_checkpointing": True}
_EIGHT = {"optimizer_type": "AdamW8bit"}
_CAPTIONS = {"cache_text_encoder_outputs": True, "network_train_unet_only": True}
_FACTOR = {
    "optimizer_type": "AdaFactor",
    "optimizer_args": "scale_parameter=False relative_step=False warmup_init=False",
    "max_grad_norm": 0.0,
    "fused_backward_pass": True,
    "full_bf16": True,
    "cache_text_encoder_outputs": True,
}
_NOTHING: _Values = {}

_BY_VRAM: Mapping[tuple[str, str], Mapping[int, _Values | None]] = {
    ("network", "sd1"): {
        6: _SAVING | _EIGHT,
        8: _SAVING | _EIGHT | {"train_batch_size": 2},
        12: {"train_batch_size": 2},
        16: {"train_batch_size": 4},
        24: {"train_batch_size": 8},
    },
    ("network", "sd2"): {
        6: _SAVING | _EIGHT | {"resolution": "512,512"},
        8: _SAVING | _EIGHT,
        12: _SAVING | {"train_batch_size": 2},
        16: {"train_batch_size": 2},
        24: {"train_batch_size": 4},
    },
    ("network", "sdxl"): {
        6: _SAVING | _EIGHT | _CAPTIONS | {"fp8_base": True, "resolution": "768,768", "network_dim": 8, "network_alpha": 4.0},
        8: _SAVING | _EIGHT | _CAPTIONS | {"fp8_base": True},
        12: _SAVING | _EIGHT | _CAPTIONS,
        16: _SAVING | _CAPTIONS | {"train_batch_size": 2},
        24: _SAVING | {"train_batch_size": 4},
    },
    ("network", "flux"): {
        6: None,
        8: _SAVING | _EIGHT | {"blocks_to_swap": 28, "resolution": "768,768"},
        12: _SAVING | _EIGHT | {"blocks_to_swap": 16},
        16: _SAVING | _EIGHT | {"blocks_to_swap": 8},
        24: _SAVING | _EIGHT | {"train_batch_size": 2},
    },
    ("embedding", "sd1"): {6: _SAVING, 8: {"train_batch_size": 2}, 12: {"train_batch_size": 4}, 16: {"train_batch_size": 4}, 24: {"train_batch_size": 8}},
    ("embedding", "sdxl"): {6: None, 8: _SAVING | _EIGHT | {"resolution": "768,768"}, 12: _SAVING | _EIGHT, 16: _SAVING, 24: _SAVING | {"train_batch_size": 4}},
    ("full", "sd1"): {
        6: None,
        8: _SAVING | _EIGHT | {"stop_text_encoder_training": -1},
        12: _SAVING | _EIGHT,
        16: _SAVING | _EIGHT | {"train_batch_size": 2},
        24: _SAVING | _EIGHT | {"train_batch_size": 4},
    },
    ("full", "sd2"): {
        6: None,
        8: _SAVING | _EIGHT | {"stop_text_encoder_training": -1, "resolution": "512,512"},
        12: _SAVING | _EIGHT | {"stop_text_encoder_training": -1},
        16: _SAVING | _EIGHT,
        24: _SAVING | _EIGHT | {"train_batch_size": 2},
    },
    ("full", "sdxl"): {6: None, 8: None, 12: _SAVING | _FACTOR, 16: _SAVING | _FACTOR, 24: _SAVING | _FACTOR | {"train_batch_size": 2}},
}
"""By what is trained and GB; None: too small a card."""


def values(task: str, goal: str, vram: int, bf16: bool = True) -> dict[str, Any]:
    """The settings that a task and a card of `vram` GB change. `bf16`: the card knows it (NVIDIA from 2020 on).

    Raises:
        BadSettings: the task can't be trained as this goal, or the card is too small for it.
    """
    aim = _aim(task, goal)
    size = max((one for one in VRAM if one <= vram), default=0)
    by_size = _BY_VRAM["network" if aim.makes == "lora" else aim.kind, aim.family]
    card = by_size.get(size)
    if card is None:
        least = min(one for one in VRAM if by_size[one] is not None)
        raise BadSettings(f"{aim.title} needs a graphics card with at least {least} GB, this one has {vram}. Train a LoRA, or for a smaller family.")
    made = {"mixed_precision": "bf16" if bf16 else "fp16", **_BY_FAMILY[aim.family], **_BY_KIND.get(aim.kind, _NOTHING), **_BY_TASK[task], **card}
    if aim.family == "sdxl" and aim.kind == "full":
        made["learning_rate"] = 4e-6
    if aim.kind == "onepic":
        made |= {name: _BY_TASK["onepic"][name] for name in ("network_dim", "network_alpha")}
    if not bf16:
        made.pop("full_bf16", None)
    return made


def preset(task: str, goal: str, vram: int, bf16: bool = True) -> KohyaSettings:
    """The same as settings, without a checkpoint. Raises: BadSettings: see `values`."""
    return KohyaSettings(**values(task, goal, vram, bf16))


def goals_for(task: str) -> list[Goal]:
    """What a task can be trained as."""
    return [goal for goal in GOALS.values() if goal.kind in _KINDS[task]]


def _aim(task: str, goal: str) -> Goal:
    if task not in TASKS or goal not in GOALS:
        raise BadSettings(f"{task!r} as {goal!r} can't be trained. Tasks: {', '.join(TASKS)}. Goals: {', '.join(GOALS)}.")
    if GOALS[goal].kind not in _KINDS[task]:
        raise BadSettings(f"{TASKS[task]} can't be trained as {GOALS[goal].title}. Take one of {', '.join(one.name for one in goals_for(task))}.")
    return GOALS[goal]
