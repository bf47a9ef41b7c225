"""What a job has made so far: its finished files, what each is, and the picture that shows it. Headers only."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from lib_refonly.adapters import refonly_adapter
from lib_refonly.errors import BadModel, BadSettings
from lib_refonly.models.sniff import ModelKind, kind_of
from lib_refonly.models.weights import read_header
from lib_refonly.onepic import shelf
from lib_refonly.stylecode import model as stylecode
from lib_refonly.training.jobs import events
from lib_refonly.training.jobs.names import inside
from lib_refonly.training.kohya.config import CONFIG, DATASET, OUT, read_toml

LORA, ONEPIC, EMBEDDING, CHECKPOINT, STYLECODE, ADAPTER = "lora", "onepic", "embedding", "checkpoint", "stylecode", "adapter"
REFONLY, BASE, OTHER = "refonly", "base", "other"
TITLES = {
    LORA: "LoRA",
    ONEPIC: "ONE-PIC LoRA",
    EMBEDDING: "embedding",
    CHECKPOINT: "checkpoint",
    STYLECODE: "stylecode model",
    ADAPTER: "Reference Only adapter",
    REFONLY: "Reference Only model",
    BASE: "model folder",
    OTHER: "file",
}
EXPORT = "export"
"""Where this project's own trainers write."""
_SNIFFED = {
    ModelKind.LORA: LORA,
    ModelKind.EMBEDDING: EMBEDDING,
    ModelKind.REFONLY_CHECKPOINT: REFONLY,
    **dict.fromkeys((ModelKind.SD15_CHECKPOINT, ModelKind.SD2_CHECKPOINT, ModelKind.SDXL_CHECKPOINT, ModelKind.LDM_CHECKPOINT), CHECKPOINT),
}
_STEP = re.compile(r"-step(\d{8})$")
_MOST = 200
_LONGEST_WORD = 200


@dataclass(frozen=True)
class Finished:
    """A file, or a model's folder. step: 0 is not known. last: not an in-between one. size: bytes. word: what brings it out in prompts, where that is known.

    sample: the newest picture that was painted until then, if any.
    """

    path: Path
    kind: str
    step: int = 0
    last: bool = True
    size: int = 0
    word: str = ""
    sample: Path | None = None


def finished(folder: Path) -> list[Finished]:
    """What lies there whole, the last one first, then by steps. A file that a crash cut off, and what links lead to, is left out."""
    found = [one for path in _candidates(folder) if (one := _looked(path, folder, _stamp(path))) is not None]
    samples = _samples(folder) if found else []
    return [replace(one, sample=_shown(one, samples)) for one in sorted(found, key=lambda one: (one.last, one.step, one.path.name), reverse=True)][:_MOST]


def _candidates(folder: Path) -> list[Path]:
    """Files of sd-scripts and of our own trainers; else the whole export, if that is a model's folder."""
    own = folder / EXPORT
    files = [path for place in (folder / OUT, own) if not place.is_symlink() for path in place.glob("*.safetensors") if _plain(path)]
    return [*files, *([own] if own.is_dir() and not own.is_symlink() and (own / "unet" / "config.json").is_file() else [])]


def stamps(folder: Path) -> list[tuple[Path, int, int]]:
    """What is looked at there, with time and size: another answer means that `finished` may give another one."""
    return [(path, *_stamp(path)) for path in _candidates(folder)]


def _plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _stamp(path: Path) -> tuple[int, int]:
    told = path.stat()
    return told.st_mtime_ns, told.st_size


@lru_cache(maxsize=512)
def _looked(path: Path, job: Path, stamp: tuple[int, int]) -> Finished | None:
    """Kept, since a page asks every two seconds."""
    if path.is_dir():
        kind = REFONLY if (path / "image_encoder").is_dir() else BASE if (path / "text_encoder").is_dir() else OTHER
        return Finished(path, kind, size=sum(one.stat().st_size for one in path.rglob("*") if _plain(one)))
    try:
        header = read_header(path)
    except (BadModel, OSError):
        return None
    told = header.metadata
    own = {"refonly_onepic": ONEPIC, stylecode.METADATA: STYLECODE, refonly_adapter.METADATA: ADAPTER}
    kind = next((kind for mark, kind in own.items() if mark in told), _SNIFFED.get(kind_of(header.tensors), OTHER))
    kind = LORA if kind == ONEPIC and not shelf.told(told) else kind
    numbered, steps = _STEP.search(path.stem), told.get("ss_steps", "")
    step = int(numbered[1]) if numbered else int(steps) if steps.isdecimal() else 0
    return Finished(path, kind, step, numbered is None, stamp[1], _word(job, told) if kind in (LORA, ONEPIC, CHECKPOINT) else "")


# --- the trigger word ---------------------------------------------------------------------------------------------------------------------------------


def _word(job: Path, metadata: Mapping[str, str]) -> str:
    """As the painter said it, else the tag that stands in every caption."""
    said = _said(job) or _everywhere(metadata)
    return " ".join(said.split())[:_LONGEST_WORD] if said.isprintable() else ""


def _said(job: Path) -> str:
    for name, pick in ((DATASET, lambda told: told["datasets"][0]["subsets"][0]["class_tokens"]), (CONFIG, lambda told: told["lora"]["word"])):
        try:
            found = pick(read_toml(job / name))
        except (BadSettings, LookupError, TypeError):
            continue
        if isinstance(found, str) and found:
            return found
    return ""


def _everywhere(metadata: Mapping[str, str]) -> str:
    try:
        folders: Any = json.loads(metadata.get("ss_tag_frequency", "{}"))
        pictures = int(metadata.get("ss_num_train_images", "0"))
        counts: dict[str, int] = {}
        for tags in folders.values():
            for tag, count in tags.items():
                counts[tag] = counts.get(tag, 0) + int(count)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return ""
    best = max(counts, key=lambda tag: counts[tag], default="")
    return best if pictures > 1 and counts.get(best, 0) >= pictures else ""


# --- sample pictures ----------------------------------------------------------------------------------------------------------------------------------


def _samples(folder: Path) -> list[tuple[int, Path]]:
    """Step and file, in the order in which they were painted."""
    found = []
    for event in events.read_all(folder / events.FILE).events:
        files = event.get("files", [event.get("file")]) if event["event"] == "sample" else []
        for name in files if isinstance(files, list) else ():
            try:
                path = inside(folder, str(name))
            except (BadSettings, ValueError):
                continue
            if path.suffix.lower() == ".png" and _plain(path):
                found.append((event["step"] if isinstance(event.get("step"), int) else 0, path))
    return found


def _shown(one: Finished, samples: list[tuple[int, Path]]) -> Path | None:
    """The newest until its step; an in-between one that is older than all samples has none."""
    until = [path for step, path in samples if one.last or step <= one.step]
    return until[-1] if until else None
