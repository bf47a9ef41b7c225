"""A control module for a WebUI: blocks of the host's own UNet class. Without diffusers, which A1111 does not have."""

from __future__ import annotations

import torch
from torch import nn

from lib_refonly.errors import BadModel
from lib_refonly.refonly.hosted import host_params
from lib_refonly.refonly.ldm_keys import UNET, unet_names
from lib_refonly.refonly.loader import filled
from lib_refonly.stylecode.control import Control, control_of_ldm
from lib_refonly.stylecode.model import Parts


def hosted_control(parts: Parts, unet_class: type[nn.Module], dtype: torch.dtype) -> Control:
    """The control module, in eval mode, on the CPU until somebody moves it. The style autoencoder is the same everywhere: `Parts.read_autoencoder`.

    Raises:
        BadModel: the weights do not fit, or the host's class can't be built so.
    """
    config = dict(parts.info.unet) | {"use_linear_projection": True}
    names = {new.removeprefix(UNET): old for new, old in unet_names(config, parts.blocks).items()}
    try:
        with torch.device("meta"):
            unet = unet_class(**host_params(unet_class, config))
        blocks = nn.Module()
        blocks.middle_block, blocks.output_blocks = unet.middle_block, unet.output_blocks
        filled(blocks, parts.blocks.renamed(names), "cpu", dtype)
    except Exception as error:  # whatever a config makes the host's class or a library raise
        raise BadModel(f"{parts.path.name} does not fit this WebUI's network: {str(error).splitlines()[0][:200]}") from error
    return control_of_ldm(blocks.middle_block, blocks.output_blocks, parts.read_mixers(dtype)).eval()  # type: ignore[arg-type]
