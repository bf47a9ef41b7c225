"""Does a code hold a style? On held-out symbols in held-out styles: `studio.py evaluate STYLES -o OUT.md --model STYLECODE --drawings TRAIN`.

- **Codes.** Cosine distance between the codes of two pictures of one style, and of two styles; how often the nearest other picture's code is one of the same
  style; and what is lost between the network's 20 numbers and the code (relative L2).
- **Style match.** A judge (a small network, trained apart on the training drawings) compares what was painted with true pictures of the style: how often the
  painted picture's own style is the nearest of all held-out ones, and cosine similarity to the own style and to others.
- **Content match.** Another judge, which disregards style: how often, among the drawings of the same style, the nearest to what was painted is the one that
  the caption tells. Without a style, the base's own: what the captions give.
- **Agreement.** The painted picture's code against the code that it was painted from, cosine similarity.
- **Error.** What the model is trained to make small, on pictures it has never seen: the mean squared error of its prediction, at ten noise levels. Nothing is
  sampled, so it tells small differences apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from numpy.typing import NDArray
from PIL import Image

from lib_refonly.conditioning.plan import Plan
from lib_refonly.conditioning.window import Window
from lib_refonly.hosts.diffusers import session
from lib_refonly.refonly.text_to_image import TextToImage
from lib_refonly.stylecode.codes import v1
from lib_refonly.stylecode.codes.levels import latent_of, levels_of
from lib_refonly.stylecode.control import StyleRun, style_branch
from lib_refonly.stylecode.model import Parts, on_diffusers
from lib_refonly.stylecode.settings import BOTH
from lib_refonly.stylecode.vision import pixels_of
from lib_refonly.training.latents import shrink
from lib_refonly.training.sheets import sheet
from lib_refonly.training.styles.build import StyledSet
from lib_refonly.training.styles.judge import Judge

LATER = "code, from 15 % on"
WAYS = ("latent", "code", LATER, "v1 code", "another style's code", "no style")
Latents = NDArray[np.float64]
_LEVELS = 10
_STARTS = {LATER: 0.15}
"""Style start: the first steps, which lay out the figure, belong to the prompt alone."""


@dataclass(frozen=True)
class CodeScore:
    """`kept`: in which form. Distances are 1 - cosine; `nearest`: share of pictures whose nearest is of the same style."""

    kept: str
    within: float
    between: float
    nearest: float
    error: float


@dataclass(frozen=True)
class PaintScore:
    way: str
    pictures: int
    style: float
    own: float
    others: float
    content: float
    agreement: float
    error: float


class StylePainter:
    """A stylecode model on its base."""

    def __init__(self, model: Path, base: Path) -> None:
        self.parts, self.model, self.base = Parts(model), on_diffusers(model), TextToImage(base)
        self.vision, self.size = self.parts.read_vision(), self.model.info.native_size
        self.noise: Any = DDIMScheduler.from_config(self.base.scheduler_config)

    @torch.no_grad()
    def latents(self, pictures: Sequence[NDArray[np.uint8]]) -> Latents:
        """[n, 20]."""
        pixels = pixels_of([Image.fromarray(picture) for picture in pictures], self.vision.shape.size)
        return self.model.autoencoder.encode(self.vision(pixels)).double().numpy()

    @torch.no_grad()
    def error(self, pictures: Sequence[NDArray[np.uint8]], prompts: Sequence[str], latent: Sequence[float] | None, start: float = 0.0) -> float:
        """Of the prediction of v, over `_LEVELS` noise levels; the same noise for whatever `latent` it is asked with."""
        pixels = torch.from_numpy(np.stack([shrink(picture, self.size) for picture in pictures])).permute(0, 3, 1, 2).float() / 127.5 - 1
        x_0, context, found = self.base.encode(pixels), self.base.contexts(prompts), []
        noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))
        for t in torch.linspace(50, 950, _LEVELS).long():
            each = t.expand(len(x_0))
            with session(self.base.unet, self._plan(latent, start)):
                predicted = self.base.unet(self.noise.add_noise(x_0, noise, each), each, context, return_dict=False)[0]
            found.append(F.mse_loss(predicted, self.noise.get_velocity(x_0, noise, each)).item())
        return float(np.mean(found))

    def paint(self, prompts: Sequence[str], latent: Sequence[float] | None, seed: int, cfg: float, start: float = 0.0) -> list[NDArray[np.uint8]]:
        return [np.asarray(picture) for picture in self.base.paint(prompts, self._plan(latent, start), size=(self.size, self.size), seed=seed, cfg=cfg)]

    def _plan(self, latent: Sequence[float] | None, start: float) -> Plan:
        if latent is None:
            return Plan()
        run = StyleRun(self.model.control, self.model.autoencoder, torch.tensor([list(latent)], dtype=torch.float32))
        return Plan(branches=(style_branch(run, 1.0, Window(start), BOTH),))


def kept(latents: Latents, form: str) -> Latents:
    """As a form of code brings them back."""
    if form == "latent":
        return latents
    if form == "code":
        return np.array([latent_of(levels_of(row)) for row in latents.tolist()])
    return np.array([v1.latent_of_steps(v1.steps_of(v1.write_v1(row)) or b"") for row in latents.tolist()])


def code_scores(latents: NDArray[np.float64]) -> list[CodeScore]:
    """latents: [styles, views, 20]."""
    flat = latents.reshape(-1, latents.shape[-1])
    return [_code_score(form, flat, kept(flat, form), latents.shape[1]) for form in ("latent", "code", "v1 code")]


def _code_score(form: str, true: Latents, back: Latents, views: int) -> CodeScore:
    unit = back / np.linalg.norm(back, axis=1, keepdims=True)
    apart = 1 - unit @ unit.T
    style = np.arange(len(back)) // views
    same, self_ = style[:, None] == style, np.eye(len(back), dtype=bool)
    nearest = np.where(self_, np.inf, apart).argmin(1)
    error = np.sqrt(((back - true) ** 2).sum() / (true**2).sum())
    return CodeScore(form, apart[same & ~self_].mean(), apart[~same].mean(), float((style[nearest] == style).mean()), float(error))


def evaluate(
    painter: StylePainter,
    judge: Judge,
    data: Path,
    styles: int = 0,
    captions: int = 3,
    cfg: float = 3.0,
    seed: int = 0,
    on_way: Callable[[str], None] | None = None,
) -> tuple[list[CodeScore], list[PaintScore], Image.Image]:
    """Codes of the whole set; painted, of the first `styles` (0: all) styles `captions` pictures each. The sheet: true, true, painted ..."""
    shown = StyledSet(data)
    count, views = styles or len(shown), shown.pictures.shape[1]
    latents = np.stack([painter.latents(list(shown.pictures[i])) for i in range(len(shown))])
    truth = {eye: np.stack([judge.look(eye, list(shown.pictures[i])) for i in range(count)]) for eye in ("style", "content")}
    # View 0 gives the code; the last ones' captions are painted: what the code was read from is never what is asked for.
    asked = list(range(views - captions, views))
    scores, rows = [], [[shown.pictures[i, 0], shown.pictures[i, 1]] for i in range(count)]
    prompts = [[shown.meta[i]["captions"][v] for v in asked] for i in range(count)]
    for way in WAYS:
        given = [_latent(way, latents[:count, 0], i) for i in range(count)]
        start = _STARTS.get(way, 0.0)
        painted = [painter.paint(prompts[i], given[i], seed, cfg, start) for i in range(count)]
        error = np.mean([painter.error([shown.pictures[i, v] for v in asked], prompts[i], given[i], start) for i in range(count)])
        scores.append(_paint_score(way, painter, judge, painted, truth, asked, latents[:count, 0], float(error)))
        if way in ("code", "no style"):
            rows = [[*row, *pictures[:2]] for row, pictures in zip(rows, painted, strict=True)]
        if on_way:
            on_way(way)
    cells = [[np.asarray(Image.fromarray(cell).resize((128, 128), Image.Resampling.BOX)) for cell in row] for row in rows[:16]]
    return code_scores(latents), scores, sheet([[*a, *b] for a, b in zip(cells[::2], cells[1::2], strict=False)], cell=128)


def _latent(way: str, latents: Latents, style: int) -> Sequence[float] | None:
    if way == "no style":
        return None
    way = "code" if way in _STARTS else way
    form, place = ("code", (style + 1) % len(latents)) if way.startswith("another") else (way, style)
    return kept(latents[place : place + 1], form)[0].tolist()


def _paint_score(
    way: str,
    painter: StylePainter,
    judge: Judge,
    painted: list[list[NDArray[np.uint8]]],
    truth: dict[str, NDArray],
    asked: list[int],
    latents: Latents,
    error: float,
) -> PaintScore:
    style, own, others, content, agree = [], [], [], [], []
    means = truth["style"].mean(1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    for i, pictures in enumerate(painted):
        alike = judge.look("style", pictures) @ means.T
        style += (alike.argmax(1) == i).tolist()
        own += alike[:, i].tolist()
        others += np.delete(alike, i, 1).mean(1).tolist()
        content += ((judge.look("content", pictures) @ truth["content"][i].T).argmax(1) == np.array(asked)).tolist()
        again = painter.latents(pictures)
        agree += (again @ latents[i] / np.linalg.norm(again, axis=1) / np.linalg.norm(latents[i])).tolist()
    return PaintScore(way, len(style), *(float(np.mean(values)) for values in (style, own, others, content, agree)), error=error)


def holds(codes: Sequence[CodeScore], painted: Sequence[PaintScore]) -> bool:
    """Codes tell styles apart, what is painted has the style that was asked for, and the code costs nearly nothing."""
    at, kept_as = {p.way: p for p in painted}, {c.kept: c for c in codes}
    apart = kept_as["code"].between > 2 * kept_as["code"].within and kept_as["code"].error <= 0.03
    followed = at["code"].own > at["another style's code"].own and at["code"].style > 2 * at["no style"].style
    return bool(apart and followed and at["code"].style >= 0.9 * at["latent"].style)


def report(name: str, codes: Sequence[CodeScore], painted: Sequence[PaintScore], styles: int, views: int, command: str) -> str:
    """The scores as Markdown."""
    lines = [f"# Held-out scores of {name}", "", f"Made by `{command}`.", *(__doc__ or "").split("\n")[2:], ""]
    lines += ["| kept as | within a style | between styles | nearest is of the same style | lost |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {c.kept} | {c.within:.3f} | {c.between:.3f} | {100 * c.nearest:.0f} % | {100 * c.error:.1f} % |" for c in codes]
    lines += ["", "| painted from | pictures | own style is nearest | own | others | content | agreement | error |", f"|{' --- |' * 8}"]
    for p in painted:
        lines.append(
            f"| {p.way} | {p.pictures} | {100 * p.style:.0f} % | {p.own:.2f} | {p.others:.2f} | {100 * p.content:.0f} % | {p.agreement:.2f} | {p.error:.4f} |"
        )
    chance = f"By chance the own style would be nearest in {100 / styles:.0f} %, the content in {100 / views:.0f} %."
    return "\n".join([*lines, "", chance]) + "\n"
