"""The settings of a training by sd-scripts. A field's name is sd-scripts' own; its sentence says what it does.

"" and 0 leave an option away where sd-scripts has no value for it by default (`config.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lib_refonly.errors import BadSettings
from lib_refonly.settings import check, setting

OPTIMIZERS = (
    "AdamW",
    "AdamW8bit",
    "PagedAdamW8bit",
    "Lion",
    "Lion8bit",
    "PagedLion8bit",
    "SGDNesterov",
    "DAdaptation",
    "DAdaptLion",
    "Prodigy",
    "AdaFactor",
)
"""By their own names. Those that import a module of any name are not offered."""
SCHEDULERS = (
    "constant",
    "constant_with_warmup",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "inverse_sqrt",
    "cosine_with_min_lr",
    "warmup_stable_decay",
    "adafactor",
)
_SIZES = re.compile(r"\d{2,5}(,\d{2,5})?")
_LARGE = 10**9


@dataclass(frozen=True)
class KohyaSettings:
    """One for all goals; a goal's script has some of the fields, and others are refused when they are set (`config.py`).

    Raises:
        BadSettings: a value of the wrong type or outside its range, or two that contradict each other.
    """

    # the model
    pretrained_model_name_or_path: str = setting("", "Checkpoint", "The model that is trained on: a .safetensors file, or a folder of diffusers.")
    vae: str = setting("", "VAE", "Another VAE than the checkpoint's. Leave it empty to take that one.")
    clip_l: str = setting("", "CLIP-L", "FLUX's first text encoder, a .safetensors file.")
    t5xxl: str = setting("", "T5-XXL", "FLUX's second text encoder, a .safetensors file.")
    ae: str = setting("", "Autoencoder", "FLUX's autoencoder, a .safetensors file.")
    v_parameterization: bool = setting(False, "v-prediction", "Tick it for checkpoints that predict v, as SD 2.1 at 768 px does.")
    clip_skip: int = setting(0, "Clip skip", "2 is usual for anime checkpoints of SD 1.5. 0 leaves it as it is.", minimum=0, maximum=12, step=1)
    max_token_length: int = setting(
        0, "Longest caption", "Tokens of a caption that are read. 0 is 75; 150 and 225 take more memory.", minimum=0, maximum=225, step=75
    )
    tokenizer_cache_dir: str = setting("", "Tokenizers", "A folder that holds the tokenizers, for computers without a network.")
    # the result
    output_name: str = setting("mine", "Name", "What the finished file is called, without an ending.")
    save_precision: str = setting("fp16", "Saved as", "Numbers in the finished file. fp16 is read everywhere.", choices=("float", "fp16", "bf16"))
    save_every_n_steps: int = setting(250, "Save every", "Steps between two savings: at most so many are lost in a crash.", minimum=1, maximum=_LARGE, step=1)
    save_last_n_steps: int = setting(0, "Keep models of the last", "Steps whose in-between models are kept. 0 keeps all.", minimum=0, maximum=_LARGE, step=1)
    # how long
    max_train_steps: int = setting(1600, "Steps", "How long is trained. Each step sees as many pictures as the batch has.", minimum=1, maximum=_LARGE, step=1)
    train_batch_size: int = setting(1, "Batch", "Pictures a step. More are steadier and need more memory.", minimum=1, maximum=512, step=1)
    gradient_accumulation_steps: int = setting(
        1, "Batches a step", "Several batches for one step: as steady as a larger batch, at the memory of one.", minimum=1, maximum=1024, step=1
    )
    seed: int = setting(42, "Seed", "The same number draws the same noise.", minimum=0, maximum=2**32 - 1, step=1)
    # pictures
    resolution: str = setting("512,512", "Size", "Width and height in pixels at which pictures are seen, as 512,768.")
    enable_bucket: bool = setting(True, "Keep proportions", "Pictures keep their proportions; those alike are trained together. Otherwise they are cropped.")
    min_bucket_reso: int = setting(256, "Shortest side", "Pixels that no side falls below when proportions are kept.", minimum=64, maximum=8192, step=32)
    max_bucket_reso: int = setting(1024, "Longest side", "Pixels that no side exceeds when proportions are kept.", minimum=64, maximum=8192, step=32)
    bucket_no_upscale: bool = setting(True, "Never enlarge", "Small pictures are trained at their own size.")
    caption_extension: str = setting(".txt", "Captions' ending", "The caption of girl.png is girl with this ending.")
    shuffle_caption: bool = setting(False, "Shuffle tags", "Captions are tags between commas, whose order does not matter.")
    keep_tokens: int = setting(0, "Tags that stay", "So many tags stay first when the others are shuffled.", minimum=0, maximum=255, step=1)
    caption_dropout_rate: float = setting(
        0.0, "Without caption", "The share of pictures shown without their caption; a style needs some.", minimum=0.0, maximum=1.0, step=0.05
    )
    flip_aug: bool = setting(False, "Mirror", "Pictures are also shown mirrored. Not for characters with a side parting.")
    color_aug: bool = setting(False, "Vary colours", "Hues are changed a little. It can't go with cached latents.")
    # learning
    learning_rate: float = setting(1e-4, "Learning rate", "How far each step goes. Too high burns, too low learns nothing.", minimum=0.0, maximum=10.0)
    unet_lr: float = setting(0.0, "UNet's rate", "Another learning rate for the UNet. 0 takes the one above.", minimum=0.0, maximum=10.0)
    text_encoder_lr: float = setting(
        0.0, "Text encoders' rate", "Another learning rate for the text encoders. 0 takes the one above.", minimum=0.0, maximum=10.0
    )
    learning_rate_te: float = setting(
        0.0, "Text encoder's rate", "Another learning rate for the text encoder of a whole SD model. 0 takes the UNet's.", minimum=0.0, maximum=10.0
    )
    stop_text_encoder_training: int = setting(
        0,
        "Leave the text encoder after",
        "From this step on the text encoder of a whole SD model stays as it is; -1 never trains it, 0 always.",
        minimum=-1,
        maximum=_LARGE,
    )
    lr_scheduler: str = setting("cosine", "Course of the rate", "How the learning rate changes over the steps.", choices=SCHEDULERS)
    lr_warmup_steps: int = setting(0, "Warm-up", "Steps in which the learning rate rises from nought.", minimum=0, maximum=_LARGE, step=1)
    optimizer_type: str = setting(
        "AdamW", "Optimizer", "What turns gradients into steps. Those in 8 bit need an NVIDIA card and less memory.", choices=OPTIMIZERS
    )
    optimizer_args: str = setting("", "Optimizer's options", "NAME=VALUE, by spaces, as the optimizer itself calls them.")
    max_grad_norm: float = setting(1.0, "Longest gradient", "Longer ones are cut to this. 0 cuts none.", minimum=0.0, maximum=1000.0)
    min_snr_gamma: float = setting(0.0, "Min-SNR gamma", "5 evens out how much each noise level counts. 0 leaves it away.", minimum=0.0, maximum=100.0)
    noise_offset: float = setting(0.0, "Noise offset", "0.05 learns very dark and very bright pictures better. 0 leaves it away.", minimum=0.0, maximum=1.0)
    # LoRA
    network_dim: int = setting(16, "Rank", "How much a LoRA can hold. A character needs 8 to 16, a style 16 to 64.", minimum=1, maximum=1024, step=1)
    network_alpha: float = setting(8.0, "Alpha", "Scales what is learnt, by the rank; half of the rank is usual.", minimum=0.001, maximum=1024.0)
    network_dropout: float = setting(0.0, "Dropout", "The share of a LoRA that is left out at random in each step.", minimum=0.0, maximum=0.9)
    network_train_unet_only: bool = setting(False, "UNet alone", "Text encoders stay as they are.")
    network_weights: str = setting("", "Begin with", "A LoRA to go on from.")
    network_args: str = setting("", "Network's options", "NAME=VALUE, by spaces; for a LoRA on chosen modules modules=cross-attention, or others by commas.")
    # embedding
    token_string: str = setting("", "Word", "The new word that will stand for what is learnt; one that the model does not know.")
    init_word: str = setting("", "Begins as", "A known word that comes near, such as girl.")
    num_vectors_per_token: int = setting(1, "Vectors", "How many tokens the word takes of a prompt. 4 to 8 hold a character.", minimum=1, maximum=75, step=1)
    use_object_template: bool = setting(False, "Captions for a thing", "Captions are replaced by sentences about a thing.")
    use_style_template: bool = setting(False, "Captions for a style", "Captions are replaced by sentences about a style.")
    # FLUX
    guidance_scale: float = setting(1.0, "Guidance", "For FLUX dev, 1 is what it is trained with.", minimum=0.0, maximum=100.0)
    timestep_sampling: str = setting(
        "shift", "Noise levels", "Which noise levels FLUX is trained at.", choices=("sigma", "uniform", "sigmoid", "shift", "flux_shift")
    )
    discrete_flow_shift: float = setting(3.1582, "Shift", "Moves FLUX's noise levels towards the noise.", minimum=0.0, maximum=100.0)
    model_prediction_type: str = setting("raw", "Prediction", "How FLUX's answer is read.", choices=("raw", "additive", "sigma_scaled"))
    blocks_to_swap: int = setting(
        0, "Blocks to swap", "So many of FLUX's blocks wait in the computer's memory. More need less VRAM and are slower.", minimum=0, maximum=35
    )
    # memory
    mixed_precision: str = setting(
        "fp16", "Computed in", "bf16 for cards from 2020 on, fp16 for older ones, no for a processor.", choices=("no", "fp16", "bf16")
    )
    full_bf16: bool = setting(False, "Gradients in bf16", "Weights and gradients in bf16 too. Needs Computed in: bf16.")
    fp8_base: bool = setting(False, "Checkpoint in fp8", "The checkpoint takes half of the memory. Not with Computed in: no.")
    gradient_checkpointing: bool = setting(False, "Compute twice", "Much less memory for a quarter more time.")
    cache_latents: bool = setting(True, "Encode pictures once", "The VAE is not needed afterwards.")
    cache_latents_to_disk: bool = setting(False, "Keep encoded pictures", "They are kept beside the pictures, as .npz, for the next time.")
    cache_text_encoder_outputs: bool = setting(
        False, "Read captions once", "Text encoders are not needed afterwards, nor trained. Not with shuffled or left-out captions."
    )
    no_half_vae: bool = setting(False, "VAE in full precision", "SDXL's own VAE needs it in fp16.")
    sdpa: bool = setting(True, "Attention of torch", "Saves memory and needs nothing installed.")
    fused_backward_pass: bool = setting(False, "Step while going back", "For a whole SDXL with AdaFactor: gradients are never all there at once.")
    lowram: bool = setting(False, "Little memory beside the card", "Models are loaded into VRAM at once.")
    max_data_loader_n_workers: int = setting(
        2, "Processes that read", "Processes that read pictures. 0 reads in the trainer itself.", minimum=0, maximum=64, step=1
    )
    # sample pictures
    sample_prompts: str = setting("", "Sample prompts", "One a line; --w 512 --h 512 --s 20 --d 7 at its end say size, steps and seed.")
    sample_every_n_steps: int = setting(
        0, "Sample every", "Steps between two sample pictures of each prompt. 0 paints none on its own.", minimum=0, maximum=_LARGE, step=1
    )
    sample_sampler: str = setting(
        "euler_a",
        "Sampler",
        "The order of the steps in sample pictures.",
        choices=("ddim", "euler", "euler_a", "heun", "dpmsolver++", "k_euler", "k_euler_a", "k_dpm_2"),
    )

    def __post_init__(self) -> None:
        check(self)
        if not _SIZES.fullmatch(self.resolution):
            raise BadSettings(f"Size: {self.resolution!r} is none. Say width and height, as 512,768.")
        if self.max_token_length not in (0, 150, 225):
            raise BadSettings("Longest caption: it is 0, 150 or 225.")
        if not re.fullmatch(r"\.[A-Za-z0-9_-]{1,16}", self.caption_extension):
            raise BadSettings(f"Captions' ending: {self.caption_extension!r} is none. It is .txt, usually.")
        for first, second, wrong in _contradictions(self):
            if wrong:
                raise BadSettings(f"{first} and {second} can't go together.")


def _contradictions(s: KohyaSettings) -> list[tuple[str, str, bool]]:
    """What sd-scripts would stop at, or quietly change."""
    return [
        ("Vary colours", "Encode pictures once", s.color_aug and s.cache_latents),
        ("Read captions once", "Shuffle tags", s.cache_text_encoder_outputs and s.shuffle_caption),
        ("Read captions once", "Without caption", s.cache_text_encoder_outputs and s.caption_dropout_rate > 0),
        ("Checkpoint in fp8", "Computed in: no", s.fp8_base and s.mixed_precision == "no"),
        ("Gradients in bf16", f"Computed in: {s.mixed_precision}", s.full_bf16 and s.mixed_precision != "bf16"),
        ("Step while going back", f"Optimizer: {s.optimizer_type}", s.fused_backward_pass and s.optimizer_type != "AdaFactor"),
        ("Step while going back", "Batches a step", s.fused_backward_pass and s.gradient_accumulation_steps > 1),
        ("Captions for a thing", "Captions for a style", s.use_object_template and s.use_style_template),
        ("Longest side", "Shortest side, which is longer,", s.enable_bucket and s.max_bucket_reso < s.min_bucket_reso),
    ]
