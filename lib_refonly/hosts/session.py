"""A session: a plan inside a UNet for the length of a `with`.

It works by module hooks alone, so it composes with whatever else patches the UNet (LoRA in its Linears, another attention function, a
ControlNet that calls the blocks itself, token merging) and leaves nothing behind: no class is touched, no forward replaced, no module added.

Three hooks at each attn2: the layer's own q is caught after to_q; the picture's attention is mixed in just before to_out, so that to_out and
its bias act once; and where the picture replaces the text altogether, the text that the layer would attend to is cut to one token, since its
result is not used. What does not depend on t (K and V of the image tokens at every layer) is computed at the first call and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from lib_refonly.conditioning.attention import attend, mix, picture_bias, token_grid
from lib_refonly.conditioning.plan import COND, ImagePrompt, ImageTokens, InputFeature, Plan, Window, at_site
from lib_refonly.conditioning.rows import Call, Now, per_row, progress_of, spread_roles
from lib_refonly.errors import BadModel
from lib_refonly.hosts.anatomy import Anatomy, Site
from lib_refonly.hosts.branch import BranchInjection
from lib_refonly.hosts.clean_context import CanvasInjection, with_sample
from lib_refonly.hosts.noise import Noise

Roles = Sequence[str] | Callable[[int], Sequence[str]]
"""What the rows of UNet calls are: equal chunks in order, e.g. ("uncond", "cond"), or what says so of the next call's number of rows."""


class Session:
    """Use as a context manager, for one generation. A host that has no safer end than a single UNet call may leave and enter it again around
    each: what was computed once stays. `calls` counts the UNet calls that it has seen.

    noise: how the samples are noised, for a canvas. exact: compute all of a canvas at every step, whatever it asks for; set where something else acts
    that has to see it whole (a side branch has, and a ControlNet).
    """

    def __init__(self, anatomy: Anatomy, plan: Plan, roles: Roles = (COND,), noise: Noise | None = None) -> None:
        self.anatomy, self.plan, self.roles = anatomy, plan.active(), roles
        self.calls = 0
        self.exact = bool(plan.branches)
        self._stack: ExitStack | None = None
        self._now = Now()
        pictures = (picture for prompt in self.plan.image_prompts for picture in prompt.pictures)
        timed = (*self.plan.image_prompts, *self.plan.input_features, *self.plan.branches, *pictures)
        self._timed = any(one.window != Window() for one in timed)
        _check_widths(anatomy, self.plan)
        self._injections = tuple(self._site_injections())
        self._branches = tuple(BranchInjection(self._now, anatomy, branch) for branch in self.plan.branches)
        self._canvas = CanvasInjection(anatomy, self.plan.canvas, noise) if self.plan.canvas else None

    def __enter__(self) -> Session:
        if self._stack is not None:
            raise RuntimeError("This session is already entered")
        with ExitStack() as stack:
            if self.plan:
                self._install(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        stack, self._stack, self._now.call = self._stack, None, None
        if stack is not None:
            stack.close()

    def _site_injections(self) -> Iterator[_SiteInjection]:
        for prompt in self.plan.image_prompts:
            for site in self.anatomy.sites:
                strength = prompt.strength * at_site(prompt.site_weights, site.name)
                if strength and any(picture.weight_at(site.name) for picture in prompt.pictures):
                    yield _SiteInjection(self._now, self.anatomy.context, site, prompt, strength)

    def _install(self, stack: ExitStack) -> None:
        def keep(handle: Any) -> None:
            stack.callback(handle.remove)

        keep(self.anatomy.unet.register_forward_pre_hook(self._begin_call, with_kwargs=True))
        if self._canvas is not None:  # before all that asks a layer for its place in the canvas
            self._canvas.install(keep)
        if self.plan.input_features:
            keep(self.anatomy.conv_in.register_forward_hook(self._add_features))
        for injection in self._injections:
            # A prompt that replaces acts on the text's result, before anything that is added beside it, in whichever order sessions were entered.
            site, first = injection.site, injection.prompt.replace
            keep(site.attention.register_forward_pre_hook(injection.cut_text, with_kwargs=True))
            keep(site.to_q.register_forward_hook(injection.catch_q))
            keep(site.to_out.register_forward_pre_hook(injection.mix_in, prepend=first))
        for branch in self._branches:
            branch.install(keep)

    def _begin_call(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        sample, timestep = self.anatomy.read_call(args, kwargs)
        # Reading the timestep waits for a GPU to catch up: only where a window asks for it.
        progress = progress_of(timestep) if self._timed else 0.0
        roles = self.roles(len(sample)) if callable(self.roles) else self.roles
        given, part = sample, None
        if self._canvas is not None:
            given, box = self._canvas.begin(sample, timestep, self.exact)
            part = box and (box, (sample.shape[-2], sample.shape[-1]))
        self._now.call = Call(spread_roles(roles, len(sample)), given.shape[-2], given.shape[-1], progress, part)
        self.calls += 1
        return None if given is sample else with_sample(args, kwargs, sample, given)

    def _add_features(self, _: nn.Module, __: Any, out: Tensor) -> Tensor:
        call = self._now.get()
        for feature in self.plan.input_features:
            reached = call.reached(feature.roles) if feature.window.holds(call.progress) else []
            if reached:
                out = _add_rows(out, _weighed(feature, call, out), reached)
        return out


_OF_THE_TEXT_S_LENGTH = ("attention_mask", "mask", "value")
"""attn2's keywords for what goes with the text token by token: a mask, Forge's values of their own. The text's length must then stay."""


class _SiteInjection:
    """One image prompt at one attn2."""

    def __init__(self, now: Now, context: str, site: Site, prompt: ImagePrompt, strength: float) -> None:
        self.now, self.context, self.site, self.prompt, self.strength = now, context, site, prompt, strength
        self._pictures = tuple(p for p in prompt.pictures if p.weight_at(site.name) > 0)
        self._kv: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._biases: dict[tuple[Any, ...], tuple[Tensor | None, Tensor | None]] = {}
        self._q: Tensor | None = None

    def _acting(self, call: Call) -> tuple[ImageTokens, ...]:
        if not self.prompt.window.holds(call.progress):
            return ()
        return tuple(p for p in self._pictures if p.window.holds(call.progress))

    def cut_text(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """attn2's context down to one token where nothing of the text's attention is kept."""
        call, prompt = self.now.get(), self.prompt
        if (
            not prompt.replace
            or self.strength != 1
            or any(p.mask is not None for p in self._pictures)
            or any(isinstance(kwargs.get(name), Tensor) for name in _OF_THE_TEXT_S_LENGTH)
            or not self._acting(call)
            or len(call.reached(prompt.roles)) < len(call.roles)
        ):
            return None
        name = self.context
        if isinstance(kwargs.get(name), Tensor):
            return args, kwargs | {name: kwargs[name][:, :1]}
        if len(args) > 1 and isinstance(args[1], Tensor):
            return (args[0], args[1][:, :1], *args[2:]), kwargs
        return None

    def catch_q(self, _: nn.Module, __: Any, q: Tensor) -> None:
        self._q = q

    def mix_in(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        call, q, base = self.now.get(), self._q, args[0]
        self._q = None
        pictures, reached = self._acting(call), call.reached(self.prompt.roles)
        if not pictures or not reached:
            return None
        if q is None:
            raise BadModel(f"The attention {self.site.name} doesn't call its to_q (fused projections?). Undo that first (unfuse_qkv_projections).")
        every = len(reached) == base.shape[0]
        k, v = (per_row(t, reached, base.shape[0]) for t in self._keys_values(pictures, q))
        bias, covered = self._bias(call, q, pictures)
        image = attend(q if every else q[reached], k, v, self.site.heads, bias)
        gate = self.strength if covered is None else (self.strength * covered).to(base)
        if every:
            return (mix(base, image, gate, self.prompt.replace), *args[1:])
        out = base.clone()
        out[reached] = mix(base[reached], image, gate, self.prompt.replace)
        return (out, *args[1:])

    def _keys_values(self, pictures: tuple[ImageTokens, ...], like: Tensor) -> tuple[Tensor, Tensor]:
        key = tuple(map(id, pictures))
        if key not in self._kv:
            tokens = torch.cat([p.tokens for p in pictures], 1).to(like)
            projection = (self.prompt.projections or {}).get(self.site.name)
            if projection is None:
                self._kv[key] = self.site.to_k(tokens), self.site.to_v(tokens)
            else:
                self._kv[key] = tokens @ projection.to_k.to(like).T, tokens @ projection.to_v.to(like).T
        return self._kv[key]

    def _bias(self, call: Call, q: Tensor, pictures: tuple[ImageTokens, ...]) -> tuple[Tensor | None, Tensor | None]:
        key = (call.height, call.width, call.part is None, *map(id, pictures))
        if key not in self._biases:
            plain = all(p.mask is None for p in pictures)
            grid = (1, q.shape[1]) if plain else token_grid(call.height, call.width, q.shape[1])
            lengths, masks = [p.tokens.shape[1] for p in pictures], [None if p.mask is None else call.seen(p.mask) for p in pictures]
            self._biases[key] = picture_bias(lengths, [p.weight_at(self.site.name) for p in pictures], masks, grid, q.device)
        return self._biases[key]


def _weighed(feature: InputFeature, call: Call, like: Tensor) -> Tensor:
    value = call.seen(feature.feature.to(like))
    if value.shape[-2:] != like.shape[-2:]:  # some samplers take steps at other sizes
        value = nn.functional.interpolate(value, size=like.shape[-2:], mode="bilinear", antialias=True)
    if feature.mask is not None:
        mask = call.seen(feature.mask)[None, None].float()
        value = value * nn.functional.interpolate(mask, size=like.shape[-2:], mode="area").to(like)
    return value * feature.strength


def _add_rows(out: Tensor, value: Tensor, reached: list[int]) -> Tensor:
    value = per_row(value, reached, out.shape[0])
    if len(reached) == out.shape[0]:
        return out + value
    out = out.clone()
    out[reached] += value
    return out


def _check_widths(anatomy: Anatomy, plan: Plan) -> None:
    for prompt in plan.image_prompts:
        if prompt.projections is None:
            for picture in prompt.pictures:
                if picture.tokens.shape[-1] != anatomy.width:
                    raise BadModel(
                        f"This image encoder gives tokens of width {picture.tokens.shape[-1]}, but the model's cross-attention reads "
                        f"{anatomy.width}. They belong to different models."
                    )
