"""What a job has made: told by the files alone. And copying it to where it is used."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lib_refonly.errors import BadSettings, CannotWrite
from lib_refonly.models.registry import EMBEDDED
from lib_refonly.training import finished as made
from lib_refonly.training.finished import finished
from lib_refonly.training.jobs import events
from lib_refonly.training.jobs.results import copy_in


def lora(path: Path, number: float = 0.0, **metadata: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"lora_unet_a.lora_down.weight": torch.full((2, 2), number), "lora_unet_a.lora_up.weight": torch.zeros(2, 2)}, path, metadata)
    return path


def told(folder: Path) -> dict[str, str]:
    return {one.path.name: one.kind for one in finished(folder)}


def test_files_of_sd_scripts(tmp_path: Path) -> None:
    out = tmp_path / "out"
    tags = json.dumps({"10_x": {"mihoxyz": 2, "hat": 1}})
    lora(out / "miho.safetensors", ss_steps="300", ss_tag_frequency=tags, ss_num_train_images="2")
    lora(out / "miho-step00000100.safetensors")
    (out / "miho-step00000200.safetensors").write_bytes(b"cut off")
    (out / "away.safetensors").symlink_to(lora(tmp_path / "elsewhere.safetensors"))
    save_file({"emb_params": torch.zeros(2, 768)}, out / "word.safetensors")
    found = {one.path.name: one for one in finished(tmp_path)}
    last, word, first = found["miho.safetensors"], found["word.safetensors"], found["miho-step00000100.safetensors"]
    assert (last.kind, last.step, last.last, last.word) == (made.LORA, 300, True, "mihoxyz")
    assert (first.kind, first.step, first.last, first.word) == (made.LORA, 100, False, "")
    assert (word.kind, word.word) == (made.EMBEDDING, "")
    assert finished(tmp_path)[0] == last
    assert len(finished(tmp_path)) == 3
    assert last.size == last.path.stat().st_size


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("onepic/tiny-onepic-colorize.safetensors", made.ONEPIC),
        ("tiny-stylecode.safetensors", made.STYLECODE),
        ("tiny-refonly-adapter.safetensors", made.ADAPTER),
    ],
)
def test_our_own_files_are_known(place: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    shutil.copy(EMBEDDED / place, tmp_path / "export")
    assert told(tmp_path) == {Path(place).name: kind}


@pytest.mark.parametrize(("model", "kind"), [("tiny-refonly", made.REFONLY), ("tiny-base", made.BASE)])
def test_our_own_folders_are_known(model: str, kind: str, tmp_path: Path) -> None:
    for part in (EMBEDDED / model).iterdir():
        if part.is_dir():
            (tmp_path / "export" / part.name).mkdir(parents=True)
    (tmp_path / "export" / "unet" / "config.json").write_text("{}")
    (one,) = finished(tmp_path)
    assert (one.path, one.kind, one.size) == (tmp_path / "export", kind, 2)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("dataset.toml", '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "/x"\nclass_tokens = "mihoxyz, girl"\n'),
        ("config.toml", '[lora]\nword = "mihoxyz, girl"\n'),
    ],
)
def test_the_word_is_what_the_painter_said(file: str, text: str, tmp_path: Path) -> None:
    lora(tmp_path / "out" / "miho.safetensors", ss_tag_frequency='{"a": {"hat": 5}}', ss_num_train_images="5")
    (tmp_path / file).write_text(text)
    assert finished(tmp_path)[0].word == "mihoxyz, girl"


@pytest.mark.parametrize("tags", ["[]", "{", '{"a": 3}', '{"a": {"hat": "x"}}', '{"a": {"hat": 4}}', json.dumps({"a": {"\x1b[2J": 5}})])
def test_a_word_that_nobody_said_is_none(tags: str, tmp_path: Path) -> None:
    lora(tmp_path / "out" / "miho.safetensors", ss_tag_frequency=tags, ss_num_train_images="5")
    assert finished(tmp_path)[0].word == ""


def test_each_file_is_shown_by_the_newest_picture_until_then(tmp_path: Path) -> None:
    for name in ("miho-step00000100", "miho-step00000200", "miho"):
        lora(tmp_path / "out" / f"{name}.safetensors")
    for step, name in ((150, "a.png"), (200, "b.png"), (250, "c.png"), (300, "gone.png"), (300, "../../x.png"), (300, "d.jpg")):
        if name[0] in "abcd":
            Image.new("RGB", (4, 4)).save(tmp_path / name)
        events.append(tmp_path / events.FILE, {"event": "sample", "step": step, "file": name, "time": 0})
    shown = {one.path.stem: one.sample and one.sample.name for one in finished(tmp_path)}
    assert shown == {"miho": "c.png", "miho-step00000200": "b.png", "miho-step00000100": None}


# --- to where they are used ---------------------------------------------------------------------------------------------------------------------------


def test_a_copy_leaves_the_original_and_is_not_made_twice(tmp_path: Path) -> None:
    job, place = tmp_path / "job", tmp_path / "models" / "Lora"
    source = lora(job / "miho.safetensors")
    Image.new("RGB", (4, 4)).save(job / "sample.png")
    placed, again = (copy_in(source, place, [job, place], thumbnail=job / "sample.png") for _ in range(2))
    assert placed == again == place / "miho.safetensors"
    assert sorted(os.listdir(place)) == ["miho.preview.png", "miho.safetensors"]
    assert source.read_bytes() == placed.read_bytes()
    other = lora(job / "other.safetensors", 1.0)
    for _ in range(2):
        assert copy_in(other, place, [job, place], name="miho") == place / "miho-2.safetensors"
    assert placed.read_bytes() == source.read_bytes()


def test_a_folder_is_copied_whole(tmp_path: Path) -> None:
    job, place = tmp_path / "job", tmp_path / "models"
    (job / "export" / "unet").mkdir(parents=True)
    (job / "export" / "unet" / "config.json").write_text("1")
    for _ in range(2):
        assert copy_in(job / "export", place, [job, place], name="mine") == place / "mine"
    (job / "export" / "unet" / "config.json").write_text("2")
    assert copy_in(job / "export", place, [job, place], name="mine") == place / "mine-2"
    assert sorted(os.listdir(place)) == ["mine", "mine-2"]
    assert [(place / name / "unet" / "config.json").read_text() for name in ("mine", "mine-2")] == ["1", "2"]
    (job / "export" / "link").symlink_to("/etc/passwd")
    with pytest.raises(BadSettings, match="links"):
        copy_in(job / "export", place, [job, place])


@pytest.mark.parametrize("folder", [False, True])
def test_a_full_disk_leaves_nothing_half(folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, place = tmp_path / "job", tmp_path / "place"
    source = lora(job / "export" / "a.safetensors")

    def full(*_: object, **__: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        patch.setattr(os, "rename", full)
        with pytest.raises(CannotWrite, match="No space left on device. It is still in"):
            copy_in(source.parent if folder else source, place, [job, place])
    assert (source.exists(), os.listdir(place)) == (True, [])


def test_copies_stay_in_their_roots(tmp_path: Path) -> None:
    job, place, outside = tmp_path / "job", tmp_path / "place", tmp_path / "outside"
    source, theirs = lora(job / "a.safetensors"), lora(outside / "b.safetensors")
    (job / "link.safetensors").symlink_to(theirs)
    wrong: list[tuple[Path, dict[str, Any]]] = [
        (theirs, {}),
        (job / "link.safetensors", {}),
        (job / "gone.safetensors", {}),
        (source, {"name": "../b"}),
        (source, {"name": "a:b"}),
        (source, {"thumbnail": theirs}),
    ]
    for one, more in wrong:
        with pytest.raises(BadSettings):
            copy_in(one, place, [job, place], **more)
    assert not place.exists() or os.listdir(place) == []
