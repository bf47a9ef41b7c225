"""What can be chosen, what fits, and an adapter beside the text, all the way through the script."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lib_refonly.adapters.vision import read_encoder, widths
from lib_refonly.errors import BadModel
from lib_refonly.models.registry import EMBEDDED
from lib_refonly.refonly.hosted import Latents, read_hosted
from tests.unit.webui.fake_modules import Processing, SdModel, generate
from tests.webui.checkpoints import FEATURES, random_image_encoder

OURS = "ip-adapter_ours"


@pytest.fixture
def shelf(host: Any) -> Any:
    from lib_refonly.webui.context import context

    return context().shelf


@pytest.fixture
def checkpoint(host: Any, sd_model: SdModel) -> Any:
    from lib_refonly.webui.host import host_of

    return host_of(sd_model).checkpoint(sd_model)


def test_what_there_is_and_what_fits(shelf: Any, checkpoint: Any) -> None:
    from lib_refonly.webui import models

    assert {"tiny", "tiny-refonly", OURS, "ip-adapter_xl"} <= {choice.name for choice in shelf.choices()}
    assert [choice.name for choice in models.fitting(shelf, checkpoint)] == ["tiny", OURS]
    assert models.find(shelf, "", checkpoint).name == "tiny"
    for name, said in (("tiny-refonly", "VAEs make different latents"), ("ip-adapter_xl", "is made for"), ("../tiny", "There is no model")):
        with pytest.raises(BadModel, match=said):
            models.find(shelf, name, checkpoint)


def test_a_full_model_is_not_for_sdxl(shelf: Any, checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """SDXL's VAE has Stable Diffusion's shapes, and other latents."""
    from lib_refonly.webui import models

    ends = ((128, 3, 3, 3), (512, 4, 3, 3), (3, 128, 3, 3))
    parts = replace(read_hosted(EMBEDDED / "tiny-refonly"), latents=Latents(ends, 0.18215))
    monkeypatch.setattr(models, "_parts", lambda *_: parts)
    assert models.find(shelf, "tiny-refonly", replace(checkpoint, latents=Latents(ends, 0.18215))).name == "tiny-refonly"
    with pytest.raises(BadModel, match=r"make different latents\. Load any Stable Diffusion 1\.x or 2\.x checkpoint\."):
        models.find(shelf, "tiny-refonly", replace(checkpoint, latents=Latents(ends, 0.13025)))


def test_an_adapter_without_its_image_encoder_is_said(models: Path, tmp_path: Path, checkpoint: Any) -> None:
    from lib_refonly.models.registry import ModelStore
    from lib_refonly.webui import models as listed

    (tmp_path / "encoders").mkdir()
    shelf = listed.Shelf(ModelStore([]), (models / "adapters",), (tmp_path / "encoders",))
    with pytest.raises(BadModel, match="image encoder that is not installed"):
        listed.find(shelf, OURS, checkpoint)


def test_links_that_lead_elsewhere_and_other_files_are_not_listed(models: Path, tmp_path: Path, host: Any) -> None:
    from lib_refonly.models.registry import ModelStore
    from lib_refonly.webui.models import Shelf

    folder = tmp_path / "adapters"
    folder.mkdir()
    (folder / "linked.safetensors").symlink_to(models / "adapters" / f"{OURS}.safetensors")
    (folder / "broken.safetensors").write_bytes(b"nonsense")
    (folder / "hostile.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    shutil.copy(models / "adapters" / f"{OURS}.safetensors", folder / "copy.safetensors")
    assert [choice.name for choice in Shelf(ModelStore([]), (folder,)).choices()] == ["copy"]


def test_an_adapter_acts_beside_the_text(host: Any, sd_model: SdModel, asked: dict[str, Any]) -> None:
    from lib_refonly.webui.script import RefOnlyScript

    script = RefOnlyScript()

    def paint(request: Any) -> torch.Tensor:
        latent, swallowed, _ = generate(Processing(sd_model), script, [request], script.on_step)
        assert swallowed == []
        return latent

    base = paint(False)
    ours = paint(asked | {"model": OURS})
    assert (ours - base).abs().max() > 1e-2
    assert torch.equal(paint(asked | {"model": OURS, "strength": 0}), base)
    assert torch.equal(paint(asked | {"model": OURS, "units": [asked["units"][0] | {"weight": 0}]}), base)
    assert not torch.equal(paint(asked | {"model": OURS, "units": asked["units"] * 2}), ours)
    assert torch.equal(paint(asked | {"model": OURS}), ours)
    assert torch.equal(paint(False), base)


def test_an_image_encoder_out_of_its_file(models: Path) -> None:
    path = models / "image_encoders" / "clip.safetensors"
    assert widths(path) == (FEATURES, 32)
    wanted, pixels = random_image_encoder(), torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(read_encoder(path)(pixel_values=pixels).image_embeds, wanted(pixel_values=pixels).image_embeds)


def test_what_is_no_image_encoder(models: Path) -> None:
    adapter = models / "adapters" / f"{OURS}.safetensors"
    assert widths(adapter) is None
    with pytest.raises(BadModel, match=OURS):
        read_encoder(adapter)


def test_memory_holds_one_model(shelf: Any, checkpoint: Any) -> None:
    from lib_refonly.webui import models

    tiny, ours = (models.find(shelf, name, checkpoint) for name in ("tiny", OURS))
    first = models.loaded(shelf, tiny, checkpoint)
    assert models.loaded(shelf, tiny, checkpoint) is first
    models.loaded(shelf, ours, checkpoint)
    assert models.loaded(shelf, tiny, checkpoint) is not first


def test_a_config_that_would_build_for_hours_is_refused(models: Path, tmp_path: Path) -> None:
    from lib_refonly.refonly.hosted import read_hosted

    shutil.copytree(models / "tiny", tmp_path / "hostile")
    config = tmp_path / "hostile" / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text("utf-8")) | {"layers_per_block": 10**9}), "utf-8")
    with pytest.raises(BadModel, match="layers_per_block"):
        read_hosted(tmp_path / "hostile")
