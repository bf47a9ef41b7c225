"""A plan inside the UNet classes that a WebUI brings, against the UNets that the contract tests hold to each other. The WebUI is not started."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lib_refonly.conditioning.plan import COND, UNCOND
from lib_refonly.hosts.anatomy import Anatomy
from lib_refonly.hosts.diffusers import anatomy as diffusers_anatomy
from lib_refonly.hosts.ldm import anatomy as ldm_anatomy
from lib_refonly.hosts.session import Session
from lib_refonly.hosts.stand_in import in_terms_of
from tests.contract.a1111_like import ALPHAS_CUMPROD
from tests.contract.conftest import noise, subject_named
from tests.contract.unets import WIDTH, diffusers_unet
from tests.unit.adapters.public_files import FEATURES, public_adapter, written
from tests.webui import sdxl
from tests.webui.unet_probe import OTHER, UNET, Case
from tests.webui.webui import WebUI

T, ROWS = 400, 2
CLOSE = {"rtol": 0, "atol": 1e-3}
PROBE = Path(__file__).with_name("unet_probe.py")
Call = Callable[[Tensor], Tensor]
"""What the reference UNet says of both halves' rows, for their texts."""


def prefixed(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in weights.items()}


def numbers(width: int) -> dict[str, Tensor]:
    texts = {"cond": noise(1, 7, width, seed=2), "uncond": noise(1, 7, width, seed=3)}
    return texts | {"sample": noise(ROWS, 4, 16, 8), "alphas_cumprod": ALPHAS_CUMPROD}


def texts_of(case: Case) -> Tensor:
    return torch.cat([case.numbers["cond"], case.numbers["uncond"]]).repeat_interleave(ROWS, 0)


def rows_of(case: Case) -> Tensor:
    return torch.cat([case.numbers["sample"]] * 2)


def full_model(kind: str, **more: Any) -> Case:
    """Tokens in the place of the text on a part of the canvas, and lines, in a UNet of that kind."""
    mask = torch.zeros(128, 64)
    mask[40:] = 1
    plan = {"tokens": noise(ROWS, 9, WIDTH, seed=4), "mask": mask, "feature": noise(ROWS, 32, 16, 8, seed=5)}
    weights = prefixed(UNET, subject_named(f"ldm-{kind}").unet.state_dict())
    return Case(numbers(WIDTH) | plan | weights | more.pop("weights", {}), "ldm", dict(diffusers_unet(kind).config), T, **more)


def ask(host: WebUI, case: Case, folder: Path) -> dict[str, Tensor]:
    case.write(folder / "case.safetensors")
    command = [host.python, str(PROBE), str(folder / "case.safetensors"), str(folder / "result.safetensors")]
    run = subprocess.run(command, cwd=host.folder, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-3000:]
    return load_file(folder / "result.safetensors")


def conditioned(case: Case, unet: nn.Module, anatomy: Anatomy, call: Call, text: Tensor) -> tuple[Tensor, Tensor]:
    """The reference: plain, and with the plan."""
    with torch.inference_mode():
        base = call(text)
        with Session(anatomy, case.plan(anatomy), (COND, UNCOND)):
            return base, call(text)


def test_unet_full_model(at_rest: WebUI, tmp_path: Path) -> None:
    """UNet alone: a full model's plan gives what the contract tests' ldm UNet gives, to 1e-3; strength 0 is the base bit for bit"""
    case, subject = full_model("sd15"), subject_named("ldm-sd15")
    found = ask(at_rest, case, tmp_path)
    base, ours = conditioned(case, subject.unet, ldm_anatomy(subject.unet), lambda text: subject.call(rows_of(case), T, text), texts_of(case))
    assert (ours - base)[:ROWS].abs().max() > 1e-2
    torch.testing.assert_close(found["base"], base, **CLOSE)
    torch.testing.assert_close(found["ours"], ours, **CLOSE)
    torch.testing.assert_close(found["ours"][ROWS:], found["base"][ROWS:], rtol=0, atol=2e-5)  # unconditional rows are the base's
    assert torch.equal(found["nought"], found["base"])
    assert torch.equal(found["after"], found["base"])


def test_unet_stand_in(at_rest: WebUI, tmp_path: Path) -> None:
    """UNet alone: a v-prediction model in the place of an SD 1.5 checkpoint's UNet says what the ldm UNet says, as noise, to 1e-3"""
    own = prefixed(OTHER, subject_named("ldm-sd15").unet.state_dict())
    case = full_model("sd21", weights=own, other=dict(diffusers_unet("sd15").config), prediction="v_prediction")
    found, subject, x = ask(at_rest, case, tmp_path), subject_named("ldm-sd21"), rows_of(case)
    no_text = torch.zeros(2 * ROWS, 1, WIDTH)
    _, ours = conditioned(case, subject.unet, ldm_anatomy(subject.unet), lambda text: subject.call(x, T, text), no_text)
    wanted = in_terms_of(ours, x, ALPHAS_CUMPROD[T].expand(len(x)), "v_prediction", "epsilon")
    torch.testing.assert_close(found["ours"], wanted, **CLOSE)
    torch.testing.assert_close(found["base"], subject_named("ldm-sd15").call(x, T, texts_of(case)), **CLOSE)
    assert torch.equal(found["after"], found["base"])
    assert (found["ours"] - found["base"]).abs().max() > 1e-2


@pytest.mark.parametrize("variant", ["plain", "plus"])
def test_unet_sdxl_adapter(at_rest: WebUI, tmp_path: Path, variant: str) -> None:
    """UNet alone, SDXL: a public adapter gives what it gives in diffusers' UNet, to 1e-3; strength 0 is the base bit for bit"""
    unet: Any = sdxl.random_unet()
    file = written(public_adapter(unet, variant, sdxl.CONTEXT), tmp_path / "adapter.safetensors")
    pictures = {name: noise(1, *(() if variant == "plain" else (6,)), FEATURES, seed=seed) for name, seed in (("nothing", 5), ("picture", 6))}
    pooled, times = noise(1, sdxl.POOLED, seed=7), torch.tensor([[128.0, 64, 0, 0, 128, 64]])
    sizes = torch.cat([pooled, unet.add_time_proj(times.flatten()).reshape(1, -1)], 1)
    params = (sdxl.forge_params if at_rest.is_forge else sdxl.sgm_params)(unet.config)
    weights = prefixed(UNET, sdxl.ldm_weights(unet))
    case = Case(numbers(sdxl.CONTEXT) | pictures | {"sizes": sizes} | weights, "sgm", dict(unet.config), T, params, adapter=str(file))
    found, x = ask(at_rest, case, tmp_path), rows_of(case)
    added = {"text_embeds": pooled.expand(len(x), -1), "time_ids": times.expand(len(x), -1)}

    def call(text: Tensor) -> Tensor:
        return unet(x, torch.tensor(T), text, added_cond_kwargs=added, return_dict=False)[0]

    base, ours = conditioned(case, unet, diffusers_anatomy(unet), call, texts_of(case))
    assert (ours - base).flatten(1).abs().amax(1).min() > 1e-2  # in both halves: "nothing" is a picture as well
    torch.testing.assert_close(found["base"], base, **CLOSE)
    torch.testing.assert_close(found["ours"], ours, **CLOSE)
    assert torch.equal(found["nought"], found["base"])
    assert torch.equal(found["after"], found["base"])
