"""A WD14 tagger that knows colours: ONNX of the real ones' form (NHWC in, one row of probabilities out), written by hand, and its list of tags."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.unit.imaging.test_segment import field, tensor, typed

TAGS: Mapping[str, tuple[int, tuple[float, float, float]]] = {
    "general": (9, (0, 0, 0)),
    "explicit": (9, (9, 9, 9)),
    "blue_hair": (0, (1, -1, -1)),
    "green_hair": (0, (-1, 1, -1)),
    "red_hair": (0, (-1, -1, 1)),
    "^_^": (0, (0, 0, 0.002)),
    "miho_(idol)": (4, (-0.5, -0.5, 1)),
    "white_background": (0, (0.004, 0.004, 0.004)),
}
"""name: (category, weights of the mean B, G and R, 0..255). Of black, half is believed of everything."""


def model(tags: Mapping[str, tuple[int, tuple[float, float, float]]] = TAGS, bias: float = -2.0) -> bytes:
    """sigmoid(mean of the pixels x weights + bias): input `img` [1, 448, 448, 3], output `sure` [1, tags]."""
    weights = np.array([one for _, one in tags.values()], np.float32).T
    mean = field(1, "img") + field(2, "mean") + field(4, "ReduceMean") + field(5, field(1, "axes") + field(8, 1) + field(8, 2) + field(20, 7))
    mean += field(5, field(1, "keepdims") + field(3, 0) + field(20, 2))
    product = field(1, "mean") + field(1, "w") + field(2, "product") + field(4, "MatMul")
    added = field(1, "product") + field(1, "b") + field(2, "logit") + field(4, "Add")
    sigmoid = field(1, "logit") + field(2, "sure") + field(4, "Sigmoid")
    graph = b"".join(field(1, node) for node in (mean, product, added, sigmoid)) + field(2, "tiny")
    graph += field(5, tensor("w", weights)) + field(5, tensor("b", np.full((1, len(tags)), bias, np.float32)))
    graph += field(11, typed("img", (1, 448, 448, 3))) + field(12, typed("sure", (1, len(tags))))
    return field(1, 7) + field(7, graph) + field(8, field(1, "") + field(2, 11))


def install(folder: Path, tags: Mapping[str, tuple[int, tuple[float, float, float]]] = TAGS) -> Path:
    """Both files into `folder`, as they are downloaded."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model(tags))
    rows = [f"{number},{name},{category},1" for number, (name, (category, _)) in enumerate(tags.items())]
    (folder / "selected_tags.csv").write_text("\n".join(["tag_id,name,category,count", *rows]) + "\n", encoding="utf-8")
    return folder
