"""Settings and pictures as TOML files: what is written, that it is right for every preset, and that it is read back."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_refonly.errors import BadSettings
from lib_refonly.training.kohya import config, options, presets, toml_text
from lib_refonly.training.kohya.config import Pictures
from lib_refonly.training.kohya.goals import GOALS
from lib_refonly.training.kohya.settings import KohyaSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHOSEN = {"pretrained_model_name_or_path": "/models/a.safetensors", "clip_l": "l.safetensors", "t5xxl": "t.safetensors", "ae": "ae.safetensors"}
ALL = [(task, goal.name, vram) for task in presets.TASKS for goal in presets.goals_for(task) for vram in (*presets.VRAM, 48)]


def filled(settings: KohyaSettings, goal: str, **more: Any) -> KohyaSettings:
    """With the files that a painter would choose."""
    flux = GOALS[goal].family == "flux"
    given = {name: value for name, value in CHOSEN.items() if flux or name == "pretrained_model_name_or_path"}
    return dataclasses.replace(settings, **given, **({"token_string": "mychar"} if GOALS[goal].kind == "embedding" else {}), **more)


# --- TOML ---------------------------------------------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
VALUES = st.recursive(
    TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False),
    lambda s: st.lists(s, max_size=4) | st.dictionaries(TEXT, s, max_size=4),
)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_what_is_written_is_what_is_read(values: dict[str, Any]) -> None:
    assert tomllib.loads(toml_text.written(values)) == values


@pytest.mark.parametrize(
    "value",
    [
        'a"\nresume = "x',
        "C:\\models\\neu\\u0041",
        "\x00\x1f\x7f\x85\u2028\u2029\ufeff",
        "'''\"\"\"",
        "# no comment",
        "--resume x",
        "字 ä 🎨 \U0010ffff",
        "[table]",
        "\r\n",
        "",
    ],
)
def test_hostile_text_stays_one_value(value: str) -> None:
    assert tomllib.loads(toml_text.written({"output_name": value, value: [value], "t": {value: {"x": value}}})) == {
        "output_name": value,
        value: [value],
        "t": {value: {"x": value}},
    }
    assert len(toml_text.written({"output_name": value}).splitlines()) == 1


def test_numbers_keep_their_kind() -> None:
    read = tomllib.loads(toml_text.written({"a": 1, "b": 1.0, "c": True, "d": 1e-7, "e": 1e22, "f": math.inf, "g": -math.inf, "h": math.nan}))
    assert [type(one) for one in read.values()] == [int, float, bool, *[float] * 5]
    assert read["d"] == 1e-7
    assert math.isnan(read["h"])


@pytest.mark.parametrize("value", [None, b"x", object(), 2**63, "\ud800", [None], {"x": "\udfff"}])
def test_what_toml_has_no_word_for_is_refused(value: Any) -> None:
    with pytest.raises(BadSettings):
        toml_text.written({"x": value})


# --- presets ------------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("task", "goal", "vram"), ALL)
@pytest.mark.parametrize("bf16", [True, False])
def test_every_preset_passes_sd_scripts_parser_or_names_the_card_it_needs(task: str, goal: str, vram: int, bf16: bool) -> None:
    try:
        settings = presets.preset(task, goal, vram, bf16)
    except BadSettings as error:
        assert "needs a graphics card with at least" in str(error)  # noqa: PT017
        assert vram < 12
        return
    values = config.config(GOALS[goal], filled(settings, goal), Path("/job/out"))
    script = options.recorded().scripts[GOALS[goal].script]
    assert set(values) <= set(script)
    assert values["mixed_precision"] == ("bf16" if bf16 else "fp16")
    assert not (values.get("cache_text_encoder_outputs") and GOALS[goal].makes == "lora") or values["network_train_unet_only"]


@pytest.mark.parametrize("goal", sorted({goal for _, goal, _ in ALL}))
def test_a_larger_card_never_sees_fewer_pictures_a_step(goal: str) -> None:
    task = next(task for task, one, _ in ALL if one == goal)
    batches = []
    for vram in presets.VRAM:
        try:
            batches.append(presets.preset(task, goal, vram).train_batch_size)
        except BadSettings:
            continue
    assert batches == sorted(batches)
    assert len(batches) >= 3


def test_a_card_between_two_sizes_takes_the_smaller_one() -> None:
    assert presets.values("character", "lora-sdxl", 11) == presets.values("character", "lora-sdxl", 8)
    assert presets.values("character", "lora-sdxl", 80) == presets.values("character", "lora-sdxl", 24)
    with pytest.raises(BadSettings, match="at least 6 GB, this one has 4"):
        presets.values("character", "lora-sd1", 4)


def test_onepic_has_the_paper_s_values() -> None:
    """Section 4."""
    for vram in presets.VRAM:
        made = presets.preset("onepic", "onepic-sdxl", vram)
        assert (made.network_dim, made.network_alpha, made.learning_rate, made.enable_bucket) == (32, 4.0, 1e-3, False)


@pytest.mark.parametrize(("task", "goal"), [("embedding", "lora-sd1"), ("nothing", "lora-sd1"), ("character", "lora-sd9"), ("model", "full-flux")])
def test_what_is_no_preset_is_refused(task: str, goal: str) -> None:
    with pytest.raises(BadSettings, match="can't be trained"):
        presets.preset(task, goal, 24)


# --- settings -----------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"resolution": "512x512"}, "Size"),
        ({"max_token_length": 75}, "Longest caption"),
        ({"caption_extension": "../.txt"}, "Captions' ending"),
        ({"color_aug": True}, "Vary colours and Encode pictures once"),
        ({"fp8_base": True, "mixed_precision": "no"}, "Checkpoint in fp8 and Computed in: no"),
        ({"full_bf16": True}, "Gradients in bf16 and Computed in: fp16"),
        ({"fused_backward_pass": True}, "Optimizer: AdamW"),
        ({"cache_text_encoder_outputs": True, "shuffle_caption": True}, "Read captions once and Shuffle tags"),
        ({"network_dim": 0}, "Rank"),
        ({"learning_rate": float("nan")}, "Learning rate"),
        ({"optimizer_type": "evil.Module"}, "Optimizer"),
    ],
)
def test_settings_that_can_t_be_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(BadSettings) as error:
        KohyaSettings(**values)
    assert said in str(error.value)


# --- files --------------------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path) -> list[Pictures]:
    folder = tmp_path / 'my "pictures" ä\\b'
    folder.mkdir()
    return [Pictures(folder, 4, "a girl"), Pictures(folder, reg=True)]


@pytest.mark.parametrize(("task", "goal"), [(task, goal.name) for task in presets.TASKS for goal in presets.goals_for(task) if goal.kind != "onepic"])
def test_what_is_written_can_be_read_back_and_writes_the_same(tmp_path: Path, pictures: list[Pictures], task: str, goal: str) -> None:
    one, other = tmp_path / "one", tmp_path / "one" / "other"
    other.mkdir(parents=True)
    given = filled(presets.preset(task, goal, 24), goal, sample_prompts="a girl --w 512\n\n  another", output_name="mein ä 字")
    config.write(one, goal, given, pictures)
    again = config.read(one, goal)
    assert again.sample_prompts == "a girl --w 512\nanother"
    config.write(other, goal, again, pictures)
    read = [tomllib.loads((job / "config.toml").read_text(encoding="utf-8")) for job in (one, other)]
    here = {key: str(value).replace(str(other), str(one)) for key, value in read[1].items()}
    assert {key: str(value) for key, value in read[0].items()} == here
    described = tomllib.loads((one / "dataset.toml").read_text(encoding="utf-8"))
    assert described["datasets"][0]["subsets"] == [
        {"image_dir": str(pictures[0].folder.resolve()), "num_repeats": 4, "class_tokens": "a girl"},
        {"image_dir": str(pictures[0].folder.resolve()), "num_repeats": 1, "is_reg": True},
    ]


def test_onepic_takes_its_canvases(tmp_path: Path, pictures: list[Pictures]) -> None:
    canvases, job = tmp_path / "canvases", tmp_path / "job"
    canvases.mkdir()
    job.mkdir()
    (canvases / "dataset.toml").write_text("[[datasets]]\nresolution = [128, 128]\n", encoding="utf-8")
    settings = filled(presets.preset("onepic", "onepic-sd1", 12), "onepic-sd1")
    config.write(job, "onepic-sd1", settings, canvases)
    assert config.read_toml(job / "config.toml")["canvases"] == str(canvases.resolve())
    assert config.read_toml(job / "dataset.toml") == {"datasets": [{"resolution": [128, 128]}]}
    assert config.read(job, "onepic-sd1").network_dim == 32
    with pytest.raises(BadSettings, match="trained on canvases"):
        config.write(job, "onepic-sd1", settings, pictures)
    with pytest.raises(BadSettings, match="not trained on canvases"):
        config.write(job, "lora-sd1", settings, canvases)


@pytest.mark.parametrize(
    ("goal", "values", "said"),
    [
        ("lora-sd1", {"pretrained_model_name_or_path": ""}, "needs a checkpoint"),
        ("lora-flux", {"ae": ""}, "needs the autoencoder"),
        ("embedding-sd1", {"token_string": ""}, "needs the new word"),
        ("embedding-sd1", {"token_string": "my word"}, "can't be a new word"),
        ("lora-sd1", {"blocks_to_swap": 4}, "train_network.py has no 'blocks_to_swap'"),
        ("full-sd1", {"network_dim": 4}, "train_db.py has no 'network_dim'"),
        ("lora-sdxl", {"cache_text_encoder_outputs": True}, "Tick UNet alone"),
        ("lora-sd1", {"pretrained_model_name_or_path": "model.ckpt"}, "can run code"),
        ("lora-sd1", {"output_name": "../../evil"}, "can't be a file's name"),
        ("lora-sd1", {"output_name": "-name"}, "can't be a file's name"),
        ("lora-sd1", {"output_name": ""}, "can't be a file's name"),
    ],
)
def test_what_a_goal_does_not_have_or_lacks_is_refused(goal: str, values: dict[str, Any], said: str) -> None:
    with pytest.raises(BadSettings) as error:
        config.config(GOALS[goal], dataclasses.replace(filled(KohyaSettings(), goal), **values), Path("out"))
    assert said in str(error.value)


def test_pictures_have_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="no pictures"):
        config.dataset([])
    with pytest.raises(BadSettings, match="is no folder"):
        config.dataset([Pictures(tmp_path / "nothing")])


def test_a_file_by_hand_is_read_with_sd_scripts_defaults(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[model]\npretrained_model_name_or_path = "a"\n[rest]\nlearning_rate = 1\nloss_type = "l1"\n', encoding="utf-8")
    read = config.read(tmp_path, "lora-sd1")
    assert (read.pretrained_model_name_or_path, read.learning_rate, read.lr_scheduler, read.cache_latents) == ("a", 1.0, "constant", False)


@pytest.mark.parametrize(
    ("text", "said"),
    [("x = ", "is no TOML"), ("lerning_rate = 1", "Is it learning_rate?"), ("dataset_class = 'os.x'", "it runs any code"), ("\xff", "no TOML")],
)
def test_a_wrong_file_by_hand_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "config.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadSettings) as error:
        config.read(tmp_path, "lora-sd1")
    assert said in str(error.value)


def test_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="config.toml can't be read"):
        config.read(tmp_path, "lora-sd1")
