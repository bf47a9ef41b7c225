from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from lib_refonly.errors import BadModel, CannotWrite
from lib_refonly.models.registry import EMBEDDED
from lib_refonly.models.sniff import ModelKind, sniff
from lib_refonly.models.weights import read_header
from lib_refonly.refonly import convert
from lib_refonly.refonly.convert import from_ldm, to_ldm
from lib_refonly.refonly.ldm_keys import unet_names, vae_names
from lib_refonly.refonly.ldm_yaml import ldm_config, to_yaml
from lib_refonly.refonly.loader import load_refonly, save_refonly
from tests.tiny_models import SCHEDULER, UNET, VAE, states, tiny_model, tiny_unet, tiny_vae

ldm_unet = pytest.importorskip("ldm.modules.diffusionmodules.openaimodel", reason="stable-diffusion-sdkit (the real ldm classes) is not installed")
ldm_vae = pytest.importorskip("ldm.modules.diffusionmodules.model", reason="stable-diffusion-sdkit (the real ldm classes) is not installed")

SD_BLOCKS: dict[str, Any] = {
    "block_out_channels": (32, 64, 64, 64),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
SHAPES: dict[str, dict[str, Any]] = {
    "two levels": {},
    "SD 1.5": SD_BLOCKS | {"layers_per_block": 2, "attention_head_dim": 8, "use_linear_projection": False},
    "SD 2.1": SD_BLOCKS | {"layers_per_block": 2, "attention_head_dim": [2, 4, 4, 4], "use_linear_projection": True},
    "layers by level": SD_BLOCKS | {"layers_per_block": [1, 2, 3, 1], "attention_head_dim": 4},
    "attention in the middle": {
        "block_out_channels": (32, 32, 64),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 2,
    },
}


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).abs().max() < 1e-4)


def under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_refonly(tiny_model(), tmp_path / "tiny")


@pytest.mark.parametrize("shape", list(SHAPES))
def test_the_real_ldm_unet_takes_it_and_computes_the_same(tmp_path: Path, shape: str) -> None:
    model = tiny_model(**SHAPES[shape])
    out = to_ldm(save_refonly(model, tmp_path / "tiny"), tmp_path / "out.safetensors")
    params = yaml.safe_load(out.with_suffix(".yaml").read_text("utf-8"))["model"]["params"]
    network = ldm_unet.UNetModel(**params["unet_config"]["params"]).eval()
    network.load_state_dict(under(load_file(out), "model.diffusion_model."), strict=True)
    generator = torch.Generator().manual_seed(0)
    x, context, t = torch.randn(2, 4, 16, 8, generator=generator), torch.randn(2, 5, 48, generator=generator), torch.tensor([7, 801])
    with torch.no_grad():
        assert close(network(x, t, context=context), model.unet(x, t, context).sample)


def test_the_real_ldm_vae_takes_it_and_computes_the_same(folder: Path, tmp_path: Path) -> None:
    out = to_ldm(folder, tmp_path / "out.safetensors")
    first_stage = yaml.safe_load(out.with_suffix(".yaml").read_text("utf-8"))["model"]["params"]["first_stage_config"]["params"]
    tensors, vae = under(load_file(out), "first_stage_model."), tiny_model().vae
    x, z = torch.rand(1, 3, 64, 32), torch.randn(1, 4, 8, 4)
    encoder, decoder = ldm_vae.Encoder(**first_stage["ddconfig"]).eval(), ldm_vae.Decoder(**first_stage["ddconfig"]).eval()
    encoder.load_state_dict(under(tensors, "encoder."), strict=True)
    decoder.load_state_dict(under(tensors, "decoder."), strict=True)
    with torch.no_grad():
        quant = torch.nn.functional.conv2d(encoder(x), tensors["quant_conv.weight"], tensors["quant_conv.bias"])
        assert close(quant, vae.encode(x).latent_dist.parameters)  # type: ignore[union-attr]
        after = torch.nn.functional.conv2d(z, tensors["post_quant_conv.weight"], tensors["post_quant_conv.bias"])
        assert close(decoder(after), vae.decode(z).sample)  # type: ignore[union-attr, arg-type]
    rest = {name for name in tensors if not name.startswith(("encoder.", "decoder."))}
    assert rest == {"quant_conv.weight", "quant_conv.bias", "post_quant_conv.weight", "post_quant_conv.bias"}


def test_the_whole_yaml(folder: Path, tmp_path: Path) -> None:
    params = yaml.safe_load(to_ldm(folder, tmp_path / "out").with_suffix(".yaml").read_text("utf-8"))["model"]["params"]
    assert params["parameterization"] == "v"
    assert (params["linear_start"], params["linear_end"], params["timesteps"], params["scale_factor"]) == (0.00085, 0.012, 1000, 0.18215)
    assert params["unet_config"]["params"] == {
        "use_checkpoint": False,
        "image_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "attention_resolutions": [1],
        "num_res_blocks": 1,
        "channel_mult": [1, 2],
        "num_head_channels": 16,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": True,
        "transformer_depth": 1,
        "context_dim": 48,
        "legacy": False,
    }


@pytest.mark.parametrize("form", ["released", "paper"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_it_comes_back_to_the_bit(tmp_path: Path, form: str, dtype: torch.dtype) -> None:
    model = tiny_model(form=form).to(dtype=dtype)
    out = to_ldm(save_refonly(model, tmp_path / "tiny"), tmp_path / "tiny.safetensors")
    again = from_ldm(out)
    assert again.dtype == dtype
    one, other = states(model), states(again)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (again.card, again.scheduler_config, again.prompt_spec, again.blueprint.form) == (model.card, model.scheduler_config, model.prompt_spec, form)
    assert load_refonly(out, dtype=dtype).card == model.card
    assert sniff(out) is ModelKind.REFONLY_CHECKPOINT


def test_a_pickled_folder_converts_too(folder: Path, tmp_path: Path) -> None:
    for name, stem in (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("image_encoder", "pytorch_model")):
        (path,) = (folder / name).glob("*.safetensors")
        torch.save(load_file(path), folder / name / f"{stem}.bin")
        path.unlink()
    again = from_ldm(to_ldm(folder, tmp_path / "out.safetensors"))
    assert all(torch.equal(tensor, states(again)[name]) for name, tensor in states(tiny_model()).items())


def test_no_two_names_meet() -> None:
    unet, vae = tiny_unet(**SHAPES["SD 2.1"]), tiny_vae()
    for network, names in ((unet, unet_names), (vae, vae_names)):
        ours = list(network.state_dict())
        assert sorted(names(network.config, ours).values()) == sorted(ours)


def test_known_names_of_stable_diffusion() -> None:
    config = UNET | SHAPES["SD 2.1"]
    pairs = {
        "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight",
        "down_blocks.0.downsamplers.0.conv.bias": "input_blocks.3.0.op.bias",
        "down_blocks.3.resnets.1.time_emb_proj.weight": "input_blocks.11.0.emb_layers.1.weight",
        "mid_block.attentions.0.proj_in.weight": "middle_block.1.proj_in.weight",
        "up_blocks.0.upsamplers.0.conv.weight": "output_blocks.2.1.conv.weight",
        "up_blocks.1.upsamplers.0.conv.weight": "output_blocks.5.2.conv.weight",
        "up_blocks.3.resnets.2.conv_shortcut.weight": "output_blocks.11.0.skip_connection.weight",
        "conv_norm_out.weight": "out.0.weight",
    }
    assert unet_names(config, pairs) == {f"model.diffusion_model.{ldm}": ours for ours, ldm in pairs.items()}
    vae = {
        "decoder.up_blocks.0.resnets.2.norm1.bias": "decoder.up.3.block.2.norm1.bias",
        "encoder.down_blocks.1.resnets.0.conv_shortcut.bias": "encoder.down.1.block.0.nin_shortcut.bias",
    }
    assert vae_names(VAE, vae) == {f"first_stage_model.{ldm}": ours for ours, ldm in vae.items()}


def test_a_text_to_image_model_brings_its_text_encoder(tmp_path: Path) -> None:
    folder = tmp_path / "base model"
    tiny_unet().save_pretrained(folder / "unet")
    tiny_vae().save_pretrained(folder / "vae")
    text = CLIPTextModel(CLIPTextConfig(hidden_size=48, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=50))
    text.save_pretrained(folder / "text_encoder")
    for name, content in (("tokenizer/vocab.json", {}), ("scheduler/scheduler_config.json", SCHEDULER | {"prediction_type": "epsilon"})):
        (folder / name).parent.mkdir()
        (folder / name).write_text(json.dumps(content), "utf-8")
    out = to_ldm(folder, tmp_path / "out")
    tensors = load_file(out)
    found = under(tensors, "cond_stage_model.transformer.text_model.")
    wanted = {name.removeprefix("text_model."): tensor for name, tensor in text.state_dict().items() if not name.endswith("position_ids")}
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    params = yaml.safe_load(out.with_suffix(".yaml").read_text("utf-8"))["model"]["params"]
    assert params["parameterization"] == "eps"
    assert params["cond_stage_config"]["params"]["version"] == str(tmp_path / "out.clip")
    assert {path.name for path in (tmp_path / "out.clip").iterdir()} == {"vocab.json", "config.json"}
    with pytest.raises(BadModel, match="no RefOnly model that this program converted"):
        from_ldm(out)


def content(path: Path) -> tuple[Any, bytes]:
    """What a .safetensors holds, byte by byte; only the order of the metadata, which safetensors writes at random, is left out."""
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:end])
    return (header.pop("__metadata__"), list(header.items())), raw[end:]


def test_a_text_to_image_model_is_converted_without_diffusers_to_the_same_file(tmp_path: Path) -> None:
    code = "import sys; sys.modules['diffusers'] = None; from lib_refonly.refonly.convert import to_ldm; to_ldm(*sys.argv[1:])"
    base, without = EMBEDDED / "tiny-base", tmp_path / "without"
    subprocess.run([sys.executable, "-c", code, str(base), str(without / "base.safetensors")], check=True, cwd=EMBEDDED.parents[1])
    out = to_ldm(base, tmp_path / "with" / "base.safetensors")
    assert content(without / "base.safetensors") == content(out)
    yaml_of_it = (without / "base.yaml").read_text("utf-8")
    assert yaml_of_it.replace(str(without), str(out.parent)) == out.with_suffix(".yaml").read_text("utf-8")
    assert {path.name: path.read_bytes() for path in (without / "base.clip").iterdir()} == {
        p.name: p.read_bytes() for p in (out.parent / "base.clip").iterdir()
    }


@pytest.mark.parametrize(
    ("part", "field", "value", "said"),
    [
        ("vae", "layers_per_block", None, "vae/config.json does not say layers_per_block"),
        ("unet", "cross_attention_dim", None, "unet/config.json does not say cross_attention_dim"),
        ("unet", "layers_per_block", 0, "the weights do not fit"),
        ("vae", "block_out_channels", 7, "the weights do not fit"),
    ],
)
def test_without_diffusers_a_config_has_to_be_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, field: str, value: Any, said: str) -> None:
    monkeypatch.setattr(convert, "_has_diffusers", lambda: False)
    folder = tmp_path / "base"
    for path in (EMBEDDED / "tiny-base").rglob("*.*"):
        (folder / path.relative_to(EMBEDDED / "tiny-base")).parent.mkdir(parents=True, exist_ok=True)
        (folder / path.relative_to(EMBEDDED / "tiny-base")).write_bytes(path.read_bytes())
    config = json.loads((folder / part / "config.json").read_text("utf-8"))
    del config[field]
    (folder / part / "config.json").write_text(json.dumps(config | ({} if value is None else {field: value})), "utf-8")
    with pytest.raises(BadModel, match=said):
        to_ldm(folder, tmp_path / "out.safetensors")
    assert not list(tmp_path.glob("out*"))


def test_a_refonly_model_as_wide_as_the_embedded_text_encoder_gets_it(tmp_path: Path, folder: Path) -> None:
    """A1111 selects no checkpoint whose text encoder is torch.nn.Identity."""
    out = to_ldm(EMBEDDED / "tiny-refonly", tmp_path / "tiny.safetensors")
    stage = yaml.safe_load(out.with_suffix(".yaml").read_text("utf-8"))["model"]["params"]["cond_stage_config"]
    assert stage == {"target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder", "params": {"version": str(tmp_path / "tiny.clip")}}
    assert {path.name for path in (tmp_path / "tiny.clip").iterdir()} >= {"vocab.json", "merges.txt", "config.json"}
    text, lent = under(load_file(out), "cond_stage_model.transformer."), load_file(EMBEDDED / "tiny-base" / "text_encoder" / "model.safetensors")
    found = {name.removeprefix("text_model."): tensor for name, tensor in text.items()}
    wanted = {name.removeprefix("text_model."): tensor for name, tensor in lent.items() if not name.endswith("position_ids")}
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    one, other = states(load_refonly(EMBEDDED / "tiny-refonly", dtype=torch.float16)), states(from_ldm(out, dtype=torch.float16))
    assert all(torch.equal(one[name], other[name]) for name in one)
    narrow = to_ldm(folder, tmp_path / "narrow.safetensors")  # 48 wide: nobody's text encoder
    assert yaml.safe_load(narrow.with_suffix(".yaml").read_text("utf-8"))["model"]["params"]["cond_stage_config"] == {"target": "torch.nn.Identity"}
    assert not narrow.with_suffix(".clip").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attention_head_dim": [2, 8]}, "heads"),
        ({"transformer_layers_per_block": 2}, "more than one transformer"),
        ({"norm_num_groups": 16}, "norm groups"),
        ({"block_out_channels": (32, 96), "flip_sin_to_cos": False}, "flip_sin_to_cos"),
        ({"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}, "attention at different levels"),
    ],
)
def test_what_ldm_cannot_say_is_refused(changes: dict[str, Any], said: str) -> None:
    config = dict(tiny_unet().config) | changes
    with pytest.raises(BadModel, match=said):
        ldm_config(config, tiny_vae().config, SCHEDULER)


@pytest.mark.parametrize("scheduler", [SCHEDULER | {"beta_schedule": "linear"}, SCHEDULER | {"prediction_type": "sample"}])
def test_other_noise_schedules_and_predictions_are_refused(scheduler: dict[str, Any]) -> None:
    with pytest.raises(BadModel):
        ldm_config(tiny_unet().config, tiny_vae().config, scheduler)


def test_yaml_of_awkward_values() -> None:
    value = {"a": {"b": 1e-05, "c": 'C:\\x: "y" é', "d": [1, None, True], "e": 2.5e-07}, "f": "yes"}
    assert yaml.safe_load(to_yaml(value)) == value


def test_nothing_half_written(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out"
    monkeypatch.setattr(convert.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(CannotWrite, match="free in"):
        to_ldm(folder, target / "x.safetensors")
    assert list(target.iterdir()) == []


def test_damaged_conversions_are_refused(folder: Path, tmp_path: Path) -> None:
    out = to_ldm(folder, tmp_path / "out.safetensors")
    metadata, tensors = read_header(out).metadata, load_file(out)
    lost = {name: tensor for name, tensor in tensors.items() if name != "model.diffusion_model.out.2.bias"}
    save_file(lost, out, metadata=metadata)
    with pytest.raises(BadModel, match=r"damaged.*out\.2\.bias"):
        from_ldm(out)
    save_file(tensors | {"model.diffusion_model.extra": torch.zeros(1)}, out, metadata=metadata)
    with pytest.raises(BadModel, match="1 unknown tensors"):
        from_ldm(out)
    save_file(tensors, out, metadata={"refonly.configs": "{"})
    with pytest.raises(BadModel, match="a RefOnly model converted to one file"):
        from_ldm(out)


def test_sd2s_checkpoint_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "v2.safetensors"
    save_file({"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(8, 1024)}, path)
    with pytest.raises(BadModel, match=r"a Stable Diffusion 2\.x checkpoint"):
        from_ldm(path)
