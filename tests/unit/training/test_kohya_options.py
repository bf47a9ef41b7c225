"""Options of sd-scripts' parsers: the recorded list, the check against it, and the recorder."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_refonly.errors import BadSettings
from lib_refonly.settings import specs
from lib_refonly.training.kohya import options, record
from lib_refonly.training.kohya.goals import CHOSEN, GOALS, ONEPIC, SCRIPTS
from lib_refonly.training.kohya.settings import OPTIMIZERS, KohyaSettings

KNOWN = options.recorded()


def test_all_scripts_are_recorded_with_what_a_job_needs() -> None:
    assert KNOWN.version == "v0.10.1"
    assert set(KNOWN.scripts) == set(SCRIPTS)
    for goal in GOALS.values():
        script = KNOWN.scripts[goal.script]
        assert {"save_every_n_steps", "save_state", "resume", "max_train_steps", "output_dir", "sample_every_n_steps", "sample_prompts"} <= set(script)
        assert set(goal.fixed) <= set(script)


def test_the_recording_holds_facts_and_none_of_the_help() -> None:
    rows = json.loads(options.RECORDED.read_text(encoding="utf-8"))["options"]
    assert {key for row in rows for key in row} == {"name", "type", "action", "nargs", "choices", "default", "in"}


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(KohyaSettings)])
def test_a_setting_is_sd_scripts_own_option(name: str) -> None:
    """Its name, its type, and choices that the parser knows."""
    found = [script[name] for script in KNOWN.scripts.values() if name in script]
    assert found
    kind, spec = get_type_hints(KohyaSettings)[name], specs(KohyaSettings)[name]
    for option in found:
        wanted = str if option.many and option.kind == "str" else {"bool": bool, "int": int, "float": float, "str": str}[option.kind]
        assert kind is wanted or (kind is int and wanted is float)
        if option.choices and spec.choices:
            assert set(spec.choices) <= set(option.choices)
    assert spec.label
    assert spec.help.endswith(".")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("learnin_rate", "Is it learning_rate?"),
        ("network_dims", "Is it network_dim?"),
        ("save_every_n_step", "Is it save_every_n_steps?"),
        ("blocks_to_swap", "train_network.py has no 'blocks_to_swap'."),
        ("zzzzzz", "train_network.py has no 'zzzzzz'."),
        ("--resume", "train_network.py has no '--resume'."),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(key: str, said: str) -> None:
    with pytest.raises(BadSettings) as error:
        options.check("train_network", {key: 1})
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("max_train_steps", "100", "'100' is not a whole number"),
        ("max_train_steps", 1.5, "not a whole number"),
        ("max_train_steps", True, "not a whole number"),
        ("learning_rate", "1e-4", "not a number"),
        ("learning_rate", [1e-4], "not a number"),
        ("cache_latents", "true", "not true or false"),
        ("cache_latents", 1, "not true or false"),
        ("mixed_precision", "fp32", "not one of no, fp16, bf16"),
        ("max_token_length", 100, "not one of 150, 225"),
        ("output_name", 5, "not a text"),
        ("network_args", "a=b", "a list, each of which is a text"),
        ("network_args", ["a=b", 1], "a list, each of which is a text"),
        ("text_encoder_lr", ["x"], "a list, each of which is a number"),
    ],
)
def test_a_wrong_value_is_refused(key: str, value: Any, said: str) -> None:
    with pytest.raises(BadSettings) as error:
        options.check("train_network", {key: value})
    assert said in str(error.value)
    assert str(error.value).startswith(f"{key}: ")


def test_right_values_pass() -> None:
    values: dict[str, Any] = {"learning_rate": 1, "text_encoder_lr": 1e-4, "network_args": ["a=b"], "lr_warmup_steps": 0.1, "network_module": CHOSEN}
    options.check("train_network", values | {"text_encoder_lr": [1e-4, 1], "network_module": ONEPIC})
    options.check("train_network", {"a section": values})
    options.check("train_network", {"canvases": "x"}, also=("canvases",))


@pytest.mark.parametrize("key", [key for key in options.NOT_FROM_FILES if key in KNOWN.scripts["train_network"]])
def test_what_a_shared_file_must_not_do(key: str) -> None:
    with pytest.raises(BadSettings, match=f"{key} can't be set in a settings file: "):
        options.check("train_network", {key: "x"})


def test_each_forbidden_key_is_one_of_sd_scripts() -> None:
    assert set(options.NOT_FROM_FILES) <= {name for script in KNOWN.scripts.values() for name in script}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"network_module": "os"}, "none that is known here"),
        ({"network_module": "networks.lora.evil"}, "none that is known here"),
        ({"optimizer_type": "evil.Optimizer"}, "would import any module"),
        ({"log_with": "wandb"}, "only tensorboard"),
        ({"pretrained_model_name_or_path": "a/model.CKPT"}, "model.CKPT is a format that can run code"),
        ({"vae": "x.pt"}, "can run code"),
        ({"base_weights": ["fine.safetensors", "x.bin"]}, "x.bin is a format that can run code"),
    ],
)
def test_what_would_run_code_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(BadSettings) as error:
        options.check("train_network", values)
    assert said in str(error.value)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_optimizers_that_are_offered_pass(name: str) -> None:
    options.check("train_network", {"optimizer_type": name})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(max_size=8), s)
)


@given(st.dictionaries(st.sampled_from(sorted(KNOWN.scripts["train_network"])) | st.text(max_size=8), JSON, max_size=4))
def test_any_file_passes_or_is_refused_in_words(values: dict[str, Any]) -> None:
    try:
        options.check("train_network", values)
    except BadSettings as error:
        assert str(error)  # noqa: PT017 (either is right)


@given(st.dictionaries(st.sampled_from(("general", "datasets", "x")), JSON, max_size=3))
def test_any_dataset_file_passes_or_is_refused_in_words(values: dict[str, Any]) -> None:
    try:
        options.check_dataset(values)
    except BadSettings as error:
        assert str(error)  # noqa: PT017


def pictures(**more: Any) -> dict[str, Any]:
    return {"datasets": [{"subsets": [{"image_dir": "x", **more}]}]}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "no [[datasets]]"),
        ({"datasets": [{}]}, "no [[datasets.subsets]]"),
        ({"datasets": [{"subsets": [{}]}]}, "image_dir is missing"),
        (pictures(num_repeat=2), "Is it num_repeats?"),
        (pictures(num_repeats="2"), "num_repeats can't be '2'"),
        (pictures(num_repeats=True), "num_repeats can't be True"),
        ({**pictures(), "dataset": 1}, "Is it datasets?"),
        ({"datasets": [{"subsets": [{"image_dir": "x"}], "resolutions": 512}]}, "Is it resolution?"),
    ],
)
def test_a_wrong_dataset_file_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(BadSettings) as error:
        options.check_dataset(values)
    assert said in str(error.value)


def test_a_right_dataset_file_passes() -> None:
    options.check_dataset(pictures(num_repeats=2, caption_dropout_rate=0.1))
    with pytest.raises(BadSettings, match="caption_dropout_rate"):
        options.check_dataset(pictures(caption_dropout_rate=0.1), embedding=True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1, "options": [1]}', '{"options": [{"in": ["x"]}]}'])
def test_what_is_no_recording_is_refused(text: str) -> None:
    with pytest.raises(BadSettings, match="no list of sd-scripts' options"):
        options.read(text)


def test_a_parser_is_recorded() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=1.0, help="words of another project")
    parser.add_argument("--names", nargs="*", choices=["a", "b"])
    parser.add_argument("--folder", type=Path, default=Path("x"))
    parser.add_argument("--on", action="store_true")
    parser.add_argument("--off", action="store_false")
    told = record.of_parser(parser)
    assert told == {
        "rate": {"type": "float", "action": "store", "default": 1.0},
        "names": {"type": "str", "action": "store", "nargs": "*", "choices": ["a", "b"]},
        "folder": {"type": "str", "action": "store", "default": "x"},
        "on": {"type": "bool", "action": "store_true", "default": False},
        "off": {"type": "bool", "action": "store_false", "default": True},
    }
    text = record.written({"version": "1", "dataset": {}, "dataset_embedding": {}, "scripts": {"one": told, "two": {"on": told["on"]}}})
    known = options.read(text)
    assert known.scripts["two"] == {"on": options.Option("bool", default=False)}
    assert known.scripts["one"]["names"] == options.Option("str", True, ("a", "b"))
    assert known.scripts["one"]["folder"].kind == "str"


SCRIPT = """
import argparse
def setup_parser():
    print("a word of a library")
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning_rate", type=float)
    parser.add_argument("--new_in_this_version", type=int)
    return parser
"""
SANITIZER = """
class ConfigSanitizer:
    def __init__(self, *given):
        self.general_schema = {"enable_bucket": bool}
        self.db_dataset_schema = {"resolution": len, "subsets": []}
        self.db_subset_schema = {"image_dir": str, "num_repeats": int}
"""


def fake_folder(folder: Path) -> Path:
    (folder / "library").mkdir(parents=True)
    (folder / "library" / "__init__.py").touch()
    (folder / "library" / "config_util.py").write_text(SANITIZER, encoding="utf-8")
    for script in SCRIPTS:
        (folder / f"{script}.py").write_text(SCRIPT, encoding="utf-8")
    return folder


def test_another_version_is_asked_for_its_own_options(tmp_path: Path) -> None:
    known = options.read(options.ask(Path(sys.executable), fake_folder(tmp_path / "sd scripts ä")))
    options.check("sdxl_train", {"new_in_this_version": 1}, known)
    with pytest.raises(BadSettings, match="sdxl_train.py has no 'cache_latents'"):
        options.check("sdxl_train", {"cache_latents": True}, known)
    options.check_dataset({"datasets": [{"resolution": 512, "subsets": [{"image_dir": "x", "num_repeats": 1}]}]}, options=known)


def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    folder = fake_folder(tmp_path / "broken")
    (folder / "train_network.py").write_text("import a_package_that_is_missing", encoding="utf-8")
    with pytest.raises(BadSettings, match="does not start: ModuleNotFoundError: No module named 'a_package_that_is_missing'"):
        options.ask(Path(sys.executable), folder)
    with pytest.raises(BadSettings, match="does not answer"):
        options.ask(tmp_path / "no python", folder)
