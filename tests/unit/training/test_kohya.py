"""ONE-PIC inside sd-scripts, without sd-scripts: the network module, and the trainer on a base class that calls it as sd-scripts' does."""

from __future__ import annotations

import argparse
import sys
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn

from lib_refonly.errors import BadModel, BadSettings
from lib_refonly.onepic import lora
from lib_refonly.onepic.layout import Layout
from lib_refonly.onepic.shelf import loras
from lib_refonly.training.base import BaseConfig, BaseTask
from lib_refonly.training.kohya import onepic_network as network
from lib_refonly.training.kohya import onepic_trainer as kohya
from lib_refonly.training.kohya.canvases import Canvases
from lib_refonly.training.latents import encode_all
from lib_refonly.training.onepic import OnePicConfig, OnePicTask
from lib_refonly.training.panel_files import build
from lib_refonly.training.vae import VaeConfig, VaeTask
from tests.tiny_models import tiny_unet, tiny_vae
from tests.unit.onepic.test_lora import SDXL
from tests.unit.test_layers import ROOT, imports, top

SQUARE = Canvases.named("reference,lines/lines,target", 64, 64, "colorize", "Mine")
SD15: dict[str, Any] = {"cross_attention_dim": 768, "attention_head_dim": 8}
"""diffusers' defaults are its other values."""


# --- the network --------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "modules", "values", "one"),
    [
        (SDXL, 210, 15_974_400, "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"),
        (SD15, 48, 2_396_160, "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"),
    ],
    ids=["SDXL", "SD 1.5"],
)
def test_what_is_trained_is_the_paper_s(shape: dict[str, Any], modules: int, values: int, one: str) -> None:
    """Section 4: rank 32 on attn1's q, k and v."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**shape)
        made = network.create_network(1.0, None, None, None, None, unet)
    names = [name for name, _ in made.named_children()]
    assert len(names) == modules
    assert sum(p.numel() for p in made.parameters()) == values
    assert set(network.places(unet).values()) == set(lora.names(unet).values())
    assert one in names
    assert {low.scale for low in made.children() if isinstance(low, network.LowRank)} == {4 / 32}
    assert {id(p) for group in made.prepare_optimizer_params(None, 2e-3, 1.0)[0] for p in group["params"]} == {id(p) for p in made.parameters()}


def test_a_unet_with_ldm_s_names() -> None:
    """sd-scripts' own SDXL."""
    attention = nn.ModuleDict({side: nn.Linear(8, 8) for side in ("to_q", "to_k", "to_v")} | {"to_out": nn.ModuleList([nn.Linear(8, 8)])})
    other = nn.ModuleDict({side: nn.Linear(8, 8) for side in ("to_q", "to_k", "to_v")})
    block = nn.ModuleDict({"attn1": attention, "attn2": other, "ff": nn.Linear(8, 8)})
    unet = nn.Module()
    unet.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(4, 8, 1), nn.ModuleDict({"transformer_blocks": nn.ModuleList([block])})])])
    assert network.places(unet) == {
        f"lora_unet_input_blocks_0_1_transformer_blocks_0_attn1_to_{side}": f"input_blocks.0.1.transformer_blocks.0.attn1.to_{side}" for side in "qkv"
    }


def test_a_unet_without_self_attention_is_refused() -> None:
    with pytest.raises(BadModel, match="no self-attention"):
        network.OnePicNetwork(nn.Sequential(OrderedDict(to_q=nn.Linear(8, 8))))


def output(unet: Any) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    x, text = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 3, 48, generator=generator)
    with torch.no_grad():
        return unet(x, torch.tensor(400), text, return_dict=False)[0]


def trained(unet: Any, rank: int = 4, alpha: float = 2.0) -> network.OnePicNetwork:
    """As it might be after some steps."""
    made = network.create_network(1.0, rank, alpha, None, None, unet)
    generator = torch.Generator().manual_seed(6)
    for low in made.children():
        nn.init.normal_(low.get_submodule("lora_up").weight, std=0.3, generator=generator)  # pyright: ignore[reportArgumentType]
    return made


def test_it_begins_as_the_base_and_acts_as_its_file(tmp_path: Path) -> None:
    unet = tiny_unet()
    plain = output(unet)
    begun = network.create_network(1.0, None, None, None, None, unet)
    begun.apply_to(object(), unet, apply_text_encoder=True)
    assert torch.equal(output(unet), plain)
    unet = tiny_unet()
    made = trained(unet)
    made.apply_to(None, unet)
    acts = output(unet)
    assert (acts - plain).abs().max() > 1e-2
    made.set_multiplier(0.0)
    assert torch.equal(output(unet), plain)
    made.save_weights(str(tmp_path / "a.safetensors"), torch.float32, {"ss_network_dim": "99", "refonly_onepic": SQUARE.written()})
    lows, metadata = lora.read(tmp_path / "a.safetensors")
    assert ({low.alpha for low in lows.values()}, metadata["ss_network_dim"]) == ({2.0}, "4")
    base = tiny_unet()
    for name, place in network.places(base).items():
        base.get_submodule(place).weight.data += lows[name].change()  # pyright: ignore
    torch.testing.assert_close(output(base), acts, rtol=0, atol=5e-3)  # the file is in half precision
    (file,) = loras([tmp_path])
    assert (file.task, file.layout, file.title) == ("colorize", "2x2", "Mine")


def test_it_goes_on_from_a_file(tmp_path: Path) -> None:
    unet, path = tiny_unet(), str(tmp_path / "a.safetensors")
    trained(unet).save_weights(path, None, None)
    again, _ = network.create_network_from_weights(1, path, None, None, unet)
    again.load_weights(path)
    again.save_weights(str(tmp_path / "b.safetensors"), None, {})
    one, other = (lora.read(tmp_path / name)[0] for name in ("a.safetensors", "b.safetensors"))
    for name, low in one.items():
        assert torch.equal(other[name].down, low.down)
        assert torch.equal(other[name].up, low.up)
        assert other[name].alpha == low.alpha == 2.0
    with pytest.raises(BadModel, match="another rank"):
        network.create_network(1.0, None, None, None, None, unet).load_weights(path)
    with pytest.raises(BadModel, match="modules that are not"):
        network.create_network(1.0, 4, 2, None, None, tiny_unet(layers_per_block=2)).load_weights(path)


def test_a_given_alpha_is_the_file_s(tmp_path: Path) -> None:
    """sd-scripts gives --network_alpha, the file may say otherwise: its weights were learnt with its own."""
    unet, path = tiny_unet(), str(tmp_path / "a.safetensors")
    trained(unet, alpha=2.0).save_weights(path, None, None)
    made = network.create_network(1.0, 4, 4.0, None, None, unet)
    made.load_weights(path)
    assert {low.low().alpha for low in made.children() if isinstance(low, network.LowRank)} == {2.0}


@pytest.mark.parametrize("more", [{"dropout": 0.1}, {"neuron_dropout": 0.1}, {"conv_dim": "4"}])
def test_what_the_network_does_not_have_is_refused(more: dict[str, Any]) -> None:
    assert network.create_network(1.0, 4, 1, None, None, tiny_unet(), neuron_dropout=None, dropout=None)
    with pytest.raises(BadSettings, match="does not know"):
        network.create_network(1.0, 4, 1, None, None, tiny_unet(), **more)


def test_the_unet_has_to_be_trained(tmp_path: Path) -> None:
    made = network.OnePicNetwork(tiny_unet(), 4)
    with pytest.raises(BadSettings, match="UNet alone"):
        made.apply_to(None, tiny_unet(), apply_unet=False)
    with pytest.raises(BadSettings, match="base_weights"):
        network.create_network_from_weights(1, str(tmp_path / "a.safetensors"), None, None, tiny_unet(), for_inference=True)


# --- the trainer --------------------------------------------------------------------------------------------------------------------------------------


class SdScripts:
    """Calls what can be overridden as sd-scripts' NetworkTrainer does; v is predicted."""

    def __init__(self) -> None:
        self.noise, self.t, self.vae = torch.zeros(0), torch.zeros(0), None

    def load_target_model(self, args: Any, weight_dtype: Any, accelerator: Any) -> tuple[Any, ...]:
        return "version", object(), self.vae, object()

    def assert_extra_args(self, args: Any, train_dataset_group: Any, val_dataset_group: Any) -> None:
        pass

    def update_metadata(self, metadata: dict[str, Any], args: Any) -> None:
        metadata["ss_from_the_base"] = "yes"

    def call_unet(self, args: Any, accelerator: Any, unet: Any, noisy_latents: Tensor, timesteps: Tensor, text_conds: Any, batch: Any, dtype: Any) -> Tensor:
        return unet(noisy_latents, timesteps, text_conds[0]).sample

    def get_noise_pred_and_target(
        self, args: Any, accelerator: Any, scheduler: Any, latents: Tensor, batch: Any, conds: Any, unet: Any, net: Any, dtype: Any, train_unet: bool
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        noisy = scheduler.add_noise(latents, self.noise, self.t).requires_grad_(train_unet)
        predicted = self.call_unet(args, accelerator, unet, noisy, self.t, conds, batch, dtype)
        return predicted, scheduler.get_velocity(latents, self.noise, self.t), self.t, None

    def loss(self, scheduler: Any, latents: Tensor, conds: Any, unet: Any) -> Tensor:
        """The mean over all that was handed on, of each canvas by itself."""
        predicted, truth, _, weighting = self.get_noise_pred_and_target(None, None, scheduler, latents, {}, conds, unet, None, torch.float32, True)
        assert weighting is None
        loss = F.mse_loss(predicted.float(), truth.float(), reduction="none")
        return loss.mean(dim=list(range(1, loss.ndim))).mean()


@pytest.fixture(scope="module")
def task(drawings: Path, tmp_path_factory: pytest.TempPathFactory) -> OnePicTask:
    """Our own trainer's, on pictures of the painter's."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("kohya")
    rng = np.random.default_rng(0)
    for name in ("reference", "lines", "target"):
        (folder / "mine" / name).mkdir(parents=True)
        for record in "ab":
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / "mine" / name / f"{record}.png")
            (folder / "mine" / name / f"{record}.txt").write_text(f"a disc, {record}", encoding="utf-8")
    build(folder / "mine", SQUARE, folder / "set", own=True)
    VaeTask(VaeConfig(widths=(64, 64, 64, 64)), folder / "set").export(folder)
    encode_all(folder / "vae", folder / "set", 64, batch=2)
    encode_all(folder / "vae", drawings, 64, batch=4)
    BaseTask(BaseConfig(size=64, widths=(64, 64), context=64, text_layers=1), drawings, folder / "vae").export(folder / "base")
    made = OnePicTask(OnePicConfig(SQUARE.panels, "mine", size=64, rank=4, alpha=2), folder / "set", folder / "base")
    for name, p in made.unet.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(p, std=0.1)
    return made


def test_its_loss_and_gradients_are_our_own_trainer_s(task: OnePicTask) -> None:
    batch = task.draw(np.random.default_rng(0), 2)
    learnt = [p for p in task.parameters() if p.requires_grad]
    own = task(**batch)["loss"]
    trainer = kohya.trainer(SdScripts, SQUARE)
    trainer.noise, trainer.t = batch["noise"], batch["t"]
    theirs = trainer.loss(task.noise, batch["latents"], [task.text_encoder(batch["ids"]).last_hidden_state], task.unet)
    torch.testing.assert_close(theirs, own)
    for given, wanted in zip(torch.autograd.grad(theirs, learnt), torch.autograd.grad(own, learnt), strict=True):
        torch.testing.assert_close(given, wanted)


def test_the_unet_sees_the_context_clean_and_the_target_noisy() -> None:
    canvases = Canvases.named("reference,target,lines", 64, 128)
    trainer, seen = kohya.trainer(SdScripts, canvases), []

    def unet(noisy: Tensor, t: Tensor, text: Tensor) -> Any:
        seen.append(noisy)
        return SimpleNamespace(sample=noisy * 0)

    latents, generator = torch.randn(2, 4, 16, 24), torch.Generator().manual_seed(1)
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    trainer.noise, trainer.t = torch.randn(latents.shape, generator=generator), torch.tensor([100, 900])
    loss = trainer.loss(scheduler, latents, [None], unet)
    target = torch.zeros(16, 24, dtype=torch.bool)
    target[:, 8:16] = True
    assert torch.equal(seen[0][..., ~target], latents[..., ~target])
    assert torch.equal(seen[0][..., target], scheduler.add_noise(latents, trainer.noise, trainer.t)[..., target])  # pyright: ignore[reportArgumentType]
    trainer.noise = torch.where(target, trainer.noise, torch.randn(latents.shape))
    torch.testing.assert_close(trainer.loss(scheduler, latents, [None], unet), loss)


@pytest.mark.parametrize("layout", [Layout(1, 3), Layout(2, 2), Layout(3, 1)])
def test_panels_apart_and_together(layout: Layout) -> None:
    width, height = layout.size(5, 4)
    canvas = torch.randn(2, 3, height, width)
    panels = kohya.apart(canvas, layout)
    assert panels.shape == (2 * layout.panels, 3, 4, 5)
    left, top, right, bottom = layout.box(1, 5, 4)
    assert torch.equal(panels[layout.panels + 1], canvas[1, :, top:bottom, left:right])
    assert torch.equal(kohya.together(panels, layout), canvas)


def test_each_panel_is_encoded_by_itself() -> None:
    """Also by sd-scripts' cache, which calls the VAE past the trainer. Plainly encoded, a panel's neighbour shows in it."""
    trainer = kohya.trainer(SdScripts, SQUARE)
    given: Any = tiny_vae()
    trainer.vae = given
    canvas = torch.rand(1, 3, 128, 128) * 2 - 1
    with torch.no_grad():
        plain = given.encode(canvas).latent_dist.mode()
        alone = [given.encode(panel[None]).latent_dist.mode() for panel in kohya.apart(canvas, SQUARE.layout)]
        _, _, vae, _ = trainer.load_target_model(None, None, None)
        apart = vae.encode(canvas).latent_dist
    wanted = kohya.together(torch.cat(alone), SQUARE.layout)
    torch.testing.assert_close(apart.mode(), wanted)
    assert (plain - wanted).abs().max() > 1e-3
    assert apart.sample().shape == (1, 4, 16, 16)


def data(size: tuple[int, int] = (128, 128), enable_bucket: bool = False, **subset: Any) -> Any:
    subsets = [SimpleNamespace(**{"flip_aug": False, "random_crop": False, "face_crop_aug_range": None, "alpha_mask": False} | subset)]
    return SimpleNamespace(datasets=[SimpleNamespace(width=size[0], height=size[1], enable_bucket=enable_bucket, subsets=subsets)])


@pytest.mark.parametrize(
    ("args", "group", "said"),
    [
        ({"masked_loss": True}, data(), "--masked_loss"),
        ({"sample_prompts": "a.txt"}, data(), "--sample_prompts"),
        ({"network_train_text_encoder_only": True}, data(), "--network_train_text_encoder_only"),
        ({}, data(size=(128, 64)), "a canvas is \\[128, 128\\] px"),
        ({}, data(enable_bucket=True), "enable_bucket = false"),
        ({}, data(flip_aug=True), "flip_aug"),
        ({}, data(random_crop=True), "random_crop"),
        ({}, data(face_crop_aug_range=(1.0, 2.0)), "face_crop_aug_range"),
        ({}, data(alpha_mask=True), "alpha_mask"),
    ],
)
def test_settings_that_would_spoil_canvases_are_refused_before_the_start(args: dict[str, Any], group: Any, said: str) -> None:
    trainer = kohya.trainer(SdScripts, SQUARE)
    trainer.assert_extra_args(SimpleNamespace(masked_loss=False), data(), None)
    with pytest.raises(BadSettings, match=said):
        trainer.assert_extra_args(SimpleNamespace(**args), group, None)
    with pytest.raises(BadSettings, match=said):
        trainer.assert_extra_args(SimpleNamespace(**args), data(), group)


def test_the_file_says_what_it_is_for() -> None:
    metadata: dict[str, Any] = {}
    kohya.trainer(SdScripts, SQUARE).update_metadata(metadata, None)
    assert metadata == {"ss_from_the_base": "yes", "refonly_onepic": SQUARE.written()}


class Script:
    """sd-scripts' parser, with its own defaults."""

    @staticmethod
    def setup_parser() -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser()
        parser.add_argument("--network_module")
        parser.add_argument("--network_dim", type=int)
        parser.add_argument("--network_alpha", type=float, default=1)
        parser.add_argument("--network_train_unet_only", action="store_true")
        parser.add_argument("--learning_rate", type=float, default=2e-6)
        parser.add_argument("--dataset_config")
        return parser


TRAIN_UTIL = SimpleNamespace(verify_command_line_training_args=lambda args: None, read_config_from_file=lambda args, parser: args)


def test_the_command_line_has_the_paper_s_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onepic.json").write_text(SQUARE.written(), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["onepic_trainer.py", "--sdxl", "--canvases", str(tmp_path), "--network_dim", "8"])
    args, canvases = kohya.read_arguments(Script, TRAIN_UTIL)
    assert canvases == SQUARE
    assert (args.network_dim, args.network_alpha, args.network_train_unet_only, args.learning_rate) == (8, 4, True, 1e-3)
    assert args.dataset_config == str(tmp_path / "dataset.toml")
    assert args.network_module == network.__name__
    monkeypatch.setattr(sys, "argv", ["onepic_trainer.py"])
    with pytest.raises(BadSettings, match="--canvases"):
        kohya.read_arguments(Script, TRAIN_UTIL)


def test_it_needs_none_of_the_studio_s_packages() -> None:
    """sd-scripts' environment has other versions of diffusers, transformers and OpenCV, or none. Read from the sources, through all that they import."""
    todo, seen, foreign = [f"{network.__package__}.{name}" for name in ("onepic_network", "onepic_trainer")], set[str](), set[str]()
    while todo:
        module = todo.pop()
        path = ROOT / module.replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if module in seen or not file.exists():  # what is imported from a module is none itself
            continue
        seen.add(module)
        parents = {module.rsplit(".", number)[0] for number in range(1, module.count(".") + 1)}
        todo += [name for name in {*imports(file), *parents} if top(name) == "lib_refonly"]
        foreign |= {top(name) for name in imports(file)}
    assert "lib_refonly.conditioning.canvas" in seen
    assert foreign - set(sys.stdlib_module_names) == {"lib_refonly", "torch", "safetensors", "PIL", "numpy"}
