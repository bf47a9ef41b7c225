"""The graphics card's memory: what the WebUI's models hold of it is given to a training, and taken back for the next picture."""

from __future__ import annotations

import sys
from typing import Any

from lib_refonly.webui.forge import memory_management

_PAINTING = (
    "The WebUI is painting, so the graphics card's memory can't be given free now. Press the button at the top of this page when the picture is finished."
)
_FREED = "{:.1f} GB of the graphics card's memory were given free: {:.1f} of {:.1f} GB are free now. The checkpoint comes back with the next picture."
_HELD = "Nothing could be given free on the graphics card: {:.1f} of {:.1f} GB are free. Close other programs that use it if the training runs out of memory."
_NOTHING = 0.05
"""GB below which nothing was won."""
_away = False


def make_room() -> str:
    """Give free what can be. What came of it, measured, in a sentence; "" without a graphics card. Never in the middle of a picture."""
    from modules.call_queue import queue_lock

    before = _free()
    if before is None:
        return ""
    if not queue_lock.acquire(blocking=False):
        return _PAINTING
    try:
        _unload()
    finally:
        queue_lock.release()
    free, total = _free() or before
    won = free - before[0]
    return _FREED.format(won, free, total) if won >= _NOTHING else _HELD.format(free, total)


def take_back() -> None:
    """Before a picture: AUTOMATIC1111 would paint with a checkpoint that lies elsewhere. (Forge's family moves its own back by itself.)"""
    global _away
    if not _away:
        return
    from modules import sd_models

    _away = False
    model = sd_models.model_data.sd_model
    if model is not None:
        sd_models.send_model_to_device(model)


def _free() -> tuple[float, float] | None:
    """GB that are free, and that there are, on the device that is painted on. None: it is no graphics card that tells."""
    import torch
    from modules import devices

    device = torch.device(devices.device)
    if device.type != "cuda" or not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info(device)
    return free / 1e9, total / 1e9


def _unload() -> None:
    global _away
    if "modules_forge" in sys.modules:
        manager = memory_management()
        manager.unload_all_models()
        manager.soft_empty_cache()
        return
    from modules import devices, sd_models

    data: Any = sd_models.model_data
    loaded = [*getattr(data, "loaded_sd_models", ())] or [data.sd_model]
    _away = data.sd_model is not None
    for model in loaded:
        sd_models.send_model_to_cpu(model)  # none is nothing to it
    devices.torch_gc()
