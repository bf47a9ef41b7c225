"""The character's alpha by a segmentation network: ISNet for anime pictures, as ONNX (skytnt/anime-seg, `isnetis.onnx`).

Runs through onnxruntime where it is installed, else through OpenCV. Nothing is loaded before the first picture.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lib_refonly.errors import BadModel
from lib_refonly.imaging.fit import Letterbox

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]

SIDE = 1024
"""The network's input: [1, 3, 1024, 1024], RGB 0..1, the picture letterboxed on black. Its output: [1, 1, 1024, 1024], 0..1."""


class Segmenter:
    """Cuts characters out with one model file. Calls from several threads wait for each other.

    Args:
        path: the .onnx file. It is read at the first picture.
        backend: "auto", "onnxruntime" or "opencv".
    """

    def __init__(self, path: str | os.PathLike[str], backend: str = "auto") -> None:
        self.path = Path(path)
        self.backend = backend
        self._run: Run | None = None
        self._lock = threading.Lock()

    def alpha(self, picture: Image.Image) -> Image.Image:
        """The character's alpha, mode L, the picture's size. Transparency counts as black.

        Raises:
            BadModel: the file is missing, no ONNX model, or another network.
        """
        box = Letterbox.of(picture.size, SIDE, SIDE)
        rgb = Image.new("RGB", picture.size)
        rgb.paste(picture.convert("RGB"), mask=picture.convert("RGBA").getchannel("A"))
        pixels = np.asarray(box.apply(rgb, 0, Image.Resampling.BILINEAR), np.float32) / 255
        with self._lock:
            self._run = self._run or _load(self.path, self.backend)
            mask = self._run(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
        if mask.shape != (1, 1, SIDE, SIDE):
            raise BadModel(f"{self.path.name!r} is not the segmentation model: it gives {list(mask.shape)}. Take isnetis.onnx of skytnt/anime-seg.")
        whole = Image.fromarray(np.rint(np.nan_to_num(mask[0, 0]).clip(0, 1) * 255).astype(np.uint8))
        return box.undo(whole, resample=Image.Resampling.BILINEAR)


def _load(path: Path, backend: str) -> Run:
    data = _read(path)
    if backend == "auto":
        try:
            return _with_onnxruntime(path, data)
        except ImportError:
            return _with_opencv(path, data)
    return _with_onnxruntime(path, data) if backend == "onnxruntime" else _with_opencv(path, data)


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadModel(f"The segmentation model {path.name!r} cannot be read: {error.strerror or error}.") from error
    if data[:2] in (b"PK", b"\x80\x02") or path.suffix.lower() in (".ckpt", ".pt", ".pth"):
        raise BadModel(f"{path.name!r} is a training checkpoint, which can hold code. Take the ONNX form, isnetis.onnx of skytnt/anime-seg.")
    return data


def _with_onnxruntime(path: Path, data: bytes) -> Run:
    onnxruntime = importlib.import_module("onnxruntime")  # by name: it is optional, and type checkers need not know it
    wanted = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(data, providers=wanted)
        feed = session.get_inputs()[0].name
    except Exception as error:  # its exceptions share no base class but this one
        raise BadModel(_unusable(path)) from error

    def run(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            return np.asarray(session.run(None, {feed: pixels})[0], np.float32)
        except Exception as error:  # as above
            raise BadModel(_unusable(path)) from error

    return run


def _with_opencv(path: Path, data: bytes) -> Run:
    try:
        net = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))
    except cv2.error as error:
        raise BadModel(_unusable(path)) from error

    def run(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            net.setInput(pixels)
            return np.asarray(net.forward(), np.float32)
        except cv2.error as error:
            raise BadModel(_unusable(path)) from error

    return run


def _unusable(path: Path) -> str:
    return f"{path.name!r} is not a segmentation model that can be used (damaged, or another network). Take isnetis.onnx of skytnt/anime-seg."
