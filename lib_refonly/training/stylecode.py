"""Train a stylecode model on a frozen base: vision model, style autoencoder and control module together.

The paper's recipe with what was left open filled in: a row's style is read from one picture, its caption and its target are another picture's of the
same style, so that all the code can hold of use is the style. `quantised`: share of rows whose latent goes through the code on its way (straight through:
the gradient passes as if it had not); the paper leaves the code out of training, which is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel

from lib_refonly.conditioning.plan import Plan, SideBranch
from lib_refonly.hosts.diffusers import session
from lib_refonly.refonly.sampling import Guidance, denoise
from lib_refonly.refonly.schedulers import make_scheduler
from lib_refonly.stylecode.autoencoder import AutoencoderShape
from lib_refonly.stylecode.codes.known import CodeModel
from lib_refonly.stylecode.codes.levels import LEVELS
from lib_refonly.stylecode.model import CONTROL, VISION, Parts, StylecodeInfo, save_stylecode
from lib_refonly.stylecode.network import StyleNetwork
from lib_refonly.stylecode.vision import SiglipStates, VisionShape
from lib_refonly.training import timesteps, vocabulary
from lib_refonly.training.latents import LatentSet, shrink
from lib_refonly.training.shapes import HEAD, SCHEDULE, quick_to_train
from lib_refonly.training.sheets import sheet
from lib_refonly.training.styles.build import StyledSet
from lib_refonly.training.styles.summary import SIZE, summary
from lib_refonly.training.vae import to_bytes

FILE = "stylecode.safetensors"


@dataclass(frozen=True)
class StyleConfig:
    """`same`: share of rows whose style is read from the target itself. `noisy`: as for Reference Only. `drop_text`, `thin`: as for the base.

    `contrast`: weight of a loss that wants the codes of two pictures of one style alike and others apart (InfoNCE, van den Oord et al. 2018, temperature
    `temperature`), over `pairs` further styles a step. Without it the encoder stays silent: all pictures begin with nearly the same code, so the control
    module learns to do without, and the encoder is never asked.

    `offset`: how much the noise's mean varies, channel by channel. Even at the last timestep a picture's mean shines through plain noise, and the noise's own
    mean is taken for it: without an offset, a seed decides the ground's colour and not the style.

    `told`: weight of a loss that wants a code to tell the other picture's `styles.summary`. Contrast alone is content with whatever tells some thousand styles
    apart, which is less than what paints them.

    `paints`: false trains what makes the codes alone, without a UNet, which is far quicker. `train_encoder`: false keeps what makes the codes as `start` has
    it. The rest then bears a higher learning rate, and neither loss on the codes is computed.
    """

    size: int = 128
    same: float = 0.1
    noisy: float = 0.5
    drop_text: float = 0.15
    thin: float = 0.3
    quantised: float = 0.0
    contrast: float = 0.2
    temperature: float = 0.1
    offset: float = 0.0
    pairs: int = 32
    told: float = 0.0
    paints: bool = True
    train_encoder: bool = True
    vision_size: int = 128
    vision_width: int = 128
    vision_layers: int = 4
    d_model: int = 128
    decoder_ff: int = 512
    name: str = "stylecode"
    title: str = ""
    mark: str = ""
    native_size: int = 256


def through_the_code(latents: Tensor) -> Tensor:
    """Latents [B, 20] -> what is left of them in a code, but for the step by which it adds up. The gradient passes as if nothing had been done."""
    levels = torch.tensor(LEVELS, device=latents.device)
    nearest = levels[torch.bucketize(latents.detach().float(), (levels[1:] + levels[:-1]) / 2, right=True)]
    return latents + (nearest - latents).detach()


class StyleTask(nn.Module):
    def __init__(self, config: StyleConfig, data: Path, base: Path, start: Path | None = None, heldout: Path | None = None) -> None:
        super().__init__()
        self.config, self.data = config, LatentSet(data, config.size)
        self.shown = StyledSet(heldout or data)
        self.captions = [record["captions"] for record in self.data.drawings.meta[: len(self.data)]]
        self.tokenizer = vocabulary.load(base / "tokenizer")
        self.text_encoder: Any = CLIPTextModel.from_pretrained(base / "text_encoder", dtype=torch.float32).requires_grad_(False)
        self.unet: Any = UNet2DConditionModel.from_pretrained(base / "unet", torch_dtype=torch.float32).requires_grad_(False)
        self.vae: Any = AutoencoderKL.from_pretrained(base / "vae", torch_dtype=torch.float32).requires_grad_(False)
        self.noise: Any = DDIMScheduler.from_config(SCHEDULE)
        width = config.vision_width
        self.vision = SiglipStates(VisionShape(width, 4 * width, config.vision_layers, width // HEAD, config.vision_size))
        middle = self.unet.config["block_out_channels"][-1]
        self.network = StyleNetwork(self.unet.config, AutoencoderShape(width, middle, config.d_model, decoder_ff=config.decoder_ff))
        self.network.begin_as(self.unet)
        self.network.sref_autoencoder.latent_norm.requires_grad_(False)  # so that a latent has mean 0 and variance 1, which the code's levels expect
        self.teller = nn.Sequential(nn.Linear(20, 256), nn.SiLU(), nn.Linear(256, SIZE)) if config.told else None
        if start:
            self._begin_from(start)
        if not config.train_encoder:
            self._freeze_encoder()
        quick_to_train(self.unet, self.text_encoder)

    def _freeze_encoder(self) -> None:
        own = self.network.sref_autoencoder
        for part in (self.vision, own.input_proj, own.attention_layers, own.latent_proj):
            part.requires_grad_(False)
        own.latent_init.requires_grad_(False)

    def _begin_from(self, start: Path) -> None:
        """Go on with a model that was exported, at another size perhaps."""
        parts = Parts(start if start.is_file() else start / FILE)
        names = {f"sref_autoencoder.{n}": parts.autoencoder[n] for n in parts.autoencoder}
        names |= {f"middle_block_out.{n}": parts.middle[n] for n in parts.middle}
        names |= {f"control_model.up_zero_convs_out.{n}": parts.mixers[n] for n in parts.mixers}
        names |= {f"control_model.{n}": parts.blocks[n] for n in parts.blocks}
        self.network.load_state_dict({name: tensor.float() for name, tensor in names.items()})
        self.vision.load_state_dict({name: parts.vision[name].float() for name in parts.vision})

    def draw(self, rng: np.random.Generator, size: int) -> dict[str, Tensor]:
        if not self.config.paints:
            return {"pairs": self._pairs(rng)}
        rows = [self._row(rng) for _ in range(size)]
        batch = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
        batch |= {
            "t": timesteps.draw(rng, size, self.noise.config["num_train_timesteps"], self.config.noisy),
            "noise": torch.from_numpy(rng.standard_normal(batch["latents"].shape, dtype=np.float32)),
        } | ({"pairs": self._pairs(rng)} if self._contrasts else {})
        if self.config.offset:
            means = rng.standard_normal((*batch["latents"].shape[:2], 1, 1), dtype=np.float32)
            batch["noise"] = batch["noise"] + self.config.offset * torch.from_numpy(means)
        # Drawn last, and only where it is asked for: a run without it sees the batches that it has always seen.
        return batch | {"coded": torch.from_numpy(rng.random(size) < self.config.quantised)} if self.config.quantised else batch

    @property
    def _contrasts(self) -> bool:
        return bool(self.config.contrast or self.config.told) and self.config.train_encoder

    def _pairs(self, rng: np.random.Generator) -> Tensor:
        """Two pictures of each of some styles, uint8 [2 * pairs, S, S, 3], first ones first."""
        chosen = rng.choice(len(self.data), min(self.config.pairs, len(self.data)), replace=False)
        views = np.stack([rng.choice(len(self.captions[i]), 2, replace=False) for i in chosen])
        pictures = (self.data.drawings.pictures[i, view] for side in (0, 1) for i, view in zip(chosen, views[:, side], strict=True))
        return torch.from_numpy(np.stack([shrink(picture, self.config.vision_size) for picture in pictures]))

    def _row(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        i = int(rng.integers(len(self.data)))
        views = len(self.captions[i])  # of a painter's own styles some have fewer pictures than others
        target = int(rng.integers(views))
        source = target if rng.random() < self.config.same else (target + int(rng.integers(1, views))) % views
        text = vocabulary.said(self.captions[i][target], self.config.drop_text, self.config.thin, rng)
        return {
            "picture": shrink(self.data.drawings.pictures[i, source], self.config.vision_size),
            "latents": self.data.latents[i, target].astype(np.float32),
            "ids": vocabulary.ids(self.tokenizer, [text])[0].numpy(),
        }

    def styles(self, picture: Tensor) -> Tensor:
        """uint8 [B, S, S, 3] -> latents [B, 20]."""
        pixels = picture.permute(0, 3, 1, 2).float() / 127.5 - 1
        return self.network.sref_autoencoder.encode(self.vision(pixels))

    def forward(self, pairs: Tensor | None = None, **rows: Tensor) -> dict[str, Tensor]:
        losses = self._painted(**rows) if rows else {}
        if pairs is not None:
            losses |= self._coded(pairs)
        weights = {"painted": 1.0, "apart": self.config.contrast, "told": self.config.told}
        return {"loss": sum((weights[name] * loss for name, loss in losses.items()), torch.zeros(()))} | losses

    def _painted(self, picture: Tensor, latents: Tensor, ids: Tensor, t: Tensor, noise: Tensor, coded: Tensor | None = None) -> dict[str, Tensor]:
        noisy, target = self.noise.add_noise(latents, noise, t), self.noise.get_velocity(latents, noise, t)
        styles = self.styles(picture)
        if coded is not None:
            styles = torch.where(coded[:, None], through_the_code(styles), styles)
        context = self.text_encoder(ids).last_hidden_state
        with session(self.unet, self.plan(styles)):
            out = self.unet(noisy, t, context, return_dict=False)[0]
        return {"painted": F.mse_loss(out.float(), target)}

    def _coded(self, pairs: Tensor) -> dict[str, Tensor]:
        """The losses of `_pairs`: contrastive, and by what one picture's code tells of the other picture."""
        one, other = self.styles(pairs).float().chunk(2)
        alike = one @ other.T / (one.shape[1] * self.config.temperature)
        own = torch.arange(len(one), device=alike.device)
        losses = {"apart": (F.cross_entropy(alike, own) + F.cross_entropy(alike.T, own)) / 2}
        if self.teller is not None:
            first, second = summary(pairs).chunk(2)
            losses["told"] = F.mse_loss(self.teller(torch.cat([one, other])).float(), torch.cat([second, first]))
        return losses

    def plan(self, styles: Tensor) -> Plan:
        return Plan(branches=(SideBranch(self.network.run(styles)),))

    @torch.no_grad()
    def sample(self, count: int = 6, steps: int = 20, guidance: float = 2.0) -> Image.Image:
        """Left the picture that a style is read from, right of it five captions painted in it: held-out styles where there are any."""
        device, size = next(self.unet.parameters()).device, self.config.size
        picks, prompts = np.linspace(0, len(self.shown) - 1, count).astype(int), self.shown.meta[0]["captions"][1:6]
        rows = []
        for i in picks:
            picture = shrink(self.shown.pictures[i, 0], self.config.vision_size)
            styles = self.styles(torch.from_numpy(picture[None]).to(device))
            text = self.text_encoder(vocabulary.ids(self.tokenizer, [""] * len(prompts) + prompts).to(device)).last_hidden_state
            noise = torch.randn(len(prompts), 4, size // 8, size // 8, generator=torch.Generator().manual_seed(0)).to(device)
            latents = denoise(self.unet, self.plan(styles), make_scheduler("UniPC", SCHEDULE), noise, steps, Guidance(guidance), text=text)
            painted = to_bytes(self.vae.decode(latents / self.vae.config["scaling_factor"]).sample)
            rows.append([picture, *painted])
        return sheet(rows, cell=128)

    def export(self, folder: Path) -> None:
        vision = self.vision.shape
        # One layer more than there is: the whole model's count, of which the last is never read.
        info = StylecodeInfo(
            CodeModel(self.config.name, self.config.title, self.config.mark),
            self.config.native_size,
            self.unet.config,
            {"heads": vision.heads, "layers": vision.layers},
        )
        tensors = {f"{CONTROL}{name}": tensor for name, tensor in self.network.state_dict().items()}
        save_stylecode(tensors | {f"{VISION}{name}": tensor for name, tensor in self.vision.state_dict().items()}, info, folder / FILE)
