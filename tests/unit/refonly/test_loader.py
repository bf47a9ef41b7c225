from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib_refonly.errors import BadModel, CannotWrite
from lib_refonly.refonly import loader
from lib_refonly.refonly.loader import load_refonly, released_states, save_refonly
from lib_refonly.refonly.model import ModelCard, RefOnlyModel
from tests.tiny_models import states, tiny_model

UNET = Path("unet", "diffusion_pytorch_model.safetensors")
VAE = Path("vae", "diffusion_pytorch_model.safetensors")
VISION = Path("image_encoder", "model.safetensors")


@pytest.fixture(scope="module")
def model() -> RefOnlyModel:
    return tiny_model()


@pytest.fixture
def folder(model: RefOnlyModel, tmp_path: Path) -> Path:
    return save_refonly(model, tmp_path / "tiny")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def edit(folder: Path, name: Path, change: Any) -> None:
    tensors = load_file(folder / name)
    change(tensors)
    save_file(tensors, folder / name)


def edit_json(folder: Path, name: str, **changes: Any) -> None:
    config = json.loads((folder / name).read_text("utf-8"))
    (folder / name).write_text(json.dumps(config | changes), "utf-8")


@pytest.mark.parametrize("form", ["released", "paper"])
def test_a_saved_model_comes_back_to_the_bit(tmp_path: Path, form: str) -> None:
    model = tiny_model(form=form)
    again = load_refonly(save_refonly(model, tmp_path / "tiny"))
    assert same(states(model), states(again))
    assert (again.blueprint.form, again.card, again.prompt_spec, again.scheduler_config) == (form, model.card, model.prompt_spec, model.scheduler_config)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    tokens = again.image_encoder(torch.zeros(1, 3, 40, 40)).last_hidden_state
    assert torch.equal(again.unet(x, 3, tokens).sample, model.unet(x, 3, tokens).sample)


def test_nothing_is_left_on_the_meta_device_and_nothing_needs_a_gradient(folder: Path) -> None:
    again = load_refonly(folder)
    for network in again.networks.values():
        assert not network.training
        assert not any(t.is_meta for t in (*network.parameters(), *network.buffers()))
        assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("kind", [".bin", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("prefix", ["vision_model.", ""])
def test_all_the_ways_the_files_may_be_written(model: RefOnlyModel, folder: Path, kind: str, dtype: torch.dtype, prefix: str) -> None:
    stems = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "image_encoder": "model" if kind == ".safetensors" else "pytorch_model"}
    for name, state in released_states(model).items():
        for path in (folder / name).glob("*.safetensors"):
            path.unlink()
        state = {key.replace("vision_model.", prefix): tensor.to(dtype).contiguous() for key, tensor in state.items()}
        path = folder / name / f"{stems[name]}{kind}"
        torch.save(state, path) if kind == ".bin" else save_file(state, path)
    again = load_refonly(folder, dtype=torch.float16)
    assert again.dtype == torch.float16
    assert same({name: tensor.half() for name, tensor in states(model).items()}, states(again))


def test_no_tensor_shares_memory_with_the_file(folder: Path) -> None:
    again = load_refonly(folder)
    before = again.unet.conv_in.weight.clone()
    with (folder / UNET).open("r+b") as file:
        file.seek(-4096, 2)
        file.write(b"\xff" * 4096)
    assert torch.equal(before, again.unet.conv_in.weight)
    assert all(torch.isfinite(p).all() for p in again.unet.parameters())


def test_old_names_and_tables_in_the_authors_files(model: RefOnlyModel, folder: Path) -> None:
    def old_attention(tensors: dict[str, torch.Tensor]) -> None:
        for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            for name in [name for name in tensors if f".{new}." in name]:
                tensors[name.replace(new, old)] = tensors.pop(name)

    edit(folder, VAE, old_attention)
    edit(folder, VISION, lambda t: t.update({"vision_model.embeddings.position_ids": torch.arange(26)[None], "visual_projection.weight": torch.zeros(4, 48)}))
    assert same(states(model), states(load_refonly(folder)))


def test_without_our_card_the_size_is_the_released_ones(folder: Path) -> None:
    (folder / "refonly.json").unlink()
    card = load_refonly(folder).card
    assert (card.name, card.native_size, card.dropout, card.guidance) == ("tiny", 128, False, 1.0)
    edit_json(folder, "unet/config.json", sample_size=96)
    assert load_refonly(folder).card.native_size == 512


@pytest.mark.parametrize("part", ["unet/config.json", "vae/config.json", "scheduler/scheduler_config.json", "clip_image_processor/preprocessor_config.json"])
def test_a_missing_file_is_named(folder: Path, part: str) -> None:
    (folder / part).unlink()
    with pytest.raises(BadModel, match=part):
        load_refonly(folder)


def test_missing_weights_are_named_with_what_there_is(folder: Path) -> None:
    (folder / VISION).rename(folder / "image_encoder" / "tf_model.h5")
    with pytest.raises(BadModel, match=r"image_encoder/ has no weights: model\.safetensors .* there is config\.json, tf_model\.h5"):
        load_refonly(folder)


def test_missing_tensors_are_counted_and_the_first_named(folder: Path) -> None:
    def lose(tensors: dict[str, torch.Tensor]) -> None:
        for name in sorted(name for name in tensors if name.startswith("up_blocks."))[:5]:
            del tensors[name]

    edit(folder, UNET, lose)
    with pytest.raises(BadModel, match=r"5 tensors missing \(up_blocks\.\S+, up_blocks\.\S+, up_blocks\.\S+, \.\.\.\)"):
        load_refonly(folder)


def test_a_plain_unet_is_called_one(folder: Path) -> None:
    def plain(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if name.startswith("controlnet_cond_embedding.")]:
            del tensors[name]

    edit(folder, UNET, plain)
    with pytest.raises(BadModel, match="a plain diffusers UNet without a blueprint encoder"):
        load_refonly(folder)


def test_part_of_the_blueprint_encoder_missing(folder: Path) -> None:
    edit(folder, UNET, lambda t: t.pop("controlnet_cond_embedding.conv_out.bias"))
    with pytest.raises(BadModel, match=r"1 tensor missing \(conv_out\.bias\)"):
        load_refonly(folder)


def test_files_in_the_wrong_place_are_recognised(folder: Path) -> None:
    shutil.copy(folder / UNET, folder / VAE)
    with pytest.raises(BadModel, match=r"vae/.* The file seems to be the UNet of a RefOnly model"):
        load_refonly(folder)


def test_other_shapes_are_named(folder: Path) -> None:
    edit(folder, UNET, lambda t: t.update({"conv_in.weight": torch.zeros(32, 9, 3, 3)}))
    with pytest.raises(BadModel, match=r"conv_in\.weight is \[32, 9, 3, 3\] instead of \[32, 4, 3, 3\]"):
        load_refonly(folder)


def test_whole_numbers_are_no_weights(folder: Path) -> None:
    edit(folder, UNET, lambda t: t.update({"conv_in.weight": torch.zeros(32, 4, 3, 3, dtype=torch.int8)}))
    with pytest.raises(BadModel, match=r"conv_in\.weight is I8"):
        load_refonly(folder)


def test_truncated_weights(folder: Path) -> None:
    data = (folder / UNET).read_bytes()
    (folder / UNET).write_bytes(data[:-1000])
    with pytest.raises(BadModel, match="1,000 bytes are missing"):
        load_refonly(folder)


def test_parts_of_different_models(folder: Path, tmp_path: Path) -> None:
    other = save_refonly(tiny_model(cross_attention_dim=96), tmp_path / "other")
    shutil.rmtree(folder / "image_encoder")
    shutil.copytree(other / "image_encoder", folder / "image_encoder")
    with pytest.raises(BadModel, match="tokens of width 48, the image encoder makes 96"):
        load_refonly(folder)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("unet/config.json", {"layers_per_block": 10**9}),
        ("unet/config.json", {"block_out_channels": [32] * 5000}),
        ("unet/config.json", {"down_block_types": ["Nonsense", "DownBlock2D"]}),
        ("unet/config.json", {"addition_embed_type": "text_time"}),
        ("unet/config.json", {"blueprint_form": "sketchy"}),
        ("vae/config.json", {"latent_channels": -1}),
        ("image_encoder/config.json", {"hidden_size": 10**12}),
        ("image_encoder/config.json", {"num_attention_heads": 0}),
        ("refonly.json", {"native_size": "large"}),
        ("refonly.json", {"guidance": 99}),
    ],
)
def test_configs_that_make_no_sense(folder: Path, name: str, changes: dict[str, Any]) -> None:
    edit_json(folder, name, **changes)
    with pytest.raises(BadModel, match=r"json"):
        load_refonly(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\x00\xff"])
def test_broken_json(folder: Path, text: str) -> None:
    (folder / "unet" / "config.json").write_text(text, "latin-1")
    with pytest.raises(BadModel, match=r"unet/config\.json"):
        load_refonly(folder)


def test_no_folder_and_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="is no folder"):
        load_refonly(tmp_path / "nothing")
    with pytest.raises(BadModel, match="no complete RefOnly model"):
        load_refonly(tmp_path)


def test_a_folder_with_a_checkpoint_in_it(tmp_path: Path) -> None:
    save_file({"model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(320, 768)}, tmp_path / "dream.safetensors")
    with pytest.raises(BadModel, match=r"dream\.safetensors in it is a Stable Diffusion 1\.x checkpoint"):
        load_refonly(tmp_path)


def test_saving_replaces_a_model_and_nothing_else(model: RefOnlyModel, folder: Path, tmp_path: Path) -> None:
    save_refonly(tiny_model(seed=5), folder)
    assert same(states(load_refonly(folder)), states(tiny_model(seed=5)))
    mine = tmp_path / "my drawings"
    mine.mkdir()
    (mine / "a.png").write_bytes(b"")
    with pytest.raises(CannotWrite, match="is no model"):
        save_refonly(model, mine)
    assert [path.name for path in mine.iterdir()] == ["a.png"]


def test_a_failed_save_leaves_the_old_model(model: RefOnlyModel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = states(load_refonly(folder))
    monkeypatch.setattr(loader, "_save_tensors", full)
    with pytest.raises(CannotWrite, match="No space left"):
        save_refonly(tiny_model(seed=9), folder)
    assert same(states(load_refonly(folder)), before)
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_the_card(model: RefOnlyModel) -> None:
    assert ModelCard.from_config("tiny", model.card.config | {"something_later": 1}) == model.card
    with pytest.raises(BadModel, match="incomplete"):
        ModelCard.from_config("tiny", {})


def test_memory_grows_with_the_picture_and_halves_with_the_precision(model: RefOnlyModel) -> None:
    whole = model.memory(256)
    assert whole > model.memory(128) > 4 * sum(p.numel() for n in model.networks.values() for p in n.parameters())
    half = tiny_model().to(dtype=torch.float16)
    assert half.memory(256) * 2 == whole
    assert half.blueprint.conv_in.weight.dtype == torch.float16
