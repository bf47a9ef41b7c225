"""Latents of a drawing set, made once: a UNet is trained on them many times.

`studio.py data latents VAE DATA --size 128` writes DATA/latents-128.npy, float16 [N, views, 4, size/8, size/8], already times
the VAE's scaling factor, and goes on where it was stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL

from lib_refonly.errors import BadSettings
from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.refonly.loader import weight_file
from lib_refonly.training.dataset.vectors import Tell
from lib_refonly.training.drawings.dataset import DrawingSet
from lib_refonly.training.vae import halve, to_signed

_MARKED = 8
"""Batches between two marks of how far it is."""


class LatentSet:
    """A drawing set with its latents at `size` pixels. `len` counts the records that are done."""

    def __init__(self, data: Path, size: int) -> None:
        self.drawings, self.size = DrawingSet(data), size
        path = data / f"latents-{size}.npy"
        if not path.exists():
            raise BadSettings(f"{path} is missing. Make it first: studio.py data latents VAE {data} --size {size}")
        self.latents = np.load(path, mmap_mode="r")
        self._done = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["done"]

    def __len__(self) -> int:
        return self._done


def shrink(pictures: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H,W,...] -> [size,size,...] by halving."""
    flat = pictures if pictures.ndim == 3 else pictures[..., None]
    while flat.shape[0] > size:
        flat = halve(flat)
    return flat if pictures.ndim == 3 else flat[..., 0]


@torch.no_grad()
def encode_all(vae_folder: Path, data: Path, size: int, batch: int = 1, limit: int = 0, tell: Tell | None = None) -> Path:
    """Encode every picture of `data` (the first `limit`) at `size` pixels; returns the file.

    `batch` counts records. `tell(share, what)` may raise to end it. bfloat16 with the channels last, and few at a time, is quickest on a CPU.
    """
    drawings = DrawingSet(data)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    vae: Any = AutoencoderKL.from_pretrained(vae_folder, torch_dtype=torch.bfloat16)
    vae.to(device, memory_format=torch.channels_last)
    count, views = limit or len(drawings), drawings.pictures.shape[1]
    path, state = data / f"latents-{size}.npy", data / f"latents-{size}.json"
    identity = {"vae": _digest(vae_folder)}
    old = json.loads(state.read_text(encoding="utf-8")) if state.exists() and path.exists() else {}
    done = old["done"] if old.get("vae") == identity["vae"] else 0
    out = _grown(path, (count, views, 4, size // 8, size // 8), done)
    for first in range(done, count, batch):
        part = drawings.pictures[first : min(first + batch, count)]
        flat = np.stack([shrink(p, size) for record in part for p in record])
        pixels = to_signed(flat).to(device, torch.bfloat16, memory_format=torch.channels_last)
        codes = vae.encode(pixels).latent_dist.mode()
        codes = (codes.float() * vae.config["scaling_factor"]).cpu().numpy()
        out[first : first + len(part)] = codes.reshape(len(part), views, *codes.shape[1:])
        out.flush()
        if (first // batch) % _MARKED == 0 or first + len(part) == count:
            write_atomically(state, json.dumps(identity | {"done": first + len(part)}).encode())
        if tell:
            tell((first + len(part)) / count, "encoding")
    return path


def _grown(path: Path, shape: tuple[int, ...], done: int) -> np.memmap:
    """The file at `path`, writable and of `shape`, with its first `done` records kept. A drawing set may have grown since."""
    if done and np.load(path, mmap_mode="r").shape == shape:
        return np.lib.format.open_memmap(path, "r+")
    fresh = path.with_suffix(".new.npy")
    out = np.lib.format.open_memmap(fresh, "w+", np.float16, shape)
    if done:
        done = min(done, shape[0])
        out[:done] = np.load(path, mmap_mode="r")[:done]
    out.flush()
    os.replace(fresh, path)
    return out


def _digest(vae_folder: Path) -> str:
    usual = vae_folder / "diffusion_pytorch_model.safetensors"
    return hashlib.sha256((usual if usual.exists() else weight_file(vae_folder)).read_bytes()).hexdigest()
