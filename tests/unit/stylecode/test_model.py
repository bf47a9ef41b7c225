"""Stylecode models as files: written, looked at, read; and what is none."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib_refonly.conditioning.plan import Plan, SideBranch
from lib_refonly.errors import BadModel, CannotWrite
from lib_refonly.hosts.diffusers import session
from lib_refonly.stylecode.codes import RELEASED, CodeModel
from lib_refonly.stylecode.control import StyleRun
from lib_refonly.stylecode.model import CONTROL, METADATA, VISION, Parts, describe, on_diffusers, read_vision_file, save_stylecode
from tests.tiny_models import tiny_unet, tiny_vae
from tests.unit.stylecode.small import HEADS, info, networks, small_model, tensors

TOLD = [CONTROL, "sref_autoencoder.", "control_model.up_zero_convs_out."]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("small") / "deep" / "small.safetensors")


def painted(model: Any, latent: Tensor, strength: float = 1.0) -> Tensor:
    """A UNet's output with a style."""
    unet, generator = tiny_unet(), torch.Generator().manual_seed(0)
    run = StyleRun(model.control, model.autoencoder, latent)
    with torch.no_grad(), session(unet, Plan(branches=(SideBranch(run, strength),))):
        return unet(torch.randn(1, 4, 16, 16, generator=generator), 400, torch.randn(1, 5, 48, generator=generator)).sample


def some_latent(seed: int = 0) -> Tensor:
    return torch.randn(1, 20, generator=torch.Generator().manual_seed(seed))


def changed(file: Path, path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The file with something else in what it says of itself."""
    with safe_open(file, "pt") as opened:
        told = json.loads(opened.metadata()[METADATA])
    change(told)
    save_file(load_file(file), path, {METADATA: json.dumps(told)})
    return path


# What is written is read.


def test_what_a_file_says_of_itself(file: Path) -> None:
    found = describe(file)
    assert (found.code.name, found.code.title, found.code.sign) == ("small-1", "A small one", CodeModel("small-1").sign)
    assert (found.native_size, found.heads, found.vision) == (128, HEADS, {"heads": 3, "layers": 3})
    assert list(found.unet["block_out_channels"]) == [32, 64]
    assert found.widths == info().widths == (5, 64, 48)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_every_number_comes_back(file: Path) -> None:
    """Rounded to float16, which the numbers of this model hold."""
    wanted, parts = tensors(), Parts(file)
    with safe_open(file, "pt") as opened:
        assert {opened.get_tensor(name).dtype for name in tensors()} == {torch.float16}
    vision, autoencoder, mixers = parts.read_vision(), parts.read_autoencoder(), parts.read_mixers()
    for module, prefix in ((vision, VISION), (autoencoder, CONTROL + "sref_autoencoder."), (mixers[0], CONTROL + "middle_block_out.")):
        for name, tensor in module.state_dict().items():
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, wanted[prefix + name]), name
    for i, mixer in enumerate(mixers[1:]):
        assert torch.equal(mixer.state_dict()["weight"], wanted[f"{CONTROL}control_model.up_zero_convs_out.{i}.weight"])
    assert len(mixers) == describe(file).widths[0]


def test_it_paints_as_the_network_that_was_written(file: Path) -> None:
    network, _ = networks()
    network.load_state_dict({name.removeprefix(CONTROL): tensor for name, tensor in tensors().items() if name.startswith(CONTROL)})
    network.requires_grad_(False)

    class Written:
        control, autoencoder = network.control, network.sref_autoencoder

    latent, model = some_latent(), on_diffusers(file)
    torch.testing.assert_close(painted(model, latent), painted(Written, latent), rtol=0, atol=1e-6)
    assert (painted(model, latent) - painted(model, latent, 0.0)).abs().max() > 0.01
    assert (painted(model, latent) - painted(model, some_latent(1))).abs().max() > 1e-4


def test_in_float16(file: Path) -> None:
    model = on_diffusers(file, torch.float16)
    assert {p.dtype for p in model.control.parameters()} == {torch.float16}
    assert {p.dtype for p in model.autoencoder.parameters()} == {torch.float32}
    begin = StyleRun(model.control, model.autoencoder, some_latent()).begin(4, 4)
    own, given = model.control.mix(0, begin.half(), begin.half())
    assert own.dtype == given.dtype == torch.float16
    assert torch.isfinite(own).all()


def test_nothing_is_left_to_chance(file: Path) -> None:
    """The decoder has dropout, which is off in whatever is read: two calls are equal, and unequal in training."""
    model, vision = on_diffusers(file), Parts(file).read_vision()
    for module in (model.control, model.autoencoder, vision):
        assert not any(inner.training for inner in module.modules())
        assert not any(parameter.requires_grad for parameter in module.parameters())
    assert torch.equal(painted(model, some_latent()), painted(model, some_latent()))
    assert torch.equal(model.autoencoder.decode(some_latent(), 4, 4), model.autoencoder.decode(some_latent(), 4, 4))
    model.autoencoder.train()
    assert not torch.equal(model.autoencoder.decode(some_latent(), 4, 4), model.autoencoder.decode(some_latent(), 4, 4))


def test_no_half_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite):
        small_model(tmp_path / "file" / "a.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(CannotWrite):
        small_model(tmp_path / "folder.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.safetensors"]


# The author's layout.


@pytest.mark.parametrize("ending", [".safetensors", ".bin"])
def test_the_released_layout_is_told_by_its_names(tmp_path: Path, file: Path, ending: str) -> None:
    """With the fixed table, without metadata and vision model; and it paints the same."""
    bare = {name.removeprefix(CONTROL): tensor for name, tensor in tensors().items() if name.startswith(CONTROL)}
    bare["sref_autoencoder.pos_encoder.pe"] = torch.full((1, 5000, 32), torch.nan)
    path = tmp_path / f"controlnet{ending}"
    torch.save({"controlnet": bare}, path) if ending == ".bin" else save_file({CONTROL + name: tensor for name, tensor in bare.items()}, path)
    found = describe(path)
    assert (found.code, found.vision, found.native_size) == (RELEASED, None, 512)
    assert found.widths == (13, 1280, 768)
    model = on_diffusers(path, unet=tiny_unet().config, heads=HEADS)
    torch.testing.assert_close(painted(model, some_latent()), painted(on_diffusers(file), some_latent()), rtol=0, atol=1e-6)
    with pytest.raises(BadModel, match=f"controlnet{ending} does not fit together"):
        on_diffusers(path)
    with pytest.raises(BadModel, match="needs SigLIP's vision model"):
        Parts(path).read_vision()


# What is no stylecode model, or a damaged one.


def test_other_models_are_refused_by_their_kind(tmp_path: Path) -> None:
    save_file({"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": torch.zeros(4, 4)}, tmp_path / "lora.safetensors")
    tiny_vae().save_pretrained(tmp_path)
    save_file({"something": torch.zeros(3)}, tmp_path / "x.safetensors")
    named = {"lora.safetensors": "a LoRA", "diffusion_pytorch_model.safetensors": "a VAE", "x.safetensors": "something unknown"}
    for name, kind in named.items():
        for use in (describe, Parts, on_diffusers):
            with pytest.raises(BadModel, match=f"{name} is no stylecode model. It seems to be {kind}"):
                use(tmp_path / name)


def test_files_that_are_none(tmp_path: Path, file: Path) -> None:
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "text.safetensors").write_text("no tensors at all, but text")
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:-9])
    for name, said in {"empty": "is empty", "text": "no safetensors file", "cut": "9 bytes are missing", "missing": "is not there"}.items():
        with pytest.raises(BadModel, match=said):
            describe(tmp_path / f"{name}.safetensors")


class Bomb:
    """A pickle of it makes a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_code_in_a_pickle_is_never_run(tmp_path: Path) -> None:
    fired, bomb = tmp_path / "fired", tmp_path / "controlnet.bin"
    torch.save({"controlnet": {"sref_autoencoder.latent_init": Bomb(fired)}}, bomb)
    for use in (describe, Parts, on_diffusers, read_vision_file):
        with pytest.raises(BadModel, match=r"wants to run program code \((posix|nt)\.mkdir\)"):
            use(bomb)
    assert not fired.exists()
    pickle.loads(pickle.dumps(Bomb(fired)))  # the bomb is a real one
    assert fired.is_dir()


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "vision layers": lambda told: told["vision"].update(layers=10**9),
    "no vision layers": lambda told: told["vision"].update(layers=0),
    "vision without heads": lambda told: told["vision"].pop("heads"),
    "no vision at all": lambda told: told.pop("vision"),
    "vision that is text": lambda told: told.update(vision="yes"),
    "no heads": lambda told: told.update(heads=0),
    "heads that are text": lambda told: told.update(heads="four"),
    "layers": lambda told: told["unet"].update(layers_per_block=10**7),
    "negative layers": lambda told: told["unet"].update(layers_per_block=[-1, 4]),
    "layers of transformers": lambda told: told["unet"].update(transformer_layers_per_block=10**6),
    "attention heads": lambda told: told["unet"].update(attention_head_dim=0),
    "widths": lambda told: told["unet"].update(block_out_channels=[32] * 1000),
    "a width that is text": lambda told: told["unet"].update(block_out_channels=["32", "64"]),
    "a width that is absurd": lambda told: told["unet"].update(block_out_channels=[32, 10**12]),
    "no widths": lambda told: told["unet"].pop("block_out_channels"),
    "no layers": lambda told: told["unet"].pop("layers_per_block"),
    "no context": lambda told: told["unet"].pop("cross_attention_dim"),
    "no unet": lambda told: told.update(unet=[]),
    "size": lambda told: told.update(native_size=10**9),
    "a size that is nothing": lambda told: told.update(native_size=None),
    "no name": lambda told: told.update(name=""),
    "a long name": lambda told: told.update(name="a" * 10**5),
    "a mark of two": lambda told: told.update(mark="ab"),
    "a mark that no code can have": lambda told: told.update(mark='"'),
    "no version": lambda told: told.pop("version"),
}


@pytest.mark.parametrize("lie", LIES)
def test_metadata_that_lies(file: Path, tmp_path: Path, lie: str) -> None:
    path = changed(file, tmp_path / "lies.safetensors", LIES[lie])
    with pytest.raises(BadModel, match=r"lies\.safetensors is damaged: what it says of itself makes no sense"):
        describe(path)


@pytest.mark.parametrize("text", ["", "[]", "7", "null", "{", '"a"', "[" * 100000])
def test_metadata_that_is_none(file: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "lies.safetensors"
    save_file(load_file(file), path, {METADATA: text})
    with pytest.raises(BadModel, match="makes no sense"):
        describe(path)


def test_another_version_is_told(file: Path, tmp_path: Path) -> None:
    path = changed(file, tmp_path / "new.safetensors", lambda told: told.update(version=2))
    with pytest.raises(BadModel, match="of version 2; this program reads version 1. Update it"):
        describe(path)


UNFIT: dict[str, Callable[[dict[str, Any]], object]] = {
    "wider": lambda told: told["unet"].update(block_out_channels=[64, 128]),
    "deeper": lambda told: told["unet"].update(layers_per_block=2),
    "another context": lambda told: told["unet"].update(cross_attention_dim=64),
    "other blocks": lambda told: told["unet"].update(up_block_types=["UpBlock2D", "NoSuchBlock2D"]),
    "heads that do not divide": lambda told: told.update(heads=5),
}


@pytest.mark.parametrize("what", UNFIT)
def test_a_description_that_its_weights_do_not_fit(file: Path, tmp_path: Path, what: str) -> None:
    path = changed(file, tmp_path / "unfit.safetensors", UNFIT[what])
    assert describe(path).code.name == "small-1"
    with pytest.raises(BadModel, match=r"unfit\.safetensors"):
        on_diffusers(path)


@pytest.mark.parametrize("vision", [{"heads": 5}, {"layers": 2}, {"layers": 5}, {"layers": 1}])
def test_a_description_that_its_vision_model_does_not_fit(file: Path, tmp_path: Path, vision: dict[str, int]) -> None:
    """Fewer layers than there are would be other states, silently."""
    path = changed(file, tmp_path / "unfit.safetensors", lambda told: told["vision"].update(vision))
    with pytest.raises(BadModel, match="its vision model can't be read"):
        Parts(path).read_vision()


@pytest.mark.parametrize(
    "missing",
    [
        "sref_autoencoder.latent_proj.weight",
        "sref_autoencoder.transformer_decoder.layers.1.norm3.bias",
        "middle_block_out.weight",
        "control_model.up_zero_convs_out.2.bias",
        "control_model.mid_block.resnets.0.conv1.weight",
    ],
)
def test_missing_tensors(tmp_path: Path, missing: str) -> None:
    found = tensors()
    del found[CONTROL + missing]
    path = save_stylecode(found, info(), tmp_path / "part.safetensors")
    with pytest.raises(BadModel, match=r"part\.safetensors") as caught:
        on_diffusers(path)
    assert missing.rsplit(".", maxsplit=2)[-1] in str(caught.value)


def test_tensors_too_many(tmp_path: Path) -> None:
    path = save_stylecode(tensors() | {CONTROL + "control_model.mid_block.surplus": torch.zeros(2)}, info(), tmp_path / "more.safetensors")
    with pytest.raises(BadModel, match="too many"):
        on_diffusers(path)
