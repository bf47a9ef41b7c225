"""What the extension asks of the WebUI that it runs in. Two answers: `a1111` and `forge`, told apart by what the loaded checkpoint has."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from lib_refonly.conditioning.plan import Plan
from lib_refonly.errors import BadModel
from lib_refonly.hosts.anatomy import Anatomy
from lib_refonly.hosts.stand_in import StandIn
from lib_refonly.refonly.hosted import Latents


@dataclass(frozen=True)
class Checkpoint:
    """The loaded checkpoint. `latents` is None where its VAE is of another kind (Flux, SD 3). `dtype`: what its UNet computes in."""

    name: str
    unet: nn.Module
    anatomy: Callable[[], Anatomy]
    latents: Latents | None
    dtype: torch.dtype


class Attached(Protocol):
    """A plan inside the checkpoint's UNet until `remove`, which may be called twice."""

    @property
    def calls(self) -> int: ...
    def remove(self) -> None: ...


class Host(Protocol):
    def checkpoint(self, sd_model: Any) -> Checkpoint: ...

    def lent(self, sd_model: Any, module: nn.Module) -> AbstractContextManager[None]:
        """The module on the host's device for the length of the block."""
        ...

    def attach(self, p: Any, plan: Plan, stand_in: StandIn | None) -> Attached: ...

    def refuse(self, p: Any, error: Exception) -> Attached:
        """Raise `error` at the next UNet call: the host swallows what hooks raise, and would paint an ordinary picture."""
        ...

    def begin_step(self, attached: Attached, params: Any) -> None:
        """The host's on_cfg_denoiser."""
        ...


def host_of(sd_model: Any) -> Host:
    """Raises: BadModel: no checkpoint is loaded."""
    if hasattr(sd_model, "forge_objects"):
        from lib_refonly.webui.forge import ForgeHost

        return ForgeHost()
    if hasattr(sd_model, "model"):
        from lib_refonly.webui.a1111 import A1111Host

        return A1111Host()
    raise BadModel("No checkpoint is loaded. Choose one at the top of the page.")
