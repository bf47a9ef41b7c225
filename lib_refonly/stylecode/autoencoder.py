"""The style autoencoder: a picture's features -> 20 numbers -> the hidden state that the control module begins with.

StyleCodes (paper, section 3; released code, `models/controlnet.py`). Two things differ from the paper, as in the released code: the attention that
gathers the features has neither residual nor norm, and the decoder has 2 layers, not 3. Attribute names are those of the released weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

LATENT = 20
_POSITIONS = 5000


@dataclass(frozen=True)
class AutoencoderShape:
    """input_dim: width of the vision model's states; output_dim: channels of the UNet's middle block."""

    input_dim: int = 768
    output_dim: int = 1280
    d_model: int = 512
    heads: int = 4
    encoder_layers: int = 3
    decoder_layers: int = 2
    decoder_ff: int = 2048
    latent_dim: int = LATENT


class StyleAutoencoder(nn.Module):
    """`encode` and `decode` are the two halves. In eval mode unless trained: the decoder has dropout, which the released pipeline leaves on."""

    def __init__(self, shape: AutoencoderShape) -> None:
        super().__init__()
        width = shape.d_model
        self.shape = shape
        self.latent_init = nn.Parameter(torch.randn(1, width))
        self.tgt_init = nn.Parameter(torch.randn(1, width))
        self.input_proj = nn.Linear(shape.input_dim, width)
        attention = (nn.MultiheadAttention(width, shape.heads, batch_first=True) for _ in range(shape.encoder_layers))
        self.attention_layers = nn.ModuleList(attention)
        self.latent_proj = nn.Linear(width, shape.latent_dim)
        self.latent_norm = nn.LayerNorm(shape.latent_dim)
        self.latent_to_d_model = nn.Linear(shape.latent_dim, width)
        layer = nn.TransformerDecoderLayer(width, shape.heads, shape.decoder_ff, batch_first=True)
        self.transformer_decoder = nn.TransformerDecoder(layer, shape.decoder_layers)
        self.output_proj = nn.Linear(width, shape.output_dim)

    def encode(self, states: Tensor) -> Tensor:
        """Vision states [rows, n, input_dim] -> latents [rows, latent_dim]."""
        tokens = self.input_proj(states)
        tokens = tokens + positions(tokens.shape[1], tokens.shape[2]).to(tokens)
        query = self.latent_init.expand(len(states), 1, -1)
        for layer in self.attention_layers:
            query = layer(query, tokens, tokens, need_weights=False)[0]
        return self.latent_norm(self.latent_proj(query[:, 0]))

    def decode(self, latents: Tensor, height: int, width: int) -> Tensor:
        """Latents [rows, latent_dim] -> [rows, output_dim, height, width]; position y * width + x."""
        memory = self.latent_to_d_model(latents)[:, None]
        target = self.tgt_init.expand(len(latents), height * width, -1)
        target = target + positions(height * width, target.shape[-1]).to(target)
        out = self.output_proj(self.transformer_decoder(target, memory))
        return out.transpose(1, 2).reshape(len(latents), -1, height, width)


def positions(count: int, width: int) -> Tensor:
    """The sinusoidal table, [count, width]: even columns sines, odd ones cosines.

    Raises:
        ValueError: more than the released table holds.
    """
    if count > _POSITIONS:
        raise ValueError(f"The style decoder knows {_POSITIONS} places; {count} are asked for.")
    place = torch.arange(count, dtype=torch.float32)[:, None]
    turn = place * torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))
    return torch.stack((turn.sin(), turn.cos()), -1).reshape(count, width)
