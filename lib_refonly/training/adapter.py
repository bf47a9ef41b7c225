"""Train a RefOnly adapter: K and V of its own for image tokens at every cross-attention, and a blueprint encoder, on a base that stays as it is.

The base still reads its text. The adapter begins as a RefOnly model's image encoder, blueprint encoder and K, with V and the blueprint encoder's
last convolution at nought: at first the base paints what it painted before. Half of the rows have no caption, because painters type little and
a caption would tell the colours that the reference has to tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from lib_refonly.adapters.adapter import Adapter
from lib_refonly.adapters.refonly_adapter import BaseKind, RefOnlyAdapter, make_to_tokens, read_adapter, save_adapter
from lib_refonly.conditioning.plan import ImagePrompt, ImageTokens, InputFeature, Plan, Projection
from lib_refonly.errors import BadSettings
from lib_refonly.hosts.diffusers import anatomy, session
from lib_refonly.refonly.loader import load_refonly
from lib_refonly.training import vocabulary
from lib_refonly.training.refonly import PairConfig, PairTask
from lib_refonly.training.shapes import quick_to_train

FILE = "adapter.safetensors"


@dataclass(frozen=True)
class AdapterConfig(PairConfig):
    """`drop_text`: share of rows without a caption. `thin`: share of captions of which some of the tags are left, in any order.

    Rows with neither picture nor lines would be the base's own and teach nothing. Rows with one of the two are more than a full model's: the base
    has never seen either, and the adapter's two halves have to be of use alone.
    """

    size: int = 256
    drop_image: float = 0.1
    drop_blueprint: float = 0.15
    drop_both: float = 0.0
    drop_text: float = 0.5
    thin: float = 0.3
    train_encoder: bool = False
    title: str = ""


class AdapterTask(PairTask):
    config: AdapterConfig

    def __init__(self, config: AdapterConfig, data: Path, base: Path, start: Path, heldout: Path | None = None) -> None:
        super().__init__(config, data, base / "vae", heldout)
        self.captions = [(m["caption"], m["captionB"]) for m in self.data.drawings.meta[: len(self.data)]]
        self.tokenizer = vocabulary.load(base / "tokenizer")
        self.text_encoder: Any = CLIPTextModel.from_pretrained(base / "text_encoder", dtype=torch.float32).requires_grad_(False)
        self.unet = UNet2DConditionModel.from_pretrained(base / "unet", torch_dtype=torch.float32).requires_grad_(False)
        if start.is_file():
            self._go_on_with(read_adapter(start))
        else:
            earlier = load_refonly(start)
            self.spec, self.image_encoder, self.blueprint = earlier.prompt_spec, earlier.image_encoder, earlier.blueprint.zero_out()
            self._begin_attentions(earlier.unet)
        self.image_encoder.requires_grad_(config.train_encoder)
        self.blueprint.requires_grad_(True)
        quick_to_train(self.unet, self.image_encoder)

    def _go_on_with(self, earlier: RefOnlyAdapter) -> None:
        """An adapter that was trained on such a base before. Raises: BadModel: on another one."""
        earlier.check(anatomy(self.unet))
        own = earlier.adapter
        assert own.blueprint is not None  # a RefOnly adapter has one
        self.spec, self.image_encoder, self.blueprint = earlier.prompt_spec, earlier.image_encoder, own.blueprint
        self.to_tokens = own.to_tokens.requires_grad_(True)
        self.sites = list(own.to_kv)
        self.to_k, self.to_v = (nn.ParameterList([nn.Parameter(getattr(pair, name)) for pair in own.to_kv.values()]) for name in ("to_k", "to_v"))

    def _begin_attentions(self, like: Any) -> None:
        """K from the RefOnly model, where every site has learnt to find its part of a reference; V from nought."""
        sites, theirs = anatomy(self.unet).sites, anatomy(like).sites
        if [(s.name, s.to_q.weight.shape[0]) for s in sites] != [(s.name, s.to_q.weight.shape[0]) for s in theirs]:  # type: ignore[union-attr]
            raise BadSettings("[run] start and base have UNets of different shapes. Start from a RefOnly model that was made from such a base.")
        keys: list[Tensor] = [s.to_k.weight for s in theirs]  # type: ignore[misc]
        self.sites = [s.name for s in sites]
        self.to_k = nn.ParameterList([nn.Parameter(k.detach().clone()) for k in keys])
        self.to_v = nn.ParameterList([nn.Parameter(torch.zeros_like(k)) for k in keys])
        width = self.image_encoder.config.hidden_size
        self.to_tokens = make_to_tokens(width, width)
        nn.init.eye_(self.to_tokens.proj.weight)  # type: ignore[arg-type]

    @property
    def projections(self) -> dict[str, Projection]:
        return {name: Projection(k, v) for name, k, v in zip(self.sites, self.to_k, self.to_v, strict=True)}

    def told(self, i: int, view: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        text = vocabulary.said(self.captions[i][view], self.config.drop_text, self.config.thin, rng)
        return {"ids": vocabulary.ids(self.tokenizer, [text])[0].numpy()}

    def forward(
        self, latents: Tensor, picture: Tensor, lines: Tensor, ids: Tensor, t: Tensor, noise: Tensor, see_picture: Tensor, see_lines: Tensor
    ) -> dict[str, Tensor]:
        noisy, target = self.noise.add_noise(latents, noise, t), self.noise.get_velocity(latents, noise, t)
        tokens, feature = self.conditions(picture, lines)
        with session(self.unet, self.plan(tokens * see_picture[:, None, None], feature * see_lines[:, None, None, None])):
            out = self.unet(noisy, t, self.text_encoder(ids).last_hidden_state, return_dict=False)[0]
        return {"loss": F.mse_loss(out.float(), target)}

    def conditions(self, picture: Tensor, lines: Tensor) -> tuple[Tensor, Tensor]:
        states, feature = super().conditions(picture, lines)
        return self.to_tokens(states), feature

    def plan(self, tokens: Tensor, feature: Tensor) -> Plan:
        return Plan((ImagePrompt((ImageTokens(tokens),), replace=False, projections=self.projections),), (InputFeature(feature),))

    def nothing_said(self, count: int) -> Tensor:
        ids = vocabulary.ids(self.tokenizer, [""] * count).to(next(self.unet.parameters()).device)
        return self.text_encoder(ids).last_hidden_state

    def export(self, folder: Path) -> None:
        adapter = Adapter(FILE, "last", self.image_encoder.config.hidden_size, self.to_tokens, self.projections, self.blueprint)
        base = BaseKind(self.unet.config["cross_attention_dim"], self.unet.config["in_channels"], float(self.vae.config["scaling_factor"]))
        save_adapter(RefOnlyAdapter(adapter, self.image_encoder, self.spec, base, self.config.size, self.config.title), folder / FILE)
