"""An NVIDIA card that lies idle is told, with the way out of it."""

from __future__ import annotations

import pytest
import torch

from lib_refonly.studio import devices


@pytest.mark.parametrize(
    ("works", "card", "built_with", "says"),
    [(True, True, "13.0", ""), (False, False, None, ""), (False, True, None, "built without CUDA"), (False, True, "13.0", "newer driver")],
)
def test_hint(monkeypatch: pytest.MonkeyPatch, works: bool, card: bool, built_with: str | None, says: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: works)
    monkeypatch.setattr(devices.shutil, "which", lambda name: "/bin/" + name if card else None)
    monkeypatch.setattr(torch.version, "cuda", built_with)
    assert says in devices.hint()
    assert bool(says) == bool(devices.hint())
    if not built_with and says:
        assert torch.__version__.split("+")[0] in devices.hint()
