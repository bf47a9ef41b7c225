"""Which stylecode model this WebUI makes codes with."""

from __future__ import annotations

from lib_refonly.errors import BadModel
from lib_refonly.stylecode import shelf
from lib_refonly.stylecode.codes import CodeModel
from lib_refonly.webui.host import host_of


def usual() -> CodeModel | None:
    """The first installed model's that goes with the loaded checkpoint. None: there is none, and `shelf.find` chooses."""
    from modules import sd_models

    from lib_refonly.stylecode.control import widths

    sd_model = sd_models.model_data.sd_model
    try:
        anatomy = host_of(sd_model).checkpoint(sd_model).anatomy()
    except BadModel:  # nothing is loaded yet, or FLUX, with which no model goes
        return None
    wanted = None if anatomy.middle is None else widths(anatomy)
    return next((file.info.code for file in shelf.files() if file.info.widths == wanted), None)
