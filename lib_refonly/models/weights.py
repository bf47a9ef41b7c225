"""Weight files, read without running anything in them: names and shapes first, tensors one by one when asked for.

.safetensors headers are read by hand (no torch, no allocation, size checked first). Pickles (.bin, .pt, .ckpt) go through
`weights_only`, which refuses everything but tensors.
"""

from __future__ import annotations

import json
import math
import pickle
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_refonly.errors import BadModel, OutOfMemory

if TYPE_CHECKING:
    from torch import Tensor

SAFETENSORS = (".safetensors",)
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_HEADER_LIMIT = 100_000_000
"""The safetensors format's own limit. SDXL's header is about 250,000 bytes."""
_PICKLE_LIMIT = 64_000_000
"""A pickle holds names and shapes only, the numbers lie beside it."""
_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64"), 8),
}
_TORCH_NAMES = {
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
}

_DAMAGE = (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, struct.error)
"""What torch's reader raises on bytes that are no weights."""


@dataclass(frozen=True)
class TensorInfo:
    """`dtype` in safetensors' words (F16, F32, BF16, I64 ...)."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def values(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a weight file says of itself: its tensors by name, and a safetensors file's metadata (text by text)."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]

    @property
    def values(self) -> int:
        """How many numbers the file holds."""
        return sum(info.values for info in self.tensors.values())


def read_header(path: Path) -> Header:
    """Names, shapes and metadata of a weight file, of either kind. No tensor is read.

    Raises:
        BadModel: missing, empty, truncated, not a weight file, or with program code in it.
    """
    if not path.is_file():
        raise BadModel(f"{path} is not there, or is no file.")
    if path.stat().st_size == 0:
        raise BadModel(f"{path.name} is empty (0 bytes). Copy or download it again.")
    if path.suffix.lower() in SAFETENSORS:
        return _safetensors_header(path)
    if path.suffix.lower() in PICKLES:
        return Header({name: _info(tensor) for name, tensor in _unpickle(path, "meta").items()}, {})
    raise BadModel(f"{path.name}: only .safetensors and {', '.join(PICKLES)} files are read.")


def _safetensors_header(path: Path) -> Header:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(_HEADER_LIMIT, size - 8):
            raise BadModel(f"{path.name} is no safetensors file, or its beginning is damaged.")
        text = file.read(length)
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__", None) or {}
        tensors = {name: TensorInfo(entry["dtype"], tuple(map(int, entry["shape"]))) for name, entry in header.items()}
        spans = sorted((int(entry["data_offsets"][0]), int(entry["data_offsets"][1]), name) for name, entry in header.items())
        metadata = {str(key): str(value) for key, value in metadata.items()}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise BadModel(f"{path.name} is no safetensors file: its header cannot be read.") from None
    _check_spans(path, spans, tensors, size - 8 - length)
    return Header(tensors, metadata)


def _check_spans(path: Path, spans: list[tuple[int, int, str]], tensors: dict[str, TensorInfo], room: int) -> None:
    position = 0
    for begin, end, name in spans:
        info = tensors[name]
        wanted = _BYTES.get(info.dtype)
        if begin != position or end < begin or min(info.shape, default=0) < 0 or (wanted is not None and info.values * wanted != end - begin):
            raise BadModel(f"{path.name} is damaged: the header's entry for {name!r} does not fit.")
        position = end
    if position > room:
        raise BadModel(f"{path.name} is incomplete: {position - room:,} bytes are missing at its end. Copy or download it again.")


def _unpickle(path: Path, device: str) -> dict[str, Tensor]:
    import torch

    zipped = _is_honest_zip(path)
    try:
        # torch.serialization.load, not torch.load: WebUIs replace the latter, and Forge's renames files that fail to load.
        content = torch.serialization.load(path, map_location=device, weights_only=True, mmap=zipped and device != "meta")
    except pickle.UnpicklingError as error:
        raise BadModel(_refusal(path, str(error))) from None
    except (MemoryError, torch.OutOfMemoryError):
        raise OutOfMemory(f"Not enough memory to read {path.name}.") from None
    except _DAMAGE:
        raise BadModel(f"{path.name} cannot be read as a weight file: it is damaged, or something else.") from None
    return _only_tensors(path, content)


def _refusal(path: Path, reason: str) -> str:
    """Say which function a pickle wanted called, when that is why it was refused."""
    wanted = re.search(r"GLOBAL ([\w.]+)", reason)
    if wanted:
        return f"{path.name} was refused: it is no plain weight file, it wants to run program code ({wanted[1]}). Nothing of it was run."
    return f"{path.name} cannot be read as a weight file: it is damaged, or holds something else than weights."


def _is_honest_zip(path: Path) -> bool:
    """Whether it is the zip that torch writes (stored, not packed); False for the older kind of file."""
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise BadModel(f"{path.name} is damaged: its list of contents cannot be read.") from None
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    long = any(entry.filename.endswith("data.pkl") and entry.file_size > _PICKLE_LIMIT for entry in entries)
    if packed or long or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise BadModel(f"{path.name} was refused: it is packed in a way that torch does not write (it might unpack to any size).")
    return True


def _only_tensors(path: Path, content: Any) -> dict[str, Tensor]:
    import torch

    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise BadModel(f"{path.name} holds no named tensors.")
    flat: dict[Any, Any] = {}
    for name, value in content.items():
        # One level down only, as in IP-Adapters' files: {"image_proj": {...}, "ip_adapter": {...}}.
        flat.update({f"{name}.{inner}": tensor for inner, tensor in value.items()} if isinstance(value, Mapping) else {name: value})
    return {name: value for name, value in flat.items() if isinstance(name, str) and isinstance(value, torch.Tensor)}


def _info(tensor: Tensor) -> TensorInfo:
    name = str(tensor.dtype).removeprefix("torch.")
    return TensorInfo(_TORCH_NAMES.get(name, name), tuple(tensor.shape))


class Weights(Mapping[str, "Tensor"]):
    """The tensors of one file, under their own or other names, read from disk when asked for (the file is mapped, not copied).

    `infos` gives dtype and shape of each without reading it.
    """

    def __init__(self, path: Path, infos: Mapping[str, TensorInfo], source: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
        self.path = path
        self.infos = infos
        self._source = source
        self._names = names

    @classmethod
    def open(cls, path: Path) -> Weights:
        """Open a weight file of either kind.

        Raises:
            BadModel: as `read_header`.
        """
        infos = read_header(path).tensors
        source = _Mapped(path) if path.suffix.lower() in SAFETENSORS else _unpickle(path, "cpu")
        return cls(path, infos, source, {name: name for name in infos})

    def renamed(self, names: Mapping[str, str]) -> Weights:
        """A view with only these tensors: `names` is {new name: present name}."""
        infos = {new: self.infos[old] for new, old in names.items()}
        return Weights(self.path, infos, self._source, {new: self._names[old] for new, old in names.items()})

    def merged(self, other: Weights) -> Weights:
        """A view of this file's tensors and another view's of the same file."""
        return Weights(self.path, {**self.infos, **other.infos}, self._source, {**self._names, **other._names})

    def reshaped(self, shapes: Mapping[str, tuple[int, ...]]) -> Weights:
        """A view in which these tensors have these shapes (of as many values)."""
        infos = {name: TensorInfo(info.dtype, shapes.get(name, info.shape)) for name, info in self.infos.items()}
        return Weights(self.path, infos, self._source, self._names)

    def __getitem__(self, name: str) -> Tensor:
        return self._source[self._names[name]].reshape(self.infos[name].shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _Mapped(Mapping[str, "Tensor"]):
    """safe_open as a mapping. Not `load_file`: Forge's renames files that fail to load."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self._file = safe_open(str(path), framework="pt", device="cpu")
        self._names = list(self._file.keys())

    def __getitem__(self, name: str) -> Tensor:
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a small file.

    Raises:
        BadModel: missing, above 1 MB, or no JSON object.
    """
    try:
        if path.stat().st_size > 1_000_000:
            raise BadModel(f"{path.name} is too large for a configuration ({path.stat().st_size:,} bytes).")
        value = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = "is not there" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise BadModel(f"{path.parent.name}/{path.name} {reason}.") from None
    if not isinstance(value, dict):
        raise BadModel(f"{path.parent.name}/{path.name} is no configuration (a JSON object is expected).")
    return value
