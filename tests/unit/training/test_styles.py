"""Drawings painted in styles, the set that is built of them, and the trainer of stylecode models."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lib_refonly.conditioning.plan import Plan, SideBranch
from lib_refonly.errors import BadSettings
from lib_refonly.hosts.diffusers import session
from lib_refonly.stylecode.codes.levels import LEVELS
from lib_refonly.stylecode.control import StyleRun
from lib_refonly.stylecode.model import Parts, describe, on_diffusers
from lib_refonly.training.base import BaseConfig, BaseTask
from lib_refonly.training.drawings.dataset import DrawingSet
from lib_refonly.training.latents import encode_all
from lib_refonly.training.loop import LoopConfig, Run
from lib_refonly.training.stylecode import FILE, StyleConfig, StyleTask, through_the_code
from lib_refonly.training.styles import build as building
from lib_refonly.training.styles.build import StyledSet, build
from lib_refonly.training.styles.paint import paint
from lib_refonly.training.styles.style import GROUNDS, NEVER_TRAINED, PALETTES, SHADINGS, TEXTURES, Style, random_style
from lib_refonly.training.styles.summary import SIZE, summary
from lib_refonly.training.vae import VaeConfig, VaeTask

CONFIG = StyleConfig(size=64, vision_size=64, vision_width=64, vision_layers=3, d_model=32, decoder_ff=64, pairs=4, name="tested-1", title="Tested", mark="t")
STYLE = Style(
    ground="plain",
    ground_colours=((250, 240, 10), (20, 30, 200)),
    palette="own",
    colours=((40, 10, 10), (200, 90, 60), (250, 230, 210)),
    shading="flat",
    texture="none",
    scale=0.08,
    angle=30.0,
    depth=0.5,
    line=(0, 0, 0),
    line_width=0.0,
)
KINDS = [("ground", kind) for kind in GROUNDS] + [("palette", kind) for kind in set(PALETTES)] + [("shading", kind) for kind in SHADINGS]
KINDS += [("texture", kind) for kind in set(TEXTURES)]


def layers(drawings: Path, record: int, side: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    source = DrawingSet(drawings)
    return source.pictures[record, side], source.alpha[record, side], source.blueprints[record, side]


# Painting.


@pytest.mark.parametrize(("what", "kind"), sorted(KINDS))
def test_every_kind_paints(drawings: Path, what: str, kind: str) -> None:
    """The same shape and type, the same each time, within the drawing or outside it as the kind says, and unlike what it is without."""
    given = layers(drawings, 0)
    before = [layer.copy() for layer in given]
    style, alpha = replace(STYLE, **{what: kind}), given[1]
    out = paint(style, *given)
    assert (out.shape, out.dtype) == (given[0].shape, np.uint8)
    assert np.array_equal(paint(style, *given), out)
    assert all(np.array_equal(layer, old) for layer, old in zip(given, before, strict=True))
    differs = (out != paint(STYLE, *given)).any(-1)
    plain = getattr(STYLE, what) == kind
    assert differs.any() != plain
    assert not differs[alpha == 0].any() or what == "ground"
    assert not differs[alpha == 255].any() or what != "ground"


@pytest.mark.parametrize("ground", GROUNDS)
def test_two_drawings_in_one_style_share_the_ground(drawings: Path, ground: str) -> None:
    style = replace(STYLE, ground=ground)
    (one, first), (other, second) = ((paint(style, *layers(drawings, i)), layers(drawings, i)[1]) for i in (0, 3))
    both = (first == 0) & (second == 0)
    assert both.sum() > 500
    assert np.array_equal(one[both], other[both])
    assert not np.array_equal(one, other)
    if ground == "plain":
        assert (one[both] == STYLE.ground_colours[0]).all()
    else:
        assert len(np.unique(one[both], axis=0)) > 1


def test_lines(drawings: Path) -> None:
    """In the style's colour, as wide as it says, and only on the drawing."""
    given = layers(drawings, 0)
    thin, thick = (paint(replace(STYLE, line=(255, 0, 0), line_width=width), *given) for width in (0.0, 0.06))
    red = [(picture == (255, 0, 0)).all(-1) for picture in (thin, thick)]
    assert np.array_equal(red[0], given[2] == 255)
    assert red[1].sum() > 1.5 * red[0].sum()
    assert not red[1][given[1] == 0].any()


def test_the_seed_is_the_grains(drawings: Path) -> None:
    given = layers(drawings, 0)
    grain = replace(STYLE, texture="grain")
    assert not np.array_equal(paint(grain, *given, seed=1), paint(grain, *given, seed=2))
    assert np.array_equal(paint(replace(STYLE, texture="hatch"), *given, seed=1), paint(replace(STYLE, texture="hatch"), *given, seed=2))


def test_held_out_kinds_are_never_trained_on() -> None:
    rng = np.random.default_rng(0)
    trained, held = [random_style(rng, False) for _ in range(2000)], [random_style(rng, True) for _ in range(2000)]
    for what, kind in NEVER_TRAINED.items():
        assert all(getattr(style, what) != kind for style in trained)
    new = sum(any(getattr(style, what) == kind for what, kind in NEVER_TRAINED.items()) for style in held)
    assert new / 2000 == pytest.approx(0.5 * (1 - (5 / 6) ** 2), abs=0.03)
    for what, kinds in (("ground", GROUNDS), ("palette", PALETTES), ("shading", SHADINGS), ("texture", TEXTURES)):
        assert {getattr(style, what) for style in trained} == set(kinds) - set(NEVER_TRAINED.values())
        assert {getattr(style, what) for style in held} == set(kinds)


# Building a set.


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Stopped(Exception):
    pass


def stop_after(number: int) -> Callable[[int, int], None]:
    def on_style(done: int, _: int) -> None:
        if done == number:
            raise Stopped

    return on_style


@pytest.mark.parametrize("stops", [(1,), (4,), (5,), (2, 7), (3, 5, 6)])
def test_a_build_that_was_stopped_goes_on(drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: tuple[int, ...]) -> None:
    """To the byte as if it had not been, wherever it was."""
    monkeypatch.setattr(building, "_CHECKPOINT", 3)
    build(drawings, tmp_path / "whole", 5, 8, 3, "train")
    for stop in stops:
        with pytest.raises(Stopped):
            build(drawings, tmp_path / "part", 5, 8, 3, "train", stop_after(stop))
        assert len(StyledSet(tmp_path / "part")) <= stop
        with (tmp_path / "part" / "meta.jsonl").open("a", encoding="utf-8") as meta:
            meta.write('{"style": {"gro')  # what a machine that went off leaves
    build(drawings, tmp_path / "part", 5, 8, 3, "train")
    assert files(tmp_path / "part") == files(tmp_path / "whole")
    build(drawings, tmp_path / "part", 5, 8, 3, "train", stop_after(1))  # nothing is left to do
    assert files(tmp_path / "part") == files(tmp_path / "whole")


@pytest.mark.parametrize("other", [{"seed": 6}, {"styles": 9}, {"views": 2}, {"split": "heldout"}])
def test_another_sets_folder_is_refused(drawings: Path, tmp_path: Path, other: dict[str, Any]) -> None:
    given: dict[str, Any] = {"seed": 5, "styles": 3, "views": 3, "split": "train"}
    build(drawings, tmp_path / "set", **given)
    before = files(tmp_path / "set")
    with pytest.raises(BadSettings, match="holds another data set"):
        build(drawings, tmp_path / "set", **given | other)
    assert files(tmp_path / "set") == before
    with pytest.raises(BadSettings, match="is no data set"):
        build(tmp_path / "nothing", tmp_path / "new", **given)


def test_what_is_built(drawings: Path, tmp_path: Path) -> None:
    """Pictures are their drawings painted in their style, with their captions; the splits share no style."""
    for split in ("train", "heldout"):
        build(drawings, tmp_path / split, 5, 4, 3, split)
    built, source = StyledSet(tmp_path / "train"), DrawingSet(drawings)
    assert built.pictures.shape == (4, 3, 64, 64, 3)
    for number, meta in enumerate(built.meta):
        for view, (i, side) in enumerate(meta["drawings"]):
            layer = (source.pictures[i, side], source.alpha[i, side], source.blueprints[i, side])
            assert np.array_equal(built.pictures[number, view], paint(built.style(number), *layer, seed=view))
            assert meta["captions"][view] == source.meta[i]["caption" if side == 0 else "captionB"]
        assert len({tuple(pair) for pair in meta["drawings"]}) == 3
    styles = [StyledSet(tmp_path / split).style(i) for split in ("train", "heldout") for i in range(4)]
    assert len({json.dumps(dataclasses.asdict(style)) for style in styles}) == 8
    assert all(isinstance(style.ground_colours[0], tuple) and isinstance(style.line, tuple) for style in styles)


def test_the_emoji_of_a_family(drawings: Path, tmp_path: Path) -> None:
    """Whose emoji they are belongs to the style: a style has a family's or no family's drawings alone."""
    mixed = Path(shutil.copytree(drawings, tmp_path / "mixed"))
    meta = [json.loads(line) for line in (mixed / "meta.jsonl").read_text("utf-8").splitlines()]
    for i, record in enumerate(meta):
        record["style"] = "noto" if i < 3 else "micah"
    (mixed / "meta.jsonl").write_text("".join(json.dumps(record) + "\n" for record in meta), "utf-8")
    build(mixed, tmp_path / "set", 1, 40, 4, "train")
    found = StyledSet(tmp_path / "set")
    families = [found.style(i).family for i in range(40)]
    assert set(families) == {"", "noto"}
    for i, family in enumerate(families):
        if family:
            assert all(record < 3 for record, _ in found.meta[i]["drawings"])
    assert any(record >= 3 for entry in found.meta for record, _ in entry["drawings"])


# The trainer.


@pytest.fixture(scope="module")
def folders(drawings: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A set of styles with latents, and a base; none trained."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("styles")
    VaeTask(VaeConfig(widths=(64, 64, 64, 64)), drawings).export(folder)
    encode_all(folder / "vae", drawings, 64, batch=4)
    BaseTask(BaseConfig(size=64, widths=(64, 64), context=64, text_layers=1), drawings, folder / "vae").export(folder / "base")
    build(drawings, folder / "set", 1, 6, 6, "train")
    encode_all(folder / "vae", folder / "set", 64, batch=4)
    return {"data": folder / "set", "base": folder / "base"}


@pytest.fixture
def task(folders: dict[str, Path]) -> StyleTask:
    torch.manual_seed(0)
    return StyleTask(CONFIG, **folders)


def frozen(task: StyleTask) -> dict[str, Tensor]:
    networks = {"unet": task.unet, "text": task.text_encoder, "vae": task.vae, "norm": task.network.sref_autoencoder.latent_norm}
    return {f"{part}.{name}": tensor.clone() for part, network in networks.items() for name, tensor in network.state_dict().items()}


def painted(unet: Any, run: StyleRun, strength: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    sample, text = torch.randn(1, 4, 8, 8, generator=generator), torch.randn(1, 4, 64, generator=generator)
    with torch.no_grad(), session(unet, Plan(branches=(SideBranch(run, strength),))):
        return unet(sample, 300, text, return_dict=False)[0]


def test_it_begins_as_the_base(task: StyleTask) -> None:
    """The mixing layers hand each half through, but for a little noise."""
    task.eval()
    run = task.network.run(torch.randn(1, 20, generator=torch.Generator().manual_seed(0)))
    base, styled = painted(task.unet, run, 0.0), painted(task.unet, run)
    assert 0 < (styled - base).abs().max() < 0.02 * base.abs().max()


def test_two_steps_an_export_and_again(task: StyleTask, folders: dict[str, Path], tmp_path: Path) -> None:
    before, begun = frozen(task), {name: p.detach().clone() for name, p in task.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=1e-3)
    for step in range(2):
        losses = task(**task.draw(np.random.default_rng(step), 3))
        assert set(losses) == {"loss", "painted", "apart"}
        assert losses["loss"].item() == pytest.approx((losses["painted"] + CONFIG.contrast * losses["apart"]).item())
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in frozen(task).items())
    for part in ("vision.", "network.sref_autoencoder.", "network.control_model.", "network.middle_block_out."):
        assert any(not torch.equal(p, begun[name]) for name, p in task.named_parameters() if name.startswith(part)), part
    task.eval()
    assert task.sample(count=2, steps=2).size[0] > 5 * 128

    task.export(tmp_path)
    found = describe(tmp_path / FILE)
    assert (found.code.name, found.code.title, found.code.sign, found.native_size) == ("tested-1", "Tested", "t", 256)
    model, latent = on_diffusers(tmp_path / FILE), torch.randn(1, 20, generator=torch.Generator().manual_seed(3))
    ours, theirs = (painted(task.unet, run) for run in (task.network.run(latent), StyleRun(model.control, model.autoencoder, latent)))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=2e-2)  # float16 in the file
    picture = task.draw(np.random.default_rng(9), 2)["picture"]
    with torch.no_grad():
        parts, pixels = Parts(tmp_path / FILE), picture.permute(0, 3, 1, 2).float() / 127.5 - 1
        torch.testing.assert_close(parts.read_autoencoder().encode(parts.read_vision()(pixels)), task.styles(picture), rtol=0, atol=2e-2)

    again = StyleTask(CONFIG, **folders, start=tmp_path).eval()
    for part in ("network", "vision"):
        for name, tensor in getattr(task, part).state_dict().items():
            torch.testing.assert_close(getattr(again, part).state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
    assert not again.network.sref_autoencoder.latent_norm.weight.requires_grad


def test_a_run(folders: dict[str, Path], tmp_path: Path) -> None:
    """Through the loop that all trainers share, stopped and gone on with."""

    class ShortSamples(StyleTask):
        def sample(self, count: int = 1, steps: int = 1, guidance: float = 2.0) -> Any:
            return super().sample(count, steps, guidance)

    for steps in (1, 2):
        run = Run(ShortSamples(CONFIG, **folders), LoopConfig(steps=steps, batch=2, lr=1e-4, warmup=1, log_every=1, precision="no"), tmp_path / "run")
        assert run.train() == steps
    assert describe(run.export() / FILE).code.name == "tested-1"
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text("utf-8").splitlines()]
    assert all(np.isfinite(event[name]) for event in events for name in ("loss", "apart") if name in event)


def test_latents_are_styles(task: StyleTask) -> None:
    """Mean 0 and variance 1, which the code's levels expect; also after training, as their norm learns nothing."""
    task.eval()
    with torch.no_grad():
        latents = task.styles(task.draw(np.random.default_rng(0), 4)["picture"])
    torch.testing.assert_close(latents.mean(1), torch.zeros(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(latents.var(1, unbiased=False), torch.ones(4), rtol=0, atol=0.05)
    assert {name for name, p in task.network.sref_autoencoder.named_parameters() if not p.requires_grad} == {"latent_norm.weight", "latent_norm.bias"}


def test_rows_are_another_picture_of_the_style(folders: dict[str, Path]) -> None:
    """But for the share that is read from the target itself."""
    source = StyledSet(folders["data"])
    for same in (0.0, 1.0):
        task = StyleTask(replace(CONFIG, same=same), **folders)
        batch = task.draw(np.random.default_rng(0), 30)
        for picture, latents in zip(batch["picture"].numpy(), batch["latents"].numpy(), strict=True):
            target = next((i, v) for i in range(6) for v in range(6) if np.array_equal(task.data.latents[i, v].astype(np.float32), latents))
            shown = [v for v in range(6) if np.array_equal(source.pictures[target[0], v], picture)]
            assert shown
            assert (target[1] in shown) == bool(same)


def test_the_noise_s_mean_varies_where_that_is_asked_for(folders: dict[str, Path]) -> None:
    plain, offset = (StyleTask(replace(CONFIG, offset=share), **folders).draw(np.random.default_rng(0), 30)["noise"] for share in (0.0, 0.5))
    torch.testing.assert_close(offset - offset.mean((2, 3), keepdim=True), plain - plain.mean((2, 3), keepdim=True))
    assert (offset - plain).mean((2, 3)).std() == pytest.approx(0.5, rel=0.2)


def test_without_contrast_there_is_one_loss(folders: dict[str, Path]) -> None:
    task = StyleTask(replace(CONFIG, contrast=0.0), **folders)
    assert set(task(**task.draw(np.random.default_rng(0), 2))) == {"loss", "painted"}


def test_pairs_of_a_style_are_told_from_others(task: StyleTask) -> None:
    """The contrastive loss is low where the two pictures of a style have one code, and others have others."""
    codes = torch.nn.functional.one_hot(torch.arange(4), 20).float() * 20**0.5

    def loss_of(latents: Tensor) -> float:
        task.styles = lambda _: latents  # type: ignore[method-assign, assignment]
        return task._coded(torch.zeros(8, 1))["apart"].item()

    assert loss_of(torch.cat([codes, codes])) < 0.01
    assert loss_of(torch.cat([codes, codes.roll(1, 0)])) > 5
    assert loss_of(torch.ones(8, 20)) == pytest.approx(np.log(4), abs=1e-4)


def test_a_code_is_asked_for_its_style(folders: dict[str, Path]) -> None:
    """The codes alone: no UNet runs, and what a code tells of another picture of its style gets better by training."""
    task = StyleTask(replace(CONFIG, contrast=0.0, told=1.0, paints=False), **folders)
    batch = task.draw(np.random.default_rng(0), 2)
    assert set(batch) == {"pairs"}
    optimiser = torch.optim.Adam([p for p in task.parameters() if p.requires_grad], 3e-3)
    told = []
    for _ in range(12):
        losses = task(**batch)
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
        told.append(losses["told"].item())
    assert told[-1] < 0.8 * told[0]
    assert all(p.grad is None for p in task.unet.parameters())


def test_a_summary_tells_what_a_style_decides() -> None:
    """Pictures in one style are closer in it than pictures in two, border and roughness each."""
    flat, red = torch.full((1, 32, 32, 3), 200, dtype=torch.uint8), torch.tensor([220, 30, 30], dtype=torch.uint8).expand(1, 32, 32, 3)
    striped = flat.clone()
    striped[:, ::2] = 100
    away = lambda one, other: (summary(one) - summary(other)).abs().max().item()  # noqa: E731
    assert summary(flat).shape == (1, SIZE)
    assert away(flat, flat) == 0
    assert away(flat, red) > 1
    assert away(flat, striped) > 1


# Through the code in training.


def test_through_the_code_every_number_is_a_level() -> None:
    latents = torch.randn(50, 20, generator=torch.Generator().manual_seed(0)) * 1.3
    out = through_the_code(latents)
    nearest = [[min(LEVELS, key=lambda level, x=x: abs(level - x)) for x in row] for row in latents.tolist()]
    torch.testing.assert_close(out, torch.tensor(nearest), rtol=0, atol=1e-6)
    assert (out - latents).norm() / latents.norm() < 0.1


def test_the_gradient_passes_through_the_code() -> None:
    latents = torch.randn(3, 20, requires_grad=True)
    weights = torch.randn(3, 20)
    (through_the_code(latents) * weights).sum().backward()
    assert torch.equal(latents.grad, weights)  # type: ignore[arg-type]


def test_a_share_of_the_rows_goes_through_the_code(folders: dict[str, Path]) -> None:
    task = StyleTask(replace(CONFIG, quantised=0.25), **folders).eval()
    coded = torch.cat([task.draw(np.random.default_rng(i), 200)["coded"] for i in range(5)])
    assert coded.float().mean().item() == pytest.approx(0.25, abs=0.05)
    seen: list[Tensor] = []
    plan, styles = task.plan, task.styles
    task.plan = lambda latents: seen.append(latents) or plan(latents)  # type: ignore[method-assign, assignment]
    batch = task.draw(np.random.default_rng(0), 4) | {"coded": torch.tensor([True, False, True, False])}
    task(**batch)["painted"].backward()
    own = styles(batch["picture"])
    torch.testing.assert_close(seen[0][[1, 3]], own[[1, 3]])
    torch.testing.assert_close(seen[0][[0, 2]], through_the_code(own)[[0, 2]])
    assert (seen[0] - own)[[0, 2]].abs().max() > 1e-3
    for parameter in (task.vision.embeddings.patch_embedding.weight, task.network.sref_autoencoder.latent_proj.weight):  # type: ignore[union-attr]
        assert parameter.grad is not None  # type: ignore[union-attr]
        assert parameter.grad.abs().max() > 0  # type: ignore[union-attr]


def test_a_run_without_it_sees_the_batches_that_it_always_saw(folders: dict[str, Path]) -> None:
    plain, coded = (StyleTask(replace(CONFIG, quantised=share), **folders).draw(np.random.default_rng(3), 4) for share in (0.0, 0.5))
    assert coded.keys() - plain.keys() == {"coded"}
    assert all(torch.equal(plain[name], coded[name]) for name in plain)
