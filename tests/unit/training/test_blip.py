"""BLIP from a folder, through a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from lib_refonly.errors import BadModel, BadSettings
from lib_refonly.training.blip import Blip

transformers = pytest.importorskip("transformers", reason="BLIP needs transformers")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "girl", "with", "red", "hair"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blip")
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": len(WORDS), "encoder_hidden_size": 32, "bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0, **small}
    config = transformers.BlipConfig(text_config=text, vision_config={"image_size": 32, "patch_size": 16, **small}, projection_dim=16)
    transformers.BlipForConditionalGeneration(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_it_writes_words_that_it_knows(tiny: Path) -> None:
    told = Blip(str(tiny)).caption(Image.new("RGBA", (50, 20), (255, 0, 0, 128)))
    assert set(told.split()) <= {*WORDS} - {"[PAD]", "[SEP]", "[CLS]", "[DEC]"}
    assert len(told.split()) <= 42


@pytest.mark.parametrize("folder", ["", "blip", "/nowhere/at/all"])
def test_folders_that_are_none(folder: str) -> None:
    with pytest.raises(BadSettings, match="whole path"):
        Blip(folder)


def test_other_models_and_damaged_ones_are_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"config\.json"):
        Blip(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(BadModel, match="no BLIP model"):
        Blip(str(tmp_path))
    (tmp_path / "config.json").write_bytes((tiny / "config.json").read_bytes())
    with pytest.raises(BadModel, match="no BLIP model"):
        Blip(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(BadModel):
        Blip(str(tmp_path))
    assert (tmp_path / "model.safetensors").read_bytes() == b"x" * 100
