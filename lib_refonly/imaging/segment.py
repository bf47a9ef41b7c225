"""The character's alpha by a segmentation network: ISNet for anime pictures, as ONNX (skytnt/anime-seg, `isnetis.onnx`).

Nothing is loaded before the first picture.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
from PIL import Image

from lib_refonly.errors import BadModel
from lib_refonly.imaging import onnx_net
from lib_refonly.imaging.fit import Letterbox

KIND = onnx_net.Kind("segmentation model", "isnetis.onnx of skytnt/anime-seg")

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
        self._run: onnx_net.Run | None = None
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
            self._run = self._run or onnx_net.load(self.path, KIND, self.backend)
            mask = self._run(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
        if mask.shape != (1, 1, SIDE, SIDE):
            raise BadModel(f"{self.path.name!r} is not the segmentation model: it gives {list(mask.shape)}. Take isnetis.onnx of skytnt/anime-seg.")
        whole = Image.fromarray(np.rint(np.nan_to_num(mask[0, 0]).clip(0, 1) * 255).astype(np.uint8))
        return box.undo(whole, resample=Image.Resampling.BILINEAR)
