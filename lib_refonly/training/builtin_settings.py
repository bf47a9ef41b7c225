"""Teaching the built-in small model from a folder of pictures: the settings of each kind, and one form for all. Light: nothing here needs torch.

A form is a file of `studio.py train`: `tables` writes it, `read` reads it back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from lib_refonly.errors import BadSettings
from lib_refonly.models.registry import EMBEDDED
from lib_refonly.settings import check, from_mapping, setting, specs

BASE = EMBEDDED / "tiny-base"
_LARGE = 10**6
_NAME = re.compile(r"\w[\w-]{0,63}")


@dataclass(frozen=True)
class PictureSettings:
    """What a LoRA and an embedding have in common.

    Raises:
        BadSettings: a value of the wrong type or outside its range, or a name that is none.
    """

    name: str = setting("mine", "Name", "What the finished file is called, without an ending. An embedding is called by this name in prompts.")
    prompts: str = setting("", "Prompts of the sample pictures", "One a line. Empty takes the captions of the first pictures.")
    size: int = setting(256, "Size", "Pixels of a side at which pictures are seen. At 256 the model paints best; 128 is four times as fast, and blurred.",
                        minimum=64, maximum=512, step=64)  # fmt: skip
    whole: bool = setting(True, "Whole pictures", "A picture that is no square gets black beside it. Otherwise the middle is cut out.")
    mirror: bool = setting(True, "Mirror", "Pictures are also seen mirrored. Leave it off when left and right matter.")
    drop_text: float = setting(0.05, "Without a prompt", "Share of rows without any text.", minimum=0.0, maximum=1.0, step=0.05)
    thin: float = setting(0.3, "With some tags", "Share of rows with some of the caption's tags, in any order.", minimum=0.0, maximum=1.0, step=0.05)
    noisy: float = setting(
        0.5, "Towards the noise", "Share of rows drawn towards the noise, where the colours are decided.", minimum=0.0, maximum=1.0, step=0.05
    )
    offset: float = setting(
        0.2, "Noise offset", "How far the noise's mean varies. Without it the seed decides the colours.", minimum=0.0, maximum=1.0, step=0.05
    )

    def __post_init__(self) -> None:
        check(self)
        if not _NAME.fullmatch(self.name):
            raise BadSettings(f"Name: {self.name[:80]!r} is no name for the file. Take up to 64 letters, digits, - and _, beginning with a letter or a digit.")
        if self.size % 64:
            raise BadSettings(f"Size: {self.size} is no multiple of 64.")


@dataclass(frozen=True)
class LoraConfig(PictureSettings):
    """A LoRA on the UNet's attention and feed-forward layers."""

    word: str = setting("", "Trigger word", "Put before every caption that lacks it.")
    rank: int = setting(8, "Rank", "How much it can learn. A larger one makes a larger file.", minimum=1, maximum=128, step=1)
    alpha: float = setting(8.0, "Alpha", "Scales what is learnt by alpha / rank.", minimum=0.1, maximum=128.0, step=0.1)


@dataclass(frozen=True)
class EmbeddingConfig(PictureSettings):
    """A word with vectors of its own; everything else stays as it is."""

    vectors: int = setting(8, "Vectors", "How many tokens of the prompt the word takes. More hold more.", minimum=1, maximum=32, step=1)
    begin: str = setting("character", "Begin as", "The words that it means at first.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.begin.strip():
            raise BadSettings("Begin as: say a word or two that come near to what is in the pictures, such as character or portrait.")


KINDS: Mapping[str, type[PictureSettings]] = {"lora": LoraConfig, "embedding": EmbeddingConfig}


@dataclass(frozen=True)
class Course:
    """The fields of the training loop (`loop.LoopConfig`) that a painter chooses."""

    steps: int = setting(200, "Steps", "How long is trained. Each step sees as many pictures as the batch has.", minimum=1, maximum=_LARGE, step=1)
    batch: int = setting(2, "Batch", "Pictures a step. More are steadier and take longer.", minimum=1, maximum=64, step=1)
    lr: float = setting(4e-3, "Learning rate", "How much a step changes. It rises at first and falls towards the end.", minimum=1e-7, maximum=1.0)
    seed: int = setting(0, "Seed", "The same number draws the same noise.", minimum=0, maximum=2**32 - 1, step=1)
    sample_every: int = setting(100, "Sample every", "Steps between two sheets of sample pictures.", minimum=1, maximum=_LARGE, step=1)
    save_every: int = setting(50, "Save every", "Steps between two savings: at most so many are lost in a crash.", minimum=1, maximum=_LARGE, step=1)


@dataclass(frozen=True)
class BuiltinSettings(Course, LoraConfig, EmbeddingConfig):
    """The whole form: the fields of both kinds, and of the loop."""


TASKS: Mapping[str, tuple[str, BuiltinSettings]] = {
    "character": ("lora", BuiltinSettings()),
    "style": ("lora", BuiltinSettings(rank=16, alpha=16.0)),
    "embedding": ("embedding", BuiltinSettings(lr=1e-2)),
}
"""What each task is trained as, and with what."""
_LOOP = {"warmup": 20, "ema": 0.99}
"""Of the loop's other fields, what short courses need."""


def fields_of(kind: str) -> set[str]:
    """The fields of the form that a kind has. The trigger word is none: it stands with the pictures."""
    return {one.name for cls in (KINDS[kind], Course) for one in fields(cls)} - {"word"}


def tables(kind: str, settings: BuiltinSettings, data: Path, base: Path = BASE) -> dict[str, Any]:
    """The tables of a file that `studio.py train` takes. A job's own folder takes the place of [run] folder."""
    of_kind, of_loop = ({one.name: getattr(settings, one.name) for one in fields(cls)} for cls in (KINDS[kind], Course))
    run = {"kind": kind, "folder": f".runs/{settings.name}", "data": str(data), "base": str(base)}
    return {"run": run, kind: of_kind, "loop": of_loop | _LOOP}


def read(given: Mapping[str, Any]) -> tuple[str, BuiltinSettings]:
    """Such tables -> the kind and the form.

    Raises:
        BadSettings: another kind of training, an unknown name, a wrong value, or one that the form has no field for.
    """
    kind = str(given.get("run", {}).get("kind", ""))
    if kind not in KINDS:
        raise BadSettings(f"This file trains {kind or 'nothing'}. The form is for {' and '.join(KINDS)}; give other files to studio.py train.")
    course, table = dict(given.get("loop", {})), dict(given.get(kind, {}))
    own = {name: value for name, value in course.items() if name not in specs(Course)}
    strange = sorted({name for name, value in own.items() if _LOOP.get(name) != value} | (set(table) - set(specs(KINDS[kind]))))
    if strange:
        raise BadSettings(f"The form has no field for {', '.join(strange)}. Train this file in a terminal: studio.py train FILE.toml.")
    return kind, from_mapping(BuiltinSettings, table | {name: value for name, value in course.items() if name not in own})


def worded(kind: str, settings: BuiltinSettings, word: str) -> BuiltinSettings:
    """With the trigger word of the page's first step, for a kind that has one."""
    return replace(settings, word=" ".join(word.split())) if kind == "lora" else settings
