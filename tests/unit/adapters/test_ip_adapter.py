"""The public IP-Adapter files: read like diffusers reads them, or refused in words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lib_refonly.adapters.adapter import Adapter
from lib_refonly.adapters.ip_adapter import IpAdapterInfo, describe, read_ip_adapter
from lib_refonly.adapters.prompt import image_prompts
from lib_refonly.conditioning.plan import COND, UNCOND, Plan
from lib_refonly.errors import BadModel
from lib_refonly.hosts.anatomy import Site
from lib_refonly.hosts.diffusers import anatomy
from lib_refonly.hosts.session import Session
from lib_refonly.models.sniff import ModelKind, sniff
from tests.contract.conftest import noise, subject_named
from tests.contract.unets import WIDTH, diffusers_unet
from tests.unit.adapters.public_files import FEATURES, TOKENS, Nested, flat, public_adapter, written

KINDS = ("sd15", "sd21", "sdxl")
VARIANTS = ("plain", "plus", "full")
CLOSE = {"rtol": 0, "atol": 1e-5}
EXTRA = {"text_embeds": torch.ones(2, 16), "time_ids": torch.ones(2, 6)}
TEXT, SAMPLE = noise(2, 7, WIDTH, seed=2), noise(2, 4, 16, 8)


def sites(kind: str) -> tuple[Site, ...]:
    return anatomy(subject_named(f"diffusers-{kind}").unet).sites


def features(variant: str, seed: int = 5) -> Tensor:
    """Of an unconditional and a conditional row."""
    return noise(2, FEATURES, seed=seed) if variant == "plain" else noise(2, 6, FEATURES, seed=seed)


def by_diffusers(kind: str, states: list[Nested], read: list[Tensor], scales: list[float]) -> Tensor:
    unet = diffusers_unet(kind)
    unet._load_ip_adapter_weights(states)
    for processor in unet.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = scales  # type: ignore[attr-defined]
    extra: dict[str, Any] = EXTRA | {"image_embeds": [one[:, None] for one in read]}
    return unet(SAMPLE, torch.tensor(500.0), TEXT, added_cond_kwargs=extra, return_dict=False)[0]


def by_us(kind: str, adapter: Adapter, read: list[Tensor], strength: list[float]) -> Tensor:
    tokens = [adapter.to_tokens(one) for one in read]
    prompts = (image_prompts(adapter, [(one[1:], None)], one[:1], s) for one, s in zip(tokens, strength, strict=True))
    subject = subject_named(f"diffusers-{kind}")
    with Session(anatomy(subject.unet), Plan(tuple(p for pair in prompts for p in pair)), (UNCOND, COND)):
        return subject.call(SAMPLE, 500.0, TEXT)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_what_diffusers_computes(tmp_path: Path, kind: str, variant: str, scale: float) -> None:
    state, read = public_adapter(diffusers_unet(kind), variant), features(variant)
    adapter = read_ip_adapter(written(state, tmp_path / "a.safetensors"), sites(kind))
    wanted = by_diffusers(kind, [state], [read], [scale])
    base = subject_named(f"diffusers-{kind}").call(SAMPLE, 500.0, TEXT)
    assert (wanted - base).flatten(1).abs().amax(1).min() > 1e-2  # it does something, in both rows
    torch.testing.assert_close(by_us(kind, adapter, [read], [scale]), wanted, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_two_pictures_are_diffusers_adapter_loaded_twice(tmp_path: Path, kind: str) -> None:
    state, read = public_adapter(diffusers_unet(kind), "plus"), [features("plus"), features("plus", 6)]
    adapter = read_ip_adapter(written(state, tmp_path / "a.bin"), sites(kind))
    torch.testing.assert_close(by_us(kind, adapter, read, [0.6, 0.3]), by_diffusers(kind, [state, state], read, [0.6, 0.3]), **CLOSE)


def test_strength_nought_is_the_base_bit_for_bit(tmp_path: Path) -> None:
    adapter = read_ip_adapter(written(public_adapter(diffusers_unet("sd15"), "plain"), tmp_path / "a.bin"), sites("sd15"))
    assert torch.equal(by_us("sd15", adapter, [features("plain")], [0.0]), subject_named("diffusers-sd15").call(SAMPLE, 500.0, TEXT))


def test_prompts_of_several_pictures(tmp_path: Path) -> None:
    adapter = read_ip_adapter(written(public_adapter(diffusers_unet("sd15"), "plain"), tmp_path / "a.bin"), sites("sd15"))
    one, two, nothing, left = noise(1, 4, WIDTH), noise(1, 4, WIDTH, seed=2), noise(1, 4, WIDTH, seed=3), torch.ones(4, 4)
    prompts = image_prompts(adapter, [(one, left), (two, None)], nothing, [0.5, 0.25], site_weights={"M00": 0.0})
    assert [(p.strength, *p.roles, p.pictures[0].mask is left, p.replace, p.site_weights) for p in prompts] == [
        (0.5, COND, True, False, {"M00": 0.0}),
        (0.5, UNCOND, True, False, {"M00": 0.0}),
        (0.25, COND, False, False, {"M00": 0.0}),
        (0.25, UNCOND, False, False, {"M00": 0.0}),
    ]
    assert all(given.pictures[0].tokens is wanted for given, wanted in zip(prompts, (one, nothing, two, nothing), strict=True))
    assert all(p.projections is adapter.to_kv for p in prompts)


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_kinds_of_file_say_and_hold_the_same(tmp_path: Path, variant: str) -> None:
    state = public_adapter(diffusers_unet("sd21"), variant)
    paths = [written(state, tmp_path / f"a{end}") for end in (".safetensors", ".bin")]
    for path in paths:
        assert sniff(path) is ModelKind.IP_ADAPTER
        wanted = IpAdapterInfo(variant, "embeds" if variant == "plain" else "penultimate", FEATURES, TOKENS[variant], WIDTH, 16)  # type: ignore[arg-type]
        assert describe(path) == wanted
    one, other = (read_ip_adapter(path, sites("sd21"), torch.float64) for path in paths)
    torch.testing.assert_close(dict(one.to_tokens.state_dict()), dict(other.to_tokens.state_dict()), rtol=0, atol=0)
    for name, kv in one.to_kv.items():
        assert torch.equal(kv.to_k, other.to_kv[name].to_k)
        assert kv.to_k.dtype is torch.float64
    tokens = one.to_tokens(features(variant).double())
    assert tokens.shape == (2, TOKENS[variant] or 6, WIDTH)


def test_other_numbers_of_tokens_are_read_off_the_shapes(tmp_path: Path) -> None:
    state = public_adapter(diffusers_unet("sd15"), "plain")
    state["image_proj"] |= {"proj.weight": noise(9 * WIDTH, FEATURES), "proj.bias": noise(9 * WIDTH)}
    path = written(state, tmp_path / "a.bin")
    assert describe(path).tokens == 9
    assert read_ip_adapter(path, sites("sd15")).to_tokens(noise(1, FEATURES)).shape == (1, 9, WIDTH)


def test_reading_leaves_the_painter_s_seed_alone(tmp_path: Path) -> None:
    path = written(public_adapter(diffusers_unet("sd15"), "plus"), tmp_path / "a.safetensors")
    wanted = sites("sd15")
    before = torch.get_rng_state()
    read_ip_adapter(path, wanted)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_header_is_read_without_torch(tmp_path: Path) -> None:
    path = written(public_adapter(diffusers_unet("sd15"), "plus"), tmp_path / "a.safetensors")
    code = "import sys, pathlib; from lib_refonly.adapters.ip_adapter import describe; describe(pathlib.Path(sys.argv[1])); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


@pytest.mark.parametrize("lacking", ["latents", "layers.2.0.norm2.bias", "proj_out.weight"])
def test_a_picture_network_with_a_hole(tmp_path: Path, lacking: str) -> None:
    state = public_adapter(diffusers_unet("sd15"), "plus")
    del state["image_proj"][lacking]
    with pytest.raises(BadModel, match="incomplete or does not fit|not known here"):
        read_ip_adapter(written(state, tmp_path / "a.safetensors"), sites("sd15"))


@pytest.mark.parametrize("lacking", ["1.to_k_ip.weight", "31.to_v_ip.weight", "7"])
def test_cross_attentions_with_a_hole(tmp_path: Path, lacking: str) -> None:
    state = public_adapter(diffusers_unet("sd15"), "plain")
    state["ip_adapter"] = {name: tensor for name, tensor in state["ip_adapter"].items() if not name.startswith(lacking)}
    with pytest.raises(BadModel, match="K and V .* incomplete"):
        describe(written(state, tmp_path / "a.safetensors"))


def face_ids(state: Nested) -> list[Nested]:
    """FaceID, FaceID Plus, and the LoRA half of either."""
    picture, attention = state["image_proj"], state["ip_adapter"]
    mlp = {f"{name}.{end}": noise(8, 8) for name in ("proj.0", "proj.2", "norm") for end in ("weight", "bias")}
    lora = {"0.to_q_lora.down.weight": noise(4, 4)}
    return [
        {"image_proj": mlp, "ip_adapter": attention},
        {"image_proj": mlp | {f"perceiver_resampler.{name}": tensor for name, tensor in picture.items()}, "ip_adapter": attention},
        {"image_proj": picture, "ip_adapter": attention | lora},
    ]


def test_faces_are_refused(tmp_path: Path) -> None:
    for state in face_ids(public_adapter(diffusers_unet("sd15"), "plus")):
        with pytest.raises(BadModel, match="a.bin is a FaceID adapter.*without FaceID"):
            describe(written(state, tmp_path / "a.bin"))


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_wrong_files(tmp_path: Path) -> None:
    save_file({"lora_unet_x.lora_down.weight": noise(4, 4)}, tmp_path / "lora.safetensors")
    torch.save({"image_proj": {"proj.weight": Bomb(tmp_path / "fired")}, "ip_adapter": {}}, tmp_path / "bomb.bin")
    whole = written(public_adapter(diffusers_unet("sd15"), "plain"), tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:-9])
    said = {
        "lora.safetensors": "is no IP-Adapter: it seems to be a LoRA",
        "bomb.bin": r"wants to run program code \((posix|nt)\.mkdir\)",
        "cut.safetensors": "9 bytes are missing",
        "nothing.bin": "is not there",
    }
    for name, sentence in said.items():
        for read in (describe, lambda path: read_ip_adapter(path, sites("sd15"))):
            with pytest.raises(BadModel, match=sentence):
                read(tmp_path / name)
    assert not (tmp_path / "fired").exists()


def test_adapters_for_other_networks(tmp_path: Path) -> None:
    xl = written(public_adapter(diffusers_unet("sdxl"), "plain"), tmp_path / "xl.bin")
    with pytest.raises(BadModel, match="xl.bin is made for a network with .* cross-attentions; the loaded checkpoint's has 16"):
        read_ip_adapter(xl, sites("sd15"))
    other = written(public_adapter(diffusers_unet("sd15"), "plain", width=768), tmp_path / "one.bin")
    assert describe(other).made_for == "Stable Diffusion 1.x"
    with pytest.raises(BadModel, match=f"one.bin is made for Stable Diffusion 1.x; the loaded checkpoint is a network whose cross-attention is {WIDTH} wide"):
        read_ip_adapter(other, sites("sd15"))
    state = public_adapter(diffusers_unet("sd15"), "plain")
    state["ip_adapter"] |= {f"1.to_{x}_ip.weight": noise(96, WIDTH) for x in "kv"}
    with pytest.raises(BadModel, match="at IN01.0 it is 96 wide, the checkpoint 32"):
        read_ip_adapter(written(state, tmp_path / "wide.bin"), sites("sd15"))


def test_nested_and_flat_names_are_the_same(tmp_path: Path) -> None:
    state = public_adapter(diffusers_unet("sd15"), "plain")
    torch.save(flat(state), tmp_path / "flat.bin")
    assert describe(tmp_path / "flat.bin") == describe(written(state, tmp_path / "nested.bin"))
