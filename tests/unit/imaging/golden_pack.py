"""Reads the golden pack with numpy alone."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def tensors(pack: Path) -> dict[str, NDArray]:
    data = (pack / "golden.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    kinds = {"U8": np.uint8, "F32": np.float32, "I64": np.int64}
    body = memoryview(data)[8 + length :]
    return {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], kinds[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }
