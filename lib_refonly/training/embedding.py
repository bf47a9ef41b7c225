"""Train an embedding (textual inversion, Gal et al. 2022) on the built-in small model: a word's own vectors; everything else is frozen.

The file has one tensor, `emb_params` [vectors, width], as kohya's scripts write it; A1111 and diffusers read it. In prompts it is called by its name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib_refonly.imaging.infotext import write_atomically
from lib_refonly.training import vocabulary
from lib_refonly.training.builtin_settings import EmbeddingConfig
from lib_refonly.training.own_pictures import FromPictures

KEY = "emb_params"


class Widened(nn.Module):
    """The text encoder's table of tokens, and the word's vectors behind it."""

    def __init__(self, table: nn.Embedding, vectors: Tensor) -> None:
        super().__init__()
        self.table, self.vectors = table, nn.Parameter(vectors)

    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, torch.cat([self.table.weight, self.vectors.to(self.table.weight.dtype)]))

    @property
    def weight(self) -> Tensor:
        """What transformers asks for its dtype and device."""
        return self.table.weight


class EmbeddingTask(FromPictures):
    """`data`: the pictures' folder; `base`: the folder of the model, which stays as it is."""

    def __init__(self, config: EmbeddingConfig, data: Path, base: Path) -> None:
        super().__init__(config, data, base)
        self.config = config
        table: nn.Embedding = self.text_encoder.get_input_embeddings()
        self.first = table.num_embeddings
        begin = table.weight[self._tokens(config.begin)].detach()
        spread = [row * len(begin) // config.vectors for row in range(config.vectors)]
        apart = 0.1 * table.weight.std() * torch.randn(config.vectors, table.embedding_dim, generator=torch.Generator().manual_seed(0))
        self.text_encoder.set_input_embeddings(Widened(table, begin[spread] + apart))
        self._name = re.compile(rf"(?<!\w){re.escape(config.name)}(?!\w)", re.IGNORECASE)

    @property
    def word(self) -> str:
        return self.config.name

    @property
    def table(self) -> Widened:
        return self.text_encoder.get_input_embeddings()

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def ids(self, texts: Sequence[str]) -> Tensor:
        """As the base's, with the word's own tokens in its places; what is beyond 77 tokens is cut off."""
        plain = vocabulary.ids(self.tokenizer, [""])[0]
        start, end, length = int(plain[0]), int(plain[-1]), len(plain)
        own = list(range(self.first, self.first + self.config.vectors))
        rows = []
        for text in texts:
            parts = [self._tokens(part) for part in self._name.split(text)]
            inner = [token for number, part in enumerate(parts) for token in ([*own, *part] if number else part)][: length - 2]
            rows.append([start, *inner, *[end] * (length - 1 - len(inner))])
        return torch.tensor(rows)

    def without(self, prompts: Sequence[str], noise: Tensor) -> np.ndarray:
        return self.paint([self._name.sub(self.config.begin.replace("\\", ""), prompt) for prompt in prompts], noise)

    def export(self, folder: Path) -> None:
        from safetensors.torch import save

        folder.mkdir(parents=True, exist_ok=True)
        told = {"modelspec.title": self.config.name, "modelspec.trigger_phrase": self.config.name, "ss_steps": str(int(self.done))}
        tensors = {KEY: self.table.vectors.detach().float().cpu().contiguous()}
        write_atomically(folder / f"{self.config.name}.safetensors", save(tensors, told))
