"""The adapter's trainer and its file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib_refonly.adapters import refonly_adapter
from lib_refonly.adapters.adapter import Adapter
from lib_refonly.adapters.features import image_features, unconditional_features
from lib_refonly.adapters.refonly_adapter import METADATA, BaseKind, RefOnlyAdapter, describe, make_to_tokens, read_adapter, save_adapter
from lib_refonly.conditioning.plan import ImagePrompt, ImageTokens, Plan, Projection
from lib_refonly.errors import BadModel, BadSettings, CannotWrite
from lib_refonly.hosts.diffusers import anatomy, session
from lib_refonly.refonly.loader import save_refonly
from lib_refonly.training.adapter import FILE, AdapterConfig, AdapterTask
from lib_refonly.training.base import BaseConfig, BaseTask
from lib_refonly.training.latents import encode_all
from lib_refonly.training.loop import LoopConfig, Run
from lib_refonly.training.refonly import RefOnlyConfig, RefOnlyTask
from lib_refonly.training.vae import VaeConfig, VaeTask
from tests.tiny_models import tiny_model, tiny_unet

CONFIG = AdapterConfig(size=64, title="A small one")


@pytest.fixture(scope="module")
def folders(drawings: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A drawing set with latents, a base, and a RefOnly model that started from it; none of them trained."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    VaeTask(VaeConfig(widths=(64, 64, 64, 64)), drawings).export(folder)
    encode_all(folder / "vae", drawings, 64, batch=4)
    BaseTask(BaseConfig(size=64, widths=(64, 64), context=64, text_layers=1), drawings, folder / "vae").export(folder / "base")
    RefOnlyTask(RefOnlyConfig(size=64, vision_layers=1), drawings, folder / "vae", start=folder / "base").export(folder / "refonly")
    return {"data": drawings, "base": folder / "base", "start": folder / "refonly"}


@pytest.fixture
def task(folders: dict[str, Path]) -> AdapterTask:
    return AdapterTask(CONFIG, **folders)


def adapter_of_random_numbers(file: str = "a.safetensors") -> RefOnlyAdapter:
    model, generator = tiny_model(), torch.Generator().manual_seed(0)
    sites = anatomy(model.unet).sites
    to_kv = {s.name: Projection(*(torch.randn(s.to_q.weight.shape[0], 24, generator=generator) for _ in "kv")) for s in sites}  # type: ignore[union-attr]
    adapter = Adapter(file.removesuffix(".safetensors"), "last", 48, make_to_tokens(48, 24), to_kv, model.blueprint)
    return RefOnlyAdapter(adapter, model.image_encoder, model.prompt_spec, BaseKind(48, 4, 0.18215), 128, "Random numbers")


def tokens(model: RefOnlyAdapter, pixels: Tensor) -> Tensor:
    return model.adapter.to_tokens(image_features(model.image_encoder, pixels, model.adapter.reads))


def numbers(model: RefOnlyAdapter) -> dict[str, Tensor]:
    return refonly_adapter._tensors(model)


def frozen(task: AdapterTask) -> dict[str, Tensor]:
    networks = {"unet": task.unet, "text": task.text_encoder, "vae": task.vae, "image": task.image_encoder}
    return {f"{part}.{name}": tensor.clone() for part, network in networks.items() for name, tensor in network.state_dict().items()}


def loss_of_the_base(task: AdapterTask, batch: dict[str, Tensor]) -> float:
    latents, noise, t = (batch[name] for name in ("latents", "noise", "t"))
    with torch.no_grad():
        out = task.unet(task.noise.add_noise(latents, noise, t), t, task.text_encoder(batch["ids"]).last_hidden_state).sample
        return F.mse_loss(out, task.noise.get_velocity(latents, noise, t)).item()


def with_conditions(batch: dict[str, Tensor], picture: bool, lines: bool) -> dict[str, Tensor]:
    rows = len(batch["t"])
    return batch | {"see_picture": torch.full((rows,), picture), "see_lines": torch.full((rows,), lines)}


def step(task: AdapterTask, batch: dict[str, Tensor], optimiser: torch.optim.Optimizer) -> float:
    loss = task(**batch)["loss"]
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def test_it_begins_as_the_base_and_learns_alone(task: AdapterTask) -> None:
    task.train()
    trained = {name: p for name, p in task.named_parameters() if p.requires_grad}
    assert {name.partition(".")[0] for name in trained} == {"to_k", "to_v", "to_tokens", "blueprint"}
    before, begun = frozen(task), {name: p.detach().clone() for name, p in trained.items()}
    batch = with_conditions(task.draw(np.random.default_rng(0), 6), True, True)
    optimiser = torch.optim.AdamW(trained.values(), lr=3e-3)
    losses = [step(task, batch, optimiser) for _ in range(8)]
    assert losses[0] == loss_of_the_base(task, batch)
    assert losses[-1] < 0.97 * losses[0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in frozen(task).items())
    assert not [name for name, p in trained.items() if torch.equal(p, begun[name])]


def test_the_image_encoder_learns_where_that_is_asked_for(folders: dict[str, Path]) -> None:
    task = AdapterTask(replace(CONFIG, train_encoder=True), **folders)
    task.to_v[0].data.normal_()
    task(**task.draw(np.random.default_rng(0), 2))["loss"].backward()
    assert all(p.grad is not None for p in task.image_encoder.parameters() if p.requires_grad and p.dim() > 1)


def test_a_row_without_conditions_is_the_base_s_own(task: AdapterTask) -> None:
    for v in task.to_v:
        v.data.normal_()
    task.blueprint.conv_out.weight.data.normal_()
    batch = task.draw(np.random.default_rng(0), 2)
    base = loss_of_the_base(task, batch)
    for picture, lines in ((False, False), (True, False), (False, True)):
        loss = task(**with_conditions(batch, picture, lines))["loss"].item()
        assert (loss == base) == (not picture and not lines), (picture, lines)


def test_captions_are_the_drawn_view_s_and_often_left_out(task: AdapterTask) -> None:
    stored = np.array(task.data.latents, np.float32)
    batch = task.draw(np.random.default_rng(0), 600)
    said = [task.tokenizer.decode(row, skip_special_tokens=True).strip() for row in batch["ids"]]
    assert np.mean([text == "" for text in said]) == pytest.approx(CONFIG.drop_text, rel=0.15)
    for text, row in zip(said, batch["latents"].numpy(), strict=True):
        views = [v for v in range(2) if any(np.array_equal(row, one) for one in stored[:, v])]  # of some records both are the same picture
        tags = {tag.strip() for tag in text.split(",")} - {""}
        assert any(tags <= set(("red disc, smiling", "blue disc")[view].split(", ")) for view in views)
    assert "smiling" in said
    assert not (~batch["see_picture"] & ~batch["see_lines"]).any()


class ShortSamples(AdapterTask):
    def sample(self, count: int = 2, steps: int = 1) -> Image.Image:
        sheet = super().sample(count, steps)
        assert sheet.width > 8 * 128
        return sheet


def test_a_stopped_run_goes_on_and_exports_what_it_learnt(folders: dict[str, Path], tmp_path: Path) -> None:
    loop = LoopConfig(steps=4, batch=2, lr=1e-2, precision="no", save_every=2, warmup=1)

    def learnt(folder: Path, *sittings: int) -> dict[str, Tensor]:
        for steps in sittings:
            run = Run(ShortSamples(CONFIG, **folders, heldout=folders["data"]), loop, folder)
            original = run._one_step

            def stop(run: Run = run, original: Callable[[], dict[str, float]] = original, steps: int = steps) -> dict[str, float]:
                losses = original()
                run._stop = run.step == steps
                return losses

            run._one_step = stop
            assert run.train() == steps
            run.export()
        return load_file(folder / "export" / FILE)

    whole, parts = learnt(tmp_path / "whole", 4), learnt(tmp_path / "parts", 2, 4)
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())
    info = describe(tmp_path / "whole" / "export" / FILE)
    assert (info.title, info.native_size, info.base) == ("A small one", 64, BaseKind(64, 4, 0.18215))
    model = read_adapter(tmp_path / "whole" / "export" / FILE)
    assert any(kv.to_v.abs().max() > 0 for kv in model.adapter.to_kv.values())


def test_start_has_to_fit_the_base(folders: dict[str, Path], tmp_path: Path) -> None:
    save_refonly(tiny_model(), tmp_path / "other")
    with pytest.raises(BadSettings, match="different shapes"):
        AdapterTask(CONFIG, **folders | {"start": tmp_path / "other"})


def test_a_round_trip_is_exact(tmp_path: Path) -> None:
    model = adapter_of_random_numbers()
    path = save_adapter(model, tmp_path / "deep" / "a.safetensors")
    again = read_adapter(path)
    assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"]
    assert numbers(model).keys() == numbers(again).keys()
    for name, tensor in numbers(model).items():
        assert torch.equal(tensor.half().float(), numbers(again)[name]), name
    assert (again.prompt_spec, again.base, again.native_size, again.title) == (model.prompt_spec, model.base, model.native_size, model.title)
    assert again.adapter.name == "a"
    assert save_adapter(again, tmp_path / "b.safetensors").read_bytes() == path.read_bytes()
    half = read_adapter(path, torch.float16)
    assert {tensor.dtype for tensor in numbers(half).values()} == {torch.float16}
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    with safe_open(str(path), "pt") as file:
        assert {"image_encoder.vision_model.embeddings.class_embedding", "kv.M00.0.to_k", "to_tokens.proj.weight"} <= set(file.keys())
    pixels = torch.randn(1, 3, 40, 40)
    torch.testing.assert_close(tokens(again, pixels), tokens(model, pixels), rtol=1e-2, atol=1e-2)
    assert not any(p.requires_grad for p in (*again.image_encoder.parameters(), *again.adapter.to_tokens.parameters()))


def test_strength_nought_and_no_picture_are_the_base_bit_for_bit(tmp_path: Path) -> None:
    model = read_adapter(save_adapter(adapter_of_random_numbers(), tmp_path / "a.safetensors"))
    unet, x, text = tiny_unet(), torch.randn(2, 4, 16, 16), torch.randn(2, 7, 48)
    model.check(anatomy(unet))
    pixels = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        base = unet(x, 500, text).sample

        def out(tokens: Tensor, strength: float) -> Tensor:
            with session(unet, Plan((ImagePrompt((ImageTokens(tokens),), strength, replace=False, projections=model.adapter.to_kv),))):
                return unet(x, 500, text).sample

        seen, nothing = tokens(model, pixels), model.adapter.to_tokens(unconditional_features(model.image_encoder, pixels, model.adapter.reads))
        assert torch.equal(out(seen, 0.0), base)
        assert torch.equal(out(nothing, 1.0), base)
        assert (out(seen, 1.0) - base).abs().max() > 1e-2


def test_it_says_which_checkpoints_it_is_for() -> None:
    model = adapter_of_random_numbers()
    with pytest.raises(BadModel, match="width 48; the loaded one's reads 64"):
        model.check(anatomy(tiny_unet(cross_attention_dim=64)))
    with pytest.raises(BadModel, match="cross-attentions"):
        model.check(anatomy(tiny_unet(layers_per_block=2)))


def test_a_header_is_read_without_torch(tmp_path: Path) -> None:
    path = save_adapter(adapter_of_random_numbers(), tmp_path / "a.safetensors")
    module = refonly_adapter.__name__
    code = f"import sys, pathlib; from {module} import describe; print(describe(pathlib.Path(sys.argv[1]))); assert 'torch' not in sys.modules"
    said = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True).stdout
    assert "Random numbers" in said


def changed(path: Path, change: Callable[[dict[str, Tensor], dict[str, Any]], object]) -> Path:
    """A copy of the adapter in `path` after `change(tensors, what the metadata says)`."""
    with safe_open(str(path), "pt") as file:
        said = json.loads(file.metadata()[METADATA])
    tensors = load_file(path)
    change(tensors, said)
    out = path.with_name("changed.safetensors")
    save_file(tensors, out, {METADATA: json.dumps(said)})
    return out


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t, s: t.pop("kv.M00.0.to_v"), "K and V .* incomplete"),
        (lambda t, s: t.update({"kv.M00.0.to_v": torch.zeros(64, 9)}), "K and V .* do not fit"),
        (lambda t, s: [t.pop(name) for name in list(t) if name.startswith("kv.")], "K and V"),
        (lambda t, s: t.pop("to_tokens.proj.weight"), "K and V"),
        (lambda t, s: t.update({"unet.x": torch.zeros(1)}), "unknown"),
        (lambda t, s: s.update(version=2), "version 2; this program reads version 1"),
        (lambda t, s: s.pop("blueprint"), "incomplete"),
        (lambda t, s: s.update(native_size="big"), "makes no sense"),
        (lambda t, s: s.update(base={"cross_attention": 48}), "makes no sense"),
        (lambda t, s: s["image_encoder"].update(num_hidden_layers=10**9), "makes no sense"),
        (lambda t, s: s["blueprint"].update(conditioning_embedding_out_channels=[8] * 10**5), "makes no sense"),
    ],
)
def test_a_header_that_is_wrong(tmp_path: Path, change: Callable[..., object], sentence: str) -> None:
    path = changed(save_adapter(adapter_of_random_numbers(), tmp_path / "a.safetensors"), change)
    for read in (describe, read_adapter):
        with pytest.raises(BadModel, match=f"changed.safetensors .*{sentence}"):
            read(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda t, s: t.pop("blueprint.conv_out.bias"),
        lambda t, s: t.update({"blueprint.conv_out.bias": torch.zeros(3)}),
        lambda t, s: t.pop("image_encoder.vision_model.post_layernorm.weight"),
        lambda t, s: t.pop("to_tokens.norm.weight"),
        lambda t, s: s["image_encoder"].update(hidden_size=10**12),
        lambda t, s: s["image_encoder"].update(image_size="large"),
        lambda t, s: s["blueprint"].update(blueprint_form="cubist"),
        lambda t, s: s["preprocessor"].update(size=224, crop_size=224),
        lambda t, s: s["preprocessor"].update(image_mean=5),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, change: Callable[..., object]) -> None:
    path = changed(save_adapter(adapter_of_random_numbers(), tmp_path / "a.safetensors"), change)
    with pytest.raises(BadModel, match=r"changed.safetensors (is damaged|does not fit)|preprocessor_config.json"):
        read_adapter(path)


def test_other_files(tmp_path: Path) -> None:
    path = save_adapter(adapter_of_random_numbers(), tmp_path / "a.safetensors")
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(4, 4)}, tmp_path / "lora.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-9])
    said = {"lora.safetensors": "no RefOnly adapter. It seems to be a LoRA", "cut.safetensors": "9 bytes are missing", "none.safetensors": "not there"}
    for name, sentence in said.items():
        for read in (describe, read_adapter):
            with pytest.raises(BadModel, match=sentence):
                read(tmp_path / name)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(CannotWrite, match="could not be written"):
        save_adapter(adapter_of_random_numbers(), tmp_path / "a.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite, match="could not be written"):
        save_adapter(adapter_of_random_numbers(), tmp_path / "file" / "a.safetensors")
