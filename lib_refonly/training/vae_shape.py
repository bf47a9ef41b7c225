"""How the small VAE is begun and finished: soft norms and an identity start.

A narrow VAE in ldm's anatomy has a flaw that a wide one hides. ldm fixes 32 groups, so 64 channels leave two to a group, and GroupNorm takes
the mean and the size of every pair away: a flat colour cannot pass, and what does pass depends on everything else in the picture. Two measures,
both exact in the finished file:

- `soften`: train with GroupNorm's eps at 16 instead of 1e-6 (and its scale at 4), so that the norm is nearly linear for values of about one.
  `fold` then moves the factor into the convolutions before each norm: the same function with ldm's own eps (a norm of k*x with eps k^2*e equals
  the norm of x with e).
- `identity_start`: the network begins as "mean colour of each 8x8 patch", carried in pairs (v, -v) whose group mean is nought, so training
  starts with right colours and has only the shapes to learn.

`normalise_latents` gives every latent channel mean 0 and standard deviation 1/scaling_factor by way of the two 1x1 convolutions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

LDM_EPS = 1e-6
SOFT_EPS = 16.0


def norms(vae: Any) -> list[nn.GroupNorm]:
    return [m for m in vae.modules() if isinstance(m, nn.GroupNorm)]


def soften(vae: Any, eps: float = SOFT_EPS) -> None:
    for norm in norms(vae):
        norm.eps = eps


@torch.no_grad()
def fold(vae: Any) -> None:
    """Turn a softened VAE into the same function with ldm's eps, in place."""
    (eps,) = {norm.eps for norm in norms(vae)}
    k = (LDM_EPS / eps) ** 0.5
    for half in (vae.encoder, vae.decoder):
        _scale(half.conv_in, k)
        for name, module in half.named_modules():
            if name.endswith(("conv1", "conv2", "to_out.0")):
                _scale(module, k)
            elif name.endswith(("conv_shortcut", "samplers.0.conv")):
                module.bias.mul_(k)  # its input already carries the factor
    soften(vae, LDM_EPS)


def _scale(layer: nn.Module, k: float) -> None:
    layer.weight.mul_(k)  # type: ignore[operator]
    layer.bias.mul_(k)  # type: ignore[operator]


@torch.no_grad()
def identity_start(vae: Any, quiet: float = 0.1) -> None:
    """Begin a softened VAE as the mean colour of each patch; every learnt branch starts `quiet` times its usual size. In place."""
    for norm in norms(vae):
        norm.weight.fill_(norm.eps**0.5)
    for half in (vae.encoder, vae.decoder):
        for name, module in half.named_modules():
            if name.endswith(("conv2", "to_out.0")):
                module.weight.mul_(quiet)
            elif name.endswith("conv_shortcut"):
                _pass_through(module, [(0, 0, 1.0)])
            elif name.endswith("downsamplers.0.conv"):
                _pass_through(module, [(y, x, 0.25) for y in (0, 1) for x in (0, 1)])
            elif name.endswith("upsamplers.0.conv"):
                _pass_through(module, [(1, 1, 1.0)])
    colour, code = 3, vae.config["latent_channels"]
    _pairs_in(vae.encoder.conv_in, colour)
    _pairs_in(vae.decoder.conv_in, code)
    _pairs_out(vae.encoder.conv_out, colour, quiet)
    _pairs_out(vae.decoder.conv_out, colour, quiet)
    vae.encoder.conv_out.weight[code:].zero_()  # the variance half is not used: training adds noise of a fixed size
    for conv in (vae.quant_conv, vae.post_quant_conv):
        conv.weight.copy_(torch.eye(conv.weight.shape[0])[..., None, None])
        conv.bias.zero_()


def _pass_through(conv: Any, taps: list[tuple[int, int, float]], quiet: float = 0.05) -> None:
    conv.weight.mul_(quiet)
    conv.bias.zero_()
    for c in range(min(conv.in_channels, conv.out_channels)):
        for y, x, value in taps:
            conv.weight[c, c, y, x] += value


def _pairs_in(conv: Any, count: int) -> None:
    conv.weight[: 2 * count].zero_()
    conv.bias[: 2 * count].zero_()
    for c in range(count):
        conv.weight[2 * c, c, 1, 1], conv.weight[2 * c + 1, c, 1, 1] = 1.0, -1.0


def _pairs_out(conv: Any, count: int, quiet: float) -> None:
    """SiLU(v) - SiLU(-v) = v, so a pair read with opposite signs passes the nonlinearity unchanged."""
    conv.weight.mul_(quiet)
    conv.bias.zero_()
    for c in range(count):
        conv.weight[c].zero_()
        conv.weight[c, 2 * c, 1, 1], conv.weight[c, 2 * c + 1, 1, 1] = 1.0, -1.0


@torch.no_grad()
def normalise_latents(vae: Any, mean: Tensor, std: Tensor) -> None:
    """Fold `(z - mean) / std / scaling_factor` into quant_conv and its inverse into post_quant_conv, in place. mean, std: [latent channels]."""
    code, size = vae.config["latent_channels"], std * vae.config["scaling_factor"]
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:code].div_(size[:, None, None, None])
    quant.bias[:code].sub_(mean).div_(size)
    post.bias.add_(post.weight[:, :, 0, 0] @ mean)
    post.weight.mul_(size[None, :, None, None])
