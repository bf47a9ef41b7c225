"""A side branch (a stylecode's control module) keeps the contract on every host, and is the same on each."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lib_refonly.conditioning.plan import COND, UNCOND, ImagePrompt, ImageTokens, InputFeature, Plan, SideBranch, Window
from lib_refonly.errors import BadModel
from lib_refonly.stylecode.autoencoder import AutoencoderShape
from lib_refonly.stylecode.codes.known import CodeModel
from lib_refonly.stylecode.control import StyleRun
from lib_refonly.stylecode.hosted import hosted_control
from lib_refonly.stylecode.model import CONTROL, VISION, Parts, StylecodeInfo, on_diffusers, save_stylecode
from lib_refonly.stylecode.network import StyleNetwork
from lib_refonly.stylecode.vision import SiglipStates, VisionShape
from tests.contract.conftest import noise, subject_named
from tests.contract.test_contract import CLOSE, hooks, prompt, run
from tests.contract.unets import Subject, diffusers_unet

_FOLDER = TemporaryDirectory()
LATENT = noise(1, 20, seed=7)


@cache
def style_file(kind: str) -> Path:
    """A random stylecode model for the random UNets of a kind."""
    torch.manual_seed(1)
    config = diffusers_unet(kind).config
    network = StyleNetwork(config, AutoencoderShape(48, config["block_out_channels"][-1], 32, decoder_ff=64))
    vision = SiglipStates(VisionShape(48, 96, 2, 4, 32, 8))
    info = StylecodeInfo(CodeModel(f"random-{kind}"), 128, config, {"heads": 4, "layers": 2})
    tensors = {CONTROL + name: tensor for name, tensor in network.state_dict().items()}
    tensors |= {VISION + name: tensor for name, tensor in vision.state_dict().items()}
    return save_stylecode(tensors, info, Path(_FOLDER.name) / f"{kind}.safetensors")


@cache
def style(name: str) -> StyleRun:
    """The same style for a host, `name` as that of its subject."""
    host, kind = name.split("-")
    if host == "diffusers":
        model = on_diffusers(style_file(kind))
        return StyleRun(model.control, model.autoencoder, LATENT)
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    parts = Parts(style_file(kind))
    return StyleRun(hosted_control(parts, UNetModel, torch.float32), parts.read_autoencoder(), LATENT)


def branch(subject: Subject, **more: Any) -> Plan:
    return Plan(branches=(SideBranch(style(subject.name), **more),))


@pytest.mark.parametrize("size", [(16, 8), (16, 24)])
@pytest.mark.parametrize("name", ["ldm-sd15", "ldm-sd21", "forge-sd15", "forge-sd21"])
def test_hosts_agree(name: str, size: tuple[int, int], text: Tensor) -> None:
    subject, other = subject_named(name), subject_named(f"diffusers-{name.split('-')[1]}")
    sample = noise(2, 4, *size)
    context = text.expand(2, -1, -1)
    ours, theirs = (run(one, branch(one, strength=0.9), sample, context) for one in (subject, other))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_it_acts_and_leaves_nothing(subject: Subject, sample: Tensor, text: Tensor) -> None:
    base = subject.call(sample, 500.0, text)
    assert torch.equal(run(subject, branch(subject, strength=0.0), sample, text), base)
    assert (run(subject, branch(subject), sample, text) - base).abs().max() > 1e-2
    assert torch.equal(subject.call(sample, 500.0, text), base)
    assert hooks(subject.unet) == 0
    assert hooks(style(subject.name).control) == 0


def test_a_latent_that_cannot_be_halved(text: Tensor) -> None:
    """diffusers' UNet takes any size; the control follows it."""
    subject = subject_named("diffusers-sd15")
    sample = noise(1, 4, 13, 10)
    assert run(subject, branch(subject), sample, text).shape == sample.shape


def test_a_batch_is_its_single_runs(subject: Subject, text: Tensor) -> None:
    samples, texts = noise(2, 4, 16, 8), torch.cat([text, noise(1, 7, text.shape[-1], seed=9)])
    both = run(subject, branch(subject), samples, texts)
    for i in range(2):
        torch.testing.assert_close(both[i : i + 1], run(subject, branch(subject), samples[i : i + 1], texts[i : i + 1]), **CLOSE)


def test_only_the_rows_that_it_is_for(subject: Subject, sample: Tensor, text: Tensor) -> None:
    samples, texts = sample.expand(2, -1, -1, -1), text.expand(2, -1, -1)
    plan = branch(subject, roles=frozenset({COND}))
    rows = run(subject, plan, samples, texts, roles=(UNCOND, COND))
    torch.testing.assert_close(rows[:1], subject.call(sample, 500.0, text), **CLOSE)
    torch.testing.assert_close(rows[1:], run(subject, plan, sample, text), **CLOSE)


def test_outside_its_window_it_is_the_base(subject: Subject, sample: Tensor, text: Tensor) -> None:
    plan = branch(subject, window=Window(0.0, 0.4))
    assert torch.equal(run(subject, plan, sample, text, t=100.0), subject.call(sample, 100.0, text))
    assert not torch.equal(run(subject, plan, sample, text, t=900.0), subject.call(sample, 900.0, text))


def test_mask_and_block_weights(subject: Subject, sample: Tensor, text: Tensor) -> None:
    whole = run(subject, branch(subject), sample, text)
    assert torch.equal(run(subject, branch(subject, mask=torch.zeros(32, 16)), sample, text), subject.call(sample, 500.0, text))
    torch.testing.assert_close(run(subject, branch(subject, mask=torch.ones(32, 16)), sample, text), whole, **CLOSE)
    stages = subject.session(subject.unet, Plan()).anatomy.stages
    silent = {stage.name: 0.0 for stage in stages}
    assert torch.equal(run(subject, branch(subject, site_weights=silent), sample, text), subject.call(sample, 500.0, text))
    last = run(subject, branch(subject, site_weights=silent | {stages[-1].name: 1.0}), sample, text)
    assert not torch.allclose(last, whole, atol=1e-3)


def test_beside_a_reference(subject: Subject, sample: Tensor, text: Tensor, tokens: Tensor, feature: Tensor) -> None:
    """Entered one after the other, or in one plan: the same; and each has its part in it."""
    reference = Plan((prompt(tokens),), (InputFeature(feature),))
    together = run(subject, reference + branch(subject), sample, text)
    for alone in (reference, branch(subject)):
        assert (together - run(subject, alone, sample, text)).abs().max() > 1e-3
    with subject.session(subject.unet, branch(subject)):
        torch.testing.assert_close(run(subject, reference, sample, text), together, **CLOSE)


def test_an_exception_inside(subject: Subject, sample: Tensor, text: Tensor) -> None:
    base = subject.call(sample, 500.0, text)
    network: Any = style(subject.name)

    class Breaks:
        begin, mix = network.begin, network.mix

        def block(self, number: int, *given: Tensor) -> Tensor:
            if number == 3:
                raise RuntimeError("inside")
            return network.block(number, *given)

    breaks: Any = Breaks()
    with pytest.raises(RuntimeError, match="inside"):
        run(subject, Plan(branches=(SideBranch(breaks),)), sample, text)
    assert torch.equal(subject.call(sample, 500.0, text), base)
    assert hooks(subject.unet) == 0


def test_a_unet_without_a_middle_that_attends() -> None:
    from diffusers import UNet2DConditionModel

    from lib_refonly.hosts import diffusers as host

    unet = UNet2DConditionModel(block_out_channels=(32, 32), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), mid_block_type=None,
                                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=16, layers_per_block=1)  # fmt: skip
    with pytest.raises(BadModel, match="middle block"):
        host.session(unet, Plan(branches=(SideBranch(style("diffusers-sd15")),)))


def test_it_does_not_outlive_its_session(subject: Subject, sample: Tensor, text: Tensor) -> None:
    assert isinstance(style(subject.name).control, nn.Module)
    assert ImagePrompt((ImageTokens(text),)).active
    with subject.session(subject.unet, branch(subject)) as session:
        subject.call(sample, 500.0, text)
        assert session.calls == 1
    assert hooks(subject.unet) == 0
