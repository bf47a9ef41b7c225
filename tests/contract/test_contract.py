"""The contract that every host keeps (docs/architecture.md), run on each of them."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from lib_refonly.conditioning.plan import COND, PARTIAL, UNCOND, ImagePrompt, ImageTokens, InputFeature, Plan, Projection, Window
from lib_refonly.errors import BadModel, BadSettings
from lib_refonly.hosts.anatomy import Site
from tests.contract.conftest import noise, subject_named
from tests.contract.unets import WIDTH, Subject

CLOSE = {"rtol": 0, "atol": 2e-5}


def prompt(*tokens: Tensor, **settings: object) -> ImagePrompt:
    return ImagePrompt(tuple(ImageTokens(t) for t in tokens), **settings)  # type: ignore[arg-type]


def hooks(module: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs")
    return sum(len(getattr(m, kind)) for m in module.modules() for kind in kinds)


def sites(subject: Subject) -> tuple[Site, ...]:
    return subject.session(subject.unet, Plan()).anatomy.sites


def run(subject: Subject, plan: Plan, sample: Tensor, text: Tensor, t: float = 500.0, roles: tuple[str, ...] = (COND,)) -> Tensor:
    with subject.session(subject.unet, plan) as session:
        session.roles = roles
        return subject.call(sample, t, text)


def test_nothing_to_inject_is_the_base_bit_for_bit(subject: Subject, sample: Tensor, text: Tensor, tokens: Tensor, feature: Tensor) -> None:
    base = subject.call(sample, 500.0, text)
    silent = Plan((prompt(tokens, strength=0.0), ImagePrompt((ImageTokens(tokens, weight=0.0),))), (InputFeature(feature, strength=0.0),))
    for plan in (Plan(), silent):
        with subject.session(subject.unet, plan):
            assert hooks(subject.unet) == 0
            assert torch.equal(subject.call(sample, 500.0, text), base)


def test_leaving_gives_the_unet_back(subject: Subject, sample: Tensor, text: Tensor, tokens: Tensor, feature: Tensor) -> None:
    base, modules, before = subject.call(sample, 500.0, text), [id(m) for m in subject.unet.modules()], set(vars(subject.unet))
    inside = run(subject, Plan((prompt(tokens),), (InputFeature(feature),)), sample, text)
    assert (inside - base).abs().max() > 1e-2
    assert torch.equal(subject.call(sample, 500.0, text), base)
    assert hooks(subject.unet) == 0
    assert [id(m) for m in subject.unet.modules()] == modules
    assert set(vars(subject.unet)) == before


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_an_exception_inside_leaves_nothing_behind(subject: Subject, place: str, sample: Tensor, text: Tensor, tokens: Tensor, feature: Tensor) -> None:
    base, everything = subject.call(sample, 500.0, text), sites(subject)
    broken = {"first": subject.conv_in, "middle": everything[len(everything) // 2].attention, "last": everything[-1].to_out}[place]

    def fail(*_: object) -> None:
        raise InterruptedError(place)

    handle = broken.register_forward_pre_hook(fail)
    try:
        with pytest.raises(InterruptedError, match=place):
            run(subject, Plan((prompt(tokens),), (InputFeature(feature),)), sample, text)
    finally:
        handle.remove()
    assert hooks(subject.unet) == 0
    assert torch.equal(subject.call(sample, 500.0, text), base)


def test_replacing_at_full_strength_is_the_unet_with_the_tokens_as_its_context(subject: Subject, sample: Tensor, text: Tensor, tokens: Tensor) -> None:
    torch.testing.assert_close(run(subject, Plan((prompt(tokens),)), sample, text), subject.call(sample, 500.0, tokens), **CLOSE)


def test_the_feature_is_added_after_conv_in(subject: Subject, sample: Tensor, text: Tensor, feature: Tensor) -> None:
    def add(_: nn.Module, __: object, out: Tensor) -> Tensor:
        return out + 0.7 * feature

    handle = subject.conv_in.register_forward_hook(add)
    try:
        wanted = subject.call(sample, 500.0, text)
    finally:
        handle.remove()
    torch.testing.assert_close(run(subject, Plan((), (InputFeature(feature, strength=0.7),)), sample, text), wanted, **CLOSE)


def test_a_feature_of_another_size_is_fitted(subject: Subject, sample: Tensor, text: Tensor) -> None:
    """Some samplers take a step at another size."""
    even = torch.ones(1, 32, 8, 8)
    wanted = run(subject, Plan(input_features=(InputFeature(torch.ones(1, 32, 16, 8)),)), sample, text)
    torch.testing.assert_close(run(subject, Plan(input_features=(InputFeature(even),)), sample, text), wanted, **CLOSE)


def test_tokens_of_another_model_are_refused(subject: Subject) -> None:
    with pytest.raises(BadModel, match=f"width 32.*{WIDTH}"):
        subject.session(subject.unet, Plan((prompt(noise(1, 5, 32)),)))


def test_a_batch_equals_single_runs(subject: Subject) -> None:
    samples, text, tokens, features = noise(3, 4, 16, 8), noise(1, 7, WIDTH, seed=2), noise(3, 5, WIDTH, seed=3), noise(3, 32, 16, 8, seed=4)
    plan = Plan((prompt(tokens),), (InputFeature(features),))
    together = run(subject, plan, samples, text.expand(3, -1, -1))
    for i in range(3):
        alone = Plan((prompt(tokens[i : i + 1]),), (InputFeature(features[i : i + 1]),))
        torch.testing.assert_close(together[i : i + 1], run(subject, alone, samples[i : i + 1], text), **CLOSE)


@pytest.mark.parametrize("roles", [(COND, UNCOND), (UNCOND, COND), (UNCOND, PARTIAL, COND)])
def test_each_row_gets_what_is_its_own(subject: Subject, roles: tuple[str, ...]) -> None:
    n, text = 2, noise(1, 7, WIDTH, seed=2)
    samples, tokens, features = noise(n, 4, 16, 8), noise(n, 5, WIDTH, seed=3), noise(n, 32, 16, 8, seed=4)
    plan = Plan((prompt(tokens, strength=0.8),), (InputFeature(features),))
    rows = n * len(roles)
    together = run(subject, plan, torch.cat([samples] * len(roles)), text.expand(rows, -1, -1), roles=roles)
    for chunk, role in zip(together.chunk(len(roles)), roles, strict=True):
        torch.testing.assert_close(chunk, run(subject, plan, samples, text.expand(n, -1, -1), roles=(role,)), **CLOSE)
    base = subject.call(samples, 500.0, text.expand(n, -1, -1))
    torch.testing.assert_close(together.chunk(len(roles))[roles.index(UNCOND)], base, **CLOSE)


def test_rows_that_cannot_be_shared_out_are_refused(subject: Subject, text: Tensor, tokens: Tensor) -> None:
    with pytest.raises(BadSettings, match="3 rows"):
        run(subject, Plan((prompt(tokens),)), noise(3, 4, 16, 8), text.expand(3, -1, -1), roles=(COND, UNCOND))


def test_what_does_not_depend_on_t_is_computed_once(subject: Subject, sample: Tensor, text: Tensor, tokens: Tensor) -> None:
    seen: dict[str, int] = {}
    handles = []
    for site in sites(subject):
        for name, layer in (("k", site.to_k), ("v", site.to_v)):
            count = lambda _, args, key=f"{site.name}.{name}": seen.update({key: seen.get(key, 0) + (args[0].shape[1] == tokens.shape[1])})  # noqa: E731
            handles.append(layer.register_forward_pre_hook(count))
    try:
        with subject.session(subject.unet, Plan((prompt(tokens),))):
            for t in (900.0, 500.0, 100.0):
                subject.call(sample, t, text)
    finally:
        for handle in handles:
            handle.remove()
    assert seen == dict.fromkeys(seen, 1)
    assert len(seen) == 2 * len(sites(subject))


def test_the_window_is_read_off_the_timestep(subject: Subject, sample: Tensor, text: Tensor, tokens: Tensor, feature: Tensor) -> None:
    window = Window(0.25, 0.75)
    plan = Plan((prompt(tokens, window=window),), (InputFeature(feature, window=window),))
    with subject.session(subject.unet, plan):
        for t, acts in ((999.0, False), (800.0, False), (740.0, True), (500.5, True), (260.0, True), (200.0, False), (0.0, False)):
            inside, base = subject.call(sample, t, text), base_of(subject, sample, t, text)
            assert torch.equal(inside, base) != acts


def base_of(subject: Subject, sample: Tensor, t: float, text: Tensor) -> Tensor:
    """The bare UNet's output, from a second UNet of the same weights, so that it can be asked for while a session is open."""
    from tests.contract.unets import SUBJECTS

    if subject.name not in _TWINS:
        _TWINS[subject.name] = SUBJECTS[subject.name]()
    return _TWINS[subject.name].call(sample, t, text)


_TWINS: dict[str, Subject] = {}


@pytest.mark.parametrize("replace", [True, False])
def test_an_all_white_mask_is_no_mask_and_an_all_black_one_the_base(subject: Subject, replace: bool, sample: Tensor, text: Tensor, tokens: Tensor) -> None:
    def masked(value: float) -> Tensor:
        picture = ImageTokens(tokens, mask=torch.full((128, 64), value))
        return run(subject, Plan((ImagePrompt((picture,), replace=replace),)), sample, text)

    torch.testing.assert_close(masked(1.0), run(subject, Plan((prompt(tokens, replace=replace),)), sample, text), **CLOSE)
    torch.testing.assert_close(masked(0.0), subject.call(sample, 500.0, text), **CLOSE)


def test_masks_keep_pictures_apart(subject: Subject, sample: Tensor, text: Tensor) -> None:
    """At the first site, the left half must attend as with one picture alone and the right half as with the other."""
    left = torch.zeros(16, 8)
    left[:, :4] = 1
    one, two = noise(1, 5, WIDTH, seed=5), noise(1, 6, WIDTH, seed=6)
    both = ImagePrompt((ImageTokens(one, mask=left), ImageTokens(two, mask=1 - left)))
    site = sites(subject)[0]
    grid = (8, 4) if "sdxl" in subject.name else (16, 8)

    def attended(p: ImagePrompt) -> Tensor:
        caught: list[Tensor] = []
        with subject.session(subject.unet, Plan((p,))):
            handle = site.to_out.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
            try:
                subject.call(sample, 500.0, text)
            finally:
                handle.remove()
        return caught[0].unflatten(1, grid)

    half = grid[1] // 2
    mixed = attended(both)
    torch.testing.assert_close(mixed[:, :, :half], attended(prompt(one))[:, :, :half], **CLOSE)
    torch.testing.assert_close(mixed[:, :, half:], attended(prompt(two))[:, :, half:], **CLOSE)


def test_several_pictures_are_one_attention_and_weights_share_it_out(subject: Subject, sample: Tensor, text: Tensor) -> None:
    one, two = noise(1, 5, WIDTH, seed=5), noise(1, 6, WIDTH, seed=6)
    side_by_side = subject.call(sample, 500.0, torch.cat([one, two], 1))
    torch.testing.assert_close(run(subject, Plan((prompt(one, two),)), sample, text), side_by_side, **CLOSE)

    def weighed(w: float) -> Tensor:
        return run(subject, Plan((ImagePrompt((ImageTokens(one), ImageTokens(two, weight=w))),)), sample, text)

    torch.testing.assert_close(weighed(2.0), subject.call(sample, 500.0, torch.cat([one, two, two], 1)), **CLOSE)
    torch.testing.assert_close(weighed(0.0), subject.call(sample, 500.0, one), **CLOSE)


def test_site_weights_silence_single_sites(subject: Subject, sample: Tensor, text: Tensor, tokens: Tensor) -> None:
    names = [site.name for site in sites(subject)]
    assert len(set(names)) == len(names)
    off = run(subject, Plan((prompt(tokens, site_weights=dict.fromkeys(names, 0.0)),)), sample, text)
    assert torch.equal(off, subject.call(sample, 500.0, text))
    first = names[0].split(".")[0]
    others = [n for n in names if n.split(".")[0] != first]
    by_block = run(subject, Plan((prompt(tokens, site_weights={n.split(".")[0]: 0.0 for n in others}),)), sample, text)
    by_site = run(subject, Plan((prompt(tokens, site_weights=dict.fromkeys(others, 0.0)),)), sample, text)
    assert (by_block - off).abs().max() > 1e-5
    assert torch.equal(by_block, by_site)


def test_an_adapter_brings_its_own_projections(subject: Subject, sample: Tensor, text: Tensor) -> None:
    """Projections equal to the layers' own give the layers' result; their tokens may have another width."""
    tokens = noise(1, 11, WIDTH, seed=3)
    own = {s.name: Projection(s.to_k.weight, s.to_v.weight) for s in sites(subject)}  # type: ignore[arg-type]
    plain = run(subject, Plan((prompt(tokens, replace=False, strength=0.6),)), sample, text)
    torch.testing.assert_close(run(subject, Plan((prompt(tokens, replace=False, strength=0.6, projections=own),)), sample, text), plain, **CLOSE)
    narrow = {s.name: Projection(s.to_k.weight[:, :8], s.to_v.weight[:, :8]) for s in sites(subject)}  # type: ignore[index]
    out = run(subject, Plan((prompt(tokens[..., :8], replace=False, projections=narrow),)), sample, text)
    assert out.isfinite().all()


def test_sessions_nest_in_any_order(subject: Subject, sample: Tensor, text: Tensor, tokens: Tensor, feature: Tensor) -> None:
    plans = [Plan((prompt(tokens, strength=0.9),)), Plan((prompt(noise(1, 4, WIDTH, seed=7), replace=False),)), Plan((), (InputFeature(feature),))]

    def nested(order: list[int]) -> Tensor:
        if not order:
            return subject.call(sample, 500.0, text)
        with subject.session(subject.unet, plans[order[0]]):
            return nested(order[1:])

    wanted = nested([0, 1, 2])
    for order in ([1, 0, 2], [2, 1, 0], [1, 2, 0]):
        torch.testing.assert_close(nested(order), wanted, **CLOSE)
    assert (wanted - nested([0, 2])).abs().max() > 1e-3
    assert hooks(subject.unet) == 0


def test_a_second_size_in_one_session(subject: Subject, text: Tensor, tokens: Tensor) -> None:
    """Hires fix calls the same UNet at two sizes."""
    masked = Plan((ImagePrompt((ImageTokens(tokens, mask=torch.ones(64, 64)), ImageTokens(tokens))),))
    with subject.session(subject.unet, masked):
        for h, w in ((16, 8), (24, 16), (9, 10)):
            small = noise(1, 4, h, w)
            if not subject.name.startswith("diffusers") and (h % 8 or w % 8):
                continue  # ldm's own UNet can't take such sizes
            torch.testing.assert_close(subject.call(small, 500.0, text), base_of(subject, small, 500.0, torch.cat([tokens, tokens], 1)), **CLOSE)


def test_a_lora_inside_a_linear_reaches_the_image_tokens(subject: Subject, sample: Tensor, text: Tensor, tokens: Tensor) -> None:
    """LoRA implementations replace a Linear's forward; the tokens' K must go through it."""
    site = sites(subject)[0]
    linear, plain = site.to_k, run(subject, Plan((prompt(tokens),)), sample, text)
    original = linear.forward
    linear.forward = lambda x: original(x) * 1.5  # type: ignore[method-assign]
    try:
        wanted = subject.call(sample, 500.0, tokens)
        changed = run(subject, Plan((prompt(tokens),)), sample, text)
    finally:
        del linear.forward
    torch.testing.assert_close(changed, wanted, **CLOSE)
    assert (changed - plain).abs().max() > 1e-5


def test_half_precision(subject: Subject, tokens: Tensor, feature: Tensor, sample: Tensor, text: Tensor) -> None:
    """A plan in float32 follows the UNet into half precision."""
    full = run(subject, Plan((prompt(tokens),), (InputFeature(feature),)), sample, text)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = run(subject, Plan((prompt(tokens),), (InputFeature(feature),)), sample, text)
    assert (half.float() - full).norm() / full.norm() < 0.1


def test_a_mask_over_the_text_is_left_alone(text: Tensor, tokens: Tensor, sample: Tensor) -> None:
    """diffusers passes a mask of the text's length; the text must then not be cut."""
    subject = subject_named("diffusers-sd21")
    with subject.session(subject.unet, Plan((prompt(tokens),))):
        masked = subject.unet(sample, torch.tensor(500.0), text, encoder_attention_mask=torch.ones(1, 7), return_dict=False)[0]
    torch.testing.assert_close(masked, subject.call(sample, 500.0, tokens), **CLOSE)


def test_a_session_may_be_left_and_entered_again_but_not_twice_at_a_time(subject: Subject, sample: Tensor, text: Tensor, tokens: Tensor) -> None:
    session = subject.session(subject.unet, Plan((prompt(tokens),)))
    with session:
        wanted = subject.call(sample, 500.0, text)
        with pytest.raises(RuntimeError, match="already"):
            session.__enter__()
    assert hooks(subject.unet) == 0
    with session:
        assert torch.equal(subject.call(sample, 500.0, text), wanted)
    assert hooks(subject.unet) == 0
    assert session.calls == 2


def test_roles_may_be_asked_for_at_each_call(subject: Subject, text: Tensor, tokens: Tensor) -> None:
    """A host that says what the rows are call by call, in uneven parts."""
    samples, plan, asked = noise(3, 4, 16, 8), Plan((prompt(tokens),)), []

    def roles(rows: int) -> tuple[str, ...]:
        asked.append(rows)
        return (COND, COND, UNCOND)[:rows]

    with subject.session(subject.unet, plan) as session:
        session.roles = roles
        together = subject.call(samples, 500.0, text.expand(3, -1, -1))
    assert asked == [3]
    torch.testing.assert_close(together[:2], run(subject, plan, samples[:2], text.expand(2, -1, -1)), **CLOSE)
    torch.testing.assert_close(together[2:], subject.call(samples[2:], 500.0, text), **CLOSE)


def test_each_picture_has_its_own_part_of_the_run_and_its_own_weights_at_sites(subject: Subject, sample: Tensor, text: Tensor, tokens: Tensor) -> None:
    other = noise(1, 5, WIDTH, seed=9)
    both = Plan((ImagePrompt((ImageTokens(tokens, window=Window(0.0, 0.4)), ImageTokens(other, window=Window(0.6, 1.0)))),))
    for t, alone in ((900.0, Plan((prompt(tokens),))), (500.0, Plan()), (100.0, Plan((prompt(other),)))):
        assert torch.equal(run(subject, both, sample, text, t), run(subject, alone, sample, text, t))
    silent = ImageTokens(other, site_weights={site.name: 0.0 for site in sites(subject)})
    half = ImageTokens(other, site_weights={sites(subject)[0].name.partition(".")[0]: 0.0})
    alone = run(subject, Plan((prompt(tokens),)), sample, text)
    assert torch.equal(run(subject, Plan((ImagePrompt((ImageTokens(tokens), silent)),)), sample, text), alone)
    assert not torch.equal(run(subject, Plan((ImagePrompt((ImageTokens(tokens), half)),)), sample, text), alone)


def test_a_session_that_is_done_with_is_freed_at_once(subject: Subject, sample: Tensor, text: Tensor, tokens: Tensor, feature: Tensor) -> None:
    """K and V of every layer go with it. Python looks for cycles by the number of objects, not by what they weigh."""
    gc.disable()
    try:
        session = subject.session(subject.unet, Plan((prompt(tokens),), (InputFeature(feature),)))
        with session:
            subject.call(sample, 500.0, text)
        gone = weakref.ref(session)
        del session
        assert gone() is None
    finally:
        gc.enable()
