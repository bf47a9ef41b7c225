from __future__ import annotations

import base64
import sys
import types
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lib_refonly.imaging.infotext import png_bytes
from lib_refonly.refonly.loader import load_refonly, save_refonly
from tests.contract.unets import WIDTH, diffusers_unet
from tests.tiny_models import tiny_model
from tests.unit.webui.fake_modules import Processing, SdModel, fake_modules, generate
from tests.webui.checkpoints import random_image_encoder, random_ip_adapter

SAMPLES = Path(__file__).resolve().parents[3] / "lib_refonly" / "assets" / "samples"


def text_of(picture: Image.Image) -> str:
    return base64.b64encode(png_bytes(picture)).decode()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("painter") / "models"
    save_refonly(tiny_model(), folder / "tiny", torch.float32)
    for name in ("adapters", "image_encoders"):
        (folder / name).mkdir()
    save_file(random_ip_adapter(diffusers_unet("sd15"), WIDTH), folder / "adapters" / "ip-adapter_ours.safetensors")
    save_file(random_ip_adapter(diffusers_unet("sdxl"), WIDTH), folder / "adapters" / "ip-adapter_xl.safetensors")
    save_file(random_image_encoder().state_dict(), folder / "image_encoders" / "clip.safetensors")
    return folder


@pytest.fixture
def host(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("REFONLY_MODELS_DIR", str(models))
    with fake_modules(tmp_path) as modules:
        yield modules


@pytest.fixture
def sd_model(models: Path) -> SdModel:
    """A checkpoint on the same latents as the painter's model "tiny"."""
    pytest.importorskip("ldm.modules.diffusionmodules.openaimodel", reason="stable-diffusion-sdkit (the real ldm UNet) is not installed")
    from tests.contract.unets import on_ldm

    return SdModel(on_ldm("sd15").unet, load_refonly(models / "tiny").vae)


@pytest.fixture
def drawing() -> Image.Image:
    return Image.open(SAMPLES / "1 Curls" / "lines.png").resize((64, 64))


@pytest.fixture
def reference() -> Image.Image:
    return Image.open(SAMPLES / "1 Curls" / "reference.png").resize((64, 64))


@pytest.fixture
def asked(drawing: Image.Image, reference: Image.Image) -> dict[str, Any]:
    return {"enabled": True, "model": "tiny", "drawing": text_of(drawing), "units": [{"picture": text_of(reference)}]}


@pytest.fixture
def processing(host: Any, sd_model: SdModel, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The host's own way of painting: hooks in their order, the latent as a picture. Every `p` that was made."""
    made: list[Any] = []

    class Txt2Img(Processing):
        def __init__(self, **settings: Any) -> None:
            super().__init__(sd_model)
            self.settings, self.scripts = settings, None
            made.append(self)

    def process_images(p: Any) -> Any:
        latent, swallowed, _ = generate(p, p.scripts, [], RefOnlyScript.on_step)
        assert swallowed == []
        shown = ((latent[0, :3] * 20 + 128).clamp(0, 255)).byte().permute(1, 2, 0).numpy()
        picture = Image.fromarray(shown).resize((8 * shown.shape[1], 8 * shown.shape[0]), Image.Resampling.NEAREST)
        return types.SimpleNamespace(images=[picture], comments="\n".join(p.comments), infotexts=["as the host says it"])

    for name, content in (
        ("processing", {"StableDiffusionProcessingTxt2Img": Txt2Img, "process_images": process_images}),
        ("call_queue", {"queue_lock": nullcontext()}),
    ):
        module = types.ModuleType(f"modules.{name}")
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    state = types.SimpleNamespace(begin=lambda job: None, end=lambda: None, sampling_step=0)
    vars(host.shared).update(sd_model=sd_model, state=state)
    from lib_refonly.webui.script import RefOnlyScript

    return made
