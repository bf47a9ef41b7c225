"""The contenders of the UNet benchmark on a small UNet: each does what its name says, and leaves no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from benchmarks import unet_step
from benchmarks.measure import Clock, run_rounds
from benchmarks.networks import Shape
from benchmarks.unet_step import AGAIN, BARE, BOTH, CONTROLNET, COUNTED, ENCODERS, FIRST, IP_ADAPTER, OURS, Meter, Rig, contenders, summarise
from lib_refonly.hosts.diffusers import session
from tests.tiny_models import UNET

SHAPE = Shape("small", UNET | {"cross_attention_dim": 64}, vision_layers=1, latent=8)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield Rig.build(SHAPE, "cpu", torch.float32)


def outputs(rig: Rig) -> dict[str, torch.Tensor]:
    """What each contender computes."""
    found = {}
    for contender in contenders(rig):
        with contender() as steps:
            found |= {name: step() for name, step in steps.items()}
    return found


def test_every_contender_changes_the_output_in_its_own_way(rig: Rig) -> None:
    found = outputs(rig)
    different = [found[name] for name in (BARE, OURS, CONTROLNET, IP_ADAPTER, BOTH)]
    assert all(torch.isfinite(out).all() for out in different)
    assert all(not torch.allclose(a, b, atol=1e-3) for i, a in enumerate(different) for b in different[:i])
    assert torch.equal(found[FIRST], found[OURS])


def test_nothing_is_left_in_the_unet(rig: Rig) -> None:
    found = outputs(rig)
    assert torch.equal(found[BARE], found[AGAIN])
    assert torch.equal(found[BARE], outputs(rig)[BARE])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in rig.unet.modules())


def test_meter_reads_the_touched_layers_alone(rig: Rig) -> None:
    """On a clock that ticks once a reading, each touched layer takes one tick: conv_in and every cross-attention."""
    ticks = iter(range(10**6))
    meter = Meter(rig.unet, Clock("ticks", lambda: next(ticks)))
    run_rounds(contenders(rig, meter), 2, Clock("none", lambda: 0.0))
    sites = sum(name.endswith("attn2") for name, _ in rig.unet.named_modules())
    assert meter.seconds == {name: [sites + 1] * 2 for name in (BARE, OURS, AGAIN)}


def test_meter_counts_what_the_session_adds(rig: Rig) -> None:
    """A hand that every hook of the session moves: no move is outside the meter."""
    now = [0.0]

    def slow(original: Callable[..., Any]) -> Callable[..., Any]:
        def hook(*args: Any) -> Any:
            now[0] += 1
            return original(*args)

        return hook

    meter = Meter(rig.unet, Clock("hand", lambda: now[0]))
    with session(rig.unet, rig.plan):
        for name, module in rig.unet.named_modules():
            if name:  # the UNet's own hook reads the call; it belongs to no layer
                for hooks in (module._forward_pre_hooks, module._forward_hooks):
                    for key, original in hooks.items():
                        hooks[key] = slow(original)
        meter.around(OURS, rig.step)()
    assert meter.seconds == {OURS: [now[0]]}
    assert now[0] > 0


def seconds(ours: float) -> dict[str, list[float]]:
    names = {BARE: 9.0, FIRST: 12.0, OURS: ours, CONTROLNET: 13.0, IP_ADAPTER: 10.5, BOTH: 14.0, ENCODERS: 2.0, AGAIN: 11.0}
    return {name: [value] * 2 for name, value in names.items()}


def test_table_is_in_bare_steps() -> None:
    result = summarise("unet-step-sd15", "", "", seconds(10.1), {})
    cells = {row[0]: row[1] for row in result.tables[0].rows}
    assert cells[BARE] == "1"
    assert (cells[AGAIN], cells[OURS], cells[CONTROLNET], cells[BOTH]) == ("1.222", "1.010", "1.300", "1.400")
    assert cells["reference + blueprint, a whole picture of 20 steps"] == "1.030"  # (2 + 12 + 19 * 10.1) / 200, rounded
    assert COUNTED not in cells


def test_limit_is_checked_on_the_touched_layers_where_they_were_measured() -> None:
    inner = {BARE: [1.0, 1.0], AGAIN: [1.2, 1.2], OURS: [1.2, 1.4]}
    result = summarise("unet-step-sd15", "", "", seconds(15.0), inner)
    assert result.gates[0].value == pytest.approx(1.02)
    assert f"{OURS}, touched layers only" in result.samples


@pytest.mark.parametrize(("ours", "holds"), [(10.2, True), (10.3, False)])
def test_limit_on_whole_steps(ours: float, holds: bool) -> None:
    assert summarise("unet-step-sd15", "", "", seconds(ours), {}).gates[0].holds is holds


def test_measure_writes_down_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(unet_step.networks.SHAPES, "small", SHAPE)
    result = unet_step.measure("small", "cpu", 2)
    assert len(result.samples[OURS]) == 2
    assert "64 px, one picture, float32 on CPU" in result.about
    assert "257 image tokens" in result.about
