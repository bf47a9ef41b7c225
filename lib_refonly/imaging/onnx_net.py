"""Networks in ONNX files: through onnxruntime where it is installed, else through OpenCV."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lib_refonly.errors import BadModel

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""One float32 input, as the network has it, to its first output."""


@dataclass(frozen=True)
class Kind:
    """What a file is said to be in errors. name: "segmentation model". right_file: where the right one is had. hint: what else may help."""

    name: str
    right_file: str
    hint: str = ""

    def refusal(self, path: Path) -> BadModel:
        """For a file that can't be used."""
        return BadModel(f"{path.name!r} is not a {self.name} that can be used (damaged, or another network). Take {self.right_file}.{self.hint}")


def load(path: Path, kind: Kind, backend: str = "auto") -> Run:
    """Read a network. backend: "auto", "onnxruntime" or "opencv".

    Raises:
        BadModel: the file is missing, or no ONNX model; running it, too.
    """
    data = _read(path, kind)
    if backend == "auto":
        try:
            return _with_onnxruntime(path, kind, data)
        except ImportError:
            return _with_opencv(path, kind, data)
    return _with_onnxruntime(path, kind, data) if backend == "onnxruntime" else _with_opencv(path, kind, data)


def _read(path: Path, kind: Kind) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadModel(f"The {kind.name} {path.name!r} cannot be read: {error.strerror or error}.") from error
    if data[:2] in (b"PK", b"\x80\x02") or path.suffix.lower() in (".ckpt", ".pt", ".pth"):
        raise BadModel(f"{path.name!r} is a training checkpoint, which can hold code. Take the ONNX form, {kind.right_file}.")
    return data


def _with_onnxruntime(path: Path, kind: Kind, data: bytes) -> Run:
    onnxruntime = importlib.import_module("onnxruntime")  # by name: it is optional, and type checkers need not know it
    wanted = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(data, providers=wanted)
        feed = session.get_inputs()[0].name
    except Exception as error:  # its exceptions share no base class but this one
        raise kind.refusal(path) from error

    def run(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            return np.asarray(session.run(None, {feed: pixels})[0], np.float32)
        except Exception as error:  # as above
            raise kind.refusal(path) from error

    return run


def _with_opencv(path: Path, kind: Kind, data: bytes) -> Run:
    try:
        net = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
    except cv2.error as error:
        raise kind.refusal(path) from error

    def run(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            net.setInput(pixels)
            return np.asarray(net.forward(), np.float32)
        except cv2.error as error:
            raise kind.refusal(path) from error

    return run
