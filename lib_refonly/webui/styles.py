"""A generation's style: what the panel and the prompt ask for, as a branch beside the UNet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lib_refonly.conditioning.plan import Plan
from lib_refonly.errors import BadModel
from lib_refonly.hosts.anatomy import Anatomy
from lib_refonly.stylecode import shelf
from lib_refonly.stylecode.asked import Named, Style, mixed, read_style
from lib_refonly.stylecode.autoencoder import StyleAutoencoder
from lib_refonly.stylecode.control import Control, StyleRun, style_branch, widths
from lib_refonly.stylecode.hosted import hosted_control
from lib_refonly.stylecode.library import Library
from lib_refonly.stylecode.model import Parts
from lib_refonly.stylecode.settings import StyleSettings

NETWORK = "sref"
_TYPED = re.compile(r"\s*--sref((?:\s+(?!--)[\w+/:=.-]+)+)")
"""Midjourney's way of writing it."""
_NAMED = re.compile(rf"<{NETWORK}:([^:<>]+)((?::[^<>]*)?)>")


@dataclass(frozen=True)
class LoadedStyles:
    """A stylecode model for one UNet class and dtype. `both` is moved as one."""

    file: shelf.StyleFile
    control: Control
    autoencoder: StyleAutoencoder

    @property
    def both(self) -> nn.Module:
        return nn.ModuleList([self.control, self.autoencoder])


_kept: tuple[tuple[object, ...], LoadedStyles] | None = None


def loaded(file: shelf.StyleFile, unet_class: type[nn.Module], dtype: torch.dtype) -> LoadedStyles:
    """In memory; the one that was used last is kept there. Raises: BadModel: damaged, or not for this host."""
    global _kept
    key = (file, file.path.stat().st_mtime, unet_class, dtype)
    if _kept is None or _kept[0] != key:
        _kept = None
        parts = Parts(file.path)
        _kept = key, LoadedStyles(file, hosted_control(parts, unet_class, dtype), parts.read_autoencoder())
    return _kept[1]


@dataclass
class Styles:
    """`asked` by the panel; `prompted` by the prompt of the pass to come: codes or names, and weights."""

    library: Library
    asked: StyleSettings = field(default_factory=StyleSettings)
    prompted: Sequence[tuple[str, float]] = ()
    notes: set[str] = field(default_factory=set)

    def wanted(self, hires_pass: bool) -> tuple[Style, float] | None:
        """The style of a pass and its strength; the panel's and the prompt's are mixed.

        Raises:
            BadSettings: a code is wrong.
        """
        known, named = shelf.known(), self.library.named
        parts = [(read_style(text, known, named), weight) for text, weight in self.prompted if weight]
        if self.asked.enabled and self.asked.strength and self.asked.acts_in(hires_pass):
            parts.append((read_style(self.asked.code, known, named), self.asked.strength))
        if not parts:
            return None
        style = mixed(parts)
        self.notes.update(style.notes)
        return style, max(weight for _, weight in parts)

    def plan(self, wanted: tuple[Style, float], anatomy: Anatomy, unet_class: type[nn.Module], dtype: torch.dtype) -> tuple[Plan, nn.Module]:
        """The plan, and what must lie on the device while it acts.

        Raises:
            BadModel: the code's model is not installed, or goes with another kind of checkpoint.
        """
        style, strength = wanted
        file = shelf.find(style.model)
        if anatomy.middle is None or widths(anatomy) != file.info.widths:
            raise BadModel(f"The code is one of {style.model}, which goes with another kind of network than the one that paints.")
        model = loaded(file, unet_class, dtype)
        run = StyleRun(model.control, model.autoencoder, torch.tensor([list(style.latent)]))
        return Plan(branches=(style_branch(run, strength, self.asked.window, self.asked.reach),)), model.both


class Lending:
    """Keeps modules on the host's device from `begin` to `end`, which may be called twice."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def begin(self, host: Any, sd_model: Any, module: nn.Module) -> None:
        self._stack.enter_context(host.lent(sd_model, module))

    def end(self) -> None:
        self._stack.close()


@dataclass(frozen=True)
class Prompt:
    """A prompt as it is painted and kept. `typed`: Midjourney's way stood in it. `names`: of the library's styles, whose codes stand in it now."""

    text: str
    typed: bool
    names: tuple[str, ...]


def understood(prompt: str, named: Named) -> Prompt:
    """ "--sref CODE" becomes `<sref:CODE:1>`, and names from the library become codes: whoever gets the picture has another library."""
    names: list[str] = []

    def network(match: re.Match[str]) -> str:
        parts = (part.partition("::") for part in match[1].split())
        return " " + "".join(f"<{NETWORK}:{code}:{weight or 1}>" for code, _, weight in parts)

    def coded(match: re.Match[str]) -> str:
        code = named(match[1])
        if code is None:
            return match[0]
        names.append(match[1])
        return f"<{NETWORK}:{code}{match[2]}>"

    typed = _TYPED.sub(network, prompt)
    return Prompt(_NAMED.sub(coded, typed), typed != prompt, tuple(names))
