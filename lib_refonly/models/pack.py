"""Golden packs: numbers that the papers' released code computed, and the rule by which their weights are made again (a pack's README).

A pack is read here; what is computed and compared is a method's own business (`refonly.golden`, `stylecode.golden`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from lib_refonly.errors import BadModel
from lib_refonly.models.weights import Weights, read_json


@dataclass(frozen=True)
class Row:
    """One line of the report. `difference`: the largest absolute one (inf: wrong shape, type or not computable; 1 for a wrong hash)."""

    tensor: str
    difference: float
    tolerance: float
    ok: bool


class Chain(Protocol):
    """A computation; later links use the results of earlier ones, not the pack's."""

    def tensor(self, name: str) -> Tensor:
        """One result, by its name in the pack. Raises KeyError for a name that is not known."""
        ...


class Pack:
    """A folder with golden.json, keys.json, golden.safetensors and inputs/.

    Raises:
        BadModel: it is none of this format, or not complete.
    """

    def __init__(self, folder: Path, format_: str) -> None:
        self.folder = folder
        self.about, self.keys = read_json(folder / "golden.json"), read_json(folder / "keys.json")
        if self.about.get("format") != format_:
            raise BadModel(f"{folder} is no golden pack of the kind {format_}: golden.json does not say so.")
        self.golden = Weights.open(folder / "golden.safetensors")
        self.tolerance = float(self.about["tolerance_atol"])

    def rows(self, chain: Callable[[dict[str, dict[str, np.ndarray]]], Chain], given: tuple[str, ...]) -> Iterator[Row]:
        """Make the weights, check them, and compare all tensors but those that are `given`. `chain` is called with the weights of each module."""
        states = {name: self.regenerate(name) for name in self.keys["modules"]}
        for name, state in states.items():
            right = _digest(state) == self.about["modules"][name]["sha256"]
            yield Row(f"weights of {name} (sha256)", 0.0 if right else 1.0, 0.0, right)
        computed = chain(states)
        for name in sorted(self.golden):
            if name not in given:
                yield self._compare(name, computed)

    def regenerate(self, name: str) -> dict[str, np.ndarray]:
        """One module's weights by the README's rule, in the order of drawing."""
        module = self.about["modules"][name]
        rng = np.random.Generator(np.random.PCG64(module["seed"]))
        shapes = self.keys["modules"][name]
        return {key: _drawn(rng, key, tuple(shapes[key]), module["gain"]) for key in sorted(shapes)}

    def _compare(self, name: str, chain: Chain) -> Row:
        wanted = self.golden[name]
        tolerance = self.tolerance if wanted.is_floating_point() else 0.0
        try:
            got = chain.tensor(name)
        except KeyError:
            return Row(name, math.inf, tolerance, False)
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            return Row(name, math.inf, tolerance, False)
        difference = float((got.double() - wanted.double()).abs().max()) if wanted.numel() else 0.0
        return Row(name, difference, tolerance, difference <= tolerance)  # not a number is not ok

    def picture(self, name: str) -> Image.Image:
        """Raises: BadModel: it is missing."""
        path = self.folder / "inputs" / f"{name}.png"
        if not path.is_file():
            raise BadModel(f"The pack is incomplete: inputs/{name}.png is missing.")
        return Image.open(path).convert("RGB")


def _drawn(rng: np.random.Generator, key: str, shape: tuple[int, ...], gain: float) -> np.ndarray:
    r = rng.standard_normal(shape, dtype=np.float32)
    if len(shape) >= 2:
        return r * np.float32(gain / math.sqrt(math.prod(shape[1:])))
    return np.float32(1) + np.float32(0.1) * r if key.endswith("weight") else np.float32(0.1) * r


def _digest(state: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for value in state.values():
        digest.update(np.ascontiguousarray(value, dtype="<f4").tobytes())
    return digest.hexdigest()
