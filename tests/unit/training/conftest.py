from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

SIDE = 64


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten records of two discs each: A and B share a colour, the outline is the blueprint."""
    folder, rng = tmp_path_factory.mktemp("drawings"), np.random.default_rng(0)
    pictures = np.zeros((10, 2, SIDE, SIDE, 3), np.uint8)
    alpha, blueprint = np.zeros((10, 2, SIDE, SIDE), np.uint8), np.zeros((10, 2, SIDE, SIDE), np.uint8)
    y, x = np.mgrid[:SIDE, :SIDE]
    meta = []
    for i in range(10):
        colour = rng.integers(60, 256, 3)
        for view in range(2):
            away = np.hypot(y - 32, x - rng.integers(26, 38))
            pictures[i, view][away < 24] = colour
            pictures[i, view][(away >= 22) & (away < 24)] = 0
            alpha[i, view][away < 24] = 255
            blueprint[i, view][(away >= 22) & (away < 24)] = 255
        group = ("adventurer", "micah", "open-peeps", "openmoji")[i % 4]
        attributes = {} if group in ("openmoji", "open-peeps") else {"colours": {"hair": bytes(colour.astype(np.uint8)).hex()}}
        meta.append({"id": f"r{i}", "style": group, "group": group, "caption": "red disc, smiling", "captionB": "blue disc", "attributes": attributes})
    for name, array in (("pictures", pictures), ("alpha", alpha), ("blueprint", blueprint)):
        np.save(folder / f"{name}.npy", array)
    (folder / "meta.jsonl").write_text("".join(json.dumps(m) + "\n" for m in meta), encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps({"size": SIDE, "count": 10}), encoding="utf-8")
    (folder / "done.json").write_text(json.dumps({"done": 10}), encoding="utf-8")
    return folder
