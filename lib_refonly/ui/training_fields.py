"""The form of a training by sd-scripts: which field is where, what a goal has of it, and what becomes of it when another goal is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints

import gradio as gr

from lib_refonly.errors import BadSettings
from lib_refonly.settings import specs
from lib_refonly.training import builtin_settings
from lib_refonly.training.kohya import options, presets
from lib_refonly.training.kohya.goals import GOALS, Goal
from lib_refonly.training.kohya.settings import KohyaSettings
from lib_refonly.ui import builtin_form, markup, training_own
from lib_refonly.ui.settings_form import SettingsForm, component

PREFIX = "refonly-train"
RECIPE = "recipe"
TASKS = {**presets.TASKS, **training_own.TASKS, RECIPE: "A recipe of this project"}
OURS = (*training_own.TASKS, RECIPE)
"""What this program trains itself, with a form or a file of its own."""
FAMILIES = {"sd1": "SD 1.5", "sd2": "SD 2", "sdxl": "SDXL", "flux": "FLUX", builtin_form.FAMILY: builtin_form.TITLE}
CARDS = {size: f"{size}{'+' * (size == presets.VRAM[-1])} GB" for size in presets.VRAM}
FIRST_TASK, FIRST_FAMILY, FIRST_CARD = "character", "sd1", 8
FIRST = presets.preset(FIRST_TASK, f"lora-{FIRST_FAMILY}", FIRST_CARD)

BASIC = (
    ("pretrained_model_name_or_path",),
    ("clip_l", "t5xxl", "ae"),
    ("token_string", "init_word"),
    ("output_name", "max_train_steps"),
    ("sample_prompts",),
    ("sample_every_n_steps", "save_every_n_steps"),
)
"""What everybody looks at, line by line."""
ADVANCED = {
    "The model": ("vae", "tokenizer_cache_dir", "clip_skip", "max_token_length", "v_parameterization"),
    "The result": ("save_precision", "save_last_n_steps"),
    "Pictures": (
        "resolution", "caption_extension", "min_bucket_reso", "max_bucket_reso", "keep_tokens", "caption_dropout_rate", "enable_bucket", "bucket_no_upscale",
        "shuffle_caption", "flip_aug", "color_aug",
    ),
    "Learning": (
        "train_batch_size", "gradient_accumulation_steps", "learning_rate", "unet_lr", "text_encoder_lr", "learning_rate_te", "stop_text_encoder_training",
        "lr_scheduler", "lr_warmup_steps", "optimizer_type", "optimizer_args", "max_grad_norm", "min_snr_gamma", "noise_offset", "seed",
    ),
    "LoRA": ("network_dim", "network_alpha", "network_dropout", "network_weights", "network_args", "network_train_unet_only"),
    "Embedding": ("num_vectors_per_token", "use_object_template", "use_style_template"),
    "FLUX": ("guidance_scale", "timestep_sampling", "discrete_flow_shift", "model_prediction_type", "blocks_to_swap"),
    "Memory": (
        "mixed_precision", "max_data_loader_n_workers", "gradient_checkpointing", "full_bf16", "fp8_base", "cache_latents", "cache_latents_to_disk",
        "cache_text_encoder_outputs", "no_half_vae", "sdpa", "fused_backward_pass", "lowram",
    ),
    "Sample pictures": ("sample_sampler",),
}  # fmt: skip
_WIDEST_SLIDER = 1000
_HALF = 260


@dataclass(frozen=True)
class Chosen:
    """What is wanted, in the program's names. goal: "" for OURS and for the built-in small model."""

    task: str
    goal: str = ""
    vram: int = FIRST_CARD
    bf16: bool = True
    builtin: bool = False

    @classmethod
    def of(cls, task: str, family: str, card: str, old_card: bool, few: bool) -> Chosen:
        """From the titles on the page; a family that the task does not have becomes its first.

        Raises:
            BadSettings: a title that is none.
        """
        try:
            name, kin, size = _named(TASKS, task), _named(FAMILIES, family), _named(CARDS, card)
        except StopIteration:
            raise BadSettings("Choose a task, a family of checkpoints and a size of the graphics card.") from None
        if name in OURS:
            return cls(name)
        if kin == builtin_form.FAMILY and name in builtin_settings.TASKS:
            return cls(name, vram=size, bf16=not old_card, builtin=True)
        known = presets.goals_for(name)
        of_family = [goal for goal in known if goal.family == kin] or [goal for goal in known if goal.family == known[0].family]
        wanted = next((goal for goal in of_family if (goal.kind == "chosen") == bool(few)), of_family[0])
        return cls(name, wanted.name, size, not old_card)

    @property
    def aim(self) -> Goal:
        return GOALS[self.goal]

    @property
    def families(self) -> list[str]:
        """Titles of the families that the task can be trained for."""
        names = [*dict.fromkeys(goal.family for goal in presets.goals_for(self.task)), *[builtin_form.FAMILY] * (self.task in builtin_settings.TASKS)]
        return [FAMILIES[name] for name in names]

    @property
    def may_be_few(self) -> bool:
        """Whether a LoRA on chosen modules is possible."""
        return any(goal.kind == "chosen" and goal.family == self.aim.family for goal in presets.goals_for(self.task))

    def preset(self) -> KohyaSettings:
        """Raises: BadSettings: the card is too small for it."""
        return presets.preset(self.task, self.goal, self.vram, self.bf16)


def _named(titles: dict[Any, str], title: str) -> Any:
    return next(name for name, one in titles.items() if one == title)


class TrainingForm(SettingsForm):
    """The fields with sd-scripts' own names behind their sentences. `rows` and `groups` are hidden when the goal has none of their fields."""

    def __init__(self) -> None:
        super().__init__(KohyaSettings, PREFIX)
        self.rows: list[tuple[tuple[str, ...], Any]] = []
        self.groups: list[tuple[tuple[str, ...], Any]] = []

    def lay_basic(self) -> None:
        """What everybody looks at."""
        here = fields_of(GOALS[f"lora-{FIRST_FAMILY}"])
        for names in BASIC:
            with gr.Row(visible=bool(here & {*names})) as row:
                for name in names:
                    self._lay(name, name in here)
            self.rows.append((names, row))

    def lay_advanced(self) -> None:
        """The rest, in groups."""
        here = fields_of(GOALS[f"lora-{FIRST_FAMILY}"])
        for title, names in ADVANCED.items():
            with gr.Column(visible=bool(here & {*names}), elem_classes=["refonly-train-group"]) as group:
                gr.HTML(markup.heading(title))
                with gr.Row():
                    for name in names:
                        self._lay(name, name in here)
            self.groups.append((names, group))

    def _lay(self, name: str, visible: bool) -> None:
        spec, hint, value = self._spec(name), get_type_hints(KohyaSettings)[name], getattr(FIRST, name)
        if name == "sample_prompts":
            made = gr.Textbox(value, label=spec.label, info=spec.help, lines=2, elem_id=f"{PREFIX}-sample-prompts")
        else:
            made = component(name, spec, hint, value, PREFIX)
            made.visible, made.min_width = visible, _HALF
        self.take(name, made)

    def _spec(self, name: str) -> Any:
        spec = specs(KohyaSettings)[name]
        spec = replace(spec, help=f"{spec.help} ({name})")
        if spec.maximum is None or spec.maximum > _WIDEST_SLIDER or spec.step is None:  # a box, whose numbers are checked by the settings, in words
            return replace(spec, minimum=None, maximum=None, step=None)
        return spec

    @property
    def holders(self) -> list[Any]:
        """Rows and groups."""
        return [one for _, one in (*self.rows, *self.groups)]

    def known(self, goal: Goal, values: Sequence[Any]) -> KohyaSettings:
        """What the components hold, of the fields that the goal has; others are left as they are by default. Raises: BadSettings."""
        here, blank = fields_of(goal), KohyaSettings()
        return self.read([value if name in here else getattr(blank, name) for name, value in zip(self.fields, values, strict=True)])


def fields_of(goal: Goal) -> set[str]:
    """The settings that a goal's script has, and the goal does not decide itself."""
    script = options.recorded().scripts[goal.script]
    return {field.name for field in fields(KohyaSettings) if field.name in script and field.name not in goal.fixed}


def carried_over(form: SettingsForm, values: Sequence[Any], old: Any, new: Any) -> list[Any]:
    """The fields after another preset: what the painter changed since the old one stays, everything else is as the new one has it."""
    return [getattr(new, name) if value is None or value == getattr(old, name) else value for name, value in zip(form.fields, values, strict=True)]


def smallest(resolution: str) -> int:
    """px of the shorter side below which a picture is too small to be trained at this size: it would have to be enlarged more than twice."""
    sides = [int(part) for part in str(resolution).split(",") if part.strip().isdecimal()]
    return min(sides) // 2 if sides else 256
