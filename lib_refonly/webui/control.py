"""A1111's ControlNet extension (Mikubill's) on a ONE-PIC canvas: its networks are called for the target panel alone. Forge's family: `hosts.control.narrow`."""

from __future__ import annotations

from typing import Any

from torch import nn

from lib_refonly.conditioning.canvas import Box
from lib_refonly.hosts.control import NarrowedNetwork

_ADAPTER = "T2I_Adapter"


def narrowed(p: Any, box: Box) -> list[NarrowedNetwork]:
    """Hooks on the networks of a run's units. Says which units are of a kind that can't be narrowed."""
    found: dict[nn.Module, NarrowedNetwork] = {}  # two units may share a network
    for script in getattr(getattr(p, "scripts", None), "alwayson_scripts", ()):
        for unit in getattr(getattr(script, "latest_network", None), "control_params", None) or ():
            network, kind = unit.control_model, unit.control_model_type
            if not (getattr(kind, "is_controlnet", False) or kind.name == _ADAPTER):
                p.comment(f"ONE-PIC: ControlNet's {kind.name} acts on the whole canvas; it can't be kept to the target panel.")
            elif network not in found:
                found[network] = NarrowedNetwork(network, box, bool(unit.global_average_pooling))
    return list(found.values())
