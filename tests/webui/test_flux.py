"""A canvas on FLUX, in the classes that a host of Forge's family brings. The WebUI is not started."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.contract.conftest import noise
from tests.webui.flux_probe import STEPS
from tests.webui.webui import WebUI

PROBE = Path(__file__).with_name("flux_probe.py")


def test_flux_canvas(at_rest: WebUI, tmp_path: Path) -> None:
    """FLUX alone: the host's sampler hands the transformer the context unchanged at every call, to 1e-6, and the next plain run is the same"""
    if not (at_rest.folder / "backend" / "nn" / "flux.py").is_file():
        pytest.skip("this host has no FLUX")
    x_0, target = noise(1, 16, 8, 16, seed=21), torch.zeros(8, 16)
    target[:, 8:] = 1
    save_file({"x_0": x_0, "target": target, "noise": noise(1, 16, 8, 16, seed=22)}, tmp_path / "case.safetensors")
    command = [at_rest.python, str(PROBE), str(tmp_path / "case.safetensors"), str(tmp_path / "result.safetensors")]
    run = subprocess.run(command, cwd=at_rest.folder, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-3000:]
    found, context = load_file(tmp_path / "result.safetensors"), x_0[..., :8]
    assert found["handed"].shape[:2] == (STEPS, 2)  # both halves in one call
    for what in ("handed", "said"):
        torch.testing.assert_close(found[what][..., :8], context.expand_as(found[what][..., :8]), rtol=0, atol=1e-6)
    torch.testing.assert_close(found["painted"][..., :8], context, rtol=0, atol=1e-6)
    assert (found["painted"] - found["plain"])[..., 8:].abs().mean() > 1e-3  # the target saw another context
    assert torch.equal(found["after"], found["plain"])
