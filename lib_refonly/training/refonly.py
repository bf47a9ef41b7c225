"""Train Reference Only: the whole UNet, the image encoder and the blueprint encoder together, as the paper does.

Unlike the released scripts it drops conditions (5 % image, 5 % blueprint, 5 % both), so that guidance scales work, and keeps an average of
the weights. What makes it follow the reference and not the lines: drawings are recoloured together with their reference at random (the drawing
set does that), and the reference is always another drawing of the character, or turned, scaled and shifted, so that no position can be copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn

from lib_refonly.conditioning.plan import ImagePrompt, ImageTokens, InputFeature, Plan
from lib_refonly.errors import BadSettings
from lib_refonly.hosts.diffusers import session
from lib_refonly.refonly.blueprint import BlueprintEncoder
from lib_refonly.refonly.image_encoder import ImagePromptSpec
from lib_refonly.refonly.loader import load_refonly, save_refonly
from lib_refonly.refonly.model import ModelCard, RefOnlyModel
from lib_refonly.refonly.sampling import denoise
from lib_refonly.refonly.schedulers import make_scheduler
from lib_refonly.training import timesteps
from lib_refonly.training.drawings.dataset import DrawingSet
from lib_refonly.training.latents import LatentSet, shrink
from lib_refonly.training.shapes import SCHEDULE, UNetShape, VisionShape, quick_to_train
from lib_refonly.training.sheets import sheet
from lib_refonly.training.vae import to_bytes


@dataclass(frozen=True)
class PairConfig:
    """`same`: share of records whose reference is the target itself (turned, scaled, shifted). Drops are shares of rows.

    `noisy`: share of rows whose timestep is drawn towards the noise (T * (1 - u^3)) instead of evenly. Flat colours in a small latent average the
    noise out, so what colour a region gets is decided at the noisiest steps; evenly drawn, most rows would teach nothing about it.

    `favour`: share of rows that are drawn from the group `favoured` alone, on top of what it has anyway. `bold`: share of that group's rows whose
    lines are thickened: emoji lines are thin in the drawing set, and other people's are not.
    """

    size: int = 128
    same: float = 0.15
    favour: float = 0.0
    favoured: str = "emoji"
    bold: float = 0.0
    noisy: float = 0.7
    drop_image: float = 0.05
    drop_blueprint: float = 0.05
    drop_both: float = 0.05


@dataclass(frozen=True)
class RefOnlyConfig(PairConfig):
    widths: tuple[int, ...] = (64, 128, 128, 128)
    layers: int = 1
    vision_layers: int = 4
    blueprint_form: str = "released"
    title: str = ""


class PairTask(nn.Module):
    """A reference and lines to a picture: what is drawn for that, and how it is looked at. A subclass brings the networks and what they learn."""

    unet: Any
    image_encoder: Any
    blueprint: BlueprintEncoder
    spec: ImagePromptSpec

    def __init__(self, config: PairConfig, data: Path, vae: Path, heldout: Path | None = None) -> None:
        super().__init__()
        self.config, self.data = config, LatentSet(data, config.size)
        self.favoured = [i for i, meta in enumerate(self.data.drawings.meta[: len(self.data)]) if meta["group"] == config.favoured]
        if config.favour and not self.favoured:
            raise BadSettings(f"favoured: no drawing is of the group {config.favoured!r}.")
        self.shown = DrawingSet(heldout) if heldout else self.data.drawings
        self.vae: Any = AutoencoderKL.from_pretrained(vae, torch_dtype=torch.float32).requires_grad_(False)
        self.noise: Any = DDIMScheduler.from_config(SCHEDULE)

    def plan(self, tokens: Tensor, feature: Tensor) -> Plan:
        """What `conditions` gave, as it acts when a picture is painted."""
        raise NotImplementedError

    def nothing_said(self, count: int) -> Tensor | None:
        """The UNet's context for `count` pictures without a prompt; None where a picture takes the text's place."""
        return None

    def told(self, i: int, view: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """What a row holds besides pictures and latents."""
        return {}

    def draw(self, rng: np.random.Generator, size: int) -> dict[str, Tensor]:
        rows = [self._row(rng) for _ in range(size)]
        batch = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
        drop, c = rng.random(size), self.config
        edges = np.cumsum([c.drop_both, c.drop_image, c.drop_blueprint])
        kind = np.searchsorted(edges, drop, side="right")
        return batch | {
            "t": timesteps.draw(rng, size, self.noise.config["num_train_timesteps"], c.noisy),
            "noise": torch.from_numpy(rng.standard_normal(batch["latents"].shape, dtype=np.float32)),
            "see_picture": torch.from_numpy(kind > 1),
            "see_lines": torch.from_numpy((kind == 1) | (kind > 2)),
        }

    def _row(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        favoured = self.config.favour > 0 and rng.random() < self.config.favour
        i, view = int(rng.choice(self.favoured) if favoured else rng.integers(len(self.data))), int(rng.integers(2))
        other = view if rng.random() < self.config.same else 1 - view
        row = self._seen(self.data.drawings, i, view, other, rng)
        if favoured and rng.random() < self.config.bold:
            width = int(rng.integers(3, 6))
            row["lines"] = cv2.dilate(row["lines"], np.ones((width, width), np.uint8))
        return row | {"latents": self.data.latents[i, view].astype(np.float32)} | self.told(i, view, rng)

    def _seen(self, drawings: DrawingSet, i: int, view: int, other: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {
            "picture": turned(drawings.pictures[i, other], self.spec.size, rng),
            "lines": shrink(drawings.blueprints[i, view], self.config.size),
        }

    def conditions(self, picture: Tensor, lines: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [B,S,S,3] and [B,H,W] -> image tokens and blueprint feature."""
        mean, std = (torch.tensor(v, device=picture.device)[:, None, None] for v in (self.spec.mean, self.spec.std))
        pixels = (picture.permute(0, 3, 1, 2).float() / 255 - mean) / std
        tokens = self.image_encoder(pixel_values=pixels).last_hidden_state
        return tokens, self.blueprint(lines[:, None].float().expand(-1, 3, -1, -1) / 255)

    @torch.no_grad()
    def sample(self, count: int = 10, steps: int = 20) -> Image.Image:
        """Reference, lines, painted, true: held-out drawings when there are any."""
        device = next(self.unet.parameters()).device
        picks = np.linspace(0, len(self.shown) - 1, count).astype(int)
        rows = [self._seen(self.shown, int(i), 0, 1, np.random.default_rng(int(i))) for i in picks]
        picture, lines = (torch.from_numpy(np.stack([row[k] for row in rows])).to(device) for k in ("picture", "lines"))
        tokens, feature = self.conditions(picture, lines)
        noise = torch.randn(count, *self.data.latents.shape[2:], generator=torch.Generator().manual_seed(0)).to(device)
        latents = denoise(self.unet, self.plan(tokens, feature), make_scheduler("UniPC", SCHEDULE), noise, steps, text=self.nothing_said(count))
        painted = to_bytes(self.vae.decode(latents / self.vae.config["scaling_factor"]).sample)
        true = [shrink(self.shown.pictures[i, 0], self.config.size) for i in picks]
        cells = [[row["picture"], row["lines"], p, x] for row, p, x in zip(rows, painted, true, strict=True)]
        return sheet([[*a, *b] for a, b in zip(cells[::2], cells[1::2], strict=True)], cell=128)


class RefOnlyTask(PairTask):
    config: RefOnlyConfig

    def __init__(self, config: RefOnlyConfig, data: Path, vae: Path, start: Path | None = None, heldout: Path | None = None) -> None:
        super().__init__(config, data, vae, heldout)
        self.spec = ImagePromptSpec(VisionShape.size)
        if start and (start / "image_encoder").exists():
            earlier = load_refonly(start)
            self.unet, self.image_encoder, self.blueprint, self.spec = earlier.unet, earlier.image_encoder, earlier.blueprint, earlier.prompt_spec
            for network in (self.unet, self.image_encoder, self.blueprint):
                network.requires_grad_(True)
        else:
            self.unet = (
                UNetShape(config.widths, config.layers).build()
                if start is None
                else UNet2DConditionModel.from_pretrained(start / "unet", torch_dtype=torch.float32)
            )
            self.image_encoder = VisionShape(width=self.unet.config["cross_attention_dim"], layers=config.vision_layers).build()
            self.blueprint = BlueprintEncoder(self.unet.config["block_out_channels"][0], config.blueprint_form).zero_out()
        quick_to_train(self.unet, self.image_encoder)

    def forward(self, latents: Tensor, picture: Tensor, lines: Tensor, t: Tensor, noise: Tensor, see_picture: Tensor, see_lines: Tensor) -> dict[str, Tensor]:
        noisy, target = self.noise.add_noise(latents, noise, t), self.noise.get_velocity(latents, noise, t)
        tokens, feature = self.conditions(picture, lines)
        tokens, feature = tokens * see_picture[:, None, None], feature * see_lines[:, None, None, None]
        with session(self.unet, Plan(input_features=(InputFeature(feature),))):
            out = self.unet(noisy, t, tokens, return_dict=False)[0]
        return {"loss": F.mse_loss(out.float(), target)}

    def plan(self, tokens: Tensor, feature: Tensor) -> Plan:
        return Plan((ImagePrompt((ImageTokens(tokens),)),), (InputFeature(feature),))

    def export(self, folder: Path) -> None:
        card = ModelCard(folder.name, self.config.size, dropout=True, title=self.config.title)
        model = RefOnlyModel(self.unet, self.blueprint, self.image_encoder, self.vae, dict(SCHEDULE), self.spec, card)
        save_refonly(model, folder, torch.float16)


def turned(picture: np.ndarray, size: int, rng: np.random.Generator, mirror: bool | None = None) -> np.ndarray:
    """A reference nobody can copy positions from: uint8 [H,W,3] on black -> [size,size,3], mirrored, turned, scaled and shifted at random."""
    h, w = picture.shape[:2]
    scale, angle = rng.uniform(0.75, 1.15) * size / h, rng.uniform(-25, 25)
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), float(angle), float(scale))
    matrix[:, 2] += size / 2 - np.array([w / 2, h / 2]) + rng.uniform(-0.12, 0.12, 2) * size
    if rng.random() < 0.5 if mirror is None else mirror:
        matrix = matrix @ np.array([[-1, 0, w], [0, 1, 0], [0, 0, 1]], float)
    if scale < 0.6:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.7)
    return cv2.warpAffine(np.ascontiguousarray(picture), matrix, (size, size), flags=cv2.INTER_LINEAR)
