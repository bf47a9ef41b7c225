"""The files in docs/accelerate: accelerate's own loader and launcher read them, and what this trainer can't do is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from lib_refonly.errors import BadSettings
from lib_refonly.training.loop import Run
from tests.unit.training.several import CONFIG, Line

FILES = {path.stem: path for path in (Path(__file__).resolve().parents[3] / "docs" / "accelerate").glob("*.yaml")}
OURS = {"one-machine": ("MULTI_GPU", 1, 2), "two-machines": ("MULTI_GPU", 2, 8)}


def test_there_are_these() -> None:
    assert set(FILES) == set(OURS)


@pytest.mark.parametrize("name", sorted(FILES))
def test_accelerate_reads_it(name: str) -> None:
    """Unknown keys make the loader raise."""
    config: Any = load_config_from_file(str(FILES[name]))
    assert (config.distributed_type, config.num_machines, config.num_processes) == OURS[name]
    assert (config.mixed_precision, config.use_cpu) == ("no", False)


@pytest.mark.parametrize("name", sorted(FILES))
def test_the_launcher_takes_it_and_a_rank(name: str) -> None:
    words = ["--config_file", str(FILES[name]), "--machine_rank", "0", "studio.py", "train", "CONFIG.toml"]
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    assert arguments.training_script == "studio.py"
    assert arguments.training_script_args == ["train", "CONFIG.toml"]
    assert (arguments.multi_gpu, arguments.num_processes) == (True, OURS[name][2])


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("ACCELERATE_USE_FSDP", "true", "does not work under FSDP"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "does not work under DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "does not work under Megatron-LM"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "2", "does not accumulate gradients"),
    ],
)
def test_what_the_loop_can_not_do_is_refused_before_anything_is_written(
    variable: str, value: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadSettings, match=says):
        Run(Line(), CONFIG, tmp_path / "run")
    assert not (tmp_path / "run").exists()
