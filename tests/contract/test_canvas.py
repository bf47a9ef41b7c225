"""A canvas keeps the contract on every host: the context clean before each call, found after it, and the same picture everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lib_refonly.conditioning.canvas import CleanContext
from lib_refonly.conditioning.plan import ImagePrompt, ImageTokens, InputFeature, Plan
from lib_refonly.errors import BadSettings
from lib_refonly.hosts.context_reuse import ContextReuse
from lib_refonly.hosts.noise import Noise
from lib_refonly.hosts.session import Session
from lib_refonly.hosts.stand_in import Prediction
from tests.contract.conftest import noise, subject_named
from tests.contract.test_contract import hooks
from tests.contract.unets import WIDTH, Subject

SIZE = (16, 24)
X_0 = noise(1, 4, *SIZE, seed=11)
SAMPLE = noise(1, 4, *SIZE, seed=12)
TEXT = noise(1, 7, WIDTH, seed=2)
ALPHAS = torch.linspace(0.9991, 0.0047, 1000)


def target(top: int = 8, left: int = 8) -> Tensor:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[top : top + 8, left : left + 8] = True
    return mask


def canvas(**more: Any) -> Plan:
    return Plan(canvas=CleanContext(X_0, target(), **more))


def seen(subject: Subject, session: Session, *calls: tuple[Tensor, float]) -> tuple[list[Tensor], list[Tensor]]:
    """What conv_in was handed at each call, and what the UNet answered."""
    handed: list[Tensor] = []
    hook = subject.conv_in.register_forward_pre_hook(lambda _, args: handed.append(args[0]))
    with session:
        out = [subject.call(sample, t, TEXT.expand(len(sample), -1, -1)) for sample, t in calls]
    hook.remove()
    return handed, out


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
def test_the_context_is_clean_before_and_found_after(subject: Subject, predicts: Prediction) -> None:
    session = Session(subject.session(subject.unet, Plan()).anatomy, canvas(), noise=Noise(ALPHAS, predicts))
    (handed, *_), (out, *_) = seen(subject, session, (SAMPLE, 700.0))
    assert torch.equal(handed, torch.where(target(), SAMPLE, X_0))
    a, s = ALPHAS[700].sqrt(), (1 - ALPHAS[700]).sqrt()
    found = (SAMPLE - s * out) / a if predicts == "epsilon" else a * SAMPLE - s * out
    torch.testing.assert_close(found[..., ~target()], X_0[..., ~target()], rtol=0, atol=1e-4)
    assert torch.equal(out[..., target()], subject.call(handed, 700.0, TEXT)[..., target()])


def test_it_leaves_nothing(subject: Subject) -> None:
    base = subject.call(SAMPLE, 700.0, TEXT)
    session = subject.session(subject.unet, canvas(reuse=2))
    seen(subject, session, (SAMPLE, 700.0), (SAMPLE, 650.0))
    with pytest.raises(ZeroDivisionError), session:
        raise ZeroDivisionError
    assert torch.equal(subject.call(SAMPLE, 700.0, TEXT), base)
    assert hooks(subject.unet) == 0


def test_a_batch_is_its_rows(subject: Subject) -> None:
    pictures = torch.cat([X_0, X_0.flip(-1)])
    samples = torch.cat([SAMPLE, SAMPLE.flip(-2)])
    plan = Plan(canvas=CleanContext(pictures, target()))
    (_, (both,)) = seen(subject, subject.session(subject.unet, plan), (samples.repeat(2, 1, 1, 1), 500.0))
    for row in range(4):
        one = Plan(canvas=CleanContext(pictures[row % 2, None], target()))
        (_, (alone,)) = seen(subject, subject.session(subject.unet, one), (samples[row % 2, None], 500.0))
        torch.testing.assert_close(both[row, None], alone, rtol=0, atol=1e-4)


def test_what_is_kept_is_what_the_whole_canvas_gives(subject: Subject) -> None:
    """With the same time, and nothing changed in the context, the target alone is painted as in the whole canvas."""
    other = torch.where(target(), noise(1, 4, *SIZE, seed=13), SAMPLE)
    exact = seen(subject, subject.session(subject.unet, canvas()), (SAMPLE, 500.0))[1][0]
    handed, (first, again) = seen(subject, subject.session(subject.unet, canvas(reuse=2)), (SAMPLE, 500.0), (SAMPLE, 500.0 + 1e-4))
    _, (_, changed) = seen(subject, subject.session(subject.unet, canvas(reuse=2)), (SAMPLE, 500.0), (other, 500.0 + 1e-4))
    assert torch.equal(first, exact)
    assert handed[1].shape[-2:] == (8, 8)
    torch.testing.assert_close(again, exact, rtol=0, atol=1e-3)
    whole = seen(subject, subject.session(subject.unet, canvas()), (other, 500.0))[1][0]
    assert (changed - whole).abs().mean() < 0.5 * (exact - whole).abs().mean()


def test_it_is_computed_anew_as_often_as_asked(subject: Subject) -> None:
    rows = SAMPLE.repeat(2, 1, 1, 1)
    calls = [(SAMPLE, 900.0), (rows, 900.0), (SAMPLE, 800.0), (rows, 800.0), (SAMPLE, 700.0), (rows, 700.0)]
    handed, _ = seen(subject, subject.session(subject.unet, canvas(reuse=2)), *calls)
    assert [x.shape[-1] for x in handed] == [24, 24, 8, 8, 24, 24]
    handed, _ = seen(subject, subject.session(subject.unet, canvas(reuse=2)), (SAMPLE, 900.0), (rows, 800.0))
    assert [x.shape[-1] for x in handed] == [24, 24]  # nothing was kept for two rows


def test_between_two_whole_steps_it_goes_where_they_point(subject: Subject) -> None:
    """In small steps: the time embedding turns with one radian a t, and random weights smooth nothing."""

    def last(reuse: int, *times: float) -> Tensor:
        return seen(subject, subject.session(subject.unet, canvas(reuse=reuse)), *((SAMPLE, t) for t in times))[1][-1][..., target()]

    exact, held = last(1, 500.0), last(2, 500.25, 500.0)
    pointed = last(2, 500.75, 500.5, 500.25, 500.0)
    assert (pointed - exact).abs().mean() < 0.5 * (held - exact).abs().mean()
    assert torch.equal(last(2, 500.75, 500.5, 500.25, 501.0), last(2, 500.25, 501.0)), "back in time it points nowhere"


@pytest.mark.parametrize(("reuse", "wholes"), [(2, "101010101010"), (3, "100100010001"), (5, "100001000001")])
def test_in_the_second_half_a_third_more_go_by_a_whole_step(subject: Subject, reuse: int, wholes: str) -> None:
    handed, _ = seen(subject, subject.session(subject.unet, canvas(reuse=reuse)), *((SAMPLE, 950.0 - 80 * step) for step in range(12)))
    assert "".join("1" if x.shape[-1] == 24 else "0" for x in handed) == wholes


def test_no_line_leads_to_a_variance_below_zero() -> None:
    def spread(by: float) -> Tensor:
        """A canvas whose context has this standard deviation."""
        return torch.where(target(), SAMPLE, by * (X_0 - X_0[..., ~target()].mean()) / X_0[..., ~target()].std(correction=0))

    with reused(nn.Sequential(nn.GroupNorm(1, 4)), 3) as at:
        for t, by in ((900.0, 4.0), (850.0, 0.0), (800.0, 0.0), (750.0, 2.0), (700.0, 0.0)):
            at(t, spread(by))
        pointed = at(650.0, spread(0.0))  # two thirds further; a line through 16 and 4 leads to -4
        torch.testing.assert_close(pointed, at(600.0, spread(2.0 * 0.5 ** (2 / 3))), rtol=0, atol=1e-5)


@contextmanager
def reused(layers: nn.Module, reuse: int) -> Iterator[Callable[[float, Tensor], Tensor]]:
    """These layers in the place of a UNet: what they give for the target."""
    kept, handles = ContextReuse(layers, CleanContext(X_0, target(), reuse=reuse)), list[Any]()
    kept.install(handles.append)

    @torch.no_grad()
    def at(t: float, x: Tensor) -> Tensor:
        box = kept.begin(1, torch.tensor(t), exact=False)
        out = layers(x if box is None else box.cut(x))
        kept.end()
        return out[..., target()] if box is None else out.flatten(-2)

    yield at
    for handle in handles:
        handle.remove()


class _Beside(nn.Conv2d):
    """A convolution and a LoRA beside it, as A1111 computes it with its "old method"."""

    def __init__(self) -> None:
        super().__init__(4, 4, 3, padding=1)
        self.lora = (nn.Sequential(nn.Conv2d(4, 2, 3, padding=1), nn.Conv2d(2, 4, 1)),)  # none of the UNet's modules

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + self.lora[0](input)


class _Otherwise(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return torch.convolution(input, self.weight, self.bias, (1, 1), (1, 1), (1, 1), False, (0, 0), 1)


_PADDED: Any = {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "padding": 1}


@pytest.mark.parametrize(("layer", "kept"), [(_Beside(), True), (nn.Conv2d(**_PADDED, padding_mode="circular"), False), (_Otherwise(**_PADDED), False)])
def test_the_border_is_that_of_the_whole_canvas(layer: nn.Module, kept: bool) -> None:
    """A LoRA beside a convolution; a WebUI's tiling and a convolution of another make, where nothing can be kept."""
    with reused(nn.Sequential(layer), 2) as at:
        exact = at(900.0, SAMPLE)
        torch.testing.assert_close(at(800.0, SAMPLE), exact, rtol=0, atol=1e-5)
    other = torch.where(target(), SAMPLE, X_0)
    with reused(nn.Sequential(layer), 2) as at:
        at(900.0, SAMPLE)
        assert torch.allclose(at(800.0, other), exact, atol=1e-5) == kept, "the context of the step before"


def test_masks_and_lines_lie_where_they_lie(subject: Subject) -> None:
    """A reference and lines over the whole canvas, of which a step computes the target only."""
    mask = torch.zeros(2 * SIZE[0], 2 * SIZE[1])
    mask[:, 20:] = 1
    channels = int(subject.conv_in.out_channels)  # type: ignore[arg-type]
    beside = Plan((ImagePrompt((ImageTokens(noise(1, 5, WIDTH, seed=5), mask=mask),)),), (InputFeature(noise(1, channels, *SIZE, seed=6), mask=mask),))
    exact = seen(subject, subject.session(subject.unet, canvas() + beside), (SAMPLE, 500.0))[1][0]
    plain = seen(subject, subject.session(subject.unet, canvas()), (SAMPLE, 500.0))[1][0]
    _, (_, again) = seen(subject, subject.session(subject.unet, canvas(reuse=2) + beside), (SAMPLE, 500.0), (SAMPLE, 500.0 + 1e-4))
    assert (exact - plain)[..., target()].abs().max() > 1e-2
    torch.testing.assert_close(again, exact, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["ldm-sd15", "ldm-sd21", "forge-sd15", "forge-sd21"])
@pytest.mark.parametrize("reuse", [1, 2])
def test_hosts_agree(name: str, reuse: int) -> None:
    calls = (SAMPLE, 700.0), (SAMPLE * 0.9, 650.0)
    subjects = subject_named(name), subject_named(f"diffusers-{name.split('-')[1]}")
    ours, theirs = (seen(one, one.session(one.unet, canvas(reuse=reuse)), *calls)[1] for one in subjects)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-3)


def test_an_inpainting_checkpoint_s_channels_stay() -> None:
    context = CleanContext(X_0, target())
    nine = noise(2, 9, *SIZE)
    assert torch.equal(context.clean(nine)[:, 4:], nine[:, 4:])
    assert torch.equal(context.clean(nine)[:, :4], torch.where(target(), nine[:, :4], X_0))


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(BadSettings, match="no panel|No panel"):
        CleanContext(X_0, torch.zeros(SIZE, dtype=torch.bool))
    with pytest.raises(BadSettings, match="192x128 px, but this pass paints 64x64 px"):
        CleanContext(X_0, target()).clean(noise(1, 4, 8, 8))
    one = canvas()
    with pytest.raises(BadSettings, match="one canvas"):
        one.__add__(canvas())


@pytest.mark.parametrize(("mask", "box"), [(target(), (8, 8, 8, 8)), (target(3, 9), (0, 8, 16, 16)), (torch.ones(SIZE, dtype=torch.bool), None)])
def test_the_box_lies_on_the_coarsest_grid(mask: Tensor, box: tuple[int, ...] | None) -> None:
    found = CleanContext(X_0, mask).box()
    assert (None if found is None else (found.top, found.left, found.height, found.width)) == box
